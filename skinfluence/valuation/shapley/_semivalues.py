"""Shapley and Beta-Shapley values by sampling permutations."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, gammaln
from threadpoolctl import threadpool_limits

# utility(rows): how good a model is that was trained on these rows; large = good.
Utility: TypeAlias = Callable[[NDArray[np.intp]], float]
# Sequences of permutations whose means are compared, to tell how far sampling has come.
N_CHAINS = 10
# Below this many permutations a chain, its spread says too little to stop.
_MIN_ROUNDS = 5
# So many subsets in succession must be as good as all rows before the rest is left out: a single
# one can be by luck.
_PATIENCE = 5


class Gains(NamedTuple):
    """What each row of a permutation added to the rows before it.

    Attributes
    ----------
    order : ndarray of shape (n_rows,)
        Row numbers.
    gains : ndarray of shape (n_rows,)
        In that order; 0 for the rows left out.
    """

    order: NDArray[np.intp]
    gains: NDArray[np.float64]


def permutation_gains(
    utility: Utility,
    n_rows: int,
    *,
    empty: float,
    full: float,
    truncation: float | None,
    seed: int,
) -> Gains:
    """Add rows one by one in a random order, and note what each adds to the utility.

    Parameters
    ----------
    utility : callable
        Gets ascending row numbers.
    n_rows : int
    empty, full : float
        Utility of no row, and of all.
    truncation : float or None
        Once the utility has stayed this close to `full`, the rest adds nothing.
    seed : int
        Of the order.

    Returns
    -------
    Gains

    Notes
    -----
    Linear algebra runs on one thread, or rounding would depend on how many there are.
    """
    order = np.random.RandomState(seed).permutation(n_rows)
    gains = np.zeros(n_rows)
    before, near = empty, 0
    with threadpool_limits(1):
        for position in range(n_rows):
            after = utility(np.sort(order[: position + 1]))
            gains[position] = after - before
            before = after
            near = near + 1 if truncation is not None and abs(full - after) <= truncation else 0
            if near == _PATIENCE:
                break
    return Gains(order, gains)


def position_weights(n_rows: int, alpha: float, beta: float) -> NDArray[np.float64]:
    """Weigh positions in a permutation so that the mean gain is the Beta(alpha, beta) semivalue.

    Parameters
    ----------
    n_rows : int
    alpha, beta : float
        Above 0. (1, 1) is Shapley's: all weights 1. Large `alpha` stresses small subsets.

    Returns
    -------
    ndarray of shape (n_rows,)
        ``n C(n-1, j-1) B(j+beta-1, n-j+alpha) / B(alpha, beta)`` for j = 1, ..., n: mean 1.
    """
    j = np.arange(1, n_rows + 1)
    log_subsets = gammaln(n_rows) - gammaln(j) - gammaln(n_rows - j + 1)
    log_weights = betaln(j + beta - 1, n_rows - j + alpha) - betaln(alpha, beta)
    weights: NDArray[np.float64] = n_rows * np.exp(log_subsets + log_weights)
    return weights


@dataclass
class Progress:
    """Sums over the permutations so far, by chain.

    Attributes
    ----------
    sums, squares : ndarray of shape (n_chains, n_rows)
        Of the weighted gains of each row.
    n_permutations : int
        The p-th one belongs to chain ``p % n_chains``.
    statistics : list of float
        `gelman_rubin` after every full round of one permutation a chain, from the fifth on.
    """

    sums: NDArray[np.float64]
    squares: NDArray[np.float64]
    n_permutations: int = 0
    statistics: list[float] = field(default_factory=list)

    @classmethod
    def start(cls, n_rows: int) -> Self:
        """Begin with no permutation."""
        return cls(np.zeros((N_CHAINS, n_rows)), np.zeros((N_CHAINS, n_rows)))

    @property
    def values(self) -> NDArray[np.float64]:
        """The mean gain of each row."""
        return np.asarray(self.sums.sum(0) / self.n_permutations)

    def add(self, gains: Gains, weights: NDArray[np.float64]) -> None:
        """Count one more permutation."""
        chain = self.n_permutations % N_CHAINS
        weighted = gains.gains * weights
        self.sums[chain, gains.order] += weighted
        self.squares[chain, gains.order] += weighted**2
        self.n_permutations += 1
        rounds, left_over = divmod(self.n_permutations, N_CHAINS)
        if left_over == 0 and rounds >= _MIN_ROUNDS:
            self.statistics.append(gelman_rubin(self.sums, self.squares, rounds))

    def is_done(self, max_permutations: int, tolerance: float | None) -> bool:
        """Tell whether to stop."""
        if self.n_permutations >= max_permutations:
            return True
        if tolerance is None or not self.statistics or self.n_permutations % N_CHAINS:
            return False
        return self.statistics[-1] <= tolerance


def gelman_rubin(sums: NDArray[np.float64], squares: NDArray[np.float64], n_draws: int) -> float:
    """Compare the spread between chains with that within them.

    Parameters
    ----------
    sums, squares : ndarray of shape (n_chains, n_rows)
        Of the draws of each chain.
    n_draws : int
        Of each chain; at least 2.

    Returns
    -------
    float
        The largest ``sqrt(V / W)`` of any row, with W the mean variance within a chain and
        ``V = (T-1)/T W + var(chain means)``. Near 1: the chains agree.
    """
    means = sums / n_draws
    within = np.maximum(squares / n_draws - means**2, 0).mean(0) * n_draws / (n_draws - 1)
    between = means.var(axis=0, ddof=1)
    pooled = (n_draws - 1) / n_draws * within + between
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(pooled > 0, pooled / within, 1.0)
    return float(np.sqrt(ratios.max()))
