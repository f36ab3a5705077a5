"""Targets: classes or numbers, checked."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_consistent_length, column_or_1d

from skinfluence.rows._containers import _NAMED_ROWS, check_finite


def check_targets(y: Any, n_samples: int) -> NDArray[Any]:
    """Check targets of any kind.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
    n_samples : int

    Returns
    -------
    ndarray
        As given, without missing values.

    Raises
    ------
    ValueError
        If it is missing, has another length, or holds NaN, infinity or None.
    """
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
                f"{', '.join(map(str, rows[:_NAMED_ROWS]))}. Every row needs a target; drop them."
            )
    check_finite(targets, "y")
    return targets


def check_class_labels(targets: NDArray[Any]) -> NDArray[Any]:
    """Check targets that are classes.

    Parameters
    ----------
    targets : ndarray of shape (n_samples,) or (n_samples, 1)

    Returns
    -------
    ndarray of shape (n_samples,)

    Raises
    ------
    ValueError
        If they are numbers with a fraction, or two-dimensional.
    """
    labels: NDArray[Any] = column_or_1d(targets, warn=True)
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.round(labels)):
        raise ValueError(
            "Unknown label type: y holds numbers with a fraction, such as "
            f"{labels[labels != np.round(labels)][0]!r}, but the net is a classifier. Use a "
            "NeuralNetRegressor for a regression, or encode y as classes."
        )
    return labels


def distinct_labels(labels: NDArray[Any]) -> NDArray[Any]:
    """Sort the classes of labels.

    Parameters
    ----------
    labels : ndarray

    Returns
    -------
    ndarray of shape (n_classes,)

    Raises
    ------
    ValueError
        If labels have no order.
    """
    try:
        return np.asarray(np.unique(labels))
    except TypeError as error:
        kinds = ", ".join(sorted({type(label).__name__ for label in labels.ravel().tolist()}))
        raise ValueError(
            f"y mixes labels of types {kinds}, which have no order. Make them all of one type."
        ) from error


def _is_missing(value: Any) -> bool:
    if value is None:
        return True
    try:
        return bool(value != value)  # noqa: PLR0124 - NaN and NaT differ from themselves
    except TypeError:  # pandas' NA has no truth value
        return True


def class_numbers(y: NDArray[Any], *, classifies: bool) -> NDArray[np.intp]:
    """Give every row the number of its class; a regression is one class."""
    if not classifies:
        return np.zeros(len(y), dtype=np.intp)
    return np.unique(y, return_inverse=True)[1].reshape(-1)


# A float target with more distinct values than this is a regression, even if all are whole.
_MAX_FLOAT_CLASSES = 20


# What is known of the targets, so that their values need not tell; see `known_task`.
_CLASSIFIES: ContextVar[bool | None] = ContextVar("classifies", default=None)


@contextmanager
def known_task(classifies: bool | None) -> Iterator[None]:
    """Settle inside the block whether targets are classes, for what would judge by their values.

    A regressor knows what its targets are, but the method it trains, and the clones and folds of
    that, see whole numbers only.

    Parameters
    ----------
    classifies : bool or None
        None leaves it to the values.

    Yields
    ------
    None
    """
    token = _CLASSIFIES.set(classifies)
    try:
        yield
    finally:
        _CLASSIFIES.reset(token)


def is_regression_target(y: NDArray[Any]) -> bool:
    """Tell a numeric target from classes, for a net that does not say it.

    Parameters
    ----------
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs)

    Returns
    -------
    bool
        True for floats with a fraction or with more than 20 distinct values, unless `known_task`
        says what they are.
    """
    classifies = _CLASSIFIES.get()
    if classifies is not None:
        return not classifies
    if y.dtype.kind != "f":
        return False
    return not np.array_equal(y, np.round(y)) or len(np.unique(y)) > _MAX_FLOAT_CLASSES


def one_label_a_row(targets: NDArray[Any]) -> bool:
    """Tell whether targets have one column."""
    return bool(targets.size == len(targets))
