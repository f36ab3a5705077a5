"""Containers of rows: tables, images, dicts of inputs and torch data sets."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils.validation import validate_data
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


def select(X: Any, rows: NDArray[np.intp]) -> Any:
    """Take rows of any container, as a container of the same kind.

    Parameters
    ----------
    X : data frame, series, array, list, tuple, mapping of arrays, or torch data set
    rows : ndarray of int

    Returns
    -------
    object
    """
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    if isinstance(X, list | tuple):
        return type(X)([X[i] for i in rows])
    if is_table_or_images(X):
        return (X if hasattr(X, "__getitem__") else np.asarray(X))[rows]
    return take(X, rows)


def with_labels(y: Any, rows: NDArray[np.intp], labels: NDArray[Any]) -> Any:
    """Copy targets with new labels in some rows."""
    if isinstance(y, list | tuple):
        changed = list(y)
        for i, label in zip(rows.tolist(), labels.tolist(), strict=True):
            old = changed[i]
            changed[i] = type(old)([label]) if isinstance(old, list | tuple) else label
        return type(y)(changed)
    if hasattr(y, "new_tensor"):  # torch's
        labels, y = y.new_tensor(labels.tolist()), y.clone()
        y[rows] = labels.reshape(y[rows].shape)
        return y
    y = y.copy() if hasattr(y, "copy") else np.array(y)
    place = y.iloc if hasattr(y, "iloc") else y
    if y.ndim == 2:
        labels = labels[:, np.newaxis]
    place[rows] = labels
    return y
