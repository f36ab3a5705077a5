"""Differences of scores of the same seeds."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from skinfluence.rows._parameters import check_parameter, is_positive_number


class PairedDifference(NamedTuple):
    """Mean differences over seeds, with an interval.

    Attributes
    ----------
    mean : ndarray of shape (n_budgets,)
    low, high : ndarray of shape (n_budgets,)
        Ends of Student's interval for the mean.
    """

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def paired_difference(
    scores: NDArray[np.float64], others: NDArray[np.float64], *, level: float = 0.95
) -> PairedDifference:
    """Take the mean difference over seeds and Student's interval for it, column by column.

    Parameters
    ----------
    scores, others : ndarray of shape (n_seeds, n_columns)
        What they have in common by row, such as the seed, drops out.
    level : float, default=0.95
        How often the interval holds the mean, in (0, 1).

    Returns
    -------
    PairedDifference
        Of `scores` less `others`. If all differences are equal, an interval of no width.

    Raises
    ------
    ValueError
        If there are fewer than two seeds, or `level` is out of range.
    """
    check_parameter(
        "level",
        level,
        "a float in (0, 1)",
        holds=lambda value: is_positive_number(value) and value < 1,
    )
    n_seeds = len(scores)
    if n_seeds < 2:
        raise ValueError(
            f"An interval over seeds needs at least two of them, got n_seeds={n_seeds}. Raise "
            "n_seeds; the differences themselves are in `scores`."
        )
    differences = scores - others
    mean = differences.mean(0)
    error = differences.std(0, ddof=1) / np.sqrt(n_seeds)
    half = t.ppf((1 + level) / 2, n_seeds - 1) * error
    return PairedDifference(mean, mean - half, mean + half)
