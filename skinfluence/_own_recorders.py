"""Recorders among a net's callbacks where a method trains the net more than once."""

from typing import Any

from sklearn.base import clone

from skinfluence._state_files import numbered
from skinfluence.trace import TraceRecorder, own_recorders


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
