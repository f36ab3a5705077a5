"""What fitted methods say of wrong labels: how likely each is, and which rows to flag."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinfluence.exceptions import UnknownErrorsWarning
from skinfluence.methods._label_errors import (
    LabelErrors,
    estimate_label_errors,
    estimate_target_errors,
)


def label_errors_of(method: Any) -> LabelErrors:
    """Give what a fitted method says of its labels, or say what has it."""
    errors: LabelErrors | None = getattr(method, "label_errors_", None)
    if errors is None:
        raise ValueError(
            f"{type(method).__name__}, as it is set, has no label_errors_, which say how likely "
            "each label is wrong. Use OutlierGradientDetector() without a net, or "
            "CalibratedDetrimentality(method)."
        )
    return errors


def label_errors_by(method: Any, targets: np.ndarray, *, is_numeric: bool) -> LabelErrors:
    """Estimate them by what a fitted method predicts out of sample, where it does not say them."""
    errors: LabelErrors | None = getattr(method, "label_errors_", None)
    if errors is not None:
        return errors
    kept, given = vars(method), targets.reshape(-1)
    if not is_numeric and "oof_probabilities_" in kept and "classes_" in kept:
        codes = np.searchsorted(method.classes_, given)
        return estimate_label_errors(kept["oof_probabilities_"], codes)
    if is_numeric and np.size(kept.get("oof_predictions_")) == len(given) == len(targets):
        return estimate_target_errors(np.reshape(kept["oof_predictions_"], -1), given)
    raise ValueError(
        f"{type(method).__name__}, as it is set, predicts no row by what was not trained on "
        "it, so that it is not known how likely a label is right. Use "
        "OutlierGradientDetector() without a net, SelfConfidence(model) with a scikit-learn "
        "model, a method with cv=5, or CalibratedDetrimentality(method)."
    )


def probabilities_of_right_labels(
    method: Any, targets: np.ndarray, *, is_numeric: bool
) -> NDArray[np.float64]:
    """Say how likely the label of each training row is right, by predictions out of sample."""
    errors = label_errors_by(method, targets, is_numeric=is_numeric)
    if not errors.is_known:
        warnings.warn(
            "Wrong labels cannot be told from rows that are hard to predict, so that a row counts "
            "by what is the least to be expected: the noise rate is taken at the low end of its "
            "interval.",
            UnknownErrorsWarning,
            stacklevel=2,
        )
        return 1 - errors._cautious
    return 1 - errors.p_wrong


def flagged_by(method: Any, rate: float, *, instead: str) -> NDArray[np.intp]:
    """Take the beginning of a method's ranking that keeps a rate of false alarms, worst first."""
    errors = label_errors_of(method)
    if not errors.is_known:
        low, high = errors.interval
        warnings.warn(
            "No row is flagged: wrong labels cannot be told from rows that are hard to predict "
            f"here. There may be {low:.0f} to {high:.0f} of them in {len(errors.p_wrong)} rows. "
            f"{instead}",
            UnknownErrorsWarning,
            stacklevel=3,
        )
    return errors.flagged(rate, method.ranking_)
