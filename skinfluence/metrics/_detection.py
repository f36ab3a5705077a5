"""How many known noisy rows are found by inspecting rows from the most detrimental down."""

from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skinfluence.rows._containers import check_finite
from skinfluence.rows._parameters import is_positive_number
from skinfluence.rows._worst_rows import number_of_rows


class DetectionCurve(NamedTuple):
    """What inspecting the first rows of a ranking finds, after each row.

    Attributes
    ----------
    n_inspected : ndarray of shape (n_samples,)
        1, 2, ..., n_samples.
    found : ndarray of shape (n_samples,)
        Share of the noisy rows that are among those inspected (recall).
    precision : ndarray of shape (n_samples,)
        Share of the rows inspected that are noisy.
    chance : ndarray of shape (n_samples,)
        What `found` is on average if rows are inspected in random order.
    """

    n_inspected: NDArray[np.intp]
    found: NDArray[np.float64]
    precision: NDArray[np.float64]
    chance: NDArray[np.float64]

    @property
    def area(self) -> float:
        """Area under `found` over the share of rows inspected; 0.5 by chance.

        With a share p of noisy rows it is ``p / 2 + (1 - p) * AUROC``, so 1 - p / 2 at best.
        """
        return float((self.found.sum() - 0.5) / len(self.found))


def detection_curve(is_noisy: ArrayLike, detrimentality: ArrayLike) -> DetectionCurve:
    """Inspect rows from the most detrimental down, and count the noisy ones found.

    Parameters
    ----------
    is_noisy : array-like of shape (n_samples,)
        Boolean, or 0 and 1: which rows are known to be noisy; at least one.
    detrimentality : array-like of shape (n_samples,)
        Higher = more detrimental. Only the order counts.

    Returns
    -------
    DetectionCurve
        Of `n_inspected`, `found`, `precision` and `chance`, an entry for every row, and `area`.

    Raises
    ------
    ValueError
        If shapes disagree, a score is not finite, or no row is noisy.

    Notes
    -----
    Rows with equal scores have no order. Where inspection stops among them, `found` and
    `precision` are the exact averages over all orders of these rows, so that neither the order of
    the rows in memory nor a lucky tie counts. A constant score has the curve of chance.

    Examples
    --------
    >>> from skinfluence.metrics import detection_curve
    >>> curve = detection_curve([True, False, True, False], [0.9, 0.1, 0.5, 0.5])
    >>> curve.found  # the second and the third row inspected are equal
    array([0.5 , 0.75, 1.  , 1.  ])
    >>> curve.area
    0.6875
    """
    noisy, scores = _checked(is_noisy, detrimentality)
    n_inspected = np.arange(1, len(scores) + 1)
    n_found = _expected_found(noisy, scores)
    return DetectionCurve(
        n_inspected=n_inspected,
        found=n_found / noisy.sum(),
        precision=n_found / n_inspected,
        chance=n_inspected / len(scores),
    )


def recall_at_budget(is_noisy: ArrayLike, detrimentality: ArrayLike, budget: float) -> float:
    """Say which share of the noisy rows is found by inspecting the worst rows.

    Parameters
    ----------
    is_noisy : array-like of shape (n_samples,)
        Boolean, or 0 and 1: which rows are known to be noisy; at least one.
    detrimentality : array-like of shape (n_samples,)
        Higher = more detrimental. Only the order counts.
    budget : float or int
        How many rows are inspected: a share in (0, 1] as a float, rounded to the nearest number
        of rows, or a number of rows as an int from 1 on. So 1.0 is all rows, and 1 is one row.

    Returns
    -------
    float
        From 0 to 1; by chance the share of rows inspected. Among rows with equal scores, the
        average over all their orders.

    Raises
    ------
    ValueError
        If the budget is out of range or rounds to no row, shapes disagree, a score is not finite,
        or no row is noisy.

    Examples
    --------
    >>> from skinfluence.metrics import recall_at_budget
    >>> recall_at_budget([True, False, True, False], [0.9, 0.1, 0.5, 0.4], 0.25)
    0.5
    >>> recall_at_budget([True, False, True, False], [0.9, 0.1, 0.5, 0.4], 2)
    1.0
    """
    noisy, scores = _checked(is_noisy, detrimentality)
    n_inspected = _checked_budget(budget, len(scores))
    return float(_expected_found(noisy, scores)[n_inspected - 1] / noisy.sum())


def _expected_found(noisy: NDArray[np.bool_], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Count noisy rows among the first 1, 2, ... rows, averaged over the orders of equal ones."""
    order = np.argsort(-scores)
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf)) + 1
    knots = np.append(0, ends)
    counts = np.append(0, np.cumsum(noisy[order]))[knots]
    # within a tie every row is as likely to come next, so the mean is linear in the rows inspected
    found: NDArray[np.float64] = np.interp(np.arange(1, len(scores) + 1), knots, counts)
    return found


def _checked(
    is_noisy: ArrayLike, detrimentality: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    flags = np.asarray(is_noisy)
    scores = np.asarray(detrimentality, dtype=np.float64)
    if scores.ndim != 1 or flags.shape != scores.shape:
        raise ValueError(
            f"Got is_noisy of shape {flags.shape} and detrimentality of shape {scores.shape}, but "
            "expected two one-dimensional arrays of the same rows."
        )
    if flags.dtype != np.bool_ and not np.isin(flags, (0, 1)).all():
        raise ValueError(
            f"Got is_noisy of dtype {flags.dtype}, but expected True or False (or 1 or 0) for "
            "every row. From two sets of labels: y_noisy != y_clean."
        )
    noisy = flags.astype(bool)
    if not noisy.any():
        raise ValueError(
            f"None of the {len(noisy)} rows is noisy, so there is nothing to find. Expected "
            "is_noisy to be True for at least one row."
        )
    check_finite(scores, "detrimentality")
    return noisy, scores


def _checked_budget(budget: Any, n_samples: int) -> int:
    n_rows = 0
    if is_positive_number(budget) and (isinstance(budget, Integral) or budget <= 1):
        n_rows = number_of_rows(budget, n_samples)
    if not 1 <= n_rows <= n_samples:
        raise ValueError(
            f"Got budget={budget!r} for {n_samples} rows, but expected a share of them in (0, 1] "
            f"as a float that comes to at least one row, or an int from 1 to {n_samples}."
        )
    return n_rows
