"""Folds of the rows, and scores of several folds on one scale."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
)

from skinfluence.rows._containers import first_rows
from skinfluence.rows._parameters import is_integer, is_real
from skinfluence.rows._seeds import own_random_state

# Of a fold that holds out so few rows, quantiles within the fold are no scale.
FEW_ROWS = 3
# By whether groups are to stay together, and whether there are classes.
_KINDS = {
    (False, False): KFold,
    (False, True): StratifiedKFold,
    (True, False): GroupKFold,
    (True, True): StratifiedGroupKFold,
}
# Row numbers: (trained on, held out).
Fold: TypeAlias = tuple[np.ndarray, np.ndarray]


def check_validation_rule(validation: object) -> None:
    """Refuse a `validation` that is neither "cross" nor a share of the rows."""
    is_cross = isinstance(validation, str) and validation == "cross"
    if not is_cross and not (is_real(validation) and 0 < validation < 1):
        raise ValueError(
            f"Got validation={validation!r}, but expected 'cross' or a float in (0, 1), the share "
            "of rows to hold out. Trusted rows go to fit as X_val and y_val."
        )


def check_cv(cv: object) -> None:
    """Refuse a `cv` that is neither None nor a number of folds, a splitter, nor a list of folds."""
    enough = is_integer(cv) and cv >= 2
    splits = hasattr(cv, "split") and not isinstance(cv, str)
    pairs = (
        isinstance(cv, list | tuple)
        and len(cv) >= 2
        and all(isinstance(fold, list | tuple) and len(fold) == 2 for fold in cv)
    )
    if cv is not None and not enough and not splits and not pairs:
        raise ValueError(
            f"Got cv={cv!r}, but expected None, a number of folds of at least 2, a splitter "
            "with a method split, such as StratifiedKFold, or a list of (training rows, held-out "
            "rows). Rows of a group stay together by fit(X, y, groups=groups)."
        )


def checked_fold(train: object, held: object, n_rows: int) -> Fold:
    """Refuse a given fold that holds no row numbers, such as a mask, or shares a row."""
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


def folds_of(
    strata: np.ndarray, *, cv: object, seed: int, groups: NDArray[np.intp] | None = None
) -> list[Fold]:
    """Split rows into folds that hold out every row once, and of each stratum its share."""
    n_rows = len(strata)
    if hasattr(cv, "split"):
        folds = _with_all_classes(_split_by(cv, strata, groups), strata)
    elif isinstance(cv, list | tuple):
        folds = [checked_fold(train, held, n_rows) for train, held in cv]
        folds = _with_all_classes(folds, strata)
    else:
        names, codes, counts = np.unique(strata, return_inverse=True, return_counts=True)
        _check_classes_suffice(names, counts, cv)
        splitter = _KINDS[groups is not None, len(names) > 1]
        if groups is not None:
            _check_groups_suffice(groups, cv)
        # codes, because StratifiedKFold refuses numbers in an array of objects
        split = splitter(cv, shuffle=True, random_state=seed).split(codes, codes, groups)
        folds = list(split) if groups is None else _with_all_classes(list(split), strata)
    held = np.bincount(np.concatenate([held for _, held in folds]), minlength=n_rows)
    if (held != 1).any():
        row = int(np.flatnonzero(held != 1)[0])
        name = "cv" if isinstance(cv, list | tuple) else f"cv={cv!r}"
        raise ValueError(
            f"{name} holds out row {row} {held[row]} times; expected every row once, so that "
            "each has one score. Use a number, KFold, StratifiedKFold or GroupKFold. Folds in time "
            "leave out the earliest rows."
        )
    return folds


def _split_by(cv: Any, strata: np.ndarray, groups: NDArray[np.intp] | None) -> list[Fold]:
    rows = np.zeros((len(strata), 1))
    try:  # a splitter of one's own may know of no groups
        return list(cv.split(rows, strata) if groups is None else cv.split(rows, strata, groups))
    except ValueError as error:
        if groups is None and "groups" in str(error):
            raise ValueError(
                f"cv={cv!r} keeps the rows of a group together, but fit got no groups. Call "
                "fit(X, y, groups=groups), with the group of every row; in a Pipeline or a search, "
                "enable metadata routing and ask for them by set_fit_request(groups=True)."
            ) from error
        raise


def halves_of(strata: np.ndarray, *, validation: str | float, seed: int) -> list[Fold]:
    """Split rows into two parts, twice: each part once as the one that validates the other."""
    check_validation_rule(validation)
    held = split_rows(strata, 0.5 if isinstance(validation, str) else float(validation), seed)
    fewest = min(held.sum(), (~held).sum())
    if not isinstance(validation, str) and fewest <= FEW_ROWS:
        raise ValueError(
            f"validation={validation!r} makes a part of {fewest} of {len(held)} rows, which is "
            "scored by what is trained on these alone, as quantiles among themselves. Use "
            f"'cross' or a share that makes parts of more than {FEW_ROWS} rows."
        )
    parts = np.flatnonzero(~held), np.flatnonzero(held)
    return [parts, parts[::-1]]


def check_has_all_classes(strata: np.ndarray, part: np.ndarray) -> None:
    """Refuse a part of the rows that a net is to be trained on, if it lacks a class."""
    missing = _missing_class(strata, part)
    if missing is not None:
        name, rows = missing
        raise ValueError(
            f"Class {name!r} has {len(rows)} of {len(strata)} rows ({first_rows(rows)}), so one of "
            "the two parts that the rows are split into, each of which a net is trained on, has "
            "none of it. Give X_val and y_val, leave the class out, or get more rows of it."
        )


def _with_all_classes(folds: list[Fold], strata: np.ndarray) -> list[Fold]:
    """Refuse folds that train on no row of a class that they may hold out."""
    for number, (train, _) in enumerate(folds):
        missing = _missing_class(strata, train)
        if missing is not None:
            name, rows = missing
            if len(rows) == 1:
                raise ValueError(
                    f"Class {name!r} has one row, {rows[0]}, which fold {number} of cv holds out, "
                    "so that nothing is trained on the class there. Leave the class out, or get "
                    "more rows of it."
                )
            raise ValueError(
                f"Fold {number} of cv trains on no row of class {name!r}: it holds out all "
                f"{len(rows)} of them ({first_rows(rows)}). Use StratifiedKFold, or shuffle: "
                "KFold takes rows in order, and these may be sorted by class. A class that is in "
                "one group alone cannot be split: leave it out, or get rows of it in other groups."
            )
    return folds


def _missing_class(strata: np.ndarray, rows: np.ndarray) -> tuple[object, np.ndarray] | None:
    """Find a class that rows have nothing of, and where it is; None if they have all."""
    missing = np.setdiff1d(strata, strata[rows])
    if not len(missing):
        return None
    return missing.tolist()[0], np.flatnonzero(strata == missing[0])


def split_rows(strata: np.ndarray, share: float, seed: int) -> NDArray[np.bool_]:
    """Hold out a share of the rows, and of every stratum within one row: True for these."""
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


def have_no_scale(scores: np.ndarray) -> bool:
    """Tell whether quantiles among scores say nothing: there are too few, or all are the same."""
    return len(scores) <= FEW_ROWS or bool(scores.min() == scores.max())


def quantiles(scores: np.ndarray) -> NDArray[np.float64]:
    """Turn scores into quantiles among themselves, in (0, 1); ties at their mean rank."""
    ranks: NDArray[np.float64] = rankdata(scores) / (len(scores) + 1)
    return ranks


def place_among(scores: np.ndarray, reference: np.ndarray) -> NDArray[np.float64]:
    """Say at which quantile of the sorted scores of a fold scores would stand, in (0, 1)."""
    below = np.searchsorted(reference, scores, "left")
    through = np.searchsorted(reference, scores, "right")
    places: NDArray[np.float64] = (below + through + 1) / (2 * (len(reference) + 1))
    return places


def _check_classes_suffice(names: np.ndarray, counts: np.ndarray, n_folds: object) -> None:
    few = counts < n_folds
    if len(names) > 1 and few.any():
        pairs = zip(names[few].tolist(), counts[few].tolist(), strict=True)
        listing = ", ".join(f"{name!r} ({count})" for name, count in pairs)
        raise ValueError(
            f"cv={n_folds} needs {n_folds} rows of every class, but there are fewer of {listing}. "
            "Use fewer folds, or leave these classes out."
        )


def _check_groups_suffice(groups: NDArray[np.intp], n_folds: object) -> None:
    n_groups = len(np.unique(groups))
    if is_integer(n_folds) and n_groups < n_folds:
        raise ValueError(
            f"cv={n_folds} needs at least {n_folds} groups, but there are {n_groups}. Use fewer "
            "folds, or finer groups."
        )
