"""Kernel machines on some rows as landmarks: exact leave-one-out predictions of all rows."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LANDMARKS = 500
# Widths of the Gaussian kernels, in medians of the squared distances; None is the linear kernel.
WIDTHS = (0.25, 1.0, 4.0, None)
# Penalties that are tried, in parts of the largest eigenvalue.
_PENALTIES = 10.0 ** np.arange(-5.5, 1, 0.5)
_CHUNK = 8192
# By at most so many rows, spread evenly, the penalty is chosen.
_CHOOSING = 2**16
# Kernels beyond so many bytes are computed again when they are needed.
_KEPT = 2**28
_SMALLEST = 1e-6


class KernelMachine:
    """Ridge regression on a kernel's features; of the penalties, the best out of sample."""

    # With features z of unit length in the eigenbasis, e the eigenvalues and c the penalty, the
    # prediction without the row itself is (f - h y) / (1 - h), h = w (sum z^2 / (e + c) + 1 / n)
    # with the row's weight w, one on the mean.
    def __init__(self, landmarks: Any, width: float | None) -> None:
        self._landmarks, self._width = landmarks, width
        products = _dense(landmarks @ landmarks.T)
        self._squares = _squares(landmarks)
        kernel = self._kernel(products, self._squares)
        values, vectors = np.linalg.eigh(kernel)
        kept = values > _SMALLEST * max(values.max(), np.finfo(float).tiny)
        self._basis = vectors[:, kept] / np.sqrt(values[kept])
        if not kept.any():  # all rows are alike: what is left is the mean of the others' targets
            self._basis = np.zeros((len(values), 1))

    def fit(
        self, X: Any, targets: np.ndarray, weights: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """Fit on targets, (n_samples, n_outputs); predict each row without it."""
        n_rows, width = X.shape[0], self._basis.shape[1]
        w = np.ones((n_rows, 1)) if weights is None else weights[:, np.newaxis]
        self._mean_target = (w * targets).sum(0) / n_rows  # weights are one on the mean
        y = targets - self._mean_target
        features_of = self._kept_features(X)
        total, gram = np.zeros(width), np.zeros((width, width))
        moment = np.zeros((width, y.shape[1]))
        for rows in _slices(n_rows):
            features = features_of(rows, self._basis)
            heavy = features if weights is None else w[rows] * features
            total += heavy.sum(0)
            gram += heavy.T @ features
            moment += heavy.T @ y[rows]  # the targets are centred, so the features need not be
        self._mean = total / n_rows
        values, vectors = np.linalg.eigh(gram - n_rows * np.outer(self._mean, self._mean))
        values = np.maximum(values, 0)
        penalties = _PENALTIES * (values.max() or 1.0)
        moment = vectors.T @ moment
        turn, middle = self._basis @ vectors, self._mean @ vectors
        errors = np.zeros(len(penalties))
        for rows in _slices(n_rows, step=-(-n_rows // _CHOOSING)):
            turned = features_of(rows, turn) - middle
            for number, penalty in enumerate(penalties):
                left_out = _left_out(
                    turned, values + penalty, moment, y[rows], w[rows], n_rows=n_rows
                )
                errors[number] += (w[rows] * np.square(left_out - y[rows])).sum()
        best = penalties[errors.argmin()] + values
        self._weights = vectors @ (moment / best[:, None])
        predicted = np.empty(y.shape)
        for rows in _slices(n_rows):
            turned = features_of(rows, turn) - middle
            predicted[rows] = _left_out(turned, best, moment, y[rows], w[rows], n_rows=n_rows)
        return np.asarray(predicted + self._mean_target)

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Predict targets of other rows: (n_rows, n_outputs)."""
        seen, shift = self._basis @ self._weights, self._mean @ self._weights
        parts = [self._kernel_of(X[rows]) @ seen - shift for rows in _slices(X.shape[0])]
        return np.asarray(np.concatenate(parts) + self._mean_target)

    def _kept_features(self, X: Any) -> Callable[[slice, np.ndarray], np.ndarray]:
        """Give kernel @ matrix of some rows; kernels are kept where they fit."""
        if X.shape[0] * len(self._squares) * 8 > _KEPT:
            return lambda rows, matrix: self._kernel_of(X[rows]) @ matrix
        kernel = np.empty((X.shape[0], len(self._squares)))
        for rows in _slices(X.shape[0]):
            kernel[rows] = self._kernel_of(X[rows])
        return lambda rows, matrix: kernel[rows] @ matrix

    def _kernel_of(self, X: Any) -> np.ndarray:
        return self._kernel(_dense(X @ self._landmarks.T), _squares(X))

    def _kernel(self, products: np.ndarray, squares: np.ndarray) -> np.ndarray:
        if self._width is None:
            return products
        distances = squares[:, None] + self._squares - 2 * products
        kernel: np.ndarray = np.exp(-np.maximum(distances, 0) / self._width)
        return kernel


def _slices(n_rows: int, step: int = 1) -> Iterator[slice]:
    """Cut rows, or every one of so many, into chunks."""
    return (slice(i, i + step * _CHUNK, step) for i in range(0, n_rows, step * _CHUNK))


def draw_landmarks(X: Any, generator: np.random.Generator) -> Any:
    """Draw rows as landmarks, without repetition."""
    return X[np.sort(generator.permutation(X.shape[0])[:_LANDMARKS])]


def median_distance(landmarks: Any) -> float:
    """Give the median of squared distances between landmarks, as a unit of width."""
    squares = _squares(landmarks)
    distances = squares[:, None] + squares - 2 * _dense(landmarks @ landmarks.T)
    apart = distances[np.triu_indices(len(squares), 1)]
    middle = float(np.median(apart)) if len(apart) else 0.0
    return middle if middle > 0 else 1.0


def _left_out(
    turned: np.ndarray,
    penalized: np.ndarray,
    moment: np.ndarray,
    y: np.ndarray,
    w: np.ndarray,
    *,
    n_rows: int,
) -> np.ndarray:
    """Predict rows, (n_rows, n_outputs), as if each had not been in the fit with its weight."""
    fitted = turned @ (moment / penalized[:, None])
    own = w * (np.square(turned) @ (1 / penalized) + 1 / n_rows)[:, None]
    left_out: np.ndarray = (fitted - own * y) / np.maximum(1 - own, _SMALLEST)
    return left_out


def _squares(X: Any) -> np.ndarray:
    squared = X.multiply(X) if hasattr(X, "multiply") else X * X
    return np.asarray(squared.sum(1)).ravel()


def _dense(product: Any) -> np.ndarray:
    return np.asarray(product.todense() if hasattr(product, "todense") else product)
