"""What a `TraceRecorder` is to record, and what that takes; which settings it may have."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skinfluence.gradients._outputs import output_shape
from skinfluence.gradients._states import module_state
from skinfluence.rows._parameters import check_parameter, check_positive_integer
from skinfluence.trace._training_trace import state_bytes


@dataclass(frozen=True)
class Wanted:
    """What is to be recorded; see `TraceRecorder`."""

    checkpoints: int | str
    order: bool
    steps: str | None
    logits: bool
    folder: Path | None

    @property
    def follows_rows(self) -> bool:
        """Whether it must be known which rows a batch holds."""
        return bool(self.order or self.steps or self.logits)

    def epochs(self, max_epochs: int) -> list[int]:
        """List the epochs, counted from 1, after which to keep a checkpoint."""
        named = {"last": 1, "all": max_epochs}
        count = named[self.checkpoints] if isinstance(self.checkpoints, str) else self.checkpoints
        count = min(count, max_epochs)
        return [round(max_epochs * (i + 1) / count) for i in range(count)]

    def nbytes(self, net: Any, X: Any, y: Any, n_samples: int) -> int:
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


def _rows_and_steps(net: Any, n_samples: int) -> tuple[int, int]:
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


def check_recorder(recorder: Any) -> None:
    """Refuse settings of a `TraceRecorder` that are out of range.

    Parameters
    ----------
    recorder : TraceRecorder

    Raises
    ------
    ValueError
        With the value.
    """
    checkpoints = recorder.checkpoints
    if checkpoints not in {"last", "all"}:
        check_positive_integer("checkpoints", checkpoints)
    check_parameter(
        "steps",
        recorder.steps,
        '"all", "last_epoch" or None',
        holds=lambda steps: steps in {"all", "last_epoch", None},
    )
    check_parameter(
        "resume",
        recorder.resume,
        "True or False, and True only with a folder as storage",
        holds=lambda resume: resume is False or (resume is True and recorder.storage != "memory"),
    )
    check_positive_integer("max_bytes", recorder.max_bytes)


def too_large(recorder: Any, needed: int) -> str:
    """Say that a trace would not fit into memory, and what would.

    Parameters
    ----------
    recorder : TraceRecorder
    needed : int
        Bytes.

    Returns
    -------
    str
    """
    cheaper = "fewer checkpoints" if recorder.steps is None else "steps='last_epoch'"
    if recorder.steps == "last_epoch":
        cheaper = "larger batches"
    return (
        f"The trace would take {needed} bytes in memory, more than max_bytes="
        f"{recorder.max_bytes}. Ask for {cheaper}, give a folder as storage, or raise max_bytes."
    )
