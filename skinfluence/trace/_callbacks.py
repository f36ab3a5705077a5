"""Recorders among a net's callbacks where a method trains the net more than once."""

from typing import Any

from sklearn.base import clone

from skinfluence.storage._files import numbered
from skinfluence.trace._recorder import TraceRecorder
from skinfluence.trace._training_trace import (
    TrainingTrace,
)


def number_folders(net: Any, number: int) -> None:
    """Give the recorders of a net that is trained on one part of the rows folders of their own.

    Parameters
    ----------
    net : NeuralNet or anything else
        A clone; its recorders are changed in place.
    number : int
        Of the part.
    """
    for recorder in own_recorders(net):
        if recorder.storage != "memory":
            recorder.set_params(storage=numbered(recorder.storage, number))


def without_recorders(net: Any) -> Any:
    """Take the recorders off a net whose trainings are not to be recorded.

    Parameters
    ----------
    net : NeuralNet or None

    Returns
    -------
    NeuralNet or None
        A clone, or None for none.
    """
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


def trace_of(net: Any) -> TrainingTrace | None:
    """Find the trace that a recorder among a fitted net's callbacks made.

    Parameters
    ----------
    net : NeuralNet

    Returns
    -------
    TrainingTrace or None
    """
    for _, callback in getattr(net, "callbacks_", []):
        if isinstance(callback, TraceRecorder) and hasattr(callback, "trace_"):
            trace: TrainingTrace = callback.trace_
            return trace
    return None


def own_recorders(net: Any) -> list[TraceRecorder]:
    """List the recorders that a net was given as callbacks.

    Parameters
    ----------
    net : NeuralNet or anything else
        Unfitted.

    Returns
    -------
    list of TraceRecorder
        None for what has no list of callbacks.
    """
    callbacks = getattr(net, "callbacks", None)
    entries = callbacks if isinstance(callbacks, list | tuple) else []
    own = [entry[1] if isinstance(entry, tuple) else entry for entry in entries]
    return [callback for callback in own if isinstance(callback, TraceRecorder)]


def records_as_much(net: Any, wanted: TraceRecorder) -> bool:
    """Tell whether a recorder among a net's callbacks will record what another one would.

    Parameters
    ----------
    net : NeuralNet
        Unfitted.
    wanted : TraceRecorder

    Returns
    -------
    bool
    """
    for own in own_recorders(net)[:1]:
        steps = {None: 0, "last_epoch": 1, "all": 2}
        return (
            own.checkpoints in {"all", wanted.checkpoints}
            and steps.get(own.steps, 0) >= steps[wanted.steps]
            and bool(own.order or own.steps or own.logits) >= wanted.order
            and own.logits >= wanted.logits
        )
    return False
