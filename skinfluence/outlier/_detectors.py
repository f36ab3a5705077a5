"""The adapter that makes PyOD's, scikit-learn's and our own outlier detectors interchangeable."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from skinfluence.exceptions import SmallClassWarning
from skinfluence.rows._folds import place_among
from skinfluence.rows._parameters import check_contamination
from skinfluence.rows._progress import told
from skinfluence.rows._seeds import seed_unset, seeded

# A class with fewer rows is judged by the detector of all classes: most detectors need some
# neighbours, and a threshold on fewer rows says little.
MIN_CLASS_ROWS = 10
# So many rows show how a detector scores, and their scores alone must rank like this.
_TRIED_ROWS = 24
_AGREEMENT = 0.7


class FittedDetector:
    """A clone of a detector, fitted with a seed of its own, and how it may be asked of new rows."""

    # Some detectors judge a new row by those it is scored with. What they say of a row alone counts
    # where it agrees with what they said of the rows they were fitted on; else they are refused.
    def __init__(self, detector: Any, seed: int) -> None:
        check_detector(detector)
        self.seed = seed
        with _as_found(seed):  # some draw when they are made
            self.detector = clone(detector)
        seed_unset(self.detector, seed)
        self._scores_alone: bool | None = None  # not known yet

    def fit(self, embedding: np.ndarray) -> NDArray[np.float64]:
        """Fit, and read the scores of these rows; higher = more outlying."""
        try:
            with _as_found(self.seed):
                self.detector.fit(embedding)
                scores = _finite(self.detector, _training_scores(self.detector, embedding))
        except Exception as error:
            error.add_note(
                f"Raised by {_name(self.detector)} on a gradient embedding of shape "
                f"{embedding.shape}. Well-fitted nets give many rows near-identical gradients, "
                "which some detectors cannot take; IForest, KNN and NormDetector can."
            )
            raise
        some = np.unique(np.linspace(0, len(embedding) - 1, _TRIED_ROWS).astype(np.intp))
        self._tried, self._tried_scores = embedding[some], scores[some]
        return scores

    def score(self, embedding: np.ndarray) -> NDArray[np.float64]:
        """Score rows, each by itself; higher = more outlying."""
        if self._scores_alone is None:
            self._scores_alone = self._must_score_alone()
        if self._scores_alone:
            scores = self._alone(embedding)
        elif len(embedding) == 1:  # for which some have no shape
            scores = self._together(embedding.repeat(2, axis=0))[:1]
        else:
            scores = self._together(embedding)
        return _finite(self.detector, scores)

    def _must_score_alone(self) -> bool:
        """Tell whether a row's score depends on the others; refuse a detector that has no other."""
        rows, half = self._tried, len(self._tried) // 2
        cause: Exception | None = None
        try:
            whole = self._together(rows)
            parts = [self._together(part) for part in (rows[:half], rows[half:]) if len(part)]
            scale = np.abs(whole[np.isfinite(whole)]).max(initial=0.0)
            if np.allclose(np.concatenate(parts), whole, 1e-5, 1e-5 * scale, equal_nan=True):
                return False
        except Exception as error:  # such as too few rows for it
            cause = error
        with suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            alone = self._alone(rows)
            if np.isfinite(alone).all() and _agrees(alone, self._tried_scores):
                return True
        raise ValueError(
            f"{_name(self.detector)} scores a row by the rows that it is scored with, and its "
            "score of a row alone says nothing, so new rows have no score of their own. Use "
            "IForest, KNN, LOF or NormDetector; the scores of the training rows are not concerned."
        ) from cause

    def _alone(self, embedding: np.ndarray) -> np.ndarray:
        rows = [self._together(embedding[i : i + 1]) for i in range(len(embedding))]
        return np.concatenate(rows)

    def _together(self, embedding: np.ndarray) -> np.ndarray:
        with _as_found(self.seed):  # some draw when they score
            if hasattr(_final(self.detector), "decision_scores_"):
                return np.asarray(self.detector.decision_function(embedding)).reshape(-1)
            return -_normality(self.detector, embedding)


@contextmanager
def _as_found(seed: int) -> Iterator[None]:
    """Seed the global generators, and leave them and torch's threads as they were."""
    n_threads = torch.get_num_threads()  # some set it, by the library that counts them
    try:
        with seeded(seed):
            yield
    finally:
        if torch.get_num_threads() != n_threads:
            torch.set_num_threads(n_threads)


def _agrees(alone: np.ndarray, fitted: np.ndarray) -> bool:
    """Tell whether two scores of the same rows rank them alike."""
    if np.ptp(fitted) == 0:
        return bool(np.ptp(alone) == 0)
    return bool(np.ptp(alone) > 0 and spearmanr(alone, fitted).statistic > _AGREEMENT)


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
        self,
        embedding: np.ndarray,
        labels: np.ndarray,
        trusted: np.ndarray | None = None,
        known: np.ndarray | None = None,
    ) -> NDArray[np.float64]:
        """Fit on rows by their labels, or on trusted ones; give quantiles within the class."""
        reference = embedding if trusted is None else trusted
        of_reference = labels if known is None else known
        classes = np.unique(labels).tolist()
        counts = {label: int((of_reference == label).sum()) for label in classes}
        small = [label for label, count in counts.items() if count < MIN_CLASS_ROWS]
        self._fitted: dict[Any, FittedDetector] = {}  # small classes share that of all classes
        self._sorted: dict[Any, np.ndarray] = {}  # the scores that rows of a class are placed among

        def scores_of(fitted: FittedDetector, part: np.ndarray, rows: np.ndarray) -> np.ndarray:
            scores = fitted.fit(part)  # training rows are never scored again
            return scores if trusted is None else fitted.score(embedding[rows])

        if small:
            listing = ", ".join(f"{label!r} ({counts[label]} rows)" for label in small)
            warnings.warn(
                f"Classes {listing} have fewer than {MIN_CLASS_ROWS} rows to fit a detector of "
                "their own; the detector of all classes judges them.",
                SmallClassWarning,
                stacklevel=2,
            )
            pooled = FittedDetector(self.detector, self.seed)
            of_all = scores_of(pooled, reference, np.arange(len(labels)))
        places = np.empty(len(embedding))
        for label in told("classes", classes):
            rows = labels == label
            if label in small:
                self._fitted[label], among, own = pooled, of_all, of_all[rows]
            else:
                self._fitted[label] = FittedDetector(self.detector, self.seed)
                own = among = scores_of(self._fitted[label], reference[of_reference == label], rows)
            self._sorted[label] = np.sort(among)
            places[rows] = place_among(own, self._sorted[label])
        self.by_class_ = {label: fitted.detector for label, fitted in self._fitted.items()}
        return places

    def score(self, embedding: np.ndarray, labels: np.ndarray) -> NDArray[np.float64]:
        """Score rows, each by the detector of its class, and place it among the training rows."""
        places = np.empty(len(embedding))
        for label in np.unique(labels).tolist():
            rows = labels == label
            scores = self._fitted[label].score(embedding[rows])
            places[rows] = place_among(scores, self._sorted[label])
        return places
