"""Recorders among a net's callbacks, as users put them there."""

from typing import Any

from sklearn.base import clone
from skorch import NeuralNet

from skinfluence.storage._files import numbered
from skinfluence.trace._needs import TraceNeeds
from skinfluence.trace._recorder import TraceRecorder, needs_of
from skinfluence.trace._training_trace import TrainingTrace


def number_folders(net: object, number: int) -> None:
    """Give a clone's recorders folders of their own, for one part of the rows; in place."""
    for recorder in own_recorders(net):
        if recorder.storage != "memory":
            recorder.set_params(storage=numbered(recorder.storage, number))


def without_recorders(net: Any) -> Any:
    """Clone a net, if there is one, without the recorders among its callbacks."""
    if net is None:
        return None
    net = clone(net)
    if not own_recorders(net):
        return net
    kept = [
        entry
        for entry in net.callbacks
        if not isinstance(entry[1] if isinstance(entry, tuple) else entry, TraceRecorder)
    ]
    return net.set_params(callbacks=kept)


def trace_of(net: NeuralNet) -> TrainingTrace | None:
    """Find the trace that a recorder among a fitted net's callbacks made."""
    for _, callback in getattr(net, "callbacks_", []):
        if isinstance(callback, TraceRecorder) and hasattr(callback, "trace_"):
            trace: TrainingTrace = callback.trace_
            return trace
    return None


def own_recorders(net: object) -> list[TraceRecorder]:
    """List the recorders that a net was given as callbacks; none for what has no such list."""
    callbacks = getattr(net, "callbacks", None)
    entries = callbacks if isinstance(callbacks, list | tuple) else []
    own = [entry[1] if isinstance(entry, tuple) else entry for entry in entries]
    return [callback for callback in own if isinstance(callback, TraceRecorder)]


def records_as_much(net: NeuralNet, needs: TraceNeeds) -> bool:
    """Tell whether the first recorder among an unfitted net's callbacks records what is needed."""
    return any(needs_of(recorder).covers(needs) for recorder in own_recorders(net)[:1])
