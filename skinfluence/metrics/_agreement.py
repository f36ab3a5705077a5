"""How well scores predict what happens when other rows are trained on."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import kendalltau, spearmanr

from skinfluence.rows._containers import check_finite
from skinfluence.rows._parameters import check_positive_integer


class LeaveOneOutCorrelation(NamedTuple):
    """How well scores agree with leave-one-out.

    Attributes
    ----------
    kendall : float
        Kendall's tau-b, from -1 to 1.
    spearman : float
        Spearman's rank correlation, from -1 to 1.
    overlap : float
        Share of the k most detrimental rows that both name, from 0 to 1.
    """

    kendall: float
    spearman: float
    overlap: float


def leave_one_out_correlation(
    detrimentality: ArrayLike, leave_one_out: ArrayLike, *, k: int = 10
) -> LeaveOneOutCorrelation:
    """Compare scores with the effects of really leaving rows out.

    Parameters
    ----------
    detrimentality : array-like of shape (n_rows,)
        The scores to be judged. Higher = more detrimental. The scale does not count.
    leave_one_out : array-like of shape (n_rows,)
        The validation loss with the row less that without it, of the same rows: the
        `detrimentality_` of `LeaveOneOut`, whose `rows_` say which they are.
    k : int, default=10
        How many of the most detrimental rows to compare.

    Returns
    -------
    LeaveOneOutCorrelation
        Of `kendall`, `spearman` and `overlap`. Correlations with equal numbers alone are 0. By
        chance, the correlations are about 0 and the overlap about ``k / n_rows``.

    Raises
    ------
    ValueError
        If shapes disagree, a number is not finite, or k is no integer from 1 to n_rows.

    Examples
    --------
    >>> from skinfluence.metrics import leave_one_out_correlation
    >>> found = leave_one_out_correlation([0.1, 3.0, 2.0, 0.2], [0.0, 0.4, 0.5, -0.1], k=2)
    >>> round(found.kendall, 3), round(found.spearman, 3), found.overlap
    (0.333, 0.6, 1.0)
    """
    scores = np.asarray(detrimentality, dtype=np.float64)
    real = np.asarray(leave_one_out, dtype=np.float64)
    if scores.ndim != 1 or scores.shape != real.shape or len(scores) < 2:
        raise ValueError(
            f"Got detrimentality of shape {scores.shape} and leave_one_out of shape {real.shape}, "
            "but expected two one-dimensional arrays of the same rows, at least two. For a "
            "LeaveOneOut with a subset: method.detrimentality_[leave_one_out.rows_]."
        )
    check_finite(scores, "detrimentality")
    check_finite(real, "leave_one_out")
    check_positive_integer("k", k)
    if k > len(scores):
        raise ValueError(f"Got k={k}, but there are {len(scores)} rows to choose from.")
    tops = [set(np.argsort(-values, kind="stable")[:k].tolist()) for values in (scores, real)]
    return LeaveOneOutCorrelation(
        kendall=_correlation(kendalltau, scores, real),
        spearman=_correlation(spearmanr, scores, real),
        overlap=len(tops[0] & tops[1]) / k,
    )


def linear_datamodeling_score(influence: ArrayLike, subsets: ArrayLike, losses: ArrayLike) -> float:
    """Correlate predicted with real losses of nets trained on subsets of the rows.

    The prediction for a subset is linear: minus the sum of the influences of its rows, since a
    positive influence lowers the loss. Each query's predictions are ranked against its real losses
    over the subsets, and the rank correlations averaged.

    Parameters
    ----------
    influence : array-like of shape (n_query, n_train)
        From ``influence(X, y)``: positive = the training row lowers the query's loss. The scale
        does not count. For one summed objective, ``-detrimentality_[None]``.
    subsets : array-like of shape (n_subsets, n_train)
        Boolean: which rows each net was trained on.
    losses : array-like of shape (n_subsets, n_query)
        Loss of every query for every such net; average over seeds to take their noise out.

    Returns
    -------
    float
        Mean Spearman correlation, from -1 to 1; 1 = every query's losses are ranked as predicted.
        A query whose predictions or losses are all equal counts as 0.

    Raises
    ------
    ValueError
        If shapes disagree, a number is not finite, or `subsets` is not boolean.

    References
    ----------
    Park, Georgiev, Ilyas, Leclerc, Madry. "TRAK: Attributing Model Behavior at Scale". ICML 2023,
    definition 2.3.

    Examples
    --------
    >>> import numpy as np
    >>> from skinfluence.metrics import linear_datamodeling_score
    >>> influence = np.array([[3.0, 1.0, -2.0]])
    >>> subsets = np.array([[True, True, False], [True, False, True], [False, True, True]])
    >>> linear_datamodeling_score(influence, subsets, [[0.1], [0.4], [0.9]])
    1.0
    """
    effects = np.atleast_2d(np.asarray(influence, dtype=np.float64))
    members = np.asarray(subsets)
    real = np.asarray(losses, dtype=np.float64)
    _check_shapes(effects, members, real)
    check_finite(effects, "influence")
    check_finite(real, "losses")
    predicted = -(members.astype(np.float64) @ effects.T)
    pairs = zip(predicted.T, real.T, strict=True)
    return float(np.mean([_correlation(spearmanr, one, two) for one, two in pairs]))


def _check_shapes(effects: np.ndarray, members: np.ndarray, real: np.ndarray) -> None:
    if members.dtype != np.bool_:
        raise ValueError(
            f"Got subsets of dtype {members.dtype}, but expected a boolean array, True where a net "
            "was trained on the row. From lists of row numbers: np.isin(np.arange(n), rows)."
        )
    n_query, n_train = effects.shape
    if members.ndim != 2 or members.shape[1] != n_train or len(members) < 2:
        raise ValueError(
            f"Got subsets of shape {members.shape}, but expected (n_subsets, {n_train}) with at "
            "least two subsets, a column for every column of influence."
        )
    if real.shape != (len(members), n_query):
        raise ValueError(
            f"Got losses of shape {real.shape}, but expected ({len(members)}, {n_query}): a row "
            "for every subset, a column for every row of influence."
        )


def _correlation(measure: Callable[..., Any], one: np.ndarray, two: np.ndarray) -> float:
    """Correlate by one of scipy's measures; numbers that are all equal, without ranks, give 0."""
    if (one == one[0]).all() or (two == two[0]).all():
        return 0.0
    return float(measure(one, two).statistic)
