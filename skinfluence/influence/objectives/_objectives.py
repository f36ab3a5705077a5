"""What `InnerProductInfluence` holds the training rows against: objects with parameters."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from skinfluence.influence._net_rows import NetRows
from skinfluence.influence.objectives._objective_math import (
    UserObjective,
    called_gradient,
    group_gap_gradient,
    perturbed,
)
from skinfluence.nets._labels import Labels
from skinfluence.rows._parameters import check_positive_number


@dataclass(frozen=True)
class Given:
    """What an objective may read besides the validation rows themselves."""

    criterion: object  # the net's
    labels: Labels | None  # of a classifier
    targets: np.ndarray | None  # of the validation rows, as the net takes them
    groups: NDArray[np.intp] | None  # the sensitive attribute, (n_rows,), as 0, 1, ...


class Objective(BaseEstimator):
    """Base of the objectives: lower is better."""

    needs_groups = False
    # Whether a row has a value of its own, so that `influence` on query rows means something.
    by_row = True

    def check_parameters(self) -> None:
        """Raise ValueError for a parameter that is out of range."""

    def gradient(self, rows: NetRows, given: Given) -> Any:
        """Differentiate the objective by the net's parameters; a Tensor (n_parameters,)."""
        return self.as_rows(rows).mean_gradient()

    def as_rows(self, rows: NetRows) -> NetRows:
        """Give the rows whose own losses the objective averages."""
        return rows


class ValidationLoss(Objective):
    """The mean loss of the validation rows, as the net's own `get_loss` has it.

    Examples
    --------
    >>> from skinfluence.influence import ValidationLoss
    >>> ValidationLoss()
    ValidationLoss()
    """


class AdversarialLoss(Objective):
    """The mean loss of validation rows after an attack on the trained net.

    Every floating input moves by `eps` along the sign of its loss gradient (FGSM). Rows that are
    detrimental to it make the net easier to attack.

    Parameters
    ----------
    eps : float, default=0.1
        Length of the move in the unit of the inputs as the net gets them; inputs are not clipped.

    Notes
    -----
    In ``benchmarks/studies/fairness.py`` (Adult, eps .05), removing the 2 % most detrimental rows
    raised the accuracy on the attacked test set from .15 to .23 and lowered its loss from 3.6 to
    3.4 (`InnerProductInfluence`) and 3.3 (`InfluenceFunction`); accuracy on clean rows did not
    fall.

    References
    ----------
    Goodfellow, Shlens, Szegedy. "Explaining and Harnessing Adversarial Examples". ICLR 2015.
    """

    def __init__(self, eps: float = 0.1) -> None:
        self.eps = eps

    def check_parameters(self) -> None:
        """Raise ValueError for a parameter that is out of range."""
        check_positive_number("eps", self.eps)

    def as_rows(self, rows: NetRows) -> NetRows:
        """Attack the rows; see `Objective`."""
        return perturbed(rows, self.eps)


class DemographicParity(Objective):
    """The gap between groups in the mean predicted probability of the positive class.

    The groups are the values of `sensitive_val`, given to fit; with more than two, the gap is
    between the highest and the lowest. Probabilities stand in for decisions, which have no
    gradient.

    Parameters
    ----------
    positive : label, optional
        The favourable class; None for the last of `classes_` of two.

    Notes
    -----
    What to expect, from ``benchmarks/studies/fairness.py`` (Adult, sex, 4,000 training rows, mean
    of 5 seeds): retraining without the 2 % most detrimental rows shrank the gap in decisions on the
    test set from .185 to .162 with `InnerProductInfluence` and to .159 with `InfluenceFunction`, at
    .1 points of accuracy; random rows did nothing. That is an eighth or so, not a cure, and the
    test loss rose from .365 to .40. Both gaps shrank more by `EqualOpportunity`.
    """

    needs_groups = True
    by_row = False

    def __init__(self, positive: Any = None) -> None:
        self.positive = positive

    def gradient(self, rows: NetRows, given: Given) -> Any:
        """Differentiate the gap; see `Objective`."""
        code = _positive_code(self.positive, given.labels)
        if given.groups is None:
            raise ValueError(
                f"{self!r} compares groups, but sensitive_val is None. Call fit(X, y, X_val=..., "
                "y_val=..., sensitive_val=...) with one value for every validation row."
            )
        counted = self._counted(rows, given, code)
        return group_gap_gradient(rows, given.criterion, code, given.groups, counted)

    def _counted(self, rows: NetRows, given: Given, code: int) -> NDArray[np.bool_]:
        return np.ones(rows.n_rows, dtype=bool)


class EqualOpportunity(DemographicParity):
    """The same gap among the rows whose label is the positive class: of true positive rates.

    Parameters
    ----------
    positive : label, optional
        The favourable class; None for the last of `classes_` of two.

    Notes
    -----
    As for `DemographicParity`: the gap in true positive rates fell from .117 to .059 and .036, that
    of `DemographicParity` to .154 and .139, at .1 and .5 points of accuracy.
    """

    def _counted(self, rows: NetRows, given: Given, code: int) -> NDArray[np.bool_]:
        if given.targets is None:
            raise ValueError(
                f"{self!r} reads the labels of the validation rows, but X_val is a data set that "
                "keeps them. Give y_val besides."
            )
        counted: NDArray[np.bool_] = np.asarray(given.targets).reshape(-1) == code
        return counted


class CalledObjective(Objective):
    """A user's function as an objective."""

    by_row = False

    def __init__(self, function: UserObjective) -> None:
        self.function = function

    def gradient(self, rows: NetRows, given: Given) -> Any:
        """Differentiate the function; see `Objective`."""
        if rows.weights is not None:
            raise ValueError(
                f"Got sample_weight and no X_val: the rows that validate each other have weights, "
                f"but the objective {self.function!r} is asked for rows that weigh alike. Give "
                "X_val and y_val, or leave the objective or sample_weight out."
            )
        return called_gradient(rows, self.function)


def as_objective(objective: object) -> Objective:
    """Turn the parameter `objective` into an object."""
    if objective is None:
        return ValidationLoss()
    if isinstance(objective, Objective):
        return objective
    if callable(objective) and not isinstance(objective, type):
        return CalledObjective(objective)
    raise ValueError(
        f"Got objective={objective!r}, but expected None, an objective of skinfluence.influence "
        "such as DemographicParity(), or a callable on (module, X_val, y_val). Pass an instance, "
        "not a class or a name."
    )


def _positive_code(positive: object, labels: Labels | None) -> int:
    if labels is None:
        raise ValueError(
            "A gap between groups needs a classifier whose labels are known; this net has none. "
            "Pass a callable objective."
        )
    if positive is None:
        if len(labels.classes) != 2:
            raise ValueError(
                f"Got positive=None with the classes {labels.classes.tolist()}. With more than "
                "two, name the favourable one: DemographicParity(positive=...)."
            )
        return int(labels.codes[-1])
    return int(labels.encode(np.asarray([positive]))[0])
