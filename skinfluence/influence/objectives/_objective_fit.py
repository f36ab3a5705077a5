"""`fit` with a sensitive attribute, for the estimators that take an objective."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from skinfluence.influence._net_rows import Direction, NetRows
from skinfluence.influence._queries import InfluenceQueries
from skinfluence.influence.objectives._objectives import Given, as_objective
from skinfluence.rows._rows import ModelRows
from skinfluence.rows._validation_rows import validation_parts


def has_value_by_row(estimator: "FitsObjective") -> bool:
    """Tell `available_if` whether a query row alone has a value of the objective."""
    if not as_objective(estimator.objective).by_row:
        raise AttributeError(
            f"{estimator.objective!r} is a quantity of all validation rows together, so a single "
            "query row has none. Use ValidationLoss() or AdversarialLoss() for influence, "
            "proponents and opponents."
        )
    return True


class FitsObjective(InfluenceQueries):
    """Base of the estimators that hold training rows against an objective."""

    objective: object

    def fit(
        self,
        X: Any,
        y: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        sensitive_val: Any = None,
        *,
        groups: Any = None,
        sample_weight: Any = None,
    ) -> Self:
        """Train the net and score every training row at its given label.

        Parameters
        ----------
        X, y, X_val, y_val : see `BaseDetrimentality.fit`
        sensitive_val : array-like of shape (n_val,), optional
            The group of every validation row, for objectives that compare groups. Within a
            search or a cleaner, it goes into `ValidationRows`.
        groups : None
            For the folds of `cv`, which these methods have none of: refused.
        sample_weight : array-like of shape (n_samples,) or float, optional
            See `BaseDetrimentality.fit`.

        Returns
        -------
        self
        """
        parts = validation_parts(X_val, y_val, sensitive_val)
        return self._fit_given(X, y, *parts, fold_groups=groups, sample_weight=sample_weight)

    def fit_transform(
        self,
        X: Any,
        y: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        sensitive_val: Any = None,
        *,
        groups: Any = None,
        sample_weight: Any = None,
    ) -> NDArray[np.float64]:
        """Train the net and return the scores of the training rows at their given labels.

        Not the same as ``fit(X, y).transform(X)``, which uses predicted labels.

        Parameters
        ----------
        X, y, X_val, y_val, sensitive_val, groups, sample_weight : as for `fit`

        Returns
        -------
        ndarray of shape (n_samples, 1)
            `detrimentality_`. Higher = more detrimental.
        """
        fitted = self.fit(
            X, y, X_val, y_val, sensitive_val, groups=groups, sample_weight=sample_weight
        )
        scores: NDArray[np.float64] = fitted.detrimentality_
        return scores[:, np.newaxis]

    def _check_groups(self, groups: object, X_val: object) -> None:
        objective = as_objective(self.objective)
        if objective.needs_groups != (groups is not None):
            raise ValueError(
                f"{objective!r} compares groups, but sensitive_val is None. Give fit one value for "
                "every row of X_val; in a Pipeline, route it with "
                "set_fit_request(sensitive_val=True)."
                if objective.needs_groups
                else f"Got sensitive_val, but {objective!r} compares no groups. Leave it out, or "
                "use DemographicParity() or EqualOpportunity()."
            )
        if groups is not None and X_val is None:
            raise ValueError(
                "Got sensitive_val without X_val. It holds the group of every validation row; "
                "give X_val and y_val with it."
            )

    def _objective_gradient(
        self, criterion: object, rows: NetRows, validation: ModelRows
    ) -> Direction:
        """Differentiate the objective at the net whose rows these are."""
        groups = self._validation_groups
        given = Given(criterion, self._trained.labels, validation.targets, groups)
        gradient: Direction = as_objective(self.objective).gradient(rows, given)
        return gradient
