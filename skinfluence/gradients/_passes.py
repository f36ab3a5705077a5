"""A pass over all rows: batches through the gradient loop, parts collected in the order of rows."""

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from sklearn.exceptions import NotFittedError
from torch import Tensor

from skinfluence.gradients._net_loss import Batch, NetLoss
from skinfluence.gradients._readings import TensorReading
from skinfluence.gradients._skorch import (
    Net,
    as_dataset,
    is_fitted,
    is_net,
    iter_batches,
    rows_made_dense,
    trial_key,
)
from skinfluence.gradients._states import State, net_losses_at
from skinfluence.gradients._trajectory import Combination, TrajectoryLoop
from skinfluence.gradients._trial import (
    Trial,
    check_results_follow_rows,
    draw_trial,
    rows_that_differ,
)
from skinfluence.gradients._verdicts import keep, recalled
from skinfluence.gradients.routes._loop import BatchLoop, GradientLoop
from skinfluence.rows._parameters import check_positive_integer
from skinfluence.rows._seeds import preserved_random_state


class Trajectory(NamedTuple):
    """The checkpoints at which gradients are taken, and what becomes of them."""

    states: Sequence[State | None]  # None for the net as it is
    combination: Combination
    normalize: str | None  # "activations", "gradient" or None


class Started(NamedTuple):
    """What a pass over all rows needs."""

    loop: BatchLoop
    batches: Iterator[Batch]
    trial: Trial


class Gathered(NamedTuple):
    """What a pass over all rows gave."""

    values: np.ndarray  # (n_samples, ...)
    strategy: dict[str, str]  # the route each layer took


def gather(
    net: Net,
    X: object,
    y: object,
    choose: Callable[[BatchLoop, int], TensorReading],
    *,
    layers: str | Sequence[str],
    batch_size: int,
    trajectory: Trajectory | None = None,
) -> Gathered:
    """Run the batch loop over all rows and collect what is read off each batch."""
    # choose(loop, n_samples) gives the reading once the layers are known and before anything large
    # is computed.
    with preserved_random_state():
        loop, batches, trial = start(
            net, X, y, layers=layers, batch_size=batch_size, trajectory=trajectory
        )
        dataset = as_dataset(net, X, y)
        rows, size = len(dataset), rows_made_dense(dataset, min(batch_size, loop.rows_in_cache))
        reading = choose(loop, rows)

        def read(batches: Iterable[Batch]) -> Iterator[np.ndarray]:
            return (_as_array(part) for part in loop.batches(batches, reading))

        def read_alone() -> np.ndarray:
            return np.concatenate([_as_array(part) for part in loop.tried(trial, reading)])

        # the tried rows first: what is watched in a net's first calls costs little of few rows
        alone, values = read_alone(), join(read(batches), rows)
        if rows_that_differ(trial, loop.net_loss, values, alone):
            # what the tried rows did not show: a matter of the net, or of the route alone
            _check_losses_follow_rows(loop.net_loss, trial, iter_batches(net, dataset, None, size))
            loop.leave_factored()
            alone, values = read_alone(), join(read(iter_batches(net, dataset, None, size)), rows)
        check_results_follow_rows(trial, loop.net_loss, values, alone)
        return Gathered(values, loop.strategy)


def _check_losses_follow_rows(net_loss: NetLoss, trial: Trial, batches: Iterator[Batch]) -> None:
    with torch.no_grad():
        values = torch.cat([net_loss.row_losses(*batch) for batch in batches])
        alone = net_loss.row_losses(*trial.batches[1])
    check_results_follow_rows(trial, net_loss, _as_array(values), _as_array(alone))


def _as_array(part: Tensor) -> np.ndarray:
    part = part.detach().cpu()
    return np.asarray((part.float() if part.dtype == torch.bfloat16 else part).numpy())


def join(parts: Iterator[np.ndarray], rows: int) -> np.ndarray:
    """Concatenate into one array made once: a list would hold a wide matrix twice."""
    first = next(parts)
    values = np.empty((rows, *first.shape[1:]), first.dtype)
    start = 0
    for part in chain([first], parts):
        values[start : start + len(part)] = part
        start += len(part)
    return values


def start(
    net: Net,
    X: object,
    y: object,
    *,
    layers: str | Sequence[str],
    batch_size: int,
    trajectory: Trajectory | None = None,
) -> Started:
    """Get the batch loop ready; see `gather`. To be run with the random state preserved."""
    trial, dataset = prepare(net, X, y, batch_size)
    states = [None] if trajectory is None else trajectory.states
    *others, net_loss = net_losses_at(net, states)
    key = trial_key(net, trial.batches, layers, states[-1])
    known = recalled(key)
    if known is not None:  # a net's first calls are watched on copies of their rows: of few here
        with torch.no_grad():
            net_loss.forward(trial.batches[0][0])
    last = GradientLoop(net_loss, trial, layers, known)
    keep(key, last.verdict)
    size = rows_made_dense(dataset, min(batch_size, last.rows_in_cache))
    batches = iter_batches(net, dataset, None, size)
    if trajectory is None:
        return Started(last, batches, trial)
    loops = [*(last.at(other) for other in others), last]
    loop = TrajectoryLoop(loops, trajectory.combination, trajectory.normalize)
    return Started(loop, batches, trial)


def prepare(net: Net, X: object, y: object, batch_size: int) -> tuple[Trial, Sized]:
    """Check a net and its rows; give rows to try it on, and the data set of all rows."""
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
    dataset = as_dataset(net, X, y)
    if not len(dataset):
        raise ValueError("X has 0 rows; expected at least one.")
    return draw_trial(net, dataset), dataset


def check_matrix_fits(loop: BatchLoop, rows: int, columns: int, max_bytes: int) -> None:
    """Refuse a matrix of gradients before it is computed."""
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
