"""Influence functions: what leaving a row out does to a loss, by the inverse curvature."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.metaestimators import available_if

from skinfluence.influence._net_rows import NetRows, stacked
from skinfluence.influence.objectives._objective_fit import FitsObjective, has_value_by_row
from skinfluence.influence.objectives._objectives import as_objective
from skinfluence.influence.solvers._curvature import Curvature
from skinfluence.influence.solvers._inverses import Inverse
from skinfluence.influence.solvers._solvers import ConjugateGradient, Solver
from skinfluence.rows._parameters import check_parameter, check_positive_integer, is_positive_number
from skinfluence.rows._rows import ModelRows
from skinfluence.rows._seeds import preserved_random_state
from skinfluence.rows._weights import Weights


class InfluenceFunction(FitsObjective):
    """Estimate how leaving a training row out would change a loss, by the inverse curvature.

    With ``reference="validation"`` it answers: would removing this row lower the loss on the
    validation rows? With ``reference="self"``: how much would the row's own loss rise, which
    answers rather: is it mislabelled or atypical?

    For a training loss at its minimum, leaving row i of n out moves the parameters by
    ``1/n (C + damping I)^-1 grad l_i`` to first order, with C the mean curvature of the rows'
    losses. Its product with the gradient of another loss is the change of that loss.

    Parameters
    ----------
    net : NeuralNet, FrozenEstimator or None, default=None
        As for `GradientEmbedding`: an unfitted skorch net, a frozen fitted one, or None for
        `skinfluence.nets.default_net`.
    solver : solver or None, default=None
        How to invert: `Exact`, `ConjugateGradient`, `LiSSA`, `Arnoldi`, `EKFAC`, `DataInf` or
        `Identity` of `skinfluence.influence`; None for ``ConjugateGradient()``.
    curvature : {"ggn", "hessian"}, default="ggn"
        The Gauss-Newton matrix, positive semi-definite for the usual losses, or the Hessian,
        which is so only at a minimum: with a damping too small for that, an error says so.
    damping : float or "auto", default="auto"
        Added to every eigenvalue. "auto" is a tenth of the largest eigenvalue of the curvature.
    reference : {"validation", "self"}, default="validation"
        Whose loss: that of the validation rows, or the row's own.
    objective : objective, callable or None, default=None
        What takes the place of the validation loss, lower is better; as for
        `InnerProductInfluence`. None for ``ValidationLoss()``, which ``reference="self"`` needs.
    layers : "last", "all", or sequence of str, default="all"
        Layers whose parameters move; the others are held fixed. See `GradientEmbedding`.
    validation : "cross" or float, default="cross"
        What serves as validation rows when fit gets none: the other half of the training rows
        for each half, or this share of them.
    batch_size : int, default=1024
        Most rows per pass through the net; on a processor it takes fewer where they would not fit
        its caches. It changes memory and speed, not the result.
    memory : joblib.Memory, str or None, default=None
        Cache of trainings, as in a Pipeline: a folder, in which the trained parameters and the
        trace are kept by net, rows, targets and seed, so that a search over other parameters trains
        one net a fold. Needs an integer `random_state` to find them again. A frozen net needs none.
    task : {"classification", "regression"}, optional
        What the targets are, where no net or estimator of your own says it. By default their
        values tell: floats with a fraction, or more than 20 distinct ones, are numbers.
    random_state : int, RandomState or None, default=None
        Seed of the training and the solver's draws. Global generators are neither used nor changed.
    verbose : int, default=0
        1 shows on stderr how far the fit is, and the time left. It does not change the result.

    Attributes
    ----------
    detrimentality_ : ndarray of shape (n_samples,)
        With validation rows, the estimated fall of the objective if the row is left out; with
        ``reference="self"``, the estimated rise of the row's own loss. Float64, in the unit of
        the loss. Higher = more detrimental.
    ranking_ : ndarray of shape (n_samples,)
        Row numbers, most detrimental first.
    net_ : NeuralNet
        The trained net.
    classes_ : ndarray of shape (n_classes,)
        The labels, for a classifier.
    n_features_in_ : int
        For arrays and data frames.

    See Also
    --------
    InnerProductInfluence : Without any curvature.
    MirroredInfluence : Forward passes only.

    Notes
    -----
    The literature's ``I_up,loss`` is the change per unit of up-weighting; leaving a row out is
    -1/n of it, so here the paper's sign is flipped once for removal, and once more for
    `detrimentality_`. `influence` keeps the literature's reading: positive = the training row
    lowers the query's loss.

    The theory assumes a minimum of a smooth loss. For nets it is an approximation, and the
    damping matters more than the solver: in our runs on small nets a tenth of the largest
    eigenvalue ranked rows closest to real leave-one-out, dampings a hundred times smaller far
    worse. Weight decay in the optimiser is not part of the curvature; it acts as a damping.

    With weights w_i of the rows, one on the mean, C is the mean of ``w_i C_i``, and leaving row i
    out is its weight going to zero, w_i times the above: the sum over as many copies of the row.
    With ``reference="self"``, and for new rows, it is that of a row of weight one. A frozen net's
    weights are those that it was trained with.

    Cost: one training, one gradient pass over the validation rows, what the solver states, and
    one pass of directional products over the training rows. ``reference="self"`` solves once for
    every row: choose `Exact`, `Arnoldi`, `EKFAC` or `DataInf`. `influence`, and scoring new rows
    with ``reference="self"``, prepare the solver anew.

    References
    ----------
    Koh, Liang. "Understanding Black-box Predictions via Influence Functions". ICML 2017,
    equations 1 and 2. Martens. "New Insights and Perspectives on the Natural Gradient Method".
    JMLR 2020, for the Gauss-Newton matrix in place of the Hessian.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.metrics import roc_auc_score
    >>> from skinfluence import InfluenceFunction
    >>> from skinfluence.datasets import make_noisy_labels
    >>> X, y = load_iris(return_X_y=True)
    >>> X, y, X_val, y_val = X[::2], y[::2], X[1::2], y[1::2]
    >>> y_noisy, is_noisy = make_noisy_labels(y, rate=0.1, random_state=0)
    >>> method = InfluenceFunction(random_state=0).fit(X, y_noisy, X_val=X_val, y_val=y_val)
    >>> bool(roc_auc_score(is_noisy, method.detrimentality_) > 0.9)
    True
    >>> method.influence(X_val[:2], y_val[:2]).shape
    (2, 75)
    """

    def __init__(
        self,
        net: Any = None,
        *,
        solver: Any = None,
        curvature: str = "ggn",
        damping: float | str = "auto",
        reference: str = "validation",
        objective: Any = None,
        layers: str | Sequence[str] = "all",
        validation: str | float = "cross",
        batch_size: int = 1024,
        memory: Any = None,
        task: str | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.net = net
        self.solver = solver
        self.curvature = curvature
        self.damping = damping
        self.reference = reference
        self.objective = objective
        self.layers = layers
        self.validation = validation
        self.batch_size = batch_size
        self.memory = memory
        self.task = task
        self.random_state = random_state
        self.verbose = verbose

    def _check_parameters(self) -> None:
        check_positive_integer("batch_size", self.batch_size)
        check_parameter(
            "solver",
            self.solver,
            "None or a solver of skinfluence.influence, such as ConjugateGradient()",
            holds=lambda solver: solver is None or isinstance(solver, Solver),
            fix="Pass an instance, not a class or a name.",
        )
        self._solver.check_parameters()
        as_objective(self.objective).check_parameters()
        check_parameter(
            "curvature",
            self.curvature,
            "'ggn' or 'hessian'",
            holds=lambda value: value in {"ggn", "hessian"},
        )
        check_parameter(
            "reference",
            self.reference,
            "'validation' or 'self'",
            holds=lambda value: value in {"validation", "self"},
        )
        if self.reference == "self" and self.objective is not None:
            raise ValueError(
                f"Got objective={self.objective!r} with reference='self', which asks for the row's "
                "own loss. Use reference='validation', or leave the objective out."
            )
        check_parameter("damping", self.damping, "'auto' or a finite number > 0", holds=_is_damping)

    @property
    def _solver(self) -> Solver:
        solver: Solver = ConjugateGradient() if self.solver is None else self.solver
        return solver

    def _needs_validation(self) -> bool:
        return self.reference == "validation"

    def _judges_new_rows(self) -> bool:
        return True

    def _fit_scores(self, rows: ModelRows, validation: ModelRows | None) -> NDArray[np.float64]:
        self._training_rows = rows
        with preserved_random_state():
            train = self._net_rows(rows, self._training_weights)
            if validation is None:
                return self._self_influence(train, train)
            inverse = self._inverse(train)
            judged = self._net_rows(validation, self._validation_weights)
            direction = self._objective_gradient(self._trained.net.criterion_, judged, validation)
            self._direction = inverse.solve(direction[None])[0] / train.n_rows
            return -self._of_whole_rows(train.inner_products(self._direction))

    def _score(self, rows: ModelRows) -> NDArray[np.float64]:
        with preserved_random_state():
            given = self._net_rows(rows)
            if self.reference == "self":
                train = self._net_rows(self._training_rows, self._training_weights)
                return self._self_influence(train, given)
            return -given.inner_products(self._direction)

    def _self_influence(self, train: NetRows, rows: NetRows) -> NDArray[np.float64]:
        inverse = self._inverse(train)
        parts = []
        for block in rows.gradients():
            gradients = block.to(train.zero)
            parts.append((gradients * inverse.solve(gradients)).sum(1) / train.n_rows)
        return stacked(parts)

    @available_if(has_value_by_row)
    def influence(self, X: Any, y: Any = None) -> NDArray[np.float64]:
        """Estimate what every training row does for the loss of given rows.

        Parameters
        ----------
        X : array-like of shape (n_query, n_features) or (n_query, channels, height, width)
        y : array-like of shape (n_query,) or (n_query, n_outputs)
            Labels from `classes_`, or numbers. None only for a data set that holds its targets.

        Returns
        -------
        ndarray of shape (n_query, n_samples)
            The estimated rise of the query's loss if the training row is left out, float64.
            Positive = the training row lowers the query's loss: the opposite sign of
            `detrimentality_`, which ranks as the mean of this over the validation rows, negated.
        """
        return self._answered(X, y)

    def _influence_on(self, queries: ModelRows) -> NDArray[np.float64]:
        train = self._net_rows(self._training_rows, self._training_weights)
        inverse = self._inverse(train)
        judged = as_objective(self.objective).as_rows(self._net_rows(queries))
        parts = []
        for block in judged.gradients():
            directions = inverse.solve(block.to(train.zero)) / train.n_rows
            parts.append(train.gram_of_directions(directions))
        return self._of_whole_rows(np.concatenate(parts))

    def _net_rows(self, rows: ModelRows, weights: Weights = None) -> NetRows:
        return NetRows(self.net_, rows, self.layers, self.batch_size, weights)

    def _inverse(self, train: NetRows) -> Inverse:
        damping = None if isinstance(self.damping, str) else self.damping
        return self._solver.invert(Curvature(train, self.curvature), damping, self._seeds[1])


def _is_damping(value: object) -> bool:
    return value == "auto" if isinstance(value, str) else is_positive_number(value)
