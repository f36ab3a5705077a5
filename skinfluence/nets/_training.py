"""Training on every row, seeded."""

import inspect
import warnings
from functools import partial
from typing import Any

from skorch import NeuralNet
from skorch.dataset import ValidSplit
from skorch.utils import is_dataset
from torch import nn

from skinfluence.exceptions import HeldOutRowsWarning, LeakyModuleWarning
from skinfluence.gradients._skorch import as_dataset
from skinfluence.rows._interrupts import raised_interrupts
from skinfluence.rows._seeds import seeded
from skinfluence.trace._recorder import TraceRecorder


def fit_net(
    net: NeuralNet, X: Any, y: Any, seed: int, recorder: TraceRecorder | None = None
) -> NeuralNet:
    """Train a net on every row, seeded, leaving all global generators alone; or raise."""
    prepare_net(net)
    if is_dataset(X):  # targets given besides replace its own
        X, y = as_dataset(net, X, y), None
    with seeded(seed), raised_interrupts(net):
        return net.fit(X, y) if recorder is None else _fit_recorded(net, X, y, recorder)


def prepare_net(net: NeuralNet) -> None:
    """Switch off skorch's own split of the rows, and warn of rows kept out of training."""
    if isinstance(net.module, nn.Module):
        warnings.warn(
            f"net.module is an instance of {type(net.module).__name__}, not a class: training "
            "starts from its present weights, and clones of a fitted net (cross-validation) start "
            "from trained ones. Pass the class, and its arguments as module__name.",
            LeakyModuleWarning,
            stacklevel=2,
        )
    # The default split would keep a fifth of the rows out of training in silence; one of the
    # user's own is kept, with a warning.
    if _has_default_split(net) and not _watches_validation(net):
        net.set_params(train_split=None)
    warn_of_rows_kept_out(net)


def _fit_recorded(net: NeuralNet, X: Any, y: Any, recorder: TraceRecorder) -> NeuralNet:
    own = net.callbacks
    try:
        if own == "disable":  # skorch would add its own with the first one given
            net.initialize()
            net.callbacks_.append(("skinfluence_recorder", recorder.initialize()))
            return net.partial_fit(X, y)
        net.set_params(callbacks=[*(own or []), ("skinfluence_recorder", recorder)])
        return net.fit(X, y)
    finally:
        net.callbacks = own
        if hasattr(net, "callbacks_"):
            net.callbacks_ = [entry for entry in net.callbacks_ if entry[1] is not recorder]


def warn_of_rows_kept_out(net: NeuralNet) -> None:
    """Warn if a net's own split keeps rows out of training."""
    # skorch's predefined_split is a partial that validates on other rows and trains on all
    if net.train_split is None or isinstance(net.train_split, partial):
        return
    warnings.warn(
        "The net's train_split keeps rows out of training; their gradients are out of sample "
        "and their scores larger than those of the rows trained on. Set train_split=None to "
        "score all rows alike.",
        HeldOutRowsWarning,
        stacklevel=2,
    )


def _has_default_split(net: NeuralNet) -> bool:
    split = net.train_split
    return type(split) is ValidSplit and split.cv == 5 and split.random_state is None


def _watches_validation(net: NeuralNet) -> bool:
    """Tell whether a callback reads a column of the history that training alone does not fill."""
    settings = [value for name, value in net.get_params().items() if name.endswith("__monitor")]
    callbacks = net.callbacks if isinstance(net.callbacks, list | tuple) else []
    for entry in callbacks:
        callback = entry[1] if isinstance(entry, tuple) else entry
        if isinstance(callback, type):
            parameter = inspect.signature(callback).parameters.get("monitor")
            settings.append(None if parameter is None else parameter.default)
        else:
            settings.append(getattr(callback, "monitor", None))
    return any(isinstance(value, str) and not value.startswith("train") for value in settings)
