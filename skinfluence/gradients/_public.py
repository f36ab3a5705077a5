"""Per-sample gradients of a fitted skorch net: as a matrix, as norms, and checked."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skinfluence.exceptions import GradientMismatchError
from skinfluence.gradients._passes import check_matrix_fits, gather, start
from skinfluence.gradients._readings import Dense, Kept, Norm, TensorReading
from skinfluence.gradients._skorch import module_dtype
from skinfluence.gradients.routes._loop import BatchLoop
from skinfluence.gradients.routes._per_row import loop_gradients
from skinfluence.rows._parameters import check_positive_integer
from skinfluence.rows._seeds import preserved_random_state


def per_sample_gradients(
    net: Any,
    X: Any,
    y: Any,
    *,
    layers: str | Sequence[str] = "last",
    batch_size: int = 1024,
    max_bytes: int = 2**30,
) -> NDArray[Any]:
    """Compute the gradient of every row's loss with respect to the net's parameters.

    The loss of a row is what the net's own `get_loss` gives for that row alone, summed over its
    outputs: class weights, label smoothing and custom losses count as in training, and nothing is
    divided by a batch size. Gradients are taken in eval mode, on the rows as given (an augmentation
    that training used is not repeated).

    Parameters
    ----------
    net : NeuralNet
        A fitted skorch net. It is read, never written: parameters, mode, `requires_grad` and all
        random generators stay as they are.
    X, y : what the net was fitted on
        Arrays, tensors, dicts of them, or a torch data set as `X` with ``y=None``. Floating
        arrays are cast to the net's dtype batch by batch.
    layers : "last", "all", or sequence of str, default="last"
        Layers whose trainable parameters count: the one that the forward pass enters last, all,
        or names and shell patterns such as ``"body.*"``. Parameters with `requires_grad` False
        are left out.
    batch_size : int, default=1024
        Most rows per pass through the net; on a processor it takes fewer where they would not fit
        its caches. It changes memory and speed, not the result.
    max_bytes : int, default=2**30
        Refuse a larger matrix before computing it.

    Returns
    -------
    ndarray of shape (n_samples, n_parameters)
        In the net's dtype. Columns follow the layers in the order of the net's parameters; a
        parameter is flattened row-major.

    Raises
    ------
    ValueError
        If the net is not fitted, is random in eval mode or couples the rows of a batch; if its
        loader, sampler or collate function changes, drops or repeats rows; if a layer name does
        not exist; or if the matrix would exceed `max_bytes`.

    See Also
    --------
    gradient_norms : Norms without the matrix.
    check_per_sample_gradients : Compare with one backward pass per row.

    Notes
    -----
    Cost: one forward pass for the last layer; one forward and one backward pass when all layers
    are Linear, Conv, Embedding or normalisation layers; other layers go through
    ``torch.func.vmap``, or one backward pass per row where vmap refuses. On two batches of rows
    drawn over the whole set every route is compared with a backward pass of the batch, and left if
    it differs; a batch whose rows the net reorders is compared anew. What was found holds for
    passes over the same rows until the net or its criterion changes. A row's number goes with it
    from the data set to the result.

    Examples
    --------
    With one output and squared error the gradient of a linear net is ``2 (w x + b - y) [x, 1]``:

    >>> import numpy as np
    >>> from skorch import NeuralNetRegressor
    >>> from torch import nn
    >>> from skinfluence.gradients import per_sample_gradients
    >>> X = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> y = np.array([[1.0], [0.0]])
    >>> net = NeuralNetRegressor(nn.Linear, module__in_features=2, module__out_features=1)
    >>> net = net.initialize()
    >>> gradients = per_sample_gradients(net, X, y)
    >>> residual = net.predict(X.astype("float32")) - y
    >>> np.allclose(gradients, 2 * residual * np.c_[X, [1, 1]], atol=1e-5)
    True
    """

    def dense(loop: BatchLoop, rows: int) -> TensorReading:
        check_positive_integer("max_bytes", max_bytes)
        check_matrix_fits(loop, rows, loop.n_parameters, max_bytes)
        return Dense()

    return gather(net, X, y, dense, layers=layers, batch_size=batch_size).values


def gradient_norms(
    net: Any,
    X: Any,
    y: Any,
    *,
    layers: str | Sequence[str] = "last",
    ord: int = 2,
    batch_size: int = 1024,
) -> NDArray[Any]:
    """Compute the norm of every row's loss gradient, without the matrix of gradients.

    Parameters
    ----------
    net : NeuralNet
        A fitted skorch net; read, never written.
    X, y : what the net was fitted on
        As for `per_sample_gradients`.
    layers : "last", "all", or sequence of str, default="last"
        As for `per_sample_gradients`; the norm is taken over all of them together.
    ord : {1, 2}, default=2
        Sum of absolute values, or Euclidean.
    batch_size : int, default=1024
        Most rows per pass through the net; on a processor it takes fewer where they would not fit
        its caches. It changes memory and speed, not the result.

    Returns
    -------
    ndarray of shape (n_samples,)
        In the net's dtype. A large norm is a row the net still wants to change for.

    Raises
    ------
    ValueError
        As `per_sample_gradients`, and if `ord` is neither 1 nor 2.

    Notes
    -----
    Cost as `per_sample_gradients`. Memory follows the batch, and peaks about as in training: norms
    are read off the factors of the gradient while the backward pass goes on. A batch is read in
    parts where autograd would save more than 512 MiB of it, as of a language model's activations.

    Examples
    --------
    >>> import numpy as np
    >>> from skinfluence.gradients import gradient_norms, per_sample_gradients
    >>> from skinfluence.nets import default_net
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(40, 5)).astype("float32"), np.tile([0, 1], 20)
    >>> net = default_net(X, y, random_state=0).fit(X, y)
    >>> norms = gradient_norms(net, X, y, layers="all")
    >>> matrix = per_sample_gradients(net, X, y, layers="all")
    >>> np.allclose(norms, np.linalg.norm(matrix, axis=1), rtol=1e-4)
    True
    """
    if ord not in {1, 2}:
        raise ValueError(f"Got ord={ord!r}, but expected 1 (sum of absolute values) or 2.")
    return gather(net, X, y, lambda *_: Norm(ord), layers=layers, batch_size=batch_size).values


def check_per_sample_gradients(
    net: Any,
    X: Any,
    y: Any,
    *,
    layers: str | Sequence[str] = "all",
    batch_size: int = 1024,
    rtol: float | None = None,
) -> dict[str, float]:
    """Hold the fast per-sample gradients of a net against one backward pass per row.

    Parameters
    ----------
    net : NeuralNet
        A fitted skorch net; read, never written.
    X, y : what the net was fitted on
        A few dozen rows are enough: the reference takes one backward pass for each.
    layers : "last", "all", or sequence of str, default="all"
        As for `per_sample_gradients`.
    batch_size : int, default=1024
        Rows per pass of the fast route.
    rtol : float, optional
        Largest deviation of a layer's gradients, relative to the layer's largest entry. By
        default 1e-8 for a float64 net and 1e-4 below.

    Returns
    -------
    dict of str to float
        That deviation for every layer.

    Raises
    ------
    GradientMismatchError
        Naming the layers that deviate by more than `rtol`, or whose gradient is not finite.
    ValueError
        As `per_sample_gradients`.

    Examples
    --------
    >>> import numpy as np
    >>> from skinfluence.gradients import check_per_sample_gradients
    >>> from skinfluence.nets import default_net
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(30, 4)).astype("float32"), np.tile([0, 1, 2], 10)
    >>> net = default_net(X, y, random_state=0).fit(X, y)
    >>> sorted(check_per_sample_gradients(net, X, y))
    ['hidden.0', 'hidden.2', 'output']
    """
    largest: dict[str, float] = {}
    error: dict[str, float] = {}
    with preserved_random_state():
        loop, batches, _ = start(net, X, y, layers=layers, batch_size=batch_size)
        for Xi, yi in batches:
            expected = loop_gradients(loop.net_loss, loop.layers, Xi, yi)
            parts = list(loop.batches([(Xi, yi)], Kept()))
            for name, reference in expected.items():
                fast = torch.cat([part[name].dense() for part in parts])
                deviation = float((fast - reference).abs().max())
                largest[name] = max(largest.get(name, 0.0), float(reference.abs().max()))
                # max() would drop a NaN
                error[name] = float(np.maximum(error.get(name, 0.0), deviation))
        dtype = module_dtype(loop.net_loss.module)
    relative = {name: error[name] / (largest[name] or 1.0) for name in error}
    limit = rtol if rtol is not None else (1e-8 if dtype == torch.float64 else 1e-4)
    wrong = {name: value for name, value in relative.items() if not value <= limit}
    if wrong:
        listing = ", ".join(f"{n} by {v:.1e} ({loop.strategy[n]})" for n, v in wrong.items())
        raise GradientMismatchError(
            f"Per-sample gradients deviate from one backward pass per row by more than {limit:g}: "
            f"{listing}. Either a forward mixes the rows of a batch, which leaves rows without a "
            "gradient of their own, or the route is at fault: please report the module."
        )
    return relative
