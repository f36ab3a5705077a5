"""How many rows to remove, and which: plain functions of scores, classes and losses."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The shares that contamination="auto" compares; none at all is one of them.
SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4)


class AmountError(ValueError):
    """So many rows cannot go without leaving too few of a class."""


def check_amount(contamination: Any) -> None:
    """Refuse a cleaner's `contamination` that says no amount.

    Parameters
    ----------
    contamination : "auto", "disagreement", float or int

    Raises
    ------
    ValueError
        With the value and what was expected.
    """
    if isinstance(contamination, str):
        holds = contamination in {"auto", "disagreement"}
    elif isinstance(contamination, bool | np.bool_):
        holds = False
    elif isinstance(contamination, Integral):
        holds = int(contamination) >= 0
    else:
        holds = isinstance(contamination, Real) and bool(0 <= float(contamination) < 1)
    if not holds:
        raise ValueError(
            f"Got contamination={contamination!r}, but expected 'auto', 'disagreement', a share of "
            "the rows as a float in [0, 1), or a number of rows as an int >= 0."
        )


def worst_rows(
    ranking: NDArray[np.intp],
    groups: NDArray[np.intp],
    amount: float,
    *,
    per_class: bool = False,
    keep_minimum: int = 1,
    names: NDArray[Any] | None = None,
) -> NDArray[np.intp]:
    """Choose the most detrimental rows that may go, leaving some of every class.

    Parameters
    ----------
    ranking : ndarray of shape (n_samples,)
        Row numbers, most detrimental first.
    groups : ndarray of shape (n_samples,)
        Class number of every row, from 0 on; all 0 for a regression.
    amount : float or int
        A share of the rows, rounded to the nearest number of rows, or a number of rows.
    per_class : bool, default=False
        That share, or number, of every class.
    keep_minimum : int, default=1
        So many rows of every class stay. A row that would have to go beyond that is passed over,
        and the next one in the ranking goes.
    names : ndarray of shape (n_classes,), optional
        Labels of the classes, for errors.

    Returns
    -------
    ndarray of shape (n_removed,)
        Row numbers, most detrimental first.

    Raises
    ------
    AmountError
        If that many rows cannot go.
    """
    sizes = np.bincount(groups)
    spare = np.maximum(sizes - keep_minimum, 0)
    if per_class:
        quota = np.array([number_of_rows(amount, int(size)) for size in sizes])
        if (quota > spare).any():
            few = int(np.flatnonzero(quota > spare)[0])
            label = f"number {few}" if names is None else repr(names.tolist()[few])
            raise AmountError(
                f"contamination={amount!r} with per_class=True would take {quota[few]} of the "
                f"{sizes[few]} rows of class {label}, but keep_minimum={keep_minimum} rows of "
                "it must stay. Lower contamination, or leave the class out."
            )
        n_removed = int(quota.sum())
    else:
        quota = spare
        n_removed = number_of_rows(amount, len(ranking))
        if n_removed > spare.sum():
            raise AmountError(
                f"contamination={amount!r} would remove {n_removed} of {len(ranking)} rows, but "
                f"only {spare.sum()} can go if keep_minimum={keep_minimum} of every class stay. "
                "Lower contamination: no class may be emptied."
            )
    order = places_in_class(groups[ranking])
    return ranking[order < quota[groups[ranking]]][:n_removed]


def shares_possible(
    ranking: NDArray[np.intp], groups: NDArray[np.intp], *, per_class: bool, keep_minimum: int
) -> tuple[float, ...]:
    """List the shares of `SHARES` that may go, from 0 on; parameters as for `worst_rows`.

    Returns
    -------
    tuple of float

    Raises
    ------
    AmountError
        If no row may go.
    """
    possible: list[float] = []
    for share in SHARES:
        try:
            worst_rows(ranking, groups, share, per_class=per_class, keep_minimum=keep_minimum)
        except AmountError:
            break
        possible.append(share)
    sizes = np.bincount(groups)
    if sizes.max() <= keep_minimum:
        raise AmountError(
            f"contamination='auto' compares shares of rows that go, but keep_minimum={keep_minimum}"
            f" and no class has more than {sizes.max()} rows (a regression is one class), so none "
            "can go. Lower keep_minimum, or set contamination=0."
        )
    return tuple(possible)


def spare_classes(
    rows: NDArray[np.intp], groups: NDArray[np.intp], keep_minimum: int
) -> NDArray[np.intp]:
    """Leave out of the rows to remove the last ones of a class that would have too few left.

    Parameters
    ----------
    rows : ndarray of shape (n_removed,)
        Row numbers, most detrimental first.
    groups : ndarray of shape (n_samples,)
    keep_minimum : int

    Returns
    -------
    ndarray
        Those that may go.
    """
    spare = np.maximum(np.bincount(groups) - keep_minimum, 0)
    return rows[places_in_class(groups[rows]) < spare[groups[rows]]]


def places_in_class(groups: NDArray[np.intp]) -> NDArray[np.intp]:
    """Count, for every row, the rows of its class before it."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    places = np.empty(len(groups), dtype=np.intp)
    places[order] = np.arange(len(groups)) - np.searchsorted(ordered, ordered, "left")
    return places


def fewest_within_one_error(losses: NDArray[np.float64]) -> int:
    """Choose the smallest share whose loss cannot be told from the lowest.

    Parameters
    ----------
    losses : ndarray of shape (n_shares, n_held)
        Loss of every held-out row after removing each share; shares ascend.

    Returns
    -------
    int
        The first share whose mean loss exceeds the lowest mean by no more than one standard error
        of the difference, taken over the rows: all shares are judged by the same ones.
    """
    best = int(losses.mean(1).argmin())
    excess = losses - losses[best]
    error = excess.std(1, ddof=1) / np.sqrt(losses.shape[1])
    return int(np.flatnonzero(excess.mean(1) <= error)[0])


def number_of_rows(amount: Any, n_rows: int) -> int:
    """Turn a share, rounded to the nearest number of rows, or a number of rows into the latter."""
    return int(amount) if isinstance(amount, Integral) else int(np.floor(amount * n_rows + 0.5))
