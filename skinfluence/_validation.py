"""What comes from the user, checked once: inputs, targets, parameters."""

from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils.validation import check_consistent_length, column_or_1d, validate_data
from torch.utils.data import Subset

# How many rows an error message names.
_NAMED_ROWS = 5


def is_table_or_images(X: Any) -> bool:
    """Tell arrays, data frames and lists from what a net takes unconverted.

    Parameters
    ----------
    X : object

    Returns
    -------
    bool
        False for dicts of inputs, torch data sets, and skorch's views of both.
    """
    if issparse(X):  # a dict of keys among them; scikit-learn's own check refuses it
        return True
    is_view = hasattr(X, "dataset") and hasattr(X, "idx")
    is_array_like = isinstance(X, list | tuple) or hasattr(X, "shape") or hasattr(X, "__array__")
    is_dataset = not is_array_like and hasattr(X, "__getitem__") and hasattr(X, "__len__")
    return not (isinstance(X, Mapping) or is_view or is_dataset)


def n_samples_of(X: Any) -> int:
    """Count the rows of inputs.

    Parameters
    ----------
    X : array, dict of arrays, or torch data set

    Returns
    -------
    int
    """
    if isinstance(X, Mapping):
        return len(next(iter(X.values())))
    return len(X)


def check_inputs(estimator: Any, X: Any, *, reset: bool) -> Any:
    """Check inputs and record, or compare with, the number and names of features.

    Parameters
    ----------
    estimator : estimator
        Gets `n_features_in_` and, from a data frame, `feature_names_in_` when `reset`.
    X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
        Dicts of inputs and torch data sets pass unchecked.
    reset : bool
        True in fit.

    Returns
    -------
    ndarray
        Numeric, finite, in its own dtype.

    Raises
    ------
    ValueError
        If a row holds NaN or infinity, or scikit-learn's checks fail.
    """
    if not is_table_or_images(X):
        return X
    X = validate_data(
        estimator,
        X,
        reset=reset,
        dtype="numeric",
        allow_nd=True,
        ensure_all_finite=False,
        ensure_min_samples=2 if reset else 1,
    )
    check_finite(X, "X")
    return X


def take(X: Any, rows: NDArray[Any]) -> Any:
    """Select rows.

    Parameters
    ----------
    X : ndarray, mapping of arrays, or torch data set
        Checked.
    rows : ndarray of int

    Returns
    -------
    object
        Of the same kind; a data set's rows as a Subset.
    """
    if isinstance(X, np.ndarray):
        return X[rows]
    if isinstance(X, Mapping):
        return type(X)(**{name: np.asarray(value)[rows] for name, value in X.items()})
    return Subset(X, rows.tolist())


def check_finite(values: NDArray[Any], name: str) -> None:
    """Refuse NaN and infinity, naming the rows.

    Parameters
    ----------
    values : ndarray of shape (n_rows, ...)
    name : str
        What the error calls them.

    Raises
    ------
    ValueError
        If any entry is NaN or infinite.
    """
    if values.dtype.kind != "f":
        return
    bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(1))
    if len(bad):
        listing = ", ".join(map(str, bad[:_NAMED_ROWS])) + (
            ", ..." if len(bad) > _NAMED_ROWS else ""
        )
        raise ValueError(
            f"{name} holds NaN or infinity in {len(bad)} of {len(values)} rows: {listing}. "
            "Expected finite numbers; impute or drop these rows first."
        )


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


def check_parameter(
    name: str, value: Any, expected: str, *, holds: Callable[[Any], bool], fix: str = ""
) -> None:
    """Refuse a parameter that does not hold.

    Parameters
    ----------
    name : str
    value : object
    expected : str
        What the error says was expected.
    holds : callable
        The condition.
    fix : str, optional
        A further sentence.

    Raises
    ------
    ValueError
        If the condition is false.
    """
    if not holds(value):
        raise ValueError(f"Got {name}={value!r}, but expected {expected}. {fix}".rstrip())


def check_contamination(contamination: Any) -> None:
    """Refuse a contamination outside (0, 0.5].

    Parameters
    ----------
    contamination : float

    Raises
    ------
    ValueError
        With the value and the range.
    """
    check_parameter(
        "contamination",
        contamination,
        "a float in (0, 0.5]",
        holds=lambda value: is_number(value, Real) and 0 < value <= 0.5,
        fix="It is the share of training rows that labels_ marks as detrimental.",
    )


def check_positive_integer(name: str, value: Any) -> None:
    """Refuse what is not an integer of at least one.

    Parameters
    ----------
    name : str
    value : int

    Raises
    ------
    ValueError
        With the name and the value.
    """
    check_parameter(
        name, value, "an integer >= 1", holds=lambda v: is_number(v, Integral) and v >= 1
    )


def check_non_negative_integer(name: str, value: Any) -> None:
    """Refuse what is not an integer of at least zero.

    Parameters
    ----------
    name : str
    value : int

    Raises
    ------
    ValueError
        With the name and the value.
    """
    check_parameter(
        name, value, "an integer >= 0", holds=lambda v: is_number(v, Integral) and v >= 0
    )


def check_positive_number(name: str, value: Any) -> None:
    """Refuse what is not a finite number above zero.

    Parameters
    ----------
    name : str
    value : float

    Raises
    ------
    ValueError
        With the name and the value.
    """
    check_parameter(name, value, "a finite number > 0", holds=is_positive_number)


def is_positive_number(value: Any) -> bool:
    """Tell whether something is a finite number above zero."""
    return is_number(value, Real) and 0 < value < float("inf")


def _is_missing(value: Any) -> bool:
    if value is None:
        return True
    try:
        return bool(value != value)  # noqa: PLR0124 - NaN and NaT differ from themselves
    except TypeError:  # pandas' NA has no truth value
        return True


def is_number(value: Any, kind: type) -> bool:
    """Tell whether something is a number of a kind, which no bool is."""
    return isinstance(value, kind) and not isinstance(value, bool | np.bool_)
