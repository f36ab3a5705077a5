"""What a `TraceRecorder` has noted so far of a training that goes on."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch import Tensor

from skinfluence.gradients._net_loss import Batch, Nested, tensors_in
from skinfluence.gradients._states import module_state
from skinfluence.trace._batch_order import BatchOrder, Resumed, WatchedFitLoop
from skinfluence.trace._needs import TraceNeeds
from skinfluence.trace._sgd_rule import (
    description_of,
    momentum_of,
    own_module,
    replay_error,
    settings_of,
)
from skinfluence.trace._training_trace import Checkpoint, State, TrainingTrace
from skinfluence.trace.folder._resume_point import ResumePoint
from skinfluence.trace.folder._trace_files import TraceWriter


class Counts(NamedTuple):
    """How much of a recording the folder has, up to the last complete epoch."""

    epochs: int = 0
    steps: int = 0
    replay_errors: int = 0
    checkpoints: int = 0


class Reloaded:
    """Stands for a recording where a folder holds the whole training: nothing is trained."""

    def __init__(self, resume: ResumePoint) -> None:
        self._resume = resume

    def attach(self, net: NeuralNet, on_error: Callable[[], None]) -> None:
        resumed = Resumed(0, lambda loader: self._resume.enter(net, loader), self._resume.loosen)
        WatchedFitLoop(net, None, on_error, resumed)

    def abandon(self) -> None:
        """Leave the folder as it is."""
        self.release()

    def release(self) -> None:
        """Let other trainings into the folder."""
        self._resume.release()

    def finish(self, net: NeuralNet, gradient_callbacks: tuple[str, ...]) -> TrainingTrace:
        """Open the trace that the folder holds."""
        self._resume.check_entered()
        return TrainingTrace.load(self._resume.folder)


class Recording:
    """One call of training, added to what an earlier call recorded."""

    def __init__(
        self,
        needs: TraceNeeds,
        net: NeuralNet,
        n_samples: int,
        fingerprints: Mapping[str, str | None],
        earlier: TrainingTrace | None,
        *,
        resume: ResumePoint | None = None,
    ) -> None:
        self._needs = needs
        self._resume = resume
        self._n_planned = net.max_epochs
        self._n_saved = Counts()
        self._order = BatchOrder(n_samples) if needs.follows_rows else None
        self.learning_rate = learning_rates_of(net)
        self._n_samples, self._fingerprints = n_samples, fingerprints
        self._pending: NDArray[np.int64] | None = None
        self._settings = settings_of(net)
        self._departures: set[str] = set()
        self._versions: list[int] | None = None
        self._epoch_end: State | None = None
        self._before: State | None = None
        self._replay_errors: list[float] = []
        self._logits: list[np.ndarray] = []
        self._rates: list[NDArray[np.float64]] = []
        self._indices: list[NDArray[np.int64]] = []
        self._epoch_starts: list[int] = []
        self._segment_starts = [0]
        self._planned_epochs = [self._n_planned]
        self._first_step = 0
        self._n_epochs = 0
        self._writer: TraceWriter | None = None
        self._steps: list[State] = []
        self._n_step_states = 0
        self._checkpoints: list[Checkpoint] = []
        try:
            if earlier is not None:
                _check_continues(needs, earlier, net, n_samples, fingerprints)
            if needs.folder is not None:
                streams, resumable = None if resume is None else resume.streams, resume is not None
                self._writer = TraceWriter(needs.folder, resumable=resumable, streams=streams)
            if resume is not None and resume.n_epochs:
                self._go_on(resume)
            elif earlier is None:
                self._initial = self._keep("states", module_state(net))
            else:
                self._continue(earlier)
        except BaseException:
            self.abandon()
            raise
        start = self._segment_starts[-1]
        self._planned = {start + epoch for epoch in needs.epochs(self._n_planned)}

    def _continue(self, earlier: TrainingTrace) -> None:
        self._initial = self._keep("states", earlier.initial_state)
        self._checkpoints = [
            Checkpoint(c.epoch, c.learning_rate, self._keep("states", c.state))
            for c in earlier.checkpoints
        ]
        for state in earlier.step_states or ():
            self._keep_step(state)
        self._first_step = earlier.first_step
        self._rates = list(earlier.learning_rates)
        self._indices = list(earlier.batch_indices or [])
        self._epoch_starts = list(earlier.epoch_starts)
        self._n_epochs = len(earlier.epoch_starts)
        self._segment_starts = [*earlier.segment_starts, self._n_epochs]
        self._planned_epochs = [*earlier.planned_epochs, self._n_planned]
        self._logits = list(earlier.logits) if earlier.logits is not None else []
        if earlier.replay_error_ is not None:
            self._replay_errors = [earlier.replay_error_]
        self._departures = set(earlier.departures)

    def _go_on(self, resume: ResumePoint) -> None:
        """Take over what was recorded up to the last complete epoch."""
        assert self._writer is not None
        self._initial = {}
        for part in resume.parts():
            self._epoch_starts.append(len(self._rates))
            self._rates += list(part["learning_rates"])
            if self._needs.follows_rows:
                bounds = np.cumsum(part["batch_sizes"])
                self._indices += np.split(part["batch_indices"], bounds)[:-1]
            if self._needs.logits:
                self._logits.append(part["logits"])
            self._replay_errors += part["replay_errors"]
            self._checkpoints += [Checkpoint(e, rate, {}) for e, rate in part["checkpoints"]]
            self._first_step = part["first_step"]
            self._n_step_states = part["n_step_states"]
            self._departures |= set(part["departures"])
            self._n_epochs += 1
        self._steps = [{} for _ in range(self._n_step_states)]
        self._n_saved = self._counts()
        if self._checkpoints:
            self._latest = self._writer.last("states")

    def attach(self, net: NeuralNet, on_error: Callable[[], None]) -> None:
        """Get ready for the training loader, and for an error, after which to call back."""
        resumed = None
        if self._resume is not None:
            remaining = self._n_planned - self._resume.n_epochs
            enter, loosen = lambda loader: self._enter(net, loader), self._resume.loosen
            resumed = Resumed(remaining, enter, loosen)
        WatchedFitLoop(net, self._order, on_error, resumed)

    def _enter(self, net: NeuralNet, loader: object) -> None:
        assert self._resume is not None
        assert self._writer is not None
        self._resume.enter(net, loader)
        if not self._resume.n_epochs or self._writer.has_copied:
            self._resume.save(net, self._writer.sync(), None)
        self._writer.clear(self._resume.parts_path)
        self._writer.keep()

    def abandon(self) -> None:
        """Remove what was written, but for what a training may go on with."""
        if self._writer is not None:
            self._writer.discard()
        self.release()

    def release(self) -> None:
        """Let other trainings into the folder."""
        if self._resume is not None:
            self._resume.release()

    def save(self, net: NeuralNet) -> None:
        """Make the end of an epoch a point to go on from, if that is wanted."""
        if self._resume is None:
            return
        assert self._writer is not None
        self._resume.save(net, self._writer.sync(), self._last_epoch())
        self._writer.keep()
        self._n_saved = self._counts()

    def _counts(self) -> Counts:
        return Counts(
            self._n_epochs, len(self._rates), len(self._replay_errors), len(self._checkpoints)
        )

    def _last_epoch(self) -> dict[str, object]:
        """Give what was noted since the last epoch was saved; see `_go_on`."""
        saved = self._n_saved
        rows = self._indices[saved.steps :]
        return {
            "learning_rates": np.array(self._rates[saved.steps :]),
            "batch_sizes": np.array([len(index) for index in rows], dtype=np.int64),
            "batch_indices": np.concatenate([np.empty(0, np.int64), *rows]),
            "logits": self._logits[-1] if self._needs.logits else None,
            "replay_errors": self._replay_errors[saved.replay_errors :],
            "checkpoints": [
                (c.epoch, c.learning_rate) for c in self._checkpoints[saved.checkpoints :]
            ],
            "first_step": self._first_step,
            "n_step_states": self._n_step_states,
            "departures": sorted(self._departures),
        }

    def begin_epoch(self) -> None:
        """Mark where the epoch starts; forget earlier steps if the last epoch's alone are kept."""
        if self._resume is not None:
            self._resume.check_entered()
        if self._order is not None:
            self._order.new_epoch()
        self._epoch_starts.append(len(self._rates))
        if self._needs.steps == "last_epoch":
            self._steps, self._n_step_states, self._first_step = [], 0, len(self._rates)
            if self._writer is not None:
                self._writer.restart("steps")
        if self._needs.logits:
            self._logits.append(np.empty((self._n_samples, 0), np.float32))

    def begin_step(self, net: NeuralNet) -> None:
        """Keep what the step starts from, and look for what is no step of the optimiser."""
        self.learning_rate = learning_rates_of(net)
        if self._order is None:
            return
        self._pending = self._order.next_rows()
        self._note_departures(net)
        epoch = len(self._epoch_starts)
        is_power_of_two = not epoch & (epoch - 1)
        replayed = is_power_of_two and len(self._rates) - self._epoch_starts[-1] < 2
        self._before = None
        if self._needs.steps is not None or replayed:
            state = module_state(net, buffers=False)
            if self._needs.steps is not None:
                self._keep_step(state)
            self._before = state if replayed else None
            self._momentum = momentum_of(net) if replayed else {}

    def end_step(self, net: NeuralNet, batch: Batch, outputs: Nested) -> None:
        """Note the rows, outputs and learning rates of the step, and how far it was from SGD's."""
        if self._needs.follows_rows:
            assert self._pending is not None
            if self._needs.logits:
                self._note_outputs(self._pending, outputs)
            if self._before is not None:
                before, momentum, rates = self._before, self._momentum, self.learning_rate
                error = replay_error(net, batch, self._pending, before, momentum, rates=rates)
                self._replay_errors.append(error)
            self._indices.append(self._pending)
            self._pending = self._before = None
            self._versions = _versions_of(net)
        self._rates.append(self.learning_rate)

    def _note_departures(self, net: NeuralNet) -> None:
        """Note what is no step of the one optimiser, before a step and after an epoch's last."""
        settings, versions = settings_of(net), _versions_of(net)
        changed = {name for name, value in settings.items() if value != self._settings[name]}
        self._departures |= {f"{name} of the optimiser" for name in changed}
        if self._versions is not None and versions != self._versions:
            self._departures.add("parameters between steps")
        went_on = self._versions is None and len(self._rates)
        if went_on and any(settings["momentum"]) and not momentum_of(net):
            self._departures.add("momentum, begun anew")
        self._versions = versions

    def end_epoch(self, net: NeuralNet) -> None:
        """Keep a checkpoint if its turn has come."""
        if self._order is not None:
            self._note_departures(net)
            self._epoch_end = module_state(net, buffers=False)
        self._n_epochs += 1
        if self._n_epochs in self._planned:
            self._keep_checkpoint(net)

    def finish(self, net: NeuralNet, gradient_callbacks: tuple[str, ...]) -> TrainingTrace:
        """Give the trace; a net that did not train gives one without steps."""
        if self._resume is not None:
            self._resume.check_entered()
        self._note_end(net)
        self._finish_interrupted_step(net)
        begun = len(self._epoch_starts)
        if self._n_epochs < begun and "train_batch_count" in net.history[-1]:
            self._n_epochs = begun  # a callback stopped training before the recorder was told
        last = self._checkpoints[-1] if self._checkpoints else None
        now = module_state(net)
        if last is None or last.epoch != self._n_epochs or not _equal(self._latest, now):
            self._keep_checkpoint(net)
        steps = self._needs.steps
        trace = TrainingTrace(
            n_samples=self._n_samples,
            initial_state=self._initial,
            final_state=self._checkpoints[-1].state,
            checkpoints=self._checkpoints,
            batch_indices=self._indices if self._needs.follows_rows else None,
            learning_rates=np.array(self._rates).reshape(-1, len(self.learning_rate)),
            step_states=None if steps is None else self._steps,
            first_step=self._first_step,
            logits=self._stacked_logits() if self._needs.logits else None,
            epoch_starts=tuple(self._epoch_starts),
            segment_starts=tuple(self._segment_starts),
            planned_epochs=tuple(self._planned_epochs),
            replay_error_=max(self._replay_errors, default=None),
            departures=tuple(sorted(self._departures)),
            fingerprint=self._fingerprints["fingerprint"],
            target_fingerprint=self._fingerprints["target_fingerprint"],
            gradient_callbacks=gradient_callbacks,
            **description_of(net),
        )
        if self._writer is None:
            return trace
        trace.commit(self._writer)
        if self._resume is not None and self._n_saved.epochs == self._n_planned:
            self._resume.complete(net)
        return TrainingTrace.load(self._writer.folder)

    def _note_end(self, net: NeuralNet) -> None:
        """Note that a callback put other parameters in the place of those of the last step."""
        unmoved = self._versions is None or _versions_of(net) == self._versions
        if unmoved or self._pending is not None:
            return
        ended = self._n_epochs == len(self._epoch_starts)
        last = self._epoch_end if ended else None
        if last is None or not _equal(last, module_state(net)):
            self._departures.add("parameters after the last step")

    def _finish_interrupted_step(self, net: NeuralNet) -> None:
        """Settle whether a step that did not come to its end moved the parameters."""
        if self._pending is None:
            return
        # in-place counters tell a step of length zero too; fused optimisers do not move them
        moved = _versions_of(net) != self._versions
        if not moved and self._needs.steps is not None:
            moved = not _equal(self._last_step, module_state(net, buffers=False))
        if moved:
            self._indices.append(self._pending)
            self._rates.append(self.learning_rate)
        elif self._needs.steps is not None:
            self._n_step_states -= 1
            if self._writer is not None:
                self._writer.drop_last("steps")
            else:
                self._steps.pop()

    def _keep(self, kind: str, state: State) -> State:
        """Keep a state in memory, or on disk and give a stand-in for it."""
        if self._writer is None:
            return state
        self._writer.append(kind, state)
        return {}

    def _keep_step(self, state: State) -> None:
        self._last_step = state
        self._n_step_states += 1
        self._steps.append(self._keep("steps", state))

    def _keep_checkpoint(self, net: NeuralNet) -> None:
        self._latest = module_state(net)
        rate = self._rates[-1] if self._rates else self.learning_rate
        state = self._keep("states", self._latest)
        self._checkpoints.append(Checkpoint(self._n_epochs, rate, state))

    def _note_outputs(self, rows: NDArray[np.int64], outputs: Nested) -> None:
        first = tensors_in(outputs)[0].detach().float().cpu().numpy()
        values = first.reshape(len(rows), -1)
        table = self._logits[-1]
        if not table.shape[1]:
            table = np.full((self._n_samples, values.shape[1]), np.nan, np.float32)
            self._logits[-1] = table
        table[rows] = values

    def _stacked_logits(self) -> np.ndarray:
        width = max((table.shape[1] for table in self._logits), default=0)
        nothing = np.full((self._n_samples, width), np.nan, np.float32)  # an epoch cut off at once
        whole = [table if table.shape[1] else nothing for table in self._logits]
        return np.stack(whole) if whole else np.empty((0, self._n_samples, 0), np.float32)


def ends_at(trace: TrainingTrace, net: NeuralNet) -> bool:
    """Tell whether a net is where a trace ends."""
    now, end = module_state(net), trace.final_state
    return now.keys() == end.keys() and _equal(now, end)


def _check_continues(
    needs: TraceNeeds,
    earlier: TrainingTrace,
    net: NeuralNet,
    n_samples: int,
    fingerprints: Mapping[str, str | None],
) -> None:
    """Refuse to go on with a trace that would not be true of both parts."""
    same_rows = earlier.n_samples == n_samples and all(
        getattr(earlier, name) == value for name, value in fingerprints.items()
    )
    if needs.follows_rows and not same_rows:
        raise ValueError(
            f"The recorded order is of {earlier.n_samples} rows, and training goes on with "
            f"{n_samples} rows, or with others or other targets: row numbers would mean different "
            "rows. Pass the same X and y to every partial_fit, or record neither order, steps nor "
            "logits."
        )
    changed = [
        name
        for name, value in description_of(net).items()
        if value != getattr(earlier, name) and (needs.follows_rows or name == "parameter_groups")
    ]
    if changed:
        raise ValueError(
            f"Training goes on with another {' and '.join(changed)} of the optimiser than the "
            "trace was recorded with, and a trace holds one. Leave the optimiser's settings but "
            "for learning rates as they were, or call fit."
        )


def learning_rates_of(net: NeuralNet) -> NDArray[np.float64]:
    """Read the learning rate of each parameter group."""
    return np.array([group["lr"] for group in net.optimizer_.param_groups], dtype=np.float64)


def _versions_of(net: NeuralNet) -> list[int]:
    return [parameter._version for parameter in own_module(net).parameters()]


def _equal(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> bool:
    return all(
        value.dtype == two[name].dtype and torch.equal(value, two[name])
        for name, value in one.items()
    )
