"""What a method needs of a training: handed over, merged, recorded, and checked of frozen nets."""

from collections.abc import Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import issparse
from skorch import NeuralNet

from skinfluence.gradients._outputs import output_shape
from skinfluence.gradients._states import module_state
from skinfluence.rows._parameters import check_positive_integer
from skinfluence.trace._spacing import planned_epochs
from skinfluence.trace._training_trace import (
    TrainingTrace,
    fingerprint_of,
    places_reached,
    state_bytes,
    target_fingerprint_of,
)

_RANKS = {None: 0, "last_epoch": 1, "all": 2}  # of `steps`: what holds more is higher


@dataclass(frozen=True)
class TraceNeeds:
    """What is to be recorded of a training, besides the states at its start and its end."""

    # The fields mean what they mean to `TraceRecorder`; of checkpoints, all that any entry names.
    checkpoints: frozenset[int | str] = frozenset({"last"})
    order: bool = False
    steps: str | None = None
    logits: bool = False
    storage: str | Path = "memory"
    max_bytes: int = 2**30

    def __or__(self, other: "TraceNeeds") -> "TraceNeeds":
        """Need what either needs, in memory: what goes to a folder is not shared."""
        return TraceNeeds(
            checkpoints=self.checkpoints | other.checkpoints,
            order=self.order or other.order,
            steps=max(self.steps, other.steps, key=_RANKS.__getitem__),
            logits=self.logits or other.logits,
            max_bytes=max(self.max_bytes, other.max_bytes),
        )

    @property
    def follows_rows(self) -> bool:
        """Whether it must be known which rows a batch holds."""
        return self.order or self.steps is not None or self.logits

    @property
    def folder(self) -> Path | None:
        """Where states are kept, if not in memory."""
        return None if self.storage == "memory" else Path(self.storage)

    def covers(self, other: "TraceNeeds") -> bool:
        """Tell whether a training recorded for this is enough for another."""
        alike = self.checkpoints == other.checkpoints
        return (
            (alike or "all" in self.checkpoints)
            and _RANKS[self.steps] >= _RANKS[other.steps]
            and self.follows_rows >= other.order
            and self.logits >= other.logits
        )

    def epochs(self, max_epochs: int) -> set[int]:
        """List the epochs, counted from 1, after which to keep a checkpoint."""
        return {e for kind in self.checkpoints for e in planned_epochs(max_epochs, kind)}

    def settings(self) -> dict[str, Any]:
        """Give the parameters of a `TraceRecorder` that decide what is in a trace."""
        named = self.checkpoints - {"last"} or {"last"}
        return {
            "checkpoints": next(iter(named)) if len(named) == 1 else "all",
            "order": self.order,
            "steps": self.steps,
            "logits": self.logits,
        }

    def nbytes(self, net: NeuralNet, X: object, y: object, n_samples: int) -> int:
        """Count the bytes of the trace of a training of `max_epochs`."""
        epochs = net.max_epochs
        total = (len(self.epochs(epochs)) + 1) * state_bytes(module_state(net))
        rows, steps = _rows_and_steps(net, n_samples)
        if self.steps is not None:
            parameters = state_bytes(module_state(net, buffers=False))
            total += parameters * steps * (1 if self.steps == "last_epoch" else epochs)
        if self.follows_rows:
            total += 8 * epochs * rows
        if self.logits:
            total += 4 * epochs * n_samples * int(np.prod(output_shape(net, X, y)))
        return int(total + 8 * epochs * steps * len(net.optimizer_.param_groups))

    def check_memory(self, needed: int) -> None:
        """Refuse a trace of so many bytes if it would not fit into memory; say what would."""
        if self.folder is not None or needed <= self.max_bytes:
            return
        cheaper = {None: "fewer checkpoints", "all": "steps='last_epoch'"}
        raise ValueError(
            f"The trace would take {needed} bytes in memory, more than max_bytes={self.max_bytes}. "
            f"Ask for {cheaper.get(self.steps, 'larger batches')}, give a folder as storage, or "
            "raise max_bytes."
        )

    def check_trace(self, trace: TrainingTrace | None, X: object, y: object) -> TrainingTrace:
        """Refuse a frozen net's trace that lacks what is needed, or is not of these rows."""
        lacking = ["trace"] if trace is None else self._lacking(trace)
        if trace is None or lacking:
            asked = {k: v for k, v in self.settings().items() if v not in {"last", False, None}}
            call = ", ".join(f"{name}={value!r}" for name, value in asked.items())
            raise ValueError(
                f"The frozen net brings no {' and no '.join(lacking)}. Train it with "
                f"callbacks=[TraceRecorder({call})], or pass the net unfrozen to have it trained "
                "and recorded."
            )
        if self.follows_rows:
            _check_same_rows(trace, X, y)
        return trace

    def _lacking(self, trace: TrainingTrace) -> list[str]:
        lacking = [
            f"{asked} checkpoints (its trace holds {len(trace.checkpoints)})"
            for asked in self._lacking_checkpoints(trace)
        ]
        if self.order and trace.batch_indices is None:
            lacking.append("order of the rows")
        if self.logits and trace.logits is None:
            lacking.append("logits")
        whole = trace.step_states is not None and len(trace.step_states) == trace.n_steps
        if (self.steps == "all" and not whole) or (
            self.steps == "last_epoch" and trace.step_states is None
        ):
            lacking.append("states before its steps")
        return lacking

    def _lacking_checkpoints(self, trace: TrainingTrace) -> list[int]:
        """Name the numbers of checkpoints that a trace is too short of, whichever it holds."""
        lacking = []
        for kind in self.checkpoints - {"last"}:
            asked = trace.checkpoints[-1].epoch if kind == "all" else int(kind)
            # a recorder keeps fewer of a training that ends before its time
            enough = asked if kind == "all" else min(asked, len(places_reached(trace, kind)) + 1)
            if len(trace.checkpoints) < enough:
                lacking.append(asked)
        return lacking


def check_checkpoints(checkpoints: object) -> None:
    """Refuse `checkpoints` other than "last", "all" and a positive integer."""
    if checkpoints not in {"last", "all"}:
        check_positive_integer("checkpoints", checkpoints)


def _rows_and_steps(net: NeuralNet, n_samples: int) -> tuple[int, int]:
    """Bound how many rows an epoch draws, and in how many batches."""
    given = net.get_params_for("iterator_train")
    batches, sampler = given.get("batch_sampler"), given.get("sampler")
    if hasattr(batches, "__len__"):
        return max(n_samples, len(batches) * getattr(batches, "batch_size", 1)), len(batches)
    rows = len(sampler) if hasattr(sampler, "__len__") else n_samples
    size = given.get("batch_size", net.batch_size)
    size = rows if size == -1 else max(1, size)
    if given.get("drop_last"):
        return rows // size * size, rows // size
    return rows, -(-rows // size)


def _check_same_rows(trace: TrainingTrace, X: Any, y: object) -> None:
    """Refuse rows or targets that what was recorded row by row does not belong to."""
    other = fingerprint_of(X)
    n_samples = trace.n_samples
    if issparse(X):
        n_samples = X.shape[0]
    elif isinstance(X, Sized) and not isinstance(X, dict):
        n_samples = len(X)
    if trace.n_samples != n_samples or (
        other is not None and trace.fingerprint not in {None, other}
    ):
        raise ValueError(
            f"The frozen net's trace is of {trace.n_samples} rows; the {n_samples} rows given are "
            "others, or in another order, so what was recorded row by row does not belong to "
            "them. Pass the X that the net was trained on."
        )
    targets = target_fingerprint_of(y)
    if targets is not None and trace.target_fingerprint not in {None, targets}:
        raise ValueError(
            "The targets given are not those that the frozen net was trained on, or in another "
            "order, so what was recorded of its steps is not of them. Pass the y that the net was "
            "trained on, or the net unfrozen to have it trained on these."
        )
