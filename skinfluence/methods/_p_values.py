"""Scores as p-values among rows that look clean."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Reference(NamedTuple):
    """The held-out scores of one fold, sorted, against which rows are placed."""

    clean: NDArray[np.float64]  # of the rows that look clean
    beyond: NDArray[np.float64]  # of the others above all of these


def reference_of(scores: NDArray[np.float64], looks_clean: NDArray[np.bool_]) -> Reference:
    """Sort the scores of a fold into those of rows that look clean and those beyond."""
    clean, others = np.sort(scores[looks_clean]), np.sort(scores[~looks_clean])
    top = clean[-1] if len(clean) else -np.inf
    return Reference(clean, others[others > top])


def p_values(scores: NDArray[np.float64], reference: Reference) -> NDArray[np.float64]:
    """Place rows that the reference does not hold: ``(1 + #{clean >= score}) / (1 + n_clean)``."""
    at_least = _at_least(reference.clean, scores)
    # rows above all clean ones would tie: they share the interval below, in the order of scores
    place = (1 + _at_least(reference.beyond, scores)) / (1 + len(reference.beyond))
    return np.where(at_least == 0, place, 1 + at_least) / (1 + len(reference.clean))


def held_out_p_values(
    scores: NDArray[np.float64], looks_clean: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Place every row of a fold among the others, without itself."""
    reference = reference_of(scores, looks_clean)
    itself = looks_clean.astype(np.int64)
    at_least = _at_least(reference.clean, scores) - itself
    place = np.ones(len(scores))
    beyond = ~looks_clean & (at_least == 0)
    place[beyond] = _at_least(reference.beyond, scores[beyond]) / max(len(reference.beyond), 1)
    return np.where(beyond, place, 1 + at_least) / (1 + len(reference.clean) - itself)


def _at_least(ordered: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Count the entries of `ordered` that are at least as large."""
    return np.asarray(len(ordered) - np.searchsorted(ordered, scores, "left"), dtype=np.int64)
