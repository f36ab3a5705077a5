"""Sampling permutations: in parallel, until they agree, from where a killed run stood."""

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.parallel import Parallel, delayed

from skinfluence.rows._seeds import draw_seeds
from skinfluence.storage._work_file import WorkFile
from skinfluence.valuation.shapley._semivalues import (
    N_CHAINS,
    Progress,
    Utility,
    permutation_gains,
)


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
    verbose: int,
) -> Progress:
    """Sample permutations until the chains agree, or there are enough."""
    # the p-th permutation depends on the seed and p alone
    n_rows = len(weights)
    found = None if file is None else file.read()
    progress = Progress.start(n_rows) if found is None else Progress(**found)
    if progress.is_done(max_permutations, tolerance):
        return progress
    empty, full = utility(np.arange(0)), utility(np.arange(n_rows))
    seeds = draw_seeds(seed, max_permutations)
    with Parallel(n_jobs=n_jobs) as parallel:
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
            if verbose:
                last = f"{progress.statistics[-1]:.4f}" if progress.statistics else "not yet"
                print(f"{stop} of {max_permutations} permutations, Gelman-Rubin {last}")
    return progress
