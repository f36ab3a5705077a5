"""Which rows are the worst n, leaving some of every class: plain functions of a ranking."""

import numpy as np
from numpy.typing import NDArray

from skinfluence.exceptions import AmountError
from skinfluence.rows._parameters import is_integer


def worst_rows(
    ranking: NDArray[np.intp],
    groups: NDArray[np.intp],
    amount: float,
    *,
    per_class: bool = False,
    keep_minimum: int = 1,
    names: np.ndarray | None = None,
) -> NDArray[np.intp]:
    """Choose the most detrimental rows that may go, worst first, leaving some of every class."""
    # `amount` is a share or a number of rows; a row that would have to go beyond what its class
    # can spare is passed over, and the next one in the ranking goes.
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


def spare_classes(
    rows: NDArray[np.intp], groups: NDArray[np.intp], keep_minimum: int
) -> NDArray[np.intp]:
    """Leave out of the rows to remove the last ones of a class that would have too few left."""
    spare = np.maximum(np.bincount(groups) - keep_minimum, 0)
    return rows[places_in_class(groups[rows]) < spare[groups[rows]]]


def places_in_class(groups: NDArray[np.intp]) -> NDArray[np.intp]:
    """Count, for every row, the rows of its class before it."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    places = np.empty(len(groups), dtype=np.intp)
    places[order] = np.arange(len(groups)) - np.searchsorted(ordered, ordered, "left")
    return places


def number_of_rows(amount: float, n_rows: int) -> int:
    """Turn a share, rounded to the nearest number of rows, or a number of rows into the latter."""
    return int(amount) if is_integer(amount) else int(np.floor(amount * n_rows + 0.5))
