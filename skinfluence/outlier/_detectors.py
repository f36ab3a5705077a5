"""The adapter that makes PyOD's, scikit-learn's and our own outlier detectors interchangeable."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from skinfluence.exceptions import SmallClassWarning
from skinfluence.rows._parameters import check_contamination
from skinfluence.rows._seeds import seed_unset

# PyOD detectors that rank a new row among the rows it is scored with.
_SCORES_BY_BATCH = frozenset({"COPOD", "ECOD"})
# A class with fewer rows is judged by the detector of all classes: most detectors need some
# neighbours, and a threshold on fewer rows says little.
MIN_CLASS_ROWS = 10


def fit_detector(detector: Any, embedding: np.ndarray, seed: int) -> NDArray[np.float64]:
    """Fit a detector in place and read its scores of these rows; higher = more outlying."""
    check_detector(detector)
    seed_unset(detector, seed)
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


def score_rows(detector: Any, embedding: np.ndarray) -> NDArray[np.float64]:
    """Score rows, each by itself, by a fitted detector; higher = more outlying."""
    final = _final(detector)
    if type(final).__name__ in _SCORES_BY_BATCH:
        rows = [detector.decision_function(embedding[i : i + 1]) for i in range(len(embedding))]
        return _finite(detector, np.concatenate(rows))
    if hasattr(final, "decision_scores_"):
        return _finite(detector, detector.decision_function(embedding))
    return _finite(detector, -_normality(detector, embedding))


def can_score_rows(detector: object) -> bool:
    """Tell whether a detector scores rows it was not fitted on."""
    # scikit-learn's LocalOutlierFactor with novelty=False does not
    final = _final(detector)
    return hasattr(final, "decision_function") or hasattr(final, "score_samples")


def check_detector(detector: object) -> None:
    """Refuse what is no detector instance, or one whose contamination is out of range."""
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


def _training_scores(detector: Any, embedding: np.ndarray) -> np.ndarray:
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


def _normality(detector: Any, embedding: np.ndarray) -> np.ndarray:
    """Scikit-learn's own sign: higher = more normal."""
    if hasattr(detector, "score_samples"):
        return np.asarray(detector.score_samples(embedding))
    return np.asarray(detector.decision_function(embedding))


def _finite(detector: object, scores: np.ndarray) -> NDArray[np.float64]:
    scores = np.asarray(scores, dtype=np.float64).reshape(-1)
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise ValueError(
            f"{_name(detector)} gave {len(bad)} of {len(scores)} rows a score that is not finite "
            f"(the first is row {bad[0]}). Gradients that are zero or repeated, as well-fitted "
            "nets give them, break it; use IForest, KNN or NormDetector."
        )
    return scores


def _final(detector: object) -> Any:
    return detector[-1] if isinstance(detector, Pipeline) else detector


def _name(detector: object) -> str:
    return type(_final(detector)).__name__


class ClassConditionalDetector:
    """One clone of a detector for every class, and one for all classes where a class is small."""

    def __init__(self, detector: Any, seed: int) -> None:
        self.detector = detector  # cloned, never fitted itself
        self.seed = seed

    def fit(
        self, embedding: np.ndarray, labels: np.ndarray, classes: np.ndarray
    ) -> NDArray[np.float64]:
        """Fit on rows and their labels, out of all classes; give the scores of these rows."""
        scores = np.empty(len(embedding))
        counts = {label: int((labels == label).sum()) for label in classes.tolist()}
        small = [label for label, count in counts.items() if count < MIN_CLASS_ROWS]
        self.by_class_ = {}  # by label; small classes share the detector of all classes
        if small:
            listing = ", ".join(f"{label!r} ({counts[label]} rows)" for label in small)
            warnings.warn(
                f"Classes {listing} have fewer than {MIN_CLASS_ROWS} rows to fit a detector of "
                "their own; the detector of all classes judges them.",
                SmallClassWarning,
                stacklevel=2,
            )
            pooled = clone(self.detector)
            pooled_scores = fit_detector(pooled, embedding, self.seed)
        for label in counts:
            rows = labels == label
            if label in small:
                self.by_class_[label] = pooled
                scores[rows] = pooled_scores[rows]
            else:
                self.by_class_[label] = clone(self.detector)
                scores[rows] = fit_detector(self.by_class_[label], embedding[rows], self.seed)
        return scores

    def score(self, embedding: np.ndarray, labels: np.ndarray) -> NDArray[np.float64]:
        """Score rows, each by the detector of its class."""
        scores = np.empty(len(embedding))
        for label in np.unique(labels).tolist():
            rows = labels == label
            scores[rows] = score_rows(self.by_class_[label], embedding[rows])
        return scores
