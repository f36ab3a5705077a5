"""Rows that validate each other: every training row gets a score without trusted rows."""

from collections.abc import Callable
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from skinfluence._random import own_random_state

# score(train, held): scores of the rows `train`, judged by the rows `held`; both row numbers.
Score: TypeAlias = Callable[[NDArray[np.intp], NDArray[np.intp]], NDArray[Any]]


def check_validation_rule(validation: Any) -> None:
    """Refuse a `validation` that is neither "cross" nor a share.

    Parameters
    ----------
    validation : "cross" or float
        What stands in for X_val and y_val.

    Raises
    ------
    ValueError
        With the value and what was expected.
    """
    is_share = isinstance(validation, Real) and not isinstance(validation, bool | np.bool_)
    if not (
        validation == "cross" if isinstance(validation, str) else is_share and _open(validation)
    ):
        raise ValueError(
            f"Got validation={validation!r}, but expected 'cross' or a float in (0, 1), the share "
            "of rows to hold out. Trusted rows go to fit as X_val and y_val."
        )


def _open(share: Any) -> bool:
    return bool(0 < share < 1)


def swapped_scores(
    score: Score, strata: NDArray[Any], *, validation: str | float = "cross", seed: int
) -> NDArray[np.float64]:
    """Score two folds of the rows, each with the other as validation rows.

    Parameters
    ----------
    score : callable
        ``score(train, held)`` gives one score for each of the rows `train`, in that order;
        `train` and `held` are ascending row numbers and share no row. Called twice.
    strata : ndarray of shape (n_samples,)
        Each fold gets its share of every distinct value: class labels, or one value for all.
    validation : "cross" or float, default="cross"
        "cross" halves the rows. A float is the share held out; the rows held out are scored with
        the others as validation rows.
    seed : int

    Returns
    -------
    ndarray of shape (n_samples,)
        A row's quantile among the scores of its fold, in (0, 1): the folds have scores of two
        trainings, whose units differ. Equal scores get equal quantiles.

    Raises
    ------
    ValueError
        If a fold would be empty, or `score` gives another number of scores.
    """
    check_validation_rule(validation)
    held = split_rows(strata, 0.5 if isinstance(validation, str) else float(validation), seed)
    folds = np.flatnonzero(~held), np.flatnonzero(held)
    merged = np.empty(len(strata))
    for train, other in (folds, folds[::-1]):
        merged[train] = quantiles(_checked(score(train, other), len(train)))
    return merged


def split_rows(strata: NDArray[Any], share: float, seed: int) -> NDArray[np.bool_]:
    """Hold out a share of the rows, and of every stratum.

    Parameters
    ----------
    strata : ndarray of shape (n_samples,)
        Their names do not count, only which rows are alike.
    share : float
        In (0, 1).
    seed : int

    Returns
    -------
    ndarray of shape (n_samples,)
        True for the rows held out. In every stratum within one row of its share.

    Raises
    ------
    ValueError
        If no row, or every row, would be held out.
    """
    n_rows = len(strata)
    rng = own_random_state(seed)
    _, first, codes = np.unique(strata, return_index=True, return_inverse=True)
    order = np.lexsort((rng.permutation(n_rows), first[codes]))
    # every 1/share-th of the rows in this order: what rounding takes from one stratum it gives
    # to the next
    steps = np.floor(np.arange(n_rows + 1) * share + rng.random_sample())
    held = np.zeros(n_rows, dtype=bool)
    held[order] = np.diff(steps) > 0
    if held.all() or not held.any():
        raise ValueError(
            f"Of {n_rows} rows, validation={share} would hold out {held.sum()}. Expected at least "
            "one row on each side; give more rows, another share, or X_val and y_val."
        )
    return held


def quantiles(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Turn scores into quantiles among themselves.

    Parameters
    ----------
    scores : ndarray of shape (n_rows,)

    Returns
    -------
    ndarray of shape (n_rows,)
        Rank over ``n_rows + 1``, ties at their mean rank.
    """
    ranks: NDArray[np.float64] = rankdata(scores) / (len(scores) + 1)
    return ranks


def _checked(scores: NDArray[Any], n_rows: int) -> NDArray[Any]:
    scores = np.asarray(scores)
    if scores.shape != (n_rows,) or not np.isfinite(scores).all():
        raise ValueError(
            f"Expected {n_rows} finite scores of one fold, got shape {scores.shape} with "
            f"{int((~np.isfinite(scores)).sum())} not finite."
        )
    return scores
