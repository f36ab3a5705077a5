"""Targets: checked, and classes told from numbers."""

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
    if targets.dtype.kind == "O":
        missing = np.array([_is_missing(value) for value in targets.ravel()])
        rows = np.flatnonzero(missing.reshape(len(targets), -1).any(1))
        if len(rows):
            raise ValueError(
                f"Input y contains NaN or None in {len(rows)} of {n_samples} rows: "
                f"{first_rows(rows)}. Every row needs a target; drop them."
            )
    check_finite(targets, "y")
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
