"""Targets: checked, and classes told from numbers."""

from decimal import Decimal
from numbers import Integral, Real

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_consistent_length, column_or_1d

from skinfluence.rows._containers import check_finite, first_rows

# A float target with more distinct values than this is a regression, even if all are whole.
_MAX_FLOAT_CLASSES = 20


def check_targets(y: object, n_samples: int) -> np.ndarray:
    """Check targets of any kind: as many as rows, none of them missing."""
    if y is None:
        raise ValueError(
            "This estimator requires y to be passed, but the target y is None. "
            "Every row's score needs its label: call fit(X, y)."
        )
    targets = np.asarray(y)
    if targets.ndim == 0:
        raise ValueError(f"Got a scalar y={y!r}; y should be a 1d array, one target a row of X.")
    if len(targets) != n_samples:
        check_consistent_length(np.empty(n_samples), targets)
    if targets.dtype.kind in "OMm":
        is_object = targets.dtype.kind == "O"
        values = [_is_missing(v) for v in targets.ravel()] if is_object else np.isnat(targets)
        rows = np.flatnonzero(np.reshape(values, (len(targets), -1)).any(1))
        if len(rows):
            raise ValueError(
                f"Input y contains NaN, NaT or None in {len(rows)} of {n_samples} rows: "
                f"{first_rows(rows)}. Every row needs a target; drop them."
            )
    targets = _as_numbers(targets)
    check_finite(targets, "y")
    return targets


def _as_numbers(targets: np.ndarray) -> np.ndarray:
    """Give numbers in an array of objects, as a data frame's values may be, as what they are."""
    if targets.dtype.kind != "O":
        return targets
    values = targets.ravel().tolist()
    if any(isinstance(value, bool | np.bool_) for value in values):
        return targets
    if all(isinstance(value, Integral) for value in values):
        wide = max(map(abs, values), default=0) >= 2**63
        return targets.astype(np.float64 if wide else np.int64)
    if all(isinstance(value, Real | Decimal) for value in values):
        return targets.astype(np.float64)
    return targets


def check_class_labels(targets: np.ndarray) -> np.ndarray:
    """Refuse targets that are no classes, one a row; give them as (n_samples,)."""
    labels: np.ndarray = column_or_1d(targets, warn=True)
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.round(labels)):
        raise ValueError(
            "Unknown label type: y holds numbers with a fraction, such as "
            f"{labels[labels != np.round(labels)][0]!r}, but the net is a classifier. Use a "
            "NeuralNetRegressor for a regression, or encode y as classes."
        )
    return labels


def classes_and_codes(labels: np.ndarray) -> tuple[np.ndarray, NDArray[np.intp]]:
    """Sort the classes of labels, and number every label by its place among them."""
    try:
        classes, codes = np.unique(labels, return_inverse=True)
    except TypeError as error:
        kinds = ", ".join(sorted({type(label).__name__ for label in labels.ravel().tolist()}))
        raise ValueError(
            f"y mixes labels of types {kinds}, which have no order. Make them all of one type."
        ) from error
    return classes, codes.reshape(-1)


def is_regression_target(y: np.ndarray) -> bool:
    """Tell a numeric target by its values: floats with a fraction, or more than 20 distinct."""
    if y.dtype.kind != "f":
        return False
    return not np.array_equal(y, np.round(y)) or len(np.unique(y)) > _MAX_FLOAT_CLASSES


def one_label_a_row(targets: np.ndarray) -> bool:
    """Tell whether targets have one column."""
    return bool(targets.size == len(targets))


def _is_missing(value: object) -> bool:
    if value is None:
        return True
    try:
        return bool(value != value)  # noqa: PLR0124 - NaN and NaT differ from themselves
    except TypeError:  # pandas' NA has no truth value
        return True
