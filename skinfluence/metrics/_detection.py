"""How well scores find rows known to be noisy: by inspection from the top down, and in a search."""

import warnings
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.utils.metadata_routing import MetadataRequest

from skinfluence.exceptions import UnverifiedRowsWarning
from skinfluence.rows._containers import check_finite, first_rows
from skinfluence.rows._parameters import is_integer, is_positive_number
from skinfluence.rows._pipelines import as_last_step_sees, final_step
from skinfluence.rows._targets import is_missing
from skinfluence.rows._worst_rows import number_of_rows


class DetectionCurve(NamedTuple):
    """What inspecting the first rows of a ranking finds, after each row.

    Attributes
    ----------
    n_inspected : ndarray of shape (n_samples,)
        1, 2, ..., n_samples, of the rows that are verified.
    found : ndarray of shape (n_samples,)
        Share of the noisy rows that are among those inspected (recall).
    precision : ndarray of shape (n_samples,)
        Share of the rows inspected that are noisy.
    chance : ndarray of shape (n_samples,)
        What `found` is on average if rows are inspected in random order.
    """

    n_inspected: NDArray[np.intp]
    found: NDArray[np.float64]
    precision: NDArray[np.float64]
    chance: NDArray[np.float64]

    @property
    def area(self) -> float:
        """Area under `found` over the share of rows inspected; 0.5 by chance.

        With a share p of noisy rows it is ``p / 2 + (1 - p) * AUROC``, so 1 - p / 2 at best.
        """
        return float((self.found.sum() - 0.5) / len(self.found))


def detection_curve(is_noisy: ArrayLike, detrimentality: ArrayLike) -> DetectionCurve:
    """Inspect rows from the most detrimental down, and count the noisy ones found.

    Parameters
    ----------
    is_noisy : array-like of shape (n_samples,)
        Boolean, or 0 and 1: which rows are known to be noisy; at least one. NaN, None or pandas' NA
        is a row that nobody has verified: it is left out, with an `UnverifiedRowsWarning`.
    detrimentality : array-like of shape (n_samples,)
        Higher = more detrimental. Only the order counts.

    Returns
    -------
    DetectionCurve
        Of `n_inspected`, `found`, `precision` and `chance`, an entry for every row, and `area`.

    Raises
    ------
    ValueError
        If shapes disagree, a score is not finite, or no row is noisy.

    Notes
    -----
    Rows with equal scores have no order. Where inspection stops among them, `found` and
    `precision` are the exact averages over all orders of these rows, so that neither the order of
    the rows in memory nor a lucky tie counts. A constant score has the curve of chance.

    Examples
    --------
    >>> from skinfluence.metrics import detection_curve
    >>> curve = detection_curve([True, False, True, False], [0.9, 0.1, 0.5, 0.5])
    >>> curve.found  # the second and the third row inspected are equal
    array([0.5 , 0.75, 1.  , 1.  ])
    >>> curve.area
    0.6875
    """
    noisy, scores = _checked(is_noisy, detrimentality)
    n_inspected = np.arange(1, len(scores) + 1)
    n_found = _expected_found(noisy, scores)
    return DetectionCurve(
        n_inspected=n_inspected,
        found=n_found / noisy.sum(),
        precision=n_found / n_inspected,
        chance=n_inspected / len(scores),
    )


def recall_at_budget(is_noisy: ArrayLike, detrimentality: ArrayLike, budget: float) -> float:
    """Say which share of the noisy rows is found by inspecting the worst rows.

    Parameters
    ----------
    is_noisy : array-like of shape (n_samples,)
        Boolean, or 0 and 1: which rows are known to be noisy; at least one. NaN, None or pandas' NA
        is a row that nobody has verified: it is left out, with an `UnverifiedRowsWarning`.
    detrimentality : array-like of shape (n_samples,)
        Higher = more detrimental. Only the order counts.
    budget : float or int
        How many of the verified rows are inspected: a share in (0, 1] as a float, rounded to the
        nearest number of rows, or a number of rows as an int from 1 on. So 1.0 is all rows, and 1
        is one row.

    Returns
    -------
    float
        From 0 to 1; by chance the share of rows inspected. Among rows with equal scores, the
        average over all their orders.

    Raises
    ------
    ValueError
        If the budget is out of range or rounds to no row, shapes disagree, a score is not finite,
        or no row is noisy.

    Examples
    --------
    >>> from skinfluence.metrics import recall_at_budget
    >>> recall_at_budget([True, False, True, False], [0.9, 0.1, 0.5, 0.4], 0.25)
    0.5
    >>> recall_at_budget([True, False, True, False], [0.9, 0.1, 0.5, 0.4], 2)
    1.0
    """
    noisy, scores = _checked(is_noisy, detrimentality)
    n_inspected = _checked_budget(budget, len(scores))
    return float(_expected_found(noisy, scores)[n_inspected - 1] / noisy.sum())


def make_detection_scorer(metric: str = "average_precision") -> Any:
    """Make a scorer that says how well a method finds rows known to be noisy.

    For a search over a method's own parameters, where the noisy rows are known, as in data with
    planted errors, or in part of the rows. Test folds are scored as new labelled rows, by
    `score_detrimentality`; the estimator searched may be a Pipeline that ends in a method.

    Parameters
    ----------
    metric : {"average_precision", "roc_auc"}, default="average_precision"
        The area under the precision-recall or the ROC curve.

    Returns
    -------
    callable
        ``scorer(method, X, y, is_noisy=...)``, higher = better, with `is_noisy` requested for
        scikit-learn's metadata routing. In a search, that must be enabled:
        ``sklearn.set_config(enable_metadata_routing=True)``. Rows whose `is_noisy` is NaN, None or
        pandas' NA are not verified: they are trained on, but not counted, with an
        `UnverifiedRowsWarning`.

    Raises
    ------
    ValueError
        If the metric is unknown; when called, if there are not both noisy and clean rows among
        those verified.

    Notes
    -----
    A search turns the error of a scorer into the score NaN, with a warning. Give the search
    ``error_score="raise"``, so that a test fold without verified rows of both kinds is said to be
    one. Where few rows are verified, split by hand so that each fold has some of both kinds:
    ``cv=list(StratifiedKFold(3).split(X, flags))`` with `flags` 0, 1 and, say, 2 for the others.

    Examples
    --------
    >>> import sklearn
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import GridSearchCV, StratifiedKFold
    >>> from skinfluence import SelfConfidence
    >>> from skinfluence.datasets import make_noisy_labels
    >>> from skinfluence.metrics import make_detection_scorer
    >>> X, y = load_iris(return_X_y=True)
    >>> y_noisy, is_noisy = make_noisy_labels(y, rate=0.2, random_state=0)
    >>> with sklearn.config_context(enable_metadata_routing=True):
    ...     search = GridSearchCV(
    ...         SelfConfidence(random_state=0), {"checkpoints": ["last", 10]},
    ...         cv=StratifiedKFold(2, shuffle=True, random_state=0),
    ...         scoring=make_detection_scorer("roc_auc"),
    ...     ).fit(X, y_noisy, is_noisy=is_noisy)
    >>> bool(search.best_score_ > 0.8)
    True
    """
    if metric not in {"average_precision", "roc_auc"}:
        raise ValueError(f"Got metric={metric!r}, but expected 'average_precision' or 'roc_auc'.")
    return _DetectionScorer(metric)


class _DetectionScorer:
    """Calls as scikit-learn's searches do; picklable, unlike a closure."""

    def __init__(self, metric: str) -> None:
        self.metric = metric

    def get_metadata_routing(self) -> MetadataRequest:
        """Ask for `is_noisy`; called by scikit-learn."""
        request = MetadataRequest(owner=self)
        request.score.add_request(param="is_noisy", alias=True)
        return request

    def __call__(self, estimator: Any, X: object, y: object, *, is_noisy: ArrayLike) -> float:
        noisy, verified = _checked_flags(is_noisy)
        scores = final_step(estimator).score_detrimentality(as_last_step_sees(estimator, X), y)
        if verified.shape != scores.shape or noisy.all() or not noisy.any():
            raise ValueError(
                f"Got is_noisy of shape {verified.shape}, {int(noisy.sum())} of its "
                f"{len(noisy)} verified rows noisy, for {len(scores)} scored rows, but expected "
                "both noisy and clean rows in every test fold. Pass is_noisy through the search's "
                "fit, and stratify the folds by it: cv=list(StratifiedKFold(3).split(X, flags)), "
                "with flags of 0, 1 and, for rows that are not verified, 2."
            )
        scores = scores[verified]
        measure = roc_auc_score if self.metric == "roc_auc" else average_precision_score
        return float(measure(noisy, scores))


def _expected_found(noisy: NDArray[np.bool_], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Count noisy rows among the first 1, 2, ... rows, averaged over the orders of equal ones."""
    order = np.argsort(-scores)
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf)) + 1
    knots = np.append(0, ends)
    counts = np.append(0, np.cumsum(noisy[order]))[knots]
    # within a tie every row is as likely to come next, so the mean is linear in the rows inspected
    found: NDArray[np.float64] = np.interp(np.arange(1, len(scores) + 1), knots, counts)
    return found


def _checked(
    is_noisy: ArrayLike, detrimentality: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    flags, verified = _checked_flags(is_noisy)
    scores = np.asarray(detrimentality, dtype=np.float64)
    if scores.ndim != 1 or verified.shape != scores.shape:
        raise ValueError(
            f"Got is_noisy of shape {verified.shape} and detrimentality of shape {scores.shape}, "
            "but expected two one-dimensional arrays of the same rows."
        )
    if not flags.any():
        raise ValueError(
            f"None of the {len(flags)} rows is noisy, so there is nothing to find. "
            "Expected is_noisy to be True for at least one row."
        )
    check_finite(scores, "detrimentality")
    return flags, scores[verified]


def _checked_flags(is_noisy: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Take True or False, or 1 or 0, of the rows verified, and tell which rows are."""
    flags = np.asarray(is_noisy)
    if flags.dtype == np.bool_:
        return flags, np.ones(flags.shape, dtype=bool)
    # element by element, as objects may be of any kind, pandas' NA among them
    values = flags.ravel()
    verified = np.array([not is_missing(value) for value in values], dtype=bool)
    known = [isinstance(v, bool | np.bool_ | Real) and v in {0, 1} for v in values[verified]]
    wrong = np.flatnonzero(verified)[~np.array(known, dtype=bool)]
    if len(wrong):
        raise ValueError(
            f"Got is_noisy of dtype {flags.dtype} with {values[wrong[0]]!r} and the like in "
            f"{len(wrong)} rows: {first_rows(wrong)}. Expected True or False (or 1 or 0), or NaN "
            "for a row that is not verified. From two sets of labels: y_noisy != y_clean."
        )
    if not verified.all():
        warnings.warn(
            f"{int((~verified).sum())} of {len(verified)} rows have no is_noisy: they are not "
            "verified, and left out.",
            UnverifiedRowsWarning,
            stacklevel=2,
        )
    return values[verified].astype(bool), verified.reshape(flags.shape)


def _checked_budget(budget: float, n_samples: int) -> int:
    n_rows = 0
    if is_positive_number(budget) and (budget <= 1 or is_integer(budget)):
        n_rows = number_of_rows(budget, n_samples)
    if not 1 <= n_rows <= n_samples:
        raise ValueError(
            f"Got budget={budget!r} for {n_samples} rows, but expected a share of them in (0, 1] "
            f"as a float that comes to at least one row, or an int from 1 to {n_samples}."
        )
    return n_rows
