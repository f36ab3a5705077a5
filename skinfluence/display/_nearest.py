"""Which training rows lie nearest to a row, in what a method sees of them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.preprocessing import normalize

from skinfluence.rows._containers import center_and_scale

# Of so many rows, spread over the set, the distance to the nearest other one is taken.
_SAMPLE = 200


def comparable(inputs: Any) -> Any:
    """Put rows where distances mean something, (n_samples, n_features); None where none do."""
    # columns of a table are standardised, because their units are arbitrary; pixels share theirs;
    # of sparse rows, such as words, directions count
    if issparse(inputs):
        return normalize(inputs.tocsr().astype(np.float64))
    if not isinstance(inputs, np.ndarray) or inputs.dtype.kind not in "biuf":
        return None
    flat = inputs.reshape(len(inputs), -1)
    if inputs.ndim > 2:
        return flat.astype(np.float64)
    center, scale = center_and_scale(flat)
    return (flat - center) / scale


def distances_to(table: Any, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Measure the distances of some rows to all, (n_rows, n_samples); infinite to themselves."""
    distances: NDArray[np.float64] = euclidean_distances(table[rows], table)
    distances[np.arange(len(rows)), rows] = np.inf
    return distances


def nearest(distances: NDArray[np.float64], allowed: NDArray[np.bool_], k: int) -> NDArray[np.intp]:
    """Give the numbers of the k nearest rows among those allowed, fewer if there are fewer."""
    candidates = np.flatnonzero(allowed & np.isfinite(distances))
    return candidates[np.argsort(distances[candidates], kind="stable")[:k]]


def closest_distances(table: Any) -> NDArray[np.float64]:
    """Measure the distance to the nearest row that is not equal, of some rows that have one."""
    n_rows = table.shape[0]
    some = np.unique(np.linspace(0, n_rows - 1, min(_SAMPLE, n_rows)).astype(np.intp))
    distances = distances_to(table, some)
    distances[distances < 1e-9] = np.inf
    closest = distances.min(1)
    return np.asarray(closest[np.isfinite(closest)])
