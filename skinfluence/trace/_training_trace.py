"""The record of one training run, in memory or in a folder."""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, issparse
from torch import Tensor

from skinfluence.trace._spacing import nearest, places
from skinfluence.trace.folder._state_streams import StateFile
from skinfluence.trace.folder._trace_files import TraceWriter, files_of_trace, read_folder

# Parameter or buffer name -> tensor, on the CPU.
State = dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """The net after one epoch.

    Attributes
    ----------
    epoch : int
        How many epochs were complete; 0 if training ended within the first.
    learning_rate : ndarray of shape (n_groups,)
        Of each parameter group, at the last step of that epoch.
    state : dict of str to Tensor
        Parameters and buffers, on the CPU.
    """

    epoch: int
    learning_rate: NDArray[np.float64]
    state: State


@dataclass(frozen=True, kw_only=True)
class TrainingTrace:
    """What a training run left behind: as much of it as was asked for.

    Attributes
    ----------
    n_samples : int
        Rows given to `fit`, including those a train_split kept out.
    initial_state, final_state : dict of str to Tensor
        Parameters and buffers before the first step, empty if unknown, and after the last.
    checkpoints : list of Checkpoint
        In the order of training; the last one is the end of training.
    batch_indices : list of ndarray, or None
        For every step, the numbers of its rows.
    learning_rates : ndarray of shape (n_steps, n_groups)
        Of every step and parameter group.
    step_states : sequence of dict of str to Tensor, or None
        The parameters before each step from number `first_step` on.
    first_step : int
        The step `step_states` begins with.
    logits : ndarray of shape (n_epochs, n_samples, n_outputs), or None
        What the module returned for every row when it was trained on in that epoch, in training
        mode and before the step; NaN where it was not.
    epoch_starts : tuple of int
        The first step of every epoch, the one that was interrupted included.
    segment_starts : tuple of int
        The first epoch of every call of `fit` or `partial_fit`, counted from 0.
    planned_epochs : tuple of int
        For how many epochs every call was to train, its `max_epochs`: checkpoints are spaced over
        these, also where training ended early.
    parameter_groups : tuple of tuple of str
        The names of each parameter group's parameters.
    weight_decay : tuple of float
        Of each parameter group.
    momentum, dampening : tuple of float
        Of each parameter group; zero for optimisers without.
    nesterov : tuple of bool
        Of each parameter group.
    optimizer : str
        Class name of the optimiser.
    gradient_callbacks : tuple of str
        Callbacks that were there when gradients had been computed, such as gradient clipping.
    replay_error_ : float or None
        How far recorded steps are from SGD on the net's loss in eval mode, with its weight decay
        and momentum: the largest ``|step - SGD step| / |step|`` over the first two steps of
        epochs 1, 2, 4, 8 and so on. About 1e-7 for SGD, up to 1 and more for Adam or dropout. None
        if the order was not recorded.
    departures : tuple of str
        What moved the parameters, or changed how they move, besides the steps of one optimiser:
        its momentum in a schedule, other parameters loaded when training ended, and the like.
    fingerprint, target_fingerprint : str or None
        Of some of the input rows, and of the targets, to tell another data set or order from the
        one trained on.
    """

    n_samples: int
    initial_state: State
    final_state: State
    checkpoints: list[Checkpoint]
    learning_rates: NDArray[np.float64]
    batch_indices: list[NDArray[np.int64]] | None = None
    step_states: Sequence[State] | None = None
    first_step: int = 0
    logits: np.ndarray | None = None
    epoch_starts: tuple[int, ...] = ()
    segment_starts: tuple[int, ...] = (0,)
    planned_epochs: tuple[int, ...]
    parameter_groups: tuple[tuple[str, ...], ...] = ()
    weight_decay: tuple[float, ...] = ()
    momentum: tuple[float, ...] = ()
    dampening: tuple[float, ...] = ()
    nesterov: tuple[bool, ...] = ()
    optimizer: str = ""
    gradient_callbacks: tuple[str, ...] = ()
    replay_error_: float | None = None
    departures: tuple[str, ...] = ()
    fingerprint: str | None = None
    target_fingerprint: str | None = None
    # The files it was loaded from, whose names no other trace has.
    _files: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse fields that do not belong together, as a trace made by hand may hold."""
        n_groups = len(self.parameter_groups)
        lengths = {
            f"learning_rate of the checkpoint of epoch {c.epoch}": (len(c.learning_rate), n_groups)
            for c in self.checkpoints
        }
        if self.learning_rates.ndim != 2:
            raise ValueError(
                f"Got learning_rates of shape {self.learning_rates.shape}, but a trace holds one "
                "row for every step and one column for every parameter group."
            )
        if self.n_steps:
            lengths["each row of learning_rates"] = (self.learning_rates.shape[1], n_groups)
        given = ("weight_decay", "momentum", "dampening", "nesterov")
        lengths |= {n: (len(getattr(self, n)), n_groups) for n in given if getattr(self, n)}
        for name, (found, expected) in lengths.items():
            if n_groups and found != expected:
                raise ValueError(
                    f"The {name} has {found} entries, but parameter_groups has {expected}. A trace "
                    "holds one for every parameter group; give the names of each group's "
                    "parameters, as TraceRecorder does."
                )
        steps = {"batch_indices": self.batch_indices, "step_states": self.step_states}
        for name, values in steps.items():
            expected = self.n_steps - (self.first_step if name == "step_states" else 0)
            if values is not None and len(values) != expected:
                raise ValueError(
                    f"The trace has {len(values)} {name}, but {expected} were expected: one for "
                    f"each of the {self.n_steps} steps in learning_rates"
                    + (f" from step {self.first_step} on." if name == "step_states" else ".")
                )
        if not self.checkpoints:
            raise ValueError(
                "The trace has no checkpoints, but the last one is the end of training. Add "
                "Checkpoint(epoch, learning_rate, final_state)."
            )

    @property
    def n_steps(self) -> int:
        """Count the steps of the optimiser."""
        return len(self.learning_rates)

    @property
    def nbytes(self) -> int:
        """Count the bytes of all states, logits and indices, in memory or on disk."""
        total = sum(state_bytes(state) for state in self._states())
        if self.step_states is not None and len(self.step_states):
            total += len(self.step_states) * state_bytes(self.step_states[0])
        total += 0 if self.logits is None else self.logits.nbytes
        total += sum(rows.nbytes for rows in self.batch_indices or [])
        return total + self.learning_rates.nbytes

    def start(self) -> Checkpoint:
        """Give the net before its first step, as a checkpoint of epoch 0.

        Returns
        -------
        Checkpoint
            Its learning rate is that of the first epoch, at its last step, as a checkpoint's is;
            of a trace without steps, that of the first checkpoint.

        Raises
        ------
        ValueError
            If the state before training is unknown, as for `nets.from_torch` without it.
        """
        if not self.initial_state:
            raise ValueError(
                "The trace does not hold the state before training. Train the net with a "
                "TraceRecorder among its callbacks, or give from_torch an initial_state."
            )
        rate = self.checkpoints[0].learning_rate
        if self.n_steps:
            end = self.epoch_starts[1] if len(self.epoch_starts) > 1 else self.n_steps
            rate = self.learning_rates[max(end, 1) - 1]
        return Checkpoint(0, rate, self.initial_state)

    def evenly_spaced(self, checkpoints: int | str) -> list[Checkpoint]:
        """Choose among the recorded checkpoints.

        Parameters
        ----------
        checkpoints : "last", "all" or int
            With an int k, those that `TraceRecorder` keeps of k, whatever else was recorded, or
            else the nearest that there are; of several calls of `partial_fit` together, k of
            these, nearest to the ends of equal parts of the training.

        Returns
        -------
        list of Checkpoint
            The last one is always among them.
        """
        if checkpoints == "all":
            return self.checkpoints
        if checkpoints == "last":
            return self.checkpoints[-1:]
        epochs = [checkpoint.epoch for checkpoint in self.checkpoints]
        chosen = {
            nearest([epoch - start for epoch in epochs], place)
            for start, place in places_reached(self, checkpoints)
        }
        chosen |= {bisect_right(epochs, end) - 1 for end in self.segment_starts[1:]}
        kept = [self.checkpoints[i] for i in sorted(chosen | {len(epochs) - 1})]
        if len(kept) <= int(checkpoints):
            return kept
        epochs = [checkpoint.epoch for checkpoint in kept]
        inner = places(epochs[-1], checkpoints)[:-1]
        chosen = {nearest(epochs, place) for place in inner} | {len(epochs) - 1}
        return [kept[i] for i in sorted(chosen)]

    def rates_of(self, checkpoint: Checkpoint) -> dict[str, float]:
        """Give the learning rate of every parameter at a checkpoint.

        Parameters
        ----------
        checkpoint : Checkpoint

        Returns
        -------
        dict of str to float
            By parameter name; parameters that no group holds are left out.

        Raises
        ------
        ValueError
            If `parameter_groups` is empty, as that of a trace made by hand may be.
        """
        if not self.parameter_groups:
            raise ValueError(
                "The trace does not say which parameters its learning rates are of: give "
                "parameter_groups the names of each group's parameters, as TraceRecorder does."
            )
        groups = zip(self.parameter_groups, checkpoint.learning_rate.tolist(), strict=True)
        return {name: rate for names, rate in groups for name in names}

    def save(self, path: str | Path) -> None:
        """Write the trace to a folder, from which `load` reads it in any process.

        The folder keeps its old trace until the new one is complete. Nothing is pickled. Nothing
        is written either to the folder that the trace was loaded from, where it is already.

        Parameters
        ----------
        path : str or Path
            A folder; made if it does not exist, inside one that does.

        Raises
        ------
        OSError
            If it cannot be written, as on a full disk.
        """
        if self._is_in(Path(path)):
            return
        writer = TraceWriter(Path(path))
        try:
            for state in self._states():
                writer.append("states", state)
            for state in self.step_states or ():
                writer.append("steps", state)
            self.commit(writer)
        except BaseException:
            writer.discard()
            raise

    def commit(self, writer: TraceWriter) -> None:
        """Write all but the states, which `writer` has, and complete the folder."""
        arrays = {"learning_rates": self.learning_rates}
        if self.batch_indices is not None:
            lengths = [len(rows) for rows in self.batch_indices]
            arrays["batch_sizes"] = np.array(lengths, dtype=np.int64)
            arrays["batch_indices"] = np.concatenate([np.empty(0, np.int64), *self.batch_indices])
        if self.logits is not None:
            arrays["logits"] = self.logits
        writer.commit(self._meta(), arrays)

    @classmethod
    def load(cls, path: str | Path) -> "TrainingTrace":
        """Open a saved trace; states, steps and logits stay on disk until they are used.

        Parameters
        ----------
        path : str or Path
            The folder given to `save`, or to `TraceRecorder` as `storage`.

        Returns
        -------
        TrainingTrace

        Raises
        ------
        ValueError
            If the folder holds no trace, one of another version, or one that is cut short.
        """
        meta, files, arrays = read_folder(Path(path))
        try:
            trace = cls._assembled(meta, files, arrays)
            object.__setattr__(trace, "_files", sorted(files_of_trace(Path(path))))
            return trace
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(
                f"The trace in {path} lacks what belongs to it ({error!r}); it is damaged."
            ) from error

    @classmethod
    def _assembled(
        cls, meta: dict[str, Any], files: dict[str, StateFile], arrays: dict[str, np.ndarray]
    ) -> "TrainingTrace":
        states = list(files["states"])
        batch_indices = None
        if "batch_sizes" in arrays:
            bounds = np.cumsum(arrays["batch_sizes"])
            # the last part, of no rows, would be all that is left of no steps
            batch_indices = np.split(np.asarray(arrays["batch_indices"]), bounds)[:-1]
        no_steps: list[State] | None = [] if meta.pop("has_steps") else None
        return cls(
            initial_state=states[0],
            final_state=states[-1],
            checkpoints=[
                Checkpoint(epoch, np.array(rate), states[place])
                for epoch, rate, place in meta.pop("checkpoints")
            ],
            learning_rates=np.array(arrays["learning_rates"]),
            batch_indices=batch_indices,
            step_states=files.get("steps", no_steps),
            logits=arrays.get("logits"),
            **{name: _tuples(value) for name, value in meta.items()},
        )

    def _is_in(self, folder: Path) -> bool:
        if not self._files or self._files != sorted(files_of_trace(folder)):
            return False
        try:
            read_folder(folder)
        except ValueError:  # damaged since then
            return False
        return True

    def _states(self) -> list[State]:
        inner = [c.state for c in self.checkpoints if c.state is not self.final_state]
        return [self.initial_state, *inner, self.final_state]

    def _meta(self) -> dict[str, Any]:
        places = {id(state): place for place, state in enumerate(self._states())}
        return {
            "checkpoints": [
                (c.epoch, c.learning_rate.tolist(), places[id(c.state)]) for c in self.checkpoints
            ],
            "has_steps": self.step_states is not None,
            **{name: getattr(self, name) for name in _PLAIN},
        }


# What is saved as JSON: all but what goes into files of states and arrays.
_IN_FILES = {"initial_state", "final_state", "checkpoints", "learning_rates", "batch_indices"}
_IN_FILES |= {"step_states", "logits", "_files"}
_PLAIN = [field.name for field in fields(TrainingTrace) if field.name not in _IN_FILES]


def places_reached(trace: TrainingTrace, checkpoints: int | str) -> list[tuple[int, float]]:
    """List where to keep checkpoints before a call ended: its first epoch, and a place after it."""
    ends = [*trace.segment_starts[1:], trace.checkpoints[-1].epoch]
    return [
        (start, place)
        for start, planned, end in zip(
            trace.segment_starts, trace.planned_epochs, ends, strict=True
        )
        for place in places(planned, checkpoints)
        if start + round(place) < end
    ]


def fingerprint_of(X: Any) -> str | None:
    """Hash some rows of a numeric table or array, spread over all of it; None for others."""
    if isinstance(X, Tensor):
        X = X.detach().cpu().numpy()
    is_sparse = issparse(X)
    if not (isinstance(X, np.ndarray) or is_sparse) or X.dtype.kind not in "biuf" or not X.shape[0]:
        return None
    rows = np.unique(np.linspace(0, X.shape[0] - 1, 256).astype(np.int64))
    if is_sparse:
        some = csr_matrix(X)[rows]
        some.sum_duplicates()
        some.eliminate_zeros()
        places = some.indices.astype(np.int64), some.indptr.astype(np.int64)
        parts = [some.data.astype(np.float32), *places]
    else:
        parts = [np.ascontiguousarray(X[rows], dtype=np.float32)]
    said = b"".join(part.tobytes() for part in parts)
    return hashlib.sha256(said + str(X.shape).encode()).hexdigest()


def target_fingerprint_of(y: object) -> str | None:
    """Hash numeric targets by their values, whatever their dtype and shape; None for others."""
    if isinstance(y, Tensor):
        y = y.detach().cpu().numpy()
    if not isinstance(y, np.ndarray) or y.dtype.kind not in "biuf":
        return None
    # targets may be cast to single precision on their way to the net
    values = np.ascontiguousarray(y, dtype=np.float32)
    return hashlib.sha256(values.tobytes()).hexdigest()


def state_bytes(state: State) -> int:
    """Count the bytes of a state."""
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())


def _tuples(value: Any) -> Any:
    """Turn the lists of JSON, which knows no tuples, back into tuples."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
