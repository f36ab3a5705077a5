"""What nets say of the training rows while they train: class probabilities, epoch by epoch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from skinfluence.gradients._outputs import class_scores
from skinfluence.nets._labels import Labels
from skinfluence.rows._rows import Rows


@dataclass(frozen=True)
class Course:
    """Class probabilities of the training rows along a training."""

    epochs: NDArray[np.intp]  # (n_points,), how many were complete
    probabilities: NDArray[
        np.float64
    ]  # (n_points, n_samples, n_classes); NaN for what was not seen
    classes: np.ndarray  # the labels, in the order of the columns
    out_of_sample: bool  # whether each row was judged by nets that were not trained on it


@dataclass(frozen=True)
class Confidence:
    """What a course says of the labels given."""

    given: NDArray[np.float64]  # (n_points, n_samples), the probability of the label given
    other: NDArray[np.float64]  # of the likeliest other class on the mean over the training

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean probability of the label given, (n_samples,)."""
        return np.asarray(np.nanmean(self.given, axis=0))

    @property
    def spread(self) -> NDArray[np.float64]:
        """Its standard deviation over the training, (n_samples,)."""
        return np.asarray(np.nanstd(self.given, axis=0))

    @property
    def mean_other(self) -> NDArray[np.float64]:
        """Mean probability of the likeliest other class, (n_samples,)."""
        return np.asarray(np.nanmean(self.other, axis=0))


def confidence_in(course: np.ndarray, codes: NDArray[np.intp]) -> Confidence:
    """Read the probabilities of labels given, and of the likeliest other class, off a course."""
    rows = np.arange(len(codes))
    mean = np.nanmean(course, axis=0)
    mean[rows, codes] = -np.inf
    return Confidence(course[:, rows, codes], course[:, rows, mean.argmax(1)])


def learnt_at(epochs: NDArray[np.intp], is_predicted: NDArray[np.bool_]) -> int | None:
    """Find the first epoch from which on the label was predicted to the end; None if never."""
    if not is_predicted[-1]:
        return None
    missed = np.flatnonzero(~is_predicted)
    return int(epochs[missed[-1] + 1 if len(missed) else 0])


def course_of(method: Any, rows: Rows, only: NDArray[np.intp] | None = None) -> Course:
    """Follow the training of a method, by what it recorded; of all rows or of some."""
    lacking = lacks_course(method)
    if lacking:
        raise ValueError(lacking)
    some = np.arange(len(rows)) if only is None else only
    if hasattr(method, "committee_"):
        inputs = rows.inputs if only is None else rows.part(only).inputs
        epochs, found = method.committee_.along_training(inputs, some)
        return Course(np.array(epochs), found, method.classes_, out_of_sample=True)
    trained, trace = method._trained, method.trace_
    if trace.logits is not None:
        tables = [_probabilities(method.net_, table[some]) for table in trace.logits]
        epochs = list(range(1, len(tables) + 1))
    else:
        inputs = rows.inputs if only is None else rows.part(only).inputs
        tables = [trained.probabilities_at(inputs, [point.state]) for point in trace.checkpoints]
        epochs = [point.epoch for point in trace.checkpoints]
    probabilities = np.stack(tables)[:, :, trained.labels.codes]
    return Course(np.array(epochs), probabilities, trained.labels.classes, out_of_sample=False)


def lacks_course(method: Any) -> str:
    """Say why the training of a method cannot be followed; nothing if it can."""
    name = type(method).__name__
    alone = hasattr(method, "_trained") and not hasattr(method, "folds_")
    if not alone or not hasattr(method, "classes_"):
        return (
            f"{name}, as it was fitted, follows no one training of a classifier. Use "
            "OutlierGradientDetector(), or a method with cv=None and a classifier."
        )
    trace = getattr(method, "trace_", None)
    if hasattr(method, "committee_"):
        if trace is None:
            return (
                f"The committee of {name} has no member whose training is followed. Add "
                "'perceptrons' to it."
            )
        trace = trace[0] if isinstance(trace, list) else trace
    has_logits = trace is not None and trace.logits is not None and len(trace.logits) > 1
    n_points = 0 if trace is None else len(trace.checkpoints)
    if not has_logits and n_points < 2:
        return (
            f"{name} recorded {n_points} points of its training, as it is set, but at least two "
            "are needed. Set its checkpoints to 10, or use a method that records more, such as "
            "AreaUnderMargin()."
        )
    return ""


def codes_in(classes: np.ndarray, labels: np.ndarray) -> NDArray[np.intp]:
    """Code labels by their places among the classes."""
    return Labels(classes, np.arange(len(classes))).encode(labels)


def _probabilities(net: Any, table: np.ndarray) -> NDArray[np.float64]:
    """Turn the outputs of one epoch into probabilities, NaN for the rows it did not see."""
    seen = ~np.isnan(table).any(1)
    scores = class_scores(net, torch.from_numpy(np.array(table[seen])))
    found = np.full((len(table), scores.shape[1]), np.nan)
    found[seen] = softmax(scores, axis=1)
    return found
