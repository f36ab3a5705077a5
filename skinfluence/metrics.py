"""How well scores predict what happens when the net is trained on other rows."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from skinfluence._validation import check_finite


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
    return float(np.mean([_spearman(one, two) for one, two in pairs]))


def _check_shapes(effects: NDArray[Any], members: NDArray[Any], real: NDArray[Any]) -> None:
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


def _spearman(one: NDArray[Any], two: NDArray[Any]) -> float:
    first, second = rankdata(one), rankdata(two)
    first, second = first - first.mean(), second - second.mean()
    size = np.sqrt((first @ first) * (second @ second))
    return float(first @ second / size) if size > 0 else 0.0
