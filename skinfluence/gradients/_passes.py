"""A pass over all rows: batches through the gradient loop, parts collected in the order of rows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError
from torch import Tensor

from skinfluence.gradients._net_loss import Nested
from skinfluence.gradients._readings import Gram, Kept, Reading, Total
from skinfluence.gradients._skorch import (
    Net,
    as_dataset,
    is_fitted,
    is_net,
    iter_batches,
    net_loss_of,
)
from skinfluence.gradients._states import net_at
from skinfluence.gradients._trajectory import Combination, TrajectoryLoop
from skinfluence.gradients.routes._loop import GradientLoop
from skinfluence.rows._parameters import check_positive_integer
from skinfluence.rows._seeds import preserved_random_state

BatchLoop: TypeAlias = GradientLoop | TrajectoryLoop


class Trajectory(NamedTuple):
    """The checkpoints at which gradients are taken, and what becomes of them.

    Attributes
    ----------
    states : list of (dict of str to Tensor, or None)
        None for the net as it is.
    combination : MeanOf or SideBySide
    normalize : {None, "activations", "gradient"}
    """

    states: list[Mapping[str, Tensor] | None]
    combination: Combination
    normalize: str | None


class Gathered(NamedTuple):
    """What a pass over all rows gave.

    Attributes
    ----------
    values : ndarray of shape (n_samples, ...)
    strategy : dict of str to str
        The route each layer took.
    """

    values: NDArray[Any]
    strategy: dict[str, str]


def gather(
    net: Net,
    X: Any,
    y: Any,
    choose: Callable[[BatchLoop, int], Reading],
    *,
    layers: str | Sequence[str],
    batch_size: int,
    trajectory: Trajectory | None = None,
) -> Gathered:
    """Run the batch loop over all rows and collect what is read off each batch.

    Parameters
    ----------
    net : NeuralNet
        Fitted; left as it is.
    X, y : what skorch takes
    choose : callable
        ``choose(loop, n_samples)`` gives the reading, of a Tensor (n_rows, ...) a batch, once
        the layers are known and before anything large is computed.
    layers : "last", "all", or sequence of str
    batch_size : int
    trajectory : Trajectory, optional
        Checkpoints whose gradients are combined; by default the net as it is.

    Returns
    -------
    Gathered

    Raises
    ------
    NotFittedError
        If the net is not fitted.
    ValueError
        If there are no rows.
    """
    with preserved_random_state():
        loop, batches = start(
            net, X, y, layers=layers, batch_size=batch_size, trajectory=trajectory
        )
        rows = len(as_dataset(net, X, y))
        reading = choose(loop, rows)
        parts = (_as_array(part) for part in loop.batches(batches, reading))
        return Gathered(_join(parts, rows), loop.strategy)


def _as_array(part: Tensor) -> NDArray[Any]:
    part = part.detach().cpu()
    return np.asarray((part.float() if part.dtype == torch.bfloat16 else part).numpy())


def _join(parts: Iterator[NDArray[Any]], rows: int) -> NDArray[Any]:
    """Concatenate into one array made once: a list would hold a wide matrix twice."""
    first = next(parts)
    values = np.empty((rows, *first.shape[1:]), first.dtype)
    start = 0
    for part in chain([first], parts):
        values[start : start + len(part)] = part
        start += len(part)
    return values


def mean_gradient(
    net: Net,
    X: Any,
    y: Any,
    *,
    layers: str | Sequence[str],
    batch_size: int,
    trajectory: Trajectory | None = None,
) -> dict[str, Tensor]:
    """Average the gradients of all rows, which becomes a direction for `InnerProduct`.

    Parameters
    ----------
    net, X, y, layers, batch_size, trajectory
        As for `gather`.

    Returns
    -------
    dict of str to Tensor of shape (n_parameters,)
        By the name of the layer, or of the layer at a checkpoint.
    """
    total: dict[str, Tensor] = {}
    with preserved_random_state():
        loop, batches = start(
            net, X, y, layers=layers, batch_size=batch_size, trajectory=trajectory
        )
        for part in loop.batches(batches, Total()):
            total = {name: total[name] + g if total else g for name, g in part.items()}
    n_rows = len(as_dataset(net, X, y))
    return {name: gradient / n_rows for name, gradient in total.items()}


def cross_products(
    net: Net,
    one: tuple[Any, Any],
    two: tuple[Any, Any],
    *,
    layers: str | Sequence[str],
    batch_size: int,
    trajectory: Trajectory | None = None,
) -> NDArray[Any]:
    """Multiply the gradients of some rows with those of others, from the factors of both.

    Parameters
    ----------
    net, layers, batch_size, trajectory
        As for `gather`.
    one, two : (inputs, targets)

    Returns
    -------
    ndarray of shape (n_one, n_two)
    """
    blocks = []
    with preserved_random_state():
        loop, batches = start(
            net, *one, layers=layers, batch_size=batch_size, trajectory=trajectory
        )
        for kept in loop.batches(batches, Kept()):
            gram = Gram(kept)
            products = gather(
                net,
                *two,
                lambda *_, gram=gram: gram,
                layers=layers,
                batch_size=batch_size,
                trajectory=trajectory,
            )
            blocks.append(products.values.T)
    return np.concatenate(blocks)


def start(
    net: Net,
    X: Any,
    y: Any,
    *,
    layers: str | Sequence[str],
    batch_size: int,
    trajectory: Trajectory | None = None,
) -> tuple[BatchLoop, Iterator[tuple[Nested, Tensor]]]:
    """Get the batch loop ready; see `gather`. To be run with the random state preserved."""
    first, batches = first_batch(net, X, y, batch_size)
    if trajectory is None:
        return GradientLoop(net_loss_of(net), *first, layers), batches
    nets = [net if state is None else net_at(net, state) for state in trajectory.states]
    loops = [GradientLoop(net_loss_of(at), *first, layers) for at in nets]
    return TrajectoryLoop(loops, trajectory.combination, trajectory.normalize), batches


def first_batch(
    net: Net, X: Any, y: Any, batch_size: int
) -> tuple[tuple[Nested, Tensor], Iterator[tuple[Nested, Tensor]]]:
    """Check a net and its rows; give the first batch, and all of them."""
    check_positive_integer("batch_size", batch_size)
    if not is_net(net):
        raise TypeError(
            f"Got net={net!r}, but expected a fitted skorch net. Unwrap a FrozenEstimator by its "
            "attribute `estimator`; wrap a torch module in a skorch net."
        )
    if not is_fitted(net):
        raise NotFittedError(
            f"{type(net).__name__} is not fitted, so it has no gradients yet. Call net.fit(X, y)."
        )
    batches = iter_batches(net, X, y, batch_size)
    first = next(batches, None)
    if first is None:
        raise ValueError("X has 0 rows; expected at least one.")
    return first, chain([first], batches)


def check_matrix_fits(loop: BatchLoop, rows: int, columns: int, max_bytes: int) -> None:
    """Refuse a matrix of gradients before it is computed.

    Parameters
    ----------
    loop : GradientLoop or TrajectoryLoop
    rows, columns : int
    max_bytes : int

    Raises
    ------
    ValueError
        If it would be larger; names the number of columns that fits.
    """
    itemsize = next(iter(loop.layers[0].parameters.values())).element_size()
    needed = rows * columns * itemsize
    if needed > max_bytes:
        fits = max_bytes // (rows * itemsize)
        raise ValueError(
            f"{columns} columns of gradients for {rows} rows take {needed} bytes, more than "
            f"max_bytes={max_bytes}. Choose fewer layers (layers='last' or names), raise "
            f"max_bytes, project to n_components={fits} or fewer, or use what needs no matrix: "
            "gradient_norms, or NormDetector as the detector."
        )
