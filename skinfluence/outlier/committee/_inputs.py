"""Rows as the members of a committee take them."""

from typing import Any

import numpy as np
from scipy.sparse import csr_array, issparse
from sklearn.utils.sparsefuncs import mean_variance_axis

from skinfluence.rows._containers import center_and_scale
from skinfluence.rows._words import holds_words, principal_components, rows_of_length_one

# Perceptrons see no more columns than this.
_MOST_COLUMNS = 64


class InputViews:
    """What trees, distances and perceptrons see of rows; learnt of the training rows alone."""

    def __init__(self, X: Any, seed: int) -> None:
        flat = _flat(X)
        self.standardizes = not holds_words(flat)
        if self.standardizes:
            self._center, self._scale = _center_and_scale(flat)
        scaled = self.scaled(X)
        self._reduce: Any = None
        if scaled.shape[1] > _MOST_COLUMNS:
            self._reduce = principal_components(scaled, _MOST_COLUMNS, seed)
        self._unit = 1.0
        self._unit = float(self.reduced(scaled).std()) or 1.0

    def scaled(self, X: Any) -> Any:
        """Give rows with standardised columns; of words, as sparse rows of length one."""
        if self.standardizes:
            if issparse(X):  # where the center lies does not count for distances
                return X.multiply(1 / self._scale).tocsr()
            return (_flat(X) - self._center) / self._scale
        return rows_of_length_one(_flat(X))

    def reduced(self, scaled: Any) -> np.ndarray:
        """Give scaled rows by their first principal components, if there are many columns."""
        columns = scaled if self._reduce is None else self._reduce.transform(scaled)
        if issparse(columns):
            columns = columns.toarray()
        return np.ascontiguousarray(columns / self._unit, dtype=np.float32)


class Seen:
    """The views of some rows."""

    def __init__(self, X: Any, views: InputViews) -> None:
        self.given = X
        self.flat = _flat(X)
        self.scaled = views.scaled(X)
        self.reduced = views.reduced(self.scaled)
        # trees round to single precision, where a time in seconds has no digits left
        self.for_trees = self.scaled if views.standardizes else self.flat

    def __len__(self) -> int:
        return int(self.given.shape[0])


def _center_and_scale(table: Any) -> tuple[np.ndarray, np.ndarray]:
    if not issparse(table):
        return center_and_scale(table)
    _, variance = mean_variance_axis(csr_array(table, dtype=np.float64), axis=0)
    return np.zeros(table.shape[1]), np.where(variance > 0, np.sqrt(variance), 1.0)


def _flat(X: Any) -> Any:
    return X if X.ndim == 2 else X.reshape(len(X), -1)
