"""What a fitted method says of the rows it was fitted on, in the user's own labels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skinfluence.methods._base import BaseDetrimentality
from skinfluence.methods._out_of_sample import predicted_by
from skinfluence.methods._suspects import flagged_by
from skinfluence.methods._transitions import likeliest
from skinfluence.nets._labels import Labels
from skinfluence.nets._task import settled_task
from skinfluence.rows._parameters import check_parameter, is_integer, is_real
from skinfluence.rows._rows import Rows
from skinfluence.rows._targets import are_numbers, check_class_labels, one_label_a_row
from skinfluence.rows._worst_rows import number_of_rows

# Of the rows flagged, so many may be rightly labelled.
FALSE_ALARMS = 0.1


@dataclass(frozen=True)
class Predictions:
    """What is predicted of the rows, one label or number each."""

    values: np.ndarray  # (n_samples,), labels as the user names them, or numbers
    confidence: NDArray[np.float64] | None  # of classes: the probability of the label predicted
    out_of_sample: bool  # whether what predicts was not trained on the row


@dataclass(frozen=True)
class Answers:
    """Scores, labels and flags of the rows that a method was fitted on."""

    rows: Rows  # as the method sees them, which in a pipeline is not as they were given
    detrimentality: NDArray[np.float64]
    given: np.ndarray  # (n_samples,)
    is_numeric: bool
    predictions: Predictions | None
    p_values: NDArray[np.float64] | None
    flags: NDArray[np.bool_] | None

    @property
    def suggested(self) -> np.ndarray | None:
        """The labels to go on with: those predicted in flagged rows; None if nothing says so."""
        if self.flags is None or self.predictions is None or not self.predictions.out_of_sample:
            return None
        return np.where(self.flags, self.predictions.values, self.given)


def answers_of(method: Any, X: Any, y: Any, *, budget: float | None = None) -> Answers:
    """Ask a fitted method, or a pipeline that ends in one, about its training rows."""
    method, X = seen_by(method, X)
    rows = Rows.parse(method, X, y, reset=False)
    targets = rows.known_targets()
    if not one_label_a_row(targets):
        raise ValueError(
            f"Got y of shape {targets.shape}, but expected one label or number a row: a table has "
            "one row for each. Look at detrimentality_ and the out-of-sample probabilities or "
            "predictions of the method, which have a column for each."
        )
    given = targets.reshape(-1)
    scores = scores_of(method, len(given))
    numeric = not hasattr(method, "classes_") and are_numbers(given, settled_task(method))
    return Answers(
        rows=rows,
        detrimentality=scores,
        given=given if numeric else check_class_labels(given),
        is_numeric=numeric,
        predictions=_predictions(method, rows, given),
        p_values=getattr(method, "p_values_", None),
        flags=flags_of(method, scores, budget),
    )


def seen_by(method: Any, X: Any) -> tuple[Any, Any]:
    """Give the method of a pipeline that ends in one, and rows as it sees them."""
    if isinstance(method, Pipeline):
        X = method[:-1].transform(X) if len(method.steps) > 1 else X
        method = method[-1]
    return checked_method(method), X


def method_of(method: Any) -> Any:
    """Give the method of a pipeline that ends in one, or itself."""
    return checked_method(method[-1] if isinstance(method, Pipeline) else method)


def checked_method(method: Any) -> Any:
    """Refuse what is no fitted method."""
    if not isinstance(method, BaseDetrimentality):
        raise TypeError(
            f"Got {method!r}, but expected a fitted method of this package, such as "
            "OutlierGradientDetector().fit(X, y), or a Pipeline that ends in one."
        )
    check_is_fitted(method)
    return method


def scores_of(method: Any, n_rows: int | None = None) -> NDArray[np.float64]:
    """Give the scores of the training rows, or say that these rows are others."""
    if not hasattr(method, "detrimentality_"):
        raise ValueError(
            f"{type(method).__name__} has no one score a row: it was fitted with aggregate=None. "
            "Pass one of its methods_, or fit it with an aggregate."
        )
    scores: NDArray[np.float64] = method.detrimentality_
    if n_rows is not None and len(scores) != n_rows:
        raise ValueError(
            f"Got {n_rows} rows, but {type(method).__name__} was fitted on {len(scores)}. Pass the "
            "X and y that it was fitted on, in their order."
        )
    return scores


def flags_of(
    method: Any, scores: NDArray[np.float64], budget: float | None
) -> NDArray[np.bool_] | None:
    """Mark the worst rows: so many of them, or those that the method marks; None if none does."""
    if budget is not None:
        n_rows = len(scores)
        check_parameter(
            "budget",
            budget,
            f"a share in [0, 1] as a float, or a number of rows from 0 to {n_rows} as an int",
            holds=lambda value: (
                is_real(value) and 0 <= value <= (n_rows if is_integer(value) else 1)
            ),
        )
        flags = np.zeros(n_rows, dtype=bool)
        flags[np.argsort(-scores, kind="stable")[: number_of_rows(budget, n_rows)]] = True
        return flags
    if hasattr(method, "label_errors_"):
        flags = np.zeros(len(scores), dtype=bool)
        instead = "Give a budget to mark as many as you can look at."
        flags[flagged_by(method, FALSE_ALARMS, instead=instead)] = True
        return flags
    return np.asarray(method.labels_ == 1) if hasattr(method, "labels_") else None


def out_of_sample_probabilities(method: Any) -> NDArray[np.float64]:
    """Give the class probabilities of rows by what was not trained on them, or say why not."""
    found = getattr(method, "oof_probabilities_", None)
    if found is None or not hasattr(method, "classes_"):
        raise ValueError(
            f"{type(method).__name__}, as it was fitted, has no class probabilities of rows by "
            "models that were not trained on them (oof_probabilities_). Use "
            "OutlierGradientDetector() without a net, CalibratedDetrimentality, or a method with "
            "cv=5, on classes."
        )
    return np.asarray(found)


def checked_flags(is_noisy: ArrayLike, n_rows: int) -> NDArray[np.bool_]:
    """Refuse a truth that does not say of every row whether it is noisy."""
    flags = np.asarray(is_noisy)
    if flags.shape != (n_rows,) or not np.isin(flags, [0, 1]).all():
        raise ValueError(
            f"Got is_noisy of shape {flags.shape} and dtype {flags.dtype}, but expected True or "
            f"False for each of the {n_rows} rows."
        )
    return flags.astype(bool)


def checked_scores(detrimentality: ArrayLike) -> NDArray[np.float64]:
    """Refuse what is not one finite score a row."""
    scores = np.asarray(detrimentality, dtype=np.float64)
    if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
        raise ValueError(
            f"Got detrimentality of shape {scores.shape}, but expected one finite score a row."
        )
    return scores


def _predictions(method: Any, rows: Rows, given: np.ndarray) -> Predictions | None:
    """Predict rows by what did not see them, or else by the one net that did."""
    if hasattr(method, "oof_predictions_"):
        return Predictions(method.oof_predictions_.reshape(-1), None, out_of_sample=True)
    kept = getattr(method, "oof_probabilities_", None)
    if kept is not None and hasattr(method, "classes_"):
        return _likeliest(kept, method.classes_, given, out_of_sample=True)
    if not hasattr(method, "_trained") or hasattr(method, "folds_"):
        return None
    found = predicted_by(method, rows)
    if found is None:
        return None
    if method._trained.predicts_numbers:
        return Predictions(found.reshape(-1), None, out_of_sample=False)
    return _likeliest(found, method._trained.labels.classes, given, out_of_sample=False)


def _likeliest(
    probabilities: np.ndarray, classes: np.ndarray, given: np.ndarray, *, out_of_sample: bool
) -> Predictions:
    labels = Labels(classes, np.arange(len(classes)))
    codes = likeliest(probabilities, labels.encode(given))
    confidence = probabilities[np.arange(len(codes)), codes]
    return Predictions(labels.decode(codes), confidence, out_of_sample)
