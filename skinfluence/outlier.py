"""Outlier gradient analysis: an outlier detector on per-sample gradients."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted, validate_data

from skinfluence._random import draw_seeds
from skinfluence._validation import (
    check_contamination,
    check_finite,
    check_parameter,
    check_positive_integer,
)
from skinfluence.base import BaseDetrimentality
from skinfluence.gradients._loop import BatchGradients
from skinfluence.gradients._public import Gathered, gather

# PyOD detectors that rank a new row among the rows it is scored with.
_SCORES_BY_BATCH = frozenset({"COPOD", "ECOD"})
_FLOATS = [np.float64, np.float32]


def fit_detector(detector: Any, embedding: NDArray[Any], seed: int) -> NDArray[np.float64]:
    """Fit an outlier detector and read its scores of the rows it was fitted on.

    Parameters
    ----------
    detector : PyOD or scikit-learn detector, or Pipeline ending in one
        Fitted in place. A `random_state` that is None is set.
    embedding : ndarray of shape (n_samples, n_features)
    seed : int

    Returns
    -------
    ndarray of shape (n_samples,)
        Higher = more outlying, whatever the detector's own sign.

    Raises
    ------
    TypeError
        If it is no outlier detector.
    ValueError
        If its contamination is out of range, or its scores are not finite.
    """
    _check_detector(detector)
    unset = {
        name: seed
        for name, value in detector.get_params().items()
        if name.split("__")[-1] == "random_state" and value is None
    }
    detector.set_params(**unset)
    try:
        detector.fit(embedding)
    except Exception as error:
        error.add_note(
            f"Raised by {_name(detector)} on a gradient embedding of shape {embedding.shape}. "
            "Well-fitted nets give many rows near-identical gradients, which some detectors "
            "cannot take; IForest, KNN and NormDetector can."
        )
        raise
    return _finite(detector, _training_scores(detector, embedding))


def score_rows(detector: Any, embedding: NDArray[Any]) -> NDArray[np.float64]:
    """Score rows by a fitted detector.

    Parameters
    ----------
    detector : fitted PyOD or scikit-learn detector, or Pipeline ending in one
    embedding : ndarray of shape (n_samples, n_features)

    Returns
    -------
    ndarray of shape (n_samples,)
        Higher = more outlying. A row's score does not depend on the other rows.
    """
    final = _final(detector)
    if type(final).__name__ in _SCORES_BY_BATCH:
        rows = [detector.decision_function(embedding[i : i + 1]) for i in range(len(embedding))]
        return _finite(detector, np.concatenate(rows))
    if hasattr(final, "decision_scores_"):
        return _finite(detector, detector.decision_function(embedding))
    return _finite(detector, -_normality(detector, embedding))


def can_score_rows(detector: Any) -> bool:
    """Tell whether a detector scores rows it was not fitted on.

    Parameters
    ----------
    detector : detector

    Returns
    -------
    bool
        False for scikit-learn's LocalOutlierFactor with ``novelty=False``.
    """
    final = _final(detector)
    return hasattr(final, "decision_function") or hasattr(final, "score_samples")


def _check_detector(detector: Any) -> None:
    if not (hasattr(detector, "fit") and hasattr(detector, "get_params")) or isinstance(
        detector, type
    ):
        raise TypeError(
            f"Got detector={detector!r}, but expected an instance of a PyOD or scikit-learn "
            "outlier detector, such as pyod.models.iforest.IForest(), or NormDetector()."
        )
    # PyOD checks this in its constructor only, so a grid search gets past it
    own = _final(detector).get_params().get("contamination")
    if isinstance(own, float | int):
        check_contamination(own)


def _training_scores(detector: Any, embedding: NDArray[Any]) -> NDArray[Any]:
    # Never by scoring the rows again: in KNN and LOF a training row would be its own neighbour.
    final = _final(detector)
    if hasattr(final, "decision_scores_"):
        return np.asarray(final.decision_scores_)
    if hasattr(final, "negative_outlier_factor_"):
        return -np.asarray(final.negative_outlier_factor_)
    if not can_score_rows(detector):
        raise TypeError(
            f"{_name(detector)} has neither decision_scores_ nor score_samples nor "
            "decision_function after fit, so it is no outlier detector. Use one of PyOD's or "
            "scikit-learn's, or NormDetector."
        )
    return -_normality(detector, embedding)


def _normality(detector: Any, embedding: NDArray[Any]) -> NDArray[Any]:
    """Scikit-learn's own sign: higher = more normal."""
    if hasattr(detector, "score_samples"):
        return np.asarray(detector.score_samples(embedding))
    return np.asarray(detector.decision_function(embedding))


def _finite(detector: Any, scores: NDArray[Any]) -> NDArray[np.float64]:
    scores = np.asarray(scores, dtype=np.float64).reshape(-1)
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise ValueError(
            f"{_name(detector)} gave {len(bad)} of {len(scores)} rows a score that is not finite "
            f"(the first is row {bad[0]}). Gradients that are zero or repeated, as well-fitted "
            "nets give them, break it; use IForest, KNN or NormDetector."
        )
    return scores


def _final(detector: Any) -> Any:
    return detector[-1] if isinstance(detector, Pipeline) else detector


def _name(detector: Any) -> str:
    return type(_final(detector)).__name__


def _threshold(scores: NDArray[np.float64], contamination: float) -> float:
    return float(np.percentile(scores, 100 * (1 - contamination)))


class NormDetector(BaseEstimator):
    """Call rows outlying by the norm of their features.

    On a gradient embedding it is the norm threshold of outlier gradient analysis. Inside
    `OutlierGradientDetector` the norms are read off the factors of the gradients, so that no
    matrix is built and ``layers="all"`` costs little. It has the methods and attributes of a
    PyOD detector.

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

    def _norms(self, X: NDArray[Any]) -> NDArray[np.float64]:
        norms: NDArray[np.float64] = np.linalg.norm(X.astype(np.float64), ord=self.ord, axis=1)
        return norms

    def _fit_norms(self, norms: NDArray[np.float64]) -> Self:
        """Become fitted on norms that were computed elsewhere."""
        self.decision_scores_ = norms
        self.threshold_ = _threshold(norms, self.contamination)
        self.labels_ = (norms > self.threshold_).astype(np.int64)
        return self

    def _check_parameters(self) -> None:
        check_parameter("ord", self.ord, "1 or 2", holds=lambda ord: ord in {1, 2})
        check_contamination(self.contamination)


class OutlierGradientDetector(BaseDetrimentality):
    """Score training rows by how outlying their loss gradients are.

    Answers: is this row mislabelled, corrupted or atypical? It says little about whether
    removing the row would lower a validation loss. A net is trained, the gradient of every row's
    loss is taken at the label given, and an outlier detector judges the gradients: no Hessian and
    no validation rows are needed.

    Parameters
    ----------
    net : NeuralNet, FrozenEstimator or None, default=None
        As for `GradientEmbedding`: an unfitted skorch net, a frozen fitted one, or None for
        `skinfluence.nets.default_net`.
    detector : detector, optional
        A PyOD or scikit-learn outlier detector, `NormDetector`, or a Pipeline that ends in one;
        None for PyOD's `IForest`. It is cloned; a `random_state` it leaves unset is set from
        `random_state`.
    contamination : float, default=0.1
        Share of the training rows, in (0, 0.5], that `labels_` marks. It does not change the
        scores. The detector's own contamination counts for nothing here.
    layers : "last", "all", or sequence of str, default="last"
        Layers whose gradients count; see `GradientEmbedding`.
    max_bytes : int, default=2**30
        Refuse a larger gradient matrix before computing it. `NormDetector` needs none.
    batch_size : int, default=256
        Rows per gradient pass. It changes memory and speed, not the result.
    random_state : int, RandomState or None, default=None
        Seed of the training and the detector. Global generators are neither used nor changed.

    Attributes
    ----------
    detrimentality_ : ndarray of shape (n_samples,)
        The detector's score of every training row, float64, in the detector's unit. Higher =
        more detrimental.
    ranking_ : ndarray of shape (n_samples,)
        Row numbers, most detrimental first.
    threshold_ : float
        The score above which `labels_` is 1.
    labels_ : ndarray of shape (n_samples,)
        1 for the rows above the threshold, else 0.
    detector_ : detector
        The fitted detector.
    net_ : NeuralNet
        The trained net.
    classes_ : ndarray of shape (n_classes,)
        The labels, for a classifier.
    strategy_ : dict of str to str
        The route each layer's gradients took.
    n_features_in_ : int
        For arrays and data frames.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        For data frames with string column names.

    See Also
    --------
    GradientEmbedding : The gradients themselves, for a pipeline of your own.
    NormDetector : The norm threshold, for which no gradient matrix is built.

    Notes
    -----
    ``transform(X)`` scores rows at their predicted labels, because a pipeline passes none; it
    differs from `detrimentality_` wherever a given label disagrees with the net.

    For cross-entropy and the last layer, the L1 norm of a row's gradient is
    ``2 (1 - p_y) (||h||_1 + 1)``, with p_y the confidence in the given label and h the input of
    that layer: compare every result with plain loss and self-confidence. Detectors that look for
    isolated rows (LOF, KNN) can miss noise that is systematic, such as one class relabelled as
    another, whose gradients form a cluster of their own.

    ECOD and COPOD rank a new row among those it is scored with; here new rows are scored one by
    one, so that a score does not depend on the batch.

    Cost: one training; one forward pass over the rows for the last layer; the detector.

    References
    ----------
    Chhabra, Li, Chen, Mohapatra, Liu. "Outlier Gradient Analysis: Efficiently Identifying
    Detrimental Training Samples for Deep Learning Models". ICML 2025, arXiv 2405.03869,
    algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.metrics import roc_auc_score
    >>> from skinfluence import OutlierGradientDetector
    >>> from skinfluence.datasets import make_noisy_labels
    >>> X, y = load_iris(return_X_y=True)
    >>> y_noisy, is_noisy = make_noisy_labels(y, rate=0.1, random_state=0)
    >>> scores = OutlierGradientDetector(random_state=0).fit(X, y_noisy).detrimentality_
    >>> bool(roc_auc_score(is_noisy, scores) > 0.9)
    True
    """

    def __init__(
        self,
        net: Any = None,
        *,
        detector: Any = None,
        contamination: float = 0.1,
        layers: str | Sequence[str] = "last",
        max_bytes: int = 2**30,
        batch_size: int = 256,
        random_state: Any = None,
    ) -> None:
        self.net = net
        self.detector = detector
        self.contamination = contamination
        self.layers = layers
        self.max_bytes = max_bytes
        self.batch_size = batch_size
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_contamination(self.contamination)
        check_positive_integer("batch_size", self.batch_size)
        check_positive_integer("max_bytes", self.max_bytes)
        if self.detector is not None:
            _check_detector(self.detector)

    def _fit_scores(self, inputs: Any, targets: Any) -> NDArray[np.float64]:
        self.detector_ = _default_detector() if self.detector is None else clone(self.detector)
        gathered = self._gather(inputs, targets)
        self.strategy_ = gathered.strategy
        if isinstance(self.detector_, NormDetector):
            self.detector_._check_parameters()
            scores = self.detector_._fit_norms(_norms_of(gathered)).decision_scores_
        else:
            check_finite(gathered.values, "The gradient embedding")
            scores = fit_detector(self.detector_, gathered.values, self._detector_seed())
        self.threshold_ = _threshold(scores, self.contamination)
        self.labels_ = (scores > self.threshold_).astype(np.int64)
        return scores

    def _score(self, inputs: Any, targets: Any) -> NDArray[np.float64]:
        gathered = self._gather(inputs, targets)
        if isinstance(self.detector_, NormDetector):
            return _norms_of(gathered)
        return score_rows(self.detector_, gathered.values)

    def _judges_new_rows(self) -> bool:
        return self.detector is None or can_score_rows(self.detector)

    def _gather(self, inputs: Any, targets: Any) -> Gathered:
        norm = self.detector_ if isinstance(self.detector_, NormDetector) else None
        return gather(
            self.net_,
            inputs,
            targets,
            BatchGradients.dense if norm is None else lambda batch: batch.norms(norm.ord),
            layers=self.layers,
            batch_size=self.batch_size,
            max_bytes=self.max_bytes if norm is None else None,
        )

    def _detector_seed(self) -> int:
        return draw_seeds(self.random_state, 2)[1]  # the first one trained the net


def _norms_of(gathered: Gathered) -> NDArray[np.float64]:
    return np.asarray(gathered.values, dtype=np.float64)


def _default_detector() -> Any:
    from pyod.models.iforest import IForest

    return IForest()
