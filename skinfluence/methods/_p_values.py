"""Scores as p-values among rows that look clean, and disagreements that are confident."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Reference(NamedTuple):
    """The held-out scores of one fold, against which rows are placed.

    Attributes
    ----------
    clean : ndarray of shape (n_clean,)
        Sorted scores of the rows that look clean.
    beyond : ndarray of shape (n_beyond,)
        Sorted scores of the others above all of these.
    """

    clean: NDArray[np.float64]
    beyond: NDArray[np.float64]


def reference_of(scores: NDArray[np.float64], looks_clean: NDArray[np.bool_]) -> Reference:
    """Sort the scores of a fold into those of rows that look clean and those beyond.

    Parameters
    ----------
    scores : ndarray of shape (n_held,)
        Higher = more detrimental.
    looks_clean : ndarray of shape (n_held,)

    Returns
    -------
    Reference
    """
    clean, others = np.sort(scores[looks_clean]), np.sort(scores[~looks_clean])
    top = clean[-1] if len(clean) else -np.inf
    return Reference(clean, others[others > top])


def p_values(scores: NDArray[np.float64], reference: Reference) -> NDArray[np.float64]:
    """Place rows that the reference does not hold.

    Parameters
    ----------
    scores : ndarray of shape (n_rows,)
    reference : Reference

    Returns
    -------
    ndarray of shape (n_rows,)
        In (0, 1]: ``(1 + #{clean >= score}) / (1 + n_clean)``. Rows above all clean ones would
        tie: theirs is multiplied by their place among those beyond, taken in the same way.
    """
    at_least = _at_least(reference.clean, scores)
    place = (1 + _at_least(reference.beyond, scores)) / (1 + len(reference.beyond))
    return np.where(at_least == 0, place, 1 + at_least) / (1 + len(reference.clean))


def held_out_p_values(
    scores: NDArray[np.float64], looks_clean: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Place every row of a fold among the others.

    Parameters
    ----------
    scores : ndarray of shape (n_held,)
    looks_clean : ndarray of shape (n_held,)

    Returns
    -------
    ndarray of shape (n_held,)
        As `p_values` without the row itself; a row that looks clean keeps
        ``1 / n_clean`` where it is above all others that do.
    """
    reference = reference_of(scores, looks_clean)
    itself = looks_clean.astype(np.int64)
    at_least = _at_least(reference.clean, scores) - itself
    place = np.ones(len(scores))
    beyond = ~looks_clean & (at_least == 0)
    place[beyond] = _at_least(reference.beyond, scores[beyond]) / max(len(reference.beyond), 1)
    return np.where(beyond, place, 1 + at_least) / (1 + len(reference.clean) - itself)


def confident_disagreements(
    probabilities: NDArray[np.float64], codes: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Tell which rows a net confidently counts to another class than the given one.

    Parameters
    ----------
    probabilities : ndarray of shape (n_held, n_classes)
        Of rows the net was not trained on.
    codes : ndarray of shape (n_held,)
        Column of the given class.

    Returns
    -------
    ndarray of shape (n_held,)
        True where, of the classes whose probability reaches the mean that rows given this class
        have for it, the likeliest is not the one given (the confident joint of Northcutt et al.
        2021, off its diagonal, before calibration). A class given to no row is never counted.
    """
    thresholds = np.full(probabilities.shape[1], np.inf)
    for code in np.unique(codes):
        thresholds[code] = probabilities[codes == code, code].mean()
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    return np.asarray((confident.max(1) >= 0) & (confident.argmax(1) != codes))


def _at_least(ordered: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Count the entries of `ordered` that are at least as large."""
    return np.asarray(len(ordered) - np.searchsorted(ordered, scores, "left"), dtype=np.int64)
