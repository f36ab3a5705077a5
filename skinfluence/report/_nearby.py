"""The nearest rows that speak against a row's target."""

import numpy as np
from numpy.typing import NDArray

from skinfluence.display._nearest import comparable, distances_to

_NEAREST = 3
# Rows that are looked at for each one: the nearest so many, of which some may be equal.
_CANDIDATES = 50
_BLOCK = 2**22
_EQUAL = 1e-6


def contradicting(
    inputs: NDArray[np.float64],
    given: np.ndarray,
    rows: NDArray[np.intp],
    doubtful: NDArray[np.intp],
    *,
    is_numeric: bool,
) -> list[list[int]]:
    """Name the nearest rows with other targets, of numbers any, for each of some rows."""
    # Equal rows are listed as such elsewhere, and doubtful ones prove nothing.
    table = comparable(inputs)
    trusted = np.ones(len(given), dtype=bool)
    trusted[doubtful] = False
    found: list[list[int]] = []
    size = max(1, _BLOCK // len(given))
    for first in range(0, len(rows), size):
        block = rows[first : first + size]
        distances = distances_to(table, block)
        for row, away in zip(block.tolist(), distances, strict=True):
            allowed = trusted & (away > _EQUAL)
            if not is_numeric:
                allowed &= given != given[row]
            found.append(_different(table, row, np.where(allowed, away, np.inf)))
    return found


def _different(table: np.ndarray, own: int, away: NDArray[np.float64]) -> list[int]:
    """Take the nearest rows that differ from the row itself and from each other."""
    count = min(_CANDIDATES, len(away))
    near = np.argpartition(away, count - 1)[:count]
    near = near[np.argsort(away[near], kind="stable")]
    taken: list[int] = []
    for row in near[np.isfinite(away[near])].tolist():
        if all(np.abs(table[row] - table[other]).max() > _EQUAL for other in (own, *taken)):
            taken.append(row)
        if len(taken) == _NEAREST:
            break
    return taken
