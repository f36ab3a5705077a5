"""Arrays to and from a net: the dtypes it takes, the shapes it gives, what it predicts."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone

from skinfluence._random import preserved_random_state, seeded
from skinfluence._validation import check_finite
from skinfluence.gradients._net_loss import tensors_in
from skinfluence.gradients._skorch import (
    compares_elementwise,
    iter_batches,
    kind_of,
    module_dtype,
    net_loss_of,
    shadow_of,
    takes_class_indices,
    takes_integers,
)


def initialized_copy(net: Any, seed: int) -> Any:
    """Initialise an unfitted copy of a net, to learn its dtype and shapes before training.

    Parameters
    ----------
    net : NeuralNet
    seed : int

    Returns
    -------
    NeuralNet
        Without callbacks, which may write files.
    """
    with seeded(seed):
        copy = clone(net).set_params(verbose=0)
        copy.callbacks = None  # skorch cannot set the parameter where they are disabled
        return copy.initialize()


def output_shape(net: Any, X: Any, y: Any) -> tuple[int, ...]:
    """Run two rows through a net.

    Parameters
    ----------
    net : NeuralNet
        Initialised.
    X, y : what skorch takes

    Returns
    -------
    tuple of int
        The shape of a row's (first) output.

    Raises
    ------
    ValueError
        If the module does not take these inputs.
    """
    with preserved_random_state(), torch.no_grad():
        Xi, _ = next(iter_batches(net, X, y, 2))
        try:
            output = tensors_in(net_loss_of(net).forward(Xi))[0]
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            shapes = ", ".join(f"{tuple(x.shape)} {x.dtype}" for x in tensors_in(Xi))
            raise ValueError(
                f"The net's module cannot take a batch of shape {shapes}: {error}. "
                "Make its first layer fit the features of X, or change X."
            ) from error
    return tuple(output.shape[1:])


def predict(net: Any, X: Any) -> NDArray[Any]:
    """Predict like the net itself, leaving its mode and all random generators alone.

    Parameters
    ----------
    net : NeuralNet
    X : what skorch takes

    Returns
    -------
    ndarray of shape (n_samples,) or (n_samples, n_outputs)
    """
    with preserved_random_state():
        return np.asarray(shadow_of(net).predict(X))


def predict_codes(net: Any, X: Any, codes: NDArray[Any]) -> NDArray[Any]:
    """Predict the likeliest of the classes there are.

    Parameters
    ----------
    net : NeuralNet
        A classifier.
    X : what skorch takes
    codes : ndarray of shape (n_classes,)
        What the net calls the classes; it may have outputs beyond these.

    Returns
    -------
    ndarray of shape (n_samples,)
        The net's own predictions, where they are classes.
    """
    predicted = predict(net, X)
    if np.isin(predicted, codes).all():
        return predicted
    known = np.sort(codes)
    with preserved_random_state():
        probabilities = np.asarray(shadow_of(net).predict_proba(X))
    return np.asarray(known[probabilities[:, known].argmax(1)])


def root_mean_squared_error(net: Any, X: Any, y: Any) -> NDArray[Any]:
    """Measure a regression's error on given rows.

    Parameters
    ----------
    net : NeuralNet
    X, y : what skorch takes

    Returns
    -------
    ndarray of shape of a row's output
    """
    total: Any = 0.0
    rows = 0
    with preserved_random_state(), torch.no_grad():
        net_loss = net_loss_of(net)
        for Xi, yi in iter_batches(net, X, y, 256):
            output = tensors_in(net_loss.forward(Xi))[0]
            error = output - yi.to(output.device).reshape(output.shape)
            total = total + error.double().square().sum(0)
            rows += len(yi)
    return np.asarray((total / rows).sqrt().cpu().numpy())


def cast_inputs(net: Any, X: Any) -> Any:
    """Cast an array to what a net's module computes in.

    Parameters
    ----------
    net : NeuralNet
        Initialised.
    X : object

    Returns
    -------
    ndarray, dict of arrays, or `X` itself
        Floating in the module's dtype; integers as int64 if the module has an Embedding. In a
        dict, integers stay as they are.

    Raises
    ------
    ValueError
        If a row is not finite in that dtype.
    """
    if isinstance(X, Mapping):
        floats = {k: v for k, v in X.items() if isinstance(v, np.ndarray) and v.dtype.kind == "f"}
        return type(X)(**{**X, **{name: cast_inputs(net, v) for name, v in floats.items()}})
    if not isinstance(X, np.ndarray):
        return X
    if X.dtype.kind in "iu" and takes_integers(net.module_):
        return X.astype(np.int64, copy=False)
    with np.errstate(over="ignore"):
        X = X.astype(_numpy_dtype(net), copy=False)
    check_finite(X, f"X as {X.dtype}")
    return X


def cast_targets(net: Any, y: NDArray[Any]) -> NDArray[Any]:
    """Cast targets to what a net's criterion takes.

    Parameters
    ----------
    net : NeuralNet
        Initialised.
    y : ndarray

    Returns
    -------
    ndarray
    """
    if takes_class_indices(net) and y.dtype.kind != "f":
        return y.astype(np.int64)
    if compares_elementwise(net) or y.dtype.kind == "f":
        return y.astype(_numpy_dtype(net))
    return y.astype(np.int64) if kind_of(net) == "classes" else y


def _numpy_dtype(net: Any) -> Any:
    dtype = module_dtype(net.module_)
    # numpy has no bfloat16
    return np.float64 if dtype == torch.float64 else np.float32
