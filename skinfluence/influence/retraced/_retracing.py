"""From a training's trace to the linear influence of its rows."""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skinfluence.exceptions import ReplayWarning
from skinfluence.gradients._layers import call_order, select_layers
from skinfluence.gradients._net_loss import Nested
from skinfluence.gradients._skorch import (
    as_dataset,
    iter_batches,
    net_loss_of,
    step_scale_of,
    takes_plain_mean,
)
from skinfluence.gradients._states import module_state, net_at
from skinfluence.gradients._trial import check_rows_are_independent, draw_trial
from skinfluence.influence.retraced._walk import Retracer, Step, Update, Walk, interpolated
from skinfluence.rows._containers import n_samples_of, select
from skinfluence.rows._progress import told
from skinfluence.rows._rows import ModelRows
from skinfluence.rows._seeds import preserved_random_state
from skinfluence.rows._weights import Weights
from skinfluence.storage._files import Plain
from skinfluence.storage._fingerprint import fingerprint, net_parameters, versions
from skinfluence.storage._work_file import WorkFile
from skinfluence.trace._training_trace import TrainingTrace

# Steps further from SGD than this, relative to their length, are not what the theory is of.
_REPLAY_TOLERANCE = 1e-3
# A kill loses at most so much work; a file is as large as two copies of the parameters.
_SECONDS_BETWEEN_WRITES = 5.0


def check_retraceable(
    net: Any, trace: TrainingTrace, parameters: str, *, renormalize: bool
) -> None:
    """Refuse a training that cannot be retraced, and warn of one that the theory is not of."""
    batch_norm = nn.modules.batchnorm._BatchNorm
    if parameters == "trajectory" and any(isinstance(m, batch_norm) for m in net.module_.modules()):
        raise ValueError(
            "The net has batch normalisation: in training, a row's loss depends on the other rows "
            "of its batch, so its own gradient at a step is not defined. Use parameters='final' or "
            "'epoch', which differentiate in eval mode, or a net with LayerNorm or GroupNorm."
        )
    if renormalize and not takes_plain_mean(net):
        raise ValueError(
            f"renormalize=True divides the mean over a batch by one row less, but the loss of "
            f"{type(net.criterion_).__name__} is no plain mean: it is a sum, or has class weights. "
            "Set renormalize=False, or train with reduction='mean' and no weights."
        )
    if any(parameter.requires_grad for parameter in net.criterion_.parameters()):
        raise ValueError(
            f"The criterion {type(net.criterion_).__name__} has parameters that are trained, but "
            "a trace holds those of the module alone. Move them into the module, or set "
            "requires_grad=False."
        )
    if trace.departures:
        raise ValueError(
            f"Other things than the steps of one optimiser are on record: "
            f"{'; '.join(trace.departures)}. SGD-influence retraces the steps that led to the net "
            "as it is. Likely causes: OneCycleLR and CyclicLR move the momentum unless "
            "cycle_momentum=False; EarlyStopping with load_best and Checkpoint load other "
            "parameters when training ends; a callback clips weights."
        )
    present = module_state(net, buffers=False)
    if any(not torch.equal(value, trace.final_state[name]) for name, value in present.items()):
        raise ValueError(
            "The net's parameters are not those at the end of its trace. A training without the "
            "recorder is the likely cause; SGD-influence retraces the steps that led to the net as "
            "it is."
        )
    error = trace.replay_error_
    if error is not None and error > _REPLAY_TOLERANCE:
        clipped = f"; callbacks on gradients: {', '.join(trace.gradient_callbacks)}"
        warnings.warn(
            f"Steps of {trace.optimizer} differ from SGD by {error:.2g} of their length, so the "
            "influence is an approximation of unknown quality. Likely causes are Adam and the "
            "like, dropout, augmentation, clipped gradients or batch normalisation"
            f"{clipped if trace.gradient_callbacks else ''}. Train with torch.optim.SGD.",
            ReplayWarning,
            stacklevel=3,
        )


def first_step_of(trace: TrainingTrace, epochs: int | str) -> int:
    """Find the step at which the last `epochs` epochs begin."""
    begun = [start for start in trace.epoch_starts if start < trace.n_steps]
    if epochs == "all" or not begun:
        return 0
    count = 1 if epochs == "last" else min(int(epochs), len(begun))
    return begun[-count]


def retraced_influence(
    net: Any,
    trace: TrainingTrace,
    rows: ModelRows,
    queries: ModelRows,
    *,
    parameters: str,
    first_step: int,
    hessian: bool,
    renormalize: bool,
    batch_size: int,
    each: bool,
    weights: Weights = None,
    query_weights: Weights = None,
    file: WorkFile | None = None,
) -> NDArray[np.float64]:
    """Estimate how much lower training on a row made queries' loss: (n_query or 1, n_train)."""
    # `each`: of every query, not of their mean loss. The walk ends at `first_step`. `file`, for
    # the mean loss only, is where to go on from, and where it is kept how far the walk is.
    if parameters == "trajectory" and first_step < trace.first_step:
        raise ValueError(
            f"The states from step {first_step} on are needed, but the trace holds those from step "
            f"{trace.first_step} on: training was interrupted where an epoch had just begun, and "
            "those of the epoch before were dropped. Train to the end of an epoch, or record with "
            "steps='all'."
        )
    with preserved_random_state():
        net_loss = net_loss_of(net_at(net, trace.final_state))
        for given in (rows, queries):
            check_rows_are_independent(net_loss, draw_trial(net, as_dataset(net, *given)))
        X, _ = _batch_of(net, rows, np.arange(min(2, n_samples_of(rows.inputs))))
        layers = select_layers(net_loss, call_order(net_loss, X), "all")
        retracer = Retracer(
            net_loss,
            layers,
            lambda index: _batch_of(net, rows, index),
            _update_of(trace),
            step_scale_of(net),
            hessian=hessian,
            renormalize=renormalize,
            weights=weights,
        )
        n_queries = n_samples_of(queries.inputs)
        parts = [np.array([i]) for i in range(n_queries)] if each else [np.arange(n_queries)]
        influence = []
        for part in parts:
            found = None if file is None else file.read()
            if found is not None:
                walk = Walk(**found)
            else:
                batches = iter_batches(net, *_take_rows(queries, part), batch_size)
                u = retracer.validation_gradient(trace.final_state, batches, query_weights)
                walk = retracer.begin(u, trace.n_samples)
            steps = _steps_backwards(trace, parameters, first_step, walk.n_steps)
            if file is None:
                influence.append(retracer.run(walk, steps))
            else:
                influence.append(_kept(file, retracer, walk, steps))
    return np.stack(influence)


def walk_file(folder: str | Path, key: str) -> WorkFile:
    """Find where a folder keeps how far a retracing is; that of another fit is replaced."""
    path = Path(folder) / "retrace.pt"
    return WorkFile(
        path,
        key,
        kind="SGDInfluence",
        seconds=_SECONDS_BETWEEN_WRITES,
        foreign=f"{path} is not a file of SGDInfluence, which keeps there how far it has come, and "
        "would be overwritten. It was probably written by another program, or by an older "
        "skinfluence. Move it away, or give a folder of its own as storage.",
    )


def retrace_key(
    net: Any,
    trace: TrainingTrace,
    rows: ModelRows,
    queries: ModelRows,
    settings: Mapping[str, object],
    *weights: Weights,
) -> str:
    """Hash all that a retracing's result depends on."""
    # the states between follow from the ends, the rows and the rates
    training = [trace.initial_state, trace.final_state, trace.learning_rates, trace.batch_indices]
    rule = [trace.parameter_groups, trace.weight_decay, trace.momentum, trace.dampening]
    said = [*training, *rule, trace.nesterov, trace.first_step, trace.epoch_starts]
    given = [rows, queries, settings, versions(), *(w for w in weights if w is not None)]
    return fingerprint([net_parameters(net), *said, *given])


def _kept(
    file: WorkFile, retracer: Retracer, walk: Walk, steps: Iterator[Step]
) -> NDArray[np.float64]:
    def state() -> Plain:
        return {"u": walk.u, "w": walk.w, "influence": walk.influence, "n_steps": walk.n_steps}

    with file.keeping(lambda: state() if walk.is_whole else None):
        return retracer.run(walk, steps, lambda _: file.watch(state))


def _take_rows(rows: ModelRows, index: NDArray[Any]) -> ModelRows:
    targets = None if rows.targets is None else rows.targets[index]
    return ModelRows(select(rows.inputs, index), targets)


def _batch_of(net: Any, rows: ModelRows, index: NDArray[Any]) -> tuple[Nested, Tensor]:
    return next(iter_batches(net, *_take_rows(rows, index), len(index)))


def _update_of(trace: TrainingTrace) -> Update:
    def by_name(values: tuple[Any, ...]) -> dict[str, Any]:
        groups = zip(trace.parameter_groups, values, strict=True)
        return {name: value for names, value in groups for name in names}

    return Update(
        by_name(trace.weight_decay),
        by_name(trace.momentum),
        by_name(trace.dampening),
        by_name(trace.nesterov),
    )


def _steps_backwards(
    trace: TrainingTrace, parameters: str, first_step: int, n_done: int
) -> Iterator[Step]:
    assert trace.batch_indices is not None
    for t in told("steps", range(trace.n_steps - 1 - n_done, first_step - 1, -1)):
        groups = zip(trace.parameter_groups, trace.learning_rates[t].tolist(), strict=True)
        rates = {name: rate for names, rate in groups for name in names}
        yield Step(trace.batch_indices[t], _state_at(trace, parameters, t), rates, first=t == 0)


def _state_at(trace: TrainingTrace, parameters: str, t: int) -> Mapping[str, Tensor]:
    if parameters == "final":
        return trace.final_state
    if parameters == "trajectory":
        assert trace.step_states is not None
        state: Mapping[str, Tensor] = trace.step_states[t - trace.first_step]
        return state
    # between the two ends of the epoch, in proportion to the steps
    starts = [*trace.epoch_starts, trace.n_steps]
    epoch = int(np.searchsorted(starts, t, side="right")) - 1
    ends = {checkpoint.epoch: checkpoint.state for checkpoint in trace.checkpoints}
    before = trace.initial_state if epoch == 0 else ends[epoch]
    after = ends.get(epoch + 1, trace.final_state)
    share = (t - starts[epoch]) / max(1, starts[epoch + 1] - starts[epoch])
    return dict(interpolated(before, after, share))
