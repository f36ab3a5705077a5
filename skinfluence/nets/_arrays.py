"""Arrays to and from a net: the dtypes it takes, the shapes it gives, what it predicts."""

import warnings
from collections.abc import Mapping

import numpy as np
import torch
from scipy.sparse import csr_matrix, issparse
from sklearn.base import clone

from skinfluence.exceptions import PrecisionWarning
from skinfluence.gradients._skorch import (
    Net,
    compares_elementwise,
    kind_of,
    module_dtype,
    takes_class_indices,
    takes_doubles,
    takes_integers,
)
from skinfluence.rows._containers import Inputs, check_finite
from skinfluence.rows._seeds import seeded

# Rounding to more than this part of a column's standard deviation may change scores.
_COARSEST = 1e-3


def initialized_copy(net: Net, seed: int) -> Net:
    """Initialise an unfitted copy of a net, to learn its dtype and shapes before training."""
    with seeded(seed):
        copy: Net = clone(net).set_params(verbose=0)
        copy.callbacks = None  # they may write files; skorch cannot set the parameter if disabled
        return copy.initialize()


def cast_inputs(net: Net, X: Inputs) -> Inputs:
    """Cast inputs to what a net's module computes in; in a mapping, integers stay as they are."""
    if issparse(X):  # a dict of keys among them
        X = csr_matrix(X)  # skorch's own data set takes rows of no other kind
    elif isinstance(X, Mapping):
        floats = {k: v for k, v in X.items() if isinstance(v, np.ndarray) and v.dtype.kind == "f"}
        return type(X)(**{**X, **{name: cast_inputs(net, v) for name, v in floats.items()}})
    elif not isinstance(X, np.ndarray):
        return X
    if X.dtype.kind in "iu" and takes_integers(net.module_):
        return X.astype(np.int64, copy=False)
    if takes_doubles(net.module_):
        return X if X.dtype in {np.float32, np.float64} else X.astype(np.float64)
    with np.errstate(over="ignore"):
        rounded = X.astype(_numpy_dtype(net), copy=False)
    check_finite(rounded, f"X as {rounded.dtype}")
    if not issparse(X):
        _warn_of_lost_spread(X, rounded)
    return rounded


def _warn_of_lost_spread(X: np.ndarray, rounded: np.ndarray) -> None:
    """Warn of columns, such as times in seconds since 1970, that rounding makes coarse."""
    # half precision is coarse by choice
    if X.ndim != 2 or rounded.dtype != np.float32 or X.dtype.itemsize <= 4:
        return
    spread = X.std(0, dtype=np.float64)
    steps = np.finfo(rounded.dtype).eps * np.abs(X).max(0)
    coarse = np.flatnonzero(steps > _COARSEST * spread)
    coarse = coarse[(spread > 0)[coarse]]
    if len(coarse):
        warnings.warn(
            f"The net computes in {rounded.dtype}, which keeps numbers such as "
            f"{X[0, coarse[0]]} in column {coarse[0]} only to within {steps[coarse[0]]:.2g}, "
            f"while its standard deviation is {spread[coarse[0]]:.2g}: rows become alike there. "
            "Subtract the mean first, as StandardScaler does before the net.",
            PrecisionWarning,
            stacklevel=2,
        )


def cast_targets(net: Net, y: np.ndarray) -> np.ndarray:
    """Cast targets to what a net's criterion takes."""
    if takes_class_indices(net) and y.dtype.kind != "f":
        return y.astype(np.int64)
    if compares_elementwise(net) or y.dtype.kind == "f":
        return y.astype(_numpy_dtype(net))
    return y.astype(np.int64) if kind_of(net) == "classes" else y


def _numpy_dtype(net: Net) -> type[np.floating]:
    dtype = module_dtype(net.module_)
    if dtype == torch.float64:
        return np.float64
    return np.float16 if dtype == torch.float16 else np.float32  # numpy has no bfloat16
