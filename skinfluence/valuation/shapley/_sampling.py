"""Sampling permutations: in parallel, until they agree, from where a killed run stood."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.parallel import Parallel, delayed

from skinfluence.rows._seeds import draw_seeds
from skinfluence.valuation.shapley._semivalues import (
    N_CHAINS,
    Progress,
    Utility,
    load_progress,
    permutation_gains,
    save_progress,
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
    checkpoint: Path | None,
    fingerprint: str,
    verbose: int,
) -> Progress:
    """Sample permutations until the chains agree, or there are enough.

    Parameters
    ----------
    utility : callable
    weights : ndarray of shape (n_rows,)
        Of the positions in a permutation.
    truncation, max_permutations, tolerance
        As for `DataShapley`.
    seed : int
        The p-th permutation depends on it and p alone.
    n_jobs : int or None
    checkpoint : Path or None
        Read if it is there; written after every round of one permutation a chain.
    fingerprint : str
        What the checkpoint must belong to.
    verbose : int

    Returns
    -------
    Progress

    Raises
    ------
    ValueError
        If the checkpoint is no such file, or belongs to something else.
    """
    n_rows = len(weights)
    progress = Progress.start(n_rows)
    if checkpoint is not None and checkpoint.exists():
        progress = load_progress(checkpoint, fingerprint)
    if progress.is_done(max_permutations, tolerance):
        return progress
    empty, full = utility(np.arange(0)), utility(np.arange(n_rows))
    seeds = draw_seeds(seed, max_permutations)
    with Parallel(n_jobs=n_jobs) as parallel:
        while not progress.is_done(max_permutations, tolerance):
            start = progress.n_permutations
            stop = min(start - start % N_CHAINS + N_CHAINS, max_permutations)
            found = parallel(
                delayed(permutation_gains)(
                    utility, n_rows, empty=empty, full=full, truncation=truncation, seed=one
                )
                for one in seeds[start:stop]
            )
            for gains in found:
                progress.add(gains, weights)
            if checkpoint is not None:
                save_progress(checkpoint, progress, fingerprint)
            if verbose:
                last = f"{progress.statistics[-1]:.4f}" if progress.statistics else "not yet"
                print(f"{stop} of {max_permutations} permutations, Gelman-Rubin {last}")
    return progress
