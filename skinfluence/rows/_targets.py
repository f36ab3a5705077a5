"""Targets: checked, and classes told from numbers."""

import warnings
from decimal import Decimal
from numbers import Integral, Real

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_consistent_length, column_or_1d

from skinfluence.exceptions import ManyClassesWarning
from skinfluence.rows._containers import check_finite, check_is_dense, first_rows

# What `task` may be; None leaves it to the values of the targets.
TASKS = (None, "classification", "regression")
# A float target with more distinct values than this is a regression, even if all are whole.
_MAX_FLOAT_CLASSES = 20
# More classes than that with fewer rows each, on the mean, are likely numbers or names of rows.
_FEWEST_ROWS = 5
# Fewer rows than this show nothing.
_ENOUGH_ROWS = 10
# Of the classes, so many are listed in an error.
_LISTED = 10


def check_targets(y: object, n_samples: int) -> np.ndarray:
    """Check targets of any kind: as many as rows, none of them missing."""
    if y is None:
        raise ValueError(
            "This estimator requires y to be passed, but the target y is None. "
            "Every row's score needs its label: call fit(X, y)."
        )
    check_is_dense(y, "y")
    targets = np.asarray(y)
    if targets.ndim == 0:
        raise ValueError(f"Got a scalar y={y!r}; y should be a 1d array, one target a row of X.")
    if len(targets) != n_samples:
        check_consistent_length(np.empty(n_samples), targets)
    _check_none_missing(targets, y)
    if targets.dtype.kind in "OT":
        targets = _numbers_in(targets.astype(object, copy=False))
    check_finite(targets, "y")
    return targets


def are_numbers(targets: np.ndarray, task: str | None) -> bool:
    """Tell numbers from classes: by the task, or else by the values."""
    return is_regression_target(targets) if task is None else task == "regression"


def check_numbers(targets: np.ndarray) -> np.ndarray:
    """Refuse the targets of a regression that are no numbers; give them in a dtype of numbers."""
    if targets.dtype.kind in "biuf":
        return targets
    if targets.dtype.kind == "O" and _hold_numbers(targets):  # integers beyond 64 bits
        return targets.astype(np.float64)
    example = targets.ravel()[0]
    raise ValueError(
        f"Got y of dtype {targets.dtype} with values such as {example!r} for a regression, but "
        "expected numbers. Convert y, by y.astype(float) for numbers written as text and as "
        "seconds since a day for dates, or leave task at None or 'classification' for labels."
    )


def check_class_labels(targets: np.ndarray) -> np.ndarray:
    """Refuse targets that are no classes, one a row; give them as (n_samples,)."""
    labels: np.ndarray = column_or_1d(targets, warn=True)
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.round(labels)):
        raise ValueError(
            "Unknown label type: y holds numbers with a fraction, such as "
            f"{labels[labels != np.round(labels)][0]!r}, but the net is a classifier. Use a "
            "NeuralNetRegressor or task='regression' for a regression, or encode y as classes."
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


def group_codes(groups: object, n_rows: int) -> NDArray[np.intp]:
    """Check groups of the rows, whose rows stay together in folds, and number them."""
    found = np.asarray(groups)
    if found.shape != (n_rows,):
        raise ValueError(
            f"Got groups of shape {found.shape} for {n_rows} rows, but expected the group of "
            "every row, one-dimensional."
        )
    missing = [i for i, group in enumerate(found.tolist()) if is_missing(group)]
    if missing:
        raise ValueError(
            f"groups holds NaN, NaT or None in {len(missing)} of {n_rows} rows: "
            f"{first_rows(np.array(missing))}. Give every row a group; rows that stand alone each "
            "have one of their own."
        )
    return classes_and_codes(found)[1]


def is_regression_target(y: np.ndarray) -> bool:
    """Tell a numeric target by its values: floats with a fraction, or more than 20 distinct."""
    if y.dtype.kind != "f":
        return False
    return not np.array_equal(y, np.round(y)) or len(np.unique(y)) > _MAX_FLOAT_CLASSES


def one_label_a_row(targets: np.ndarray) -> bool:
    """Tell whether targets have one column."""
    return bool(targets.size == len(targets))


def warn_of_many_classes(targets: np.ndarray) -> None:
    """Warn of classes that are nearly as many as rows: numbers, perhaps, or names of the rows."""
    if not one_label_a_row(targets) or len(targets) < _ENOUGH_ROWS:
        return
    classes, _ = classes_and_codes(targets)
    few = len(classes) > _MAX_FLOAT_CLASSES and len(targets) < _FEWEST_ROWS * len(classes)
    if not few and len(classes) <= len(targets) / 2:
        return
    way_out = (
        "If they are numbers, such as whole prices, set task='regression'; if they are classes,"
        if targets.dtype.kind in "biuf"
        else "They may be names of rows, or numbers written as text: convert these, and set "
        "task='regression'. If they are classes,"
    )
    warnings.warn(
        f"y is taken for labels, of which there are {len(classes)} in {len(targets)} rows, "
        f"{listed(classes)}: nearly every row has a class of its own, and little can be said about "
        f"it. {way_out} task='classification' silences this.",
        ManyClassesWarning,
        stacklevel=2,
    )


def listed(labels: np.ndarray) -> str:
    """List labels for an error: the first few, and how many there are in all."""
    names = labels.tolist()
    shown = ", ".join(map(repr, names[:_LISTED]))
    return f"[{shown}]" if len(names) <= _LISTED else f"[{shown}, ...], {len(names)} in all"


def _check_none_missing(targets: np.ndarray, y: object) -> None:
    """Refuse None, NaN and NaT, and in a list of words NaN that has become one."""
    if targets.dtype.kind in "mM":
        missing = np.isnat(targets)
    elif targets.dtype.kind in "OTU" and (targets.dtype.kind != "U" or isinstance(y, list | tuple)):
        values = np.asarray(y, dtype=object).ravel()
        missing = np.array([is_missing(value) for value in values], dtype=bool)
    else:
        return
    rows = np.flatnonzero(missing.reshape(len(targets), -1).any(1))
    if len(rows):
        raise ValueError(
            f"Input y contains NaN, NaT or None in {len(rows)} of {len(targets)} rows: "
            f"{first_rows(rows)}. Every row needs a target; drop them."
        )


def _hold_numbers(values: np.ndarray) -> bool:
    return all(
        isinstance(value, Real | Decimal) and not isinstance(value, bool)
        for value in values.ravel()
    )


def _numbers_in(values: np.ndarray) -> np.ndarray:
    """Give numbers that are stored as objects in the dtype they have elsewhere."""
    if not _hold_numbers(values):
        return values
    whole = all(isinstance(value, Integral) for value in values.ravel())
    # integers beyond 64 bits stay objects: floats would take some for the same
    return np.array(values.tolist()) if whole else values.astype(np.float64)


def is_missing(value: object) -> bool:
    """Tell None, NaN, NaT and pandas' NA from values."""
    if value is None:
        return True
    try:
        return bool(value != value)  # noqa: PLR0124 - NaN and NaT differ from themselves
    except (TypeError, ArithmeticError):  # pandas' NA and a signaling NaN have no truth value
        return True
