"""Arrays to and from a net: the dtypes it takes, the shapes it gives, what it predicts."""

from collections.abc import Mapping

import numpy as np
import torch
from sklearn.base import clone

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


def initialized_copy(net: Net, seed: int) -> Net:
    """Initialise an unfitted copy of a net, to learn its dtype and shapes before training."""
    with seeded(seed):
        copy: Net = clone(net).set_params(verbose=0)
        copy.callbacks = None  # they may write files; skorch cannot set the parameter if disabled
        return copy.initialize()


def cast_inputs(net: Net, X: Inputs) -> Inputs:
    """Cast inputs to what a net's module computes in; in a mapping, integers stay as they are."""
    if isinstance(X, Mapping):
        floats = {k: v for k, v in X.items() if isinstance(v, np.ndarray) and v.dtype.kind == "f"}
        return type(X)(**{**X, **{name: cast_inputs(net, v) for name, v in floats.items()}})
    if not isinstance(X, np.ndarray):
        return X
    if X.dtype.kind in "iu" and takes_integers(net.module_):
        return X.astype(np.int64, copy=False)
    if takes_doubles(net.module_):
        return X if X.dtype in {np.float32, np.float64} else X.astype(np.float64)
    with np.errstate(over="ignore"):
        X = X.astype(_numpy_dtype(net), copy=False)
    check_finite(X, f"X as {X.dtype}")
    return X


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
