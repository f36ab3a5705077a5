"""A recorded training replayed: the same start, batches and steps, with rows' losses left out.

Leaving out one row changes every later step, so each row needs a training of its own. Many are
run at once: their parameters are stacked, one batch is put through all of them, and the net's own
optimiser steps the stack, which for optimisers that treat every number alone is the same as a
step of each. What cannot be stacked is replayed one row at a time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from skinfluence.gradients._net_loss import Nested, NetLoss, map_tensors
from skinfluence.gradients._skorch import Net, net_loss_of, step_scale_of
from skinfluence.gradients._states import module_state, net_at
from skinfluence.gradients.routes._per_row import LossModule
from skinfluence.rows._weights import Weights
from skinfluence.trace._training_trace import State, TrainingTrace

Batch: TypeAlias = tuple[Nested, Tensor]

# Stands for no row: the whole training.
NO_ROW = -1
# Each number of a parameter is stepped by itself: a stack is stepped like its members.
_ELEMENTWISE = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.Adamax,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
    torch.optim.Adagrad,
    torch.optim.Adadelta,
)
# As many trainings at once, with parameters of as many bytes; a smaller stack gains nothing.
_MAX_STACK = 64
_STACK_BYTES = 2**26
_MIN_STACK = 4
# How far the end of the replay may be from the end of the training, relative to the way from its
# start. Training makes differences grow, those of rounding like those of a row left out, so that
# a long one in float32 may end a thousandth off.
_TOLERANCE = {torch.float64: 1e-8}
_SINGLE_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Replay:
    """A training and its data, ready to be run again."""

    net: Net  # as training left it; not written to
    trace: TrainingTrace  # with the order of the rows
    rows: Batch  # all training rows, in the order that the trace numbers them
    validation: list[Batch]  # whose mean loss is asked for
    # what the sum of the rows' losses is multiplied by at each step: 1/|S_t| for a mean
    scales: list[float]
    stacked: bool = True  # whether many trainings run at once
    weights: Tensor | None = None  # of the training rows, in the loss
    judging_weights: Tensor | None = None  # of the validation rows, in their mean

    @property
    def stack_size(self) -> int:
        """Say how many rows to leave out in one call of `losses_without`."""
        return _stack_size(self.trace) if self.stacked else 1

    def losses_without(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Give the validation loss of trainings without each of some rows; safe in threads."""
        net_loss = _private_loss(self.net, self.trace)
        if self.stacked:
            return self._losses_of(net_loss, _run_stack(self, net_loss, rows))
        losses = []
        for row in rows.tolist():
            _run_one(self, net_loss, row)
            losses.append(mean_loss(net_loss, self.validation, self.judging_weights))
        return np.array(losses)

    def _losses_of(self, net_loss: NetLoss, stacks: dict[str, Tensor]) -> NDArray[np.float64]:
        return _stacked_losses(net_loss, stacks, self.validation, self.judging_weights)

    def kept(self, index: Tensor, left_out: Tensor | int) -> Tensor:
        """Say how much each row of a batch counts, with rows left out."""
        kept = index != left_out
        return kept if self.weights is None else kept * self.weights[index]

    def whole(self) -> tuple[float, float]:
        """Replay with no row left out; give the validation loss, and how far off it ends."""
        net_loss = _private_loss(self.net, self.trace)
        if self.stacked:
            stacks = _run_stack(self, net_loss, np.array([NO_ROW]))
            loss = float(self._losses_of(net_loss, stacks)[0])
            end = {name: stack[0].cpu() for name, stack in stacks.items()}
        else:
            _run_one(self, net_loss, NO_ROW)
            loss = mean_loss(net_loss, self.validation, self.judging_weights)
            end = {name: p.detach().cpu() for name, p in _trainable(net_loss).items()}
        return loss, _checked_distance(self.net, self.trace, end)


def prepare_replay(
    net: Net,
    trace: TrainingTrace,
    rows: Batch,
    validation: list[Batch],
    *,
    weights: Weights = None,
    judging_weights: Weights = None,
) -> Replay:
    """Get ready to replay the training of a net."""
    net_loss = _private_loss(net, trace)
    device = next(net_loss.module.parameters()).device

    def move(batch: Batch) -> Batch:
        return map_tensors(lambda tensor: tensor.to(device), batch[0]), batch[1].to(device)

    rows, validation = move(rows), [move(batch) for batch in validation]
    scales = _scales(net, net_loss, trace, rows)

    def as_tensor(given: Weights) -> Tensor | None:
        return None if given is None else torch.as_tensor(given, dtype=dtype, device=device)

    dtype = next(net_loss.module.parameters()).dtype
    replay = Replay(
        net,
        trace,
        rows,
        validation,
        scales,
        weights=as_tensor(weights),
        judging_weights=as_tensor(judging_weights),
    )
    return replace(replay, stacked=_can_stack(replay))


def mean_loss(net_loss: NetLoss, batches: list[Batch], weights: Tensor | None = None) -> float:
    """Average the losses of rows, by weights that are one on the mean."""
    n_rows = sum(len(y) for _, y in batches)
    with torch.no_grad():
        if weights is None:
            return sum(float(net_loss(X, y)) for X, y in batches) / n_rows
        losses = torch.cat([net_loss.row_losses(X, y) for X, y in batches])
    return float(weights.to(losses) @ losses) / n_rows


def _private_loss(net: Net, trace: TrainingTrace) -> NetLoss:
    start = {name: tensor.clone() for name, tensor in trace.initial_state.items()}
    return net_loss_of(net_at(net, start))


def _trainable(net_loss: NetLoss) -> dict[str, nn.Parameter]:
    return {n: p for n, p in net_loss.module.named_parameters() if p.requires_grad}


def _take(rows: Batch, index: Tensor) -> Batch:
    return map_tensors(lambda tensor: tensor[index], rows[0]), rows[1][index]


def _steps(trace: TrainingTrace, device: torch.device) -> list[Tensor]:
    assert trace.batch_indices is not None
    return [torch.as_tensor(index, device=device) for index in trace.batch_indices]


def _scales(net: Net, net_loss: NetLoss, trace: TrainingTrace, rows: Batch) -> list[float]:
    """Say what each step's loss is, as a multiple of the sum of its rows' losses."""
    scale_of = step_scale_of(net)
    scales = []
    with torch.no_grad():
        for index in _steps(trace, rows[1].device):
            X, y = _take(rows, index)
            output = net_loss.forward(X)
            scales.append(scale_of(output, y, X, net_loss.losses(output, y, X)))
    return scales


def _optimizer(net: Any, parameters: dict[str, nn.Parameter]) -> torch.optim.Optimizer:
    args, kwargs = net.get_params_for_optimizer("optimizer", list(parameters.items()))
    optimizer: torch.optim.Optimizer = net.optimizer(*args, **kwargs)
    return optimizer


def _set_rates(optimizer: torch.optim.Optimizer, rates: NDArray[np.float64]) -> None:
    for group, rate in zip(optimizer.param_groups, rates.tolist(), strict=True):
        group["lr"] = rate


def _run_one(replay: Replay, net_loss: NetLoss, row: int) -> None:
    """Train without a row; the slow way, and the obvious one. Leaves the end in `net_loss`."""
    state = replay.trace.initial_state
    parameters = _trainable(net_loss)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state[name])
    optimizer = _optimizer(replay.net, dict(net_loss.module.named_parameters()))
    steps = _steps(replay.trace, replay.rows[1].device)
    for t, index in enumerate(steps):
        _set_rates(optimizer, replay.trace.learning_rates[t])
        X, y = _take(replay.rows, index)
        kept, scale = replay.kept(index, row), replay.scales[t]

        def loss(X: Nested = X, y: Tensor = y, kept: Tensor = kept, scale: float = scale) -> Any:
            optimizer.zero_grad()
            with torch.enable_grad():
                total = (net_loss.row_losses(X, y) * kept).sum() * scale
            total.backward()  # type: ignore[no-untyped-call]
            return total.detach()

        optimizer.step(loss)


def _run_stack(replay: Replay, net_loss: NetLoss, rows: NDArray[np.intp]) -> dict[str, Tensor]:
    """Train without each of some rows, all at once; the same steps as `_run_one`."""
    state, device = replay.trace.initial_state, replay.rows[1].device
    used = _used(replay, net_loss)
    stacks = {
        name: nn.Parameter(state[name].to(device).expand(len(rows), *parameter.shape).clone())
        for name, parameter in _trainable(net_loss).items()
    }
    gradients_of = _stacked_gradients(net_loss)
    optimizer = _optimizer(replay.net, stacks)
    left_out = torch.as_tensor(rows, device=device)[:, None]
    for t, index in enumerate(_steps(replay.trace, device)):
        _set_rates(optimizer, replay.trace.learning_rates[t])
        X, y = _take(replay.rows, index)
        with torch.no_grad():
            values = {name: stack.detach() for name, stack in stacks.items()}
            kept = replay.kept(index, left_out)
            gradients = gradients_of(values, X, y, kept, replay.scales[t])
        for name in used:
            stacks[name].grad = gradients[name]
        optimizer.step()
    return {name: stack.detach() for name, stack in stacks.items()}


def _stacked_gradients(net_loss: NetLoss) -> Callable[..., dict[str, Tensor]]:
    """Differentiate one batch's loss for a stack of nets."""
    loss_module = LossModule(net_loss)

    # kept: (n_nets, n_rows) outside of vmap, how much rows count for each net
    def loss(
        parameters: dict[str, Tensor], X: Nested, y: Tensor, kept: Tensor, scale: float
    ) -> Tensor:
        return (_losses(loss_module, parameters, X, y) * kept).sum() * scale

    return vmap(grad(loss), in_dims=(0, None, None, 0, None))


def _stacked_losses(
    net_loss: NetLoss,
    stacks: dict[str, Tensor],
    batches: list[Batch],
    weights: Tensor | None = None,
) -> NDArray[np.float64]:
    """Average the losses of rows for each net of a stack: (n_nets,)."""
    loss_module = LossModule(net_loss)

    sizes = [len(y) for _, y in batches]
    parts = [None] * len(sizes) if weights is None else list(torch.split(weights, sizes))

    def loss(parameters: dict[str, Tensor], X: Nested, y: Tensor, heavy: Tensor | None) -> Tensor:
        losses = _losses(loss_module, parameters, X, y)
        return losses.sum() if heavy is None else heavy.to(losses) @ losses

    with torch.no_grad():
        totals = [
            vmap(loss, in_dims=(0, None, None, None))(stacks, X, y, heavy)
            for (X, y), heavy in zip(batches, parts, strict=True)
        ]
    mean = torch.stack(totals).sum(0).double() / sum(sizes)
    return np.asarray(mean.cpu().numpy())


def _losses(loss_module: LossModule, parameters: dict[str, Tensor], X: Nested, y: Tensor) -> Tensor:
    named = {f"module.{name}": value for name, value in parameters.items()}
    losses: Tensor = functional_call(loss_module, named, (X, y))
    return losses


def _used(replay: Replay, net_loss: NetLoss) -> list[str]:
    """Name the parameters that the loss reads: an optimiser leaves the others alone."""
    parameters = _trainable(net_loss)
    X, y = _take(replay.rows, torch.arange(min(2, len(replay.rows[1]))))
    with torch.enable_grad():
        found = torch.autograd.grad(net_loss(X, y), list(parameters.values()), allow_unused=True)
    return [name for name, one in zip(parameters, found, strict=True) if one is not None]


def _stack_size(trace: TrainingTrace) -> int:
    n_bytes = sum(t.numel() * t.element_size() for t in trace.initial_state.values())
    return min(_MAX_STACK, _STACK_BYTES // max(1, n_bytes))


def _can_stack(replay: Replay) -> bool:
    """Tell whether trainings may be stacked: try it on the first batch."""
    net_loss = _private_loss(replay.net, replay.trace)
    parameters = _trainable(net_loss)
    optimizer = _optimizer(replay.net, dict(net_loss.module.named_parameters()))
    steps = _steps(replay.trace, replay.rows[1].device)
    small = _stack_size(replay.trace) < _MIN_STACK
    if small or type(optimizer) not in _ELEMENTWISE or not steps or not parameters:
        return False
    X, y = _take(replay.rows, steps[0])
    with torch.enable_grad():
        total = net_loss(X, y)
        expected = torch.autograd.grad(
            total, list(parameters.values()), allow_unused=True, materialize_grads=True
        )
    kept = torch.ones(2, len(y), dtype=torch.bool, device=y.device)
    stacks = {name: torch.stack([p.detach()] * 2) for name, p in parameters.items()}
    try:
        with torch.no_grad():
            found = _stacked_gradients(net_loss)(stacks, X, y, kept, 1.0)
    except (RuntimeError, NotImplementedError, ValueError):  # what vmap has no rule for
        return False
    return _agree(expected, [found[name][0] for name in parameters])


def _agree(one: Sequence[Tensor], two: Sequence[Tensor]) -> bool:
    tolerance = 1e-3 if one[0].dtype != torch.float64 else 1e-9
    size = sum(float(x.double().square().sum()) for x in one)
    far = sum(float((x - y).double().square().sum()) for x, y in zip(one, two, strict=True))
    return far <= tolerance**2 * size


def _checked_distance(net: Net, trace: TrainingTrace, found: State) -> float:
    end, start = module_state(net, buffers=False), trace.initial_state
    way = sum(float((end[n] - start[n]).double().square().sum()) for n in found) ** 0.5
    off = sum(float((end[n] - found[n]).double().square().sum()) for n in found) ** 0.5
    distance = off / way if way else float(np.inf if off else 0)
    tolerance = max(_TOLERANCE.get(end[n].dtype, _SINGLE_TOLERANCE) for n in found)
    if distance <= tolerance:
        return distance
    callbacks = ", ".join(trace.gradient_callbacks)
    raise ValueError(
        "The recorded training cannot be replayed: with no row left out, the same batches and "
        f"steps of {trace.optimizer} end {distance:.2g} of the way from start to end off the "
        f"trained net; up to {tolerance:g} may be rounding. Likely causes are dropout, "
        "augmentation of the inputs, BatchNorm, other targets than it was trained on, callbacks "
        f"that change gradients{f' (here: {callbacks})' if callbacks else ''} or load other "
        "parameters after training, momentum that follows a schedule, or several optimisers. Train "
        "without them, or use retrain='scratch', which fits the net anew."
    )
