"""Validation rows that are training rows: compared by content."""

import pickle
import warnings
from collections import Counter
from collections.abc import Hashable, Mapping

import numpy as np
from scipy.sparse import csr_matrix, issparse

from skinfluence.exceptions import ValidationOverlapWarning
from skinfluence.rows._containers import Inputs, n_samples_of

# Below this share of distinct rows, equal rows are what the data is like, not a mistake.
_DISTINCT = 0.5
_WARN_SHARE = 0.1


def check_separate(training: Inputs, validation: Inputs) -> None:
    """Refuse validation rows that are the training rows, or a part of them, in any order."""
    # At the end of training the mean gradient of the training rows is about zero, so that what is
    # left of it as a direction is noise. Where most training rows have a twin among themselves, as
    # in a table of a few categories, only the whole training set is refused.
    digests = _digests
    if issparse(training) or issparse(validation):
        digests = _digests_of_entries
    rows, given = Counter(digests(training)), Counter(digests(validation))
    n_given = given.total()
    if not n_given:
        return
    shared = sum(count for digest, count in given.items() if digest in rows)
    distinct = len(rows) >= _DISTINCT * rows.total()
    if given == rows or (distinct and shared == n_given):
        raise ValueError(
            f"All {n_given} rows of X_val are training rows. On rows the net was trained on, the "
            "gradient of the loss is about zero and says nothing about what removing a row does. "
            "Hold rows out of X for X_val, or leave X_val out."
        )
    if distinct and shared > _WARN_SHARE * n_given:
        warnings.warn(
            f"{shared} of the {n_given} rows of X_val are training rows too, on which the net "
            "already fits. Hold out rows that the net is not trained on.",
            ValidationOverlapWarning,
            stacklevel=3,
        )


def _digests(X: Inputs) -> list[int]:
    return [hash(_content(_row(X, i))) for i in range(n_samples_of(X))]


def _digests_of_entries(X: Inputs) -> list[int]:
    """Do what `_digests` does for tables of which one is sparse, but for rows of zeros."""
    # of which there are many, such as texts without a word that is known, by no mistake
    table = csr_matrix(X, dtype=np.float64)
    parts = [np.split(a, table.indptr[1:-1]) for a in (table.indices.astype(np.int64), table.data)]
    rows = zip(*parts, strict=True)
    return [hash((where.tobytes(), what.tobytes())) for where, what in rows if len(where)]


def _row(X: Inputs, i: int) -> object:
    if isinstance(X, Mapping):
        return {key: value[i] for key, value in X.items()}
    row = X[i]
    if isinstance(row, tuple) and not isinstance(X, np.ndarray):  # (inputs, target) of a data set
        return row[0]
    return row


def _content(value: object) -> Hashable:
    """Turn a row into something hashable that equal rows share."""
    if isinstance(value, Mapping):
        return tuple((key, _content(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return tuple(_content(item) for item in value)
    array = np.asarray(value)
    if array.dtype == object:
        return pickle.dumps(value)
    return array.shape, (array + 0 if array.dtype.kind in "fc" else array).tobytes()
