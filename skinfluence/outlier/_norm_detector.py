"""The norm threshold of outlier gradient analysis, as a detector like PyOD's."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from skinfluence.rows._parameters import check_contamination, check_parameter
from skinfluence.rows._saved import SavedWithVersion

_FLOATS = [np.float64, np.float32]


def score_threshold(scores: NDArray[np.float64], contamination: float) -> float:
    """Give the score that a share of the rows exceeds."""
    return float(np.percentile(scores, 100 * (1 - contamination)))


class NormDetector(SavedWithVersion, BaseEstimator):
    """Call rows outlying by the norm of their features.

    On a gradient embedding it is the norm threshold of outlier gradient analysis. Inside
    `OutlierGradientDetector` with a net and ``n_neighbors=None``, the norms are read off the
    factors of the gradients, so that no matrix is built and ``layers="all"`` costs little. It has
    the methods and attributes of a PyOD detector.

    Parameters
    ----------
    ord : {1, 2}, default=2
        Sum of absolute values, or Euclidean norm.
    contamination : float, default=0.1
        Share of the training rows, in (0, 0.5], that `labels_` marks.

    Attributes
    ----------
    decision_scores_ : ndarray of shape (n_samples,)
        The norms of the training rows, float64. Higher = more outlying.
    threshold_ : float
        The norm above which a row counts as outlying.
    labels_ : ndarray of shape (n_samples,)
        1 for outlying training rows, else 0.
    n_features_in_ : int
        Number of features.

    References
    ----------
    Chhabra, Li, Chen, Mohapatra, Liu. "Outlier Gradient Analysis". ICML 2025, arXiv 2405.03869,
    section 3.3.

    Examples
    --------
    >>> from skinfluence import NormDetector
    >>> detector = NormDetector(contamination=0.25).fit([[3, 4], [1, 0], [0, 1], [0, 0]])
    >>> detector.decision_scores_.tolist(), detector.labels_.tolist()
    ([5.0, 1.0, 1.0, 0.0], [1, 0, 0, 0])
    """

    def __init__(self, ord: int = 2, *, contamination: float = 0.1) -> None:
        self.ord = ord
        self.contamination = contamination

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Take the norms of the training rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : object, optional
            Not used.

        Returns
        -------
        self
        """
        self._check_parameters()
        return self._fit_norms(self._norms(validate_data(self, X, dtype=_FLOATS)))

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Take the norms of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
            Higher = more outlying.
        """
        check_is_fitted(self)
        return self._norms(validate_data(self, X, dtype=_FLOATS, reset=False))

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Mark rows whose norm exceeds `threshold_`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
            1 for outlying, else 0, as PyOD has it.
        """
        return (self.decision_function(X) > self.threshold_).astype(np.int64)

    def _norms(self, X: np.ndarray) -> NDArray[np.float64]:
        norms: NDArray[np.float64] = np.linalg.norm(X.astype(np.float64), ord=self.ord, axis=1)
        return norms

    def _fit_norms(self, norms: NDArray[np.float64]) -> Self:
        """Become fitted on norms that were computed elsewhere."""
        self.decision_scores_ = norms
        self.threshold_ = score_threshold(norms, self.contamination)
        self.labels_ = (norms > self.threshold_).astype(np.int64)
        return self

    def _check_parameters(self) -> None:
        check_parameter("ord", self.ord, "1 or 2", holds=lambda ord: ord in {1, 2})
        check_contamination(self.contamination)


def norms_of(detector: NormDetector, values: np.ndarray) -> NDArray[np.float64]:
    """Take norms, unless the values are norms read off factors."""
    norms = values if values.ndim == 1 else detector._norms(values)
    return np.asarray(norms, dtype=np.float64)


def fit_norm_detector(
    detector: NormDetector, values: np.ndarray, trusted: np.ndarray | None
) -> NDArray[np.float64]:
    """Fit on trusted rows, or on those to be judged; give the norms of the latter."""
    detector._check_parameters()
    detector._fit_norms(norms_of(detector, values if trusted is None else trusted))
    return norms_of(detector, values)
