"""Shapley and Beta-Shapley values by sampling permutations."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, gammaln
from sklearn.utils.parallel import Parallel, delayed
from threadpoolctl import threadpool_limits

from skinfluence.rows._progress import tell
from skinfluence.rows._seeds import draw_seeds
from skinfluence.storage._work_file import WorkFile

# utility(rows): how good a model is that was trained on these rows, ascending; large = good.
Utility: TypeAlias = Callable[[NDArray[np.intp]], float]
# Sequences of permutations whose means are compared, to tell how far sampling has come.
N_CHAINS = 10
# Below this many permutations a chain, its spread says too little to stop.
_MIN_ROUNDS = 5
# So many subsets in succession must be as good as all rows before the rest is left out: a single
# one can be by luck.
_PATIENCE = 5


class Gains(NamedTuple):
    """What each row of a permutation added to the rows before it."""

    order: NDArray[np.intp]  # row numbers
    gains: NDArray[np.float64]  # in that order; 0 for the rows left out


@dataclass
class Progress:
    """Sums over the permutations so far, by chain: the p-th one belongs to p % n_chains."""

    # of the weighted gains and their squares: (n_chains, n_rows)
    sums: NDArray[np.float64]
    squares: NDArray[np.float64]
    n_permutations: int = 0
    # `gelman_rubin` after every full round of one permutation a chain, from the fifth on
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


def sample_values(
    utility: Utility,
    weights: NDArray[np.float64],
    *,
    truncation: float | None,
    max_permutations: int,
    tolerance: float | None,
    seed: int,
    n_jobs: int | None,
    file: WorkFile | None,
) -> Progress:
    """Sample permutations, in parallel, until the chains agree or there are enough."""
    # `weights` are those of the positions in a permutation; the p-th permutation depends on `seed`
    # and p alone.
    n_rows = len(weights)
    found = None if file is None else file.read()
    progress = Progress.start(n_rows) if found is None else Progress(**found)
    if progress.is_done(max_permutations, tolerance):
        return progress
    empty, full = utility(np.arange(0)), utility(np.arange(n_rows))
    seeds = draw_seeds(seed, max_permutations)
    with Parallel(n_jobs=n_jobs) as parallel:
        tell(parallel, "permutations", progress.n_permutations, max_permutations)
        while not progress.is_done(max_permutations, tolerance):
            start = progress.n_permutations
            stop = min(start - start % N_CHAINS + N_CHAINS, max_permutations)
            added = parallel(
                delayed(permutation_gains)(
                    utility, n_rows, empty=empty, full=full, truncation=truncation, seed=one
                )
                for one in seeds[start:stop]
            )
            for gains in added:
                progress.add(gains, weights)
            if file is not None:
                file.write(vars(progress))  # an interrupt may leave half a round, not to be kept
            spread = f" (Gelman-Rubin {progress.statistics[-1]:.3f})" if progress.statistics else ""
            tell(parallel, f"permutations{spread}", stop, max_permutations)
    tell(parallel, "permutations", progress.n_permutations, progress.n_permutations)
    return progress


def permutation_gains(
    utility: Utility,
    n_rows: int,
    *,
    empty: float,
    full: float,
    truncation: float | None,
    seed: int,
) -> Gains:
    """Add rows in a random order, from the utility `empty` to `full`, and note what each adds."""
    order = np.random.RandomState(seed).permutation(n_rows)
    gains = np.zeros(n_rows)
    before, near = empty, 0
    with threadpool_limits(1):  # or rounding would depend on how many threads there are
        for position in range(n_rows):
            after = utility(np.sort(order[: position + 1]))
            gains[position] = after - before
            before = after
            near = near + 1 if truncation is not None and abs(full - after) <= truncation else 0
            if near == _PATIENCE:
                break
    return Gains(order, gains)


def position_weights(n_rows: int, alpha: float, beta: float) -> NDArray[np.float64]:
    """Weigh positions so that the mean gain is the Beta(alpha, beta) semivalue; mean 1."""
    # n C(n-1, j-1) B(j+beta-1, n-j+alpha) / B(alpha, beta) for j = 1, ..., n. All weights are 1 for
    # (1, 1), which is Shapley's; a large alpha stresses small subsets.
    j = np.arange(1, n_rows + 1)
    log_subsets = gammaln(n_rows) - gammaln(j) - gammaln(n_rows - j + 1)
    log_weights = betaln(j + beta - 1, n_rows - j + alpha) - betaln(alpha, beta)
    weights: NDArray[np.float64] = n_rows * np.exp(log_subsets + log_weights)
    return weights


def gelman_rubin(sums: NDArray[np.float64], squares: NDArray[np.float64], n_draws: int) -> float:
    """Compare the spread between chains with that within them; near 1: the chains agree."""
    # the largest sqrt(V / W) of any row, with W the mean variance within a chain of T draws and
    # V = (T-1)/T W + var(chain means)
    means = sums / n_draws
    within = np.maximum(squares / n_draws - means**2, 0).mean(0) * n_draws / (n_draws - 1)
    between = means.var(axis=0, ddof=1)
    pooled = (n_draws - 1) / n_draws * within + between
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(pooled > 0, pooled / within, 1.0)
    return float(np.sqrt(ratios.max()))
