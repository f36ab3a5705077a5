"""Tables of words or counts, whose columns have one unit: rows of length one, by few numbers."""

from typing import Any

import numpy as np
from scipy.sparse import csr_array, issparse
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.preprocessing import normalize

# Tables of many columns with fewer entries than this share are of words or counts: columns keep
# their unit.
_WORDS = 0.05
_FEWEST_WORDS = 100


def holds_words(table: Any) -> bool:
    """Tell tables of words or counts, whose columns have one unit, from others."""
    n_entries = table.count_nonzero(axis=0) if issparse(table) else np.count_nonzero(table, axis=0)
    used = n_entries[n_entries > 0]
    return len(used) >= _FEWEST_WORDS and used.sum() < _WORDS * len(used) * table.shape[0]


def rows_of_length_one(table: Any) -> csr_array:
    """Divide rows by their Euclidean norm; rows of zeros stay, and no column is centred."""
    # by the largest entry first: a square may be too large, or too small, for a number
    return normalize(normalize(csr_array(table, dtype=np.float64), norm="max"), copy=False)


def principal_components(scaled: Any, n_components: int, seed: int | None) -> Any:
    """Fit PCA, or to sparse rows, which it would centre and make dense, TruncatedSVD."""
    kind = TruncatedSVD if issparse(scaled) else PCA
    most = min(n_components, *(size - 1 for size in scaled.shape))
    return kind(max(1, most), random_state=seed).fit(scaled)
