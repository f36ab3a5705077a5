"""Rows that validate each other: every training row gets a score without trusted rows."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.model_selection import KFold, StratifiedKFold

from skinfluence.rows._seeds import own_random_state

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


def out_of_fold_scores(
    score: Score, strata: NDArray[Any], *, cv: Any, seed: int
) -> NDArray[np.float64]:
    """Score each fold of the rows by what was fitted on the other folds.

    Parameters
    ----------
    score : callable
        ``score(train, held)`` gives one score for each of the rows `held`, in that order. Called
        once for every fold.
    strata : ndarray of shape (n_samples,)
        As for `swapped_scores`.
    cv : int, splitter or list
        Number of folds, or what has scikit-learn's `split`, or (training rows, held-out rows) of
        each fold, holding out every row once.
    seed : int
        Of the folds, where `cv` is a number.

    Returns
    -------
    ndarray of shape (n_samples,)
        A row's quantile among the scores of its fold, in (0, 1).

    Raises
    ------
    ValueError
        If a row is held out never or twice, or a class has too few rows.
    """
    merged = np.empty(len(strata))
    for train, fold in folds_of(strata, cv=cv, seed=seed):
        merged[fold] = quantiles(_checked(score(train, fold), len(fold)))
    return merged


def folds_of(
    strata: NDArray[Any], *, cv: Any, seed: int
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Split rows into folds that hold out every row once.

    Parameters
    ----------
    strata, cv, seed
        As for `out_of_fold_scores`.

    Returns
    -------
    list of (ndarray of int, ndarray of int)
        Row numbers trained on and held out.

    Raises
    ------
    ValueError
        If a row is held out never or twice, or a class has too few rows.
    """
    n_rows = len(strata)
    if hasattr(cv, "split"):
        folds = list(cv.split(np.zeros((n_rows, 1)), strata))
    elif isinstance(cv, list | tuple):
        folds = [checked_fold(train, held, n_rows) for train, held in cv]
    else:
        _check_classes_suffice(strata, cv)
        names, codes = np.unique(strata, return_inverse=True)
        splitter = StratifiedKFold if len(names) > 1 else KFold
        # codes, because StratifiedKFold refuses numbers in an array of objects
        folds = list(splitter(cv, shuffle=True, random_state=seed).split(codes, codes))
    held = np.bincount(np.concatenate([held for _, held in folds]), minlength=n_rows)
    if (held != 1).any():
        row = int(np.flatnonzero(held != 1)[0])
        name = "cv" if isinstance(cv, list | tuple) else f"cv={cv!r}"
        raise ValueError(
            f"{name} holds out row {row} {held[row]} times; expected every row once, so that "
            "each has one score. Use a number, KFold or StratifiedKFold, or the list of folds of "
            "GroupKFold. Folds in time leave out the earliest rows."
        )
    return folds


def check_cv(cv: Any) -> None:
    """Refuse a `cv` that is neither None nor a number of folds nor a splitter nor their list.

    Parameters
    ----------
    cv : int, splitter, list or None

    Raises
    ------
    ValueError
        With the value.
    """
    is_number = isinstance(cv, Integral) and not isinstance(cv, bool | np.bool_)
    enough = is_number and int(cv) >= 2
    splits = hasattr(cv, "split") and not isinstance(cv, str)
    pairs = isinstance(cv, list | tuple) and len(cv) >= 2 and all(map(_is_pair, cv))
    if cv is not None and not enough and not splits and not pairs:
        raise ValueError(
            f"Got cv={cv!r}, but expected None, a number of folds of at least 2, a splitter "
            "with a method split, such as StratifiedKFold, or a list of (training rows, held-out "
            "rows), such as list(GroupKFold(5).split(X, y, groups))."
        )


def _is_pair(fold: Any) -> bool:
    return isinstance(fold, list | tuple) and len(fold) == 2


def checked_fold(train: Any, held: Any, n_rows: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Check a fold given as (training rows, held-out rows).

    Parameters
    ----------
    train, held : array-like of int
    n_rows : int

    Returns
    -------
    train, held : ndarray of int

    Raises
    ------
    ValueError
        If they are no row numbers, such as a mask, or share a row.
    """
    fold = np.asarray(train), np.asarray(held)
    for rows in fold:
        numbers = rows.ndim == 1 and rows.dtype.kind in "iu" and len(rows) > 0
        if not numbers or rows.min() < 0 or rows.max() >= n_rows:
            raise ValueError(
                f"A fold of cv holds {rows!r}, but expected row numbers from 0 to {n_rows - 1}, "
                "one-dimensional and at least one. Split the very rows that fit gets; turn a mask "
                "into numbers by np.flatnonzero."
            )
    if np.isin(*fold).any():
        row = int(np.intersect1d(*fold)[0])
        raise ValueError(
            f"A fold of cv holds out row {row} and trains on it, too. Expected (training rows, "
            "held-out rows) without a row in common."
        )
    return fold


def place_among(scores: NDArray[Any], reference: NDArray[Any]) -> NDArray[np.float64]:
    """Say where scores would stand among the scores of a fold.

    Parameters
    ----------
    scores : ndarray of shape (n_rows,)
    reference : ndarray of shape (n_reference,)
        Sorted.

    Returns
    -------
    ndarray of shape (n_rows,)
        Quantiles in (0, 1).
    """
    below = np.searchsorted(reference, scores, "left")
    through = np.searchsorted(reference, scores, "right")
    places: NDArray[np.float64] = (below + through + 1) / (2 * (len(reference) + 1))
    return places


def _check_classes_suffice(strata: NDArray[Any], n_folds: int) -> None:
    names, counts = np.unique(strata, return_counts=True)
    few = counts < n_folds
    if len(names) > 1 and few.any():
        pairs = zip(names[few].tolist(), counts[few].tolist(), strict=True)
        listing = ", ".join(f"{name!r} ({count})" for name, count in pairs)
        raise ValueError(
            f"cv={n_folds} needs {n_folds} rows of every class, but there are fewer of {listing}. "
            "Use fewer folds, or leave these classes out."
        )


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
