"""Training on every row, seeded."""

import inspect
import math
import warnings
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import Callback, EpochScoring
from skorch.dataset import ValidSplit
from skorch.utils import is_dataset
from torch import nn

from skinfluence.exceptions import (
    HeldOutRowsWarning,
    InterruptedTrainingWarning,
    LeakyModuleWarning,
)
from skinfluence.gradients._skorch import as_dataset, is_fitted, module_dtype
from skinfluence.nets._weights import WeightedLoss
from skinfluence.rows._containers import n_samples_of
from skinfluence.rows._interrupts import raised_interrupts
from skinfluence.rows._progress import is_listened_to
from skinfluence.rows._seeds import seeded
from skinfluence.trace._epochs import EpochsTold
from skinfluence.trace._recorder import TraceRecorder
from skinfluence.trace._sgd_rule import WEIGHING

_STATISTICS = ("running_mean", "running_var")


def fit_net(
    net: NeuralNet,
    X: Any,
    y: Any,
    seed: int,
    recorder: TraceRecorder | None = None,
    *,
    weights: NDArray[np.float64] | None = None,
) -> NeuralNet:
    """Train a net on every row, seeded, leaving all global generators alone; or raise."""
    added: list[tuple[str, Callback]] = []
    if recorder is not None:
        added.append(("skinfluence_recorder", recorder))
    weighted = None if weights is None else WeightedLoss(weights)
    if weighted is not None:
        added.append((WEIGHING, weighted))
    if is_listened_to():
        added.append(("skinfluence_progress", EpochsTold()))
    prepare_net(net)
    if is_dataset(X):  # targets given besides replace its own
        X, y = as_dataset(net, X, y), None
    with seeded(seed), raised_interrupts():
        try:
            fitted = _fit_with(net, X, y, added) if added else net.fit(X, y)
        except (ValueError, RuntimeError) as error:
            cause = _known_cause(str(error), net, n_samples_of(X))
            if cause is None:
                raise
            raise ValueError(cause) from error
        finally:
            if weighted is not None:
                weighted.leave()
    check_converged(fitted)
    return fitted


def _known_cause(message: str, net: NeuralNet, n_rows: int) -> str | None:
    """Say what causes some of torch's errors in training, and what to do; None for others."""
    if message.startswith("Expected more than 1 value per channel when training"):
        size = net.get_params_for("iterator_train").get("batch_size", net.batch_size)
        return (
            f"The net's batch normalisation needs two rows in a batch, but the last batch of "
            f"{n_rows} rows in batches of {size} has one. Choose another batch_size, or let the "
            "net leave the last batch out: iterator_train__drop_last=True."
        )
    if "must have the same dtype" in message or "expected scalar type" in message:
        return (
            f"The net's module cannot compute with its inputs: {message}. Its parameters are "
            f"{module_dtype(net.module_)}, and numpy's arrays reach it as float16, float32 or "
            "float64. Cast in its forward, X.to(self.some_layer.weight.dtype), or use float32."
        )
    return None


def check_converged(net: NeuralNet) -> None:
    """Refuse a net whose training ended in losses or parameters that are not finite."""
    losses = [_training_loss(epoch) for epoch in net.history]
    bad = [name for name, p in net.module_.named_parameters() if not p.isfinite().all()]
    # those of batch normalisation; other buffers may be masks of -inf, or not set yet
    buffers = [b for b in net.module_.named_buffers() if b[0].endswith(_STATISTICS)]
    bad += [name for name, buffer in buffers if not buffer.isfinite().all()]
    # with the best parameters put back, what counts is that there were any
    is_restored = any(getattr(c, "load_best", False) for _, c in getattr(net, "callbacks_", []))
    ends = (
        [any(map(math.isfinite, losses))]
        if losses and is_restored
        else map(math.isfinite, losses[-1:])
    )
    if not bad and all(ends):
        return
    since = next((i for i, loss in enumerate(losses, 1) if not math.isfinite(loss)), len(losses))
    where = f"its loss is {losses[since - 1]:.3g} from epoch {since} of {len(losses)} on"
    if not losses or math.isfinite(losses[since - 1]):
        where = f"{bad[0]} and {len(bad) - 1} more of its parameters and statistics are not finite"
    raise ValueError(
        f"The net's training diverged: {where}, so its losses and gradients say nothing about the "
        "rows. Likely causes are a learning rate that is too large, features of very different "
        "scales, NaN in the rows of a data set, and outputs that do not suit the criterion, such "
        "as log-probabilities (log_softmax) or logits "
        f"under NLLLoss, of which skorch takes the log itself (criterion: "
        f"{type(net.criterion_).__name__}). Use CrossEntropyLoss with logits, standardise X, or "
        "lower lr."
    )


def _training_loss(epoch: dict[str, Any]) -> float:
    """Read an epoch's loss off the history; 0 where nothing was noted."""
    if "train_loss" in epoch:
        return float(epoch["train_loss"])
    batches = [batch["train_loss"] for batch in epoch.get("batches", []) if "train_loss" in batch]
    return float(sum(batches)) / len(batches) if batches else 0.0


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
    watching = _watches_validation(net)
    if _has_default_split(net) and not watching:
        net.set_params(train_split=None)
    _check_validation_is_there(net)
    warn_of_rows_kept_out(net)


def _fit_with(net: NeuralNet, X: Any, y: Any, added: list[tuple[str, Callback]]) -> NeuralNet:
    """Fit with further callbacks, which are none of the net's afterwards."""
    own = net.callbacks
    try:
        if own == "disable":  # skorch would add its own with the first one given
            net.initialize()
            net.callbacks_.extend((name, callback.initialize()) for name, callback in added)
            return net.partial_fit(X, y)
        # set_params would be noted on the net, which the key of a folder's training is made of
        net.callbacks = [*(own or []), *added]
        return net.fit(X, y)
    finally:
        net.callbacks = own
        if hasattr(net, "callbacks_"):
            ours = [callback for _, callback in added]
            net.callbacks_ = [
                entry for entry in net.callbacks_ if not any(entry[1] is one for one in ours)
            ]


def warn_of_rows_kept_out(net: NeuralNet) -> None:
    """Warn if a net's own split keeps rows out of training."""
    # skorch's predefined_split is a partial that validates on other rows and trains on all
    if net.train_split is None or isinstance(net.train_split, partial):
        return
    if is_fitted(net) and not net.history:  # its parameters come from elsewhere
        return
    warnings.warn(
        "The net's train_split keeps rows out of training; their gradients are out of sample "
        "and their scores larger than those of the rows trained on. Set train_split=None to "
        "score all rows alike.",
        HeldOutRowsWarning,
        stacklevel=2,
    )


def warn_of_cut_training(net: NeuralNet) -> None:
    """Warn if a net's training ended within an epoch: skorch swallows interrupts."""
    epoch = net.history[-1] if net.history else {}
    if not epoch.get("batches") or "train_batch_count" in epoch:
        return
    warnings.warn(
        f"The training of the frozen {type(net).__name__} was cut within epoch "
        f"{len(net.history)} of max_epochs={net.max_epochs}, as by an interrupt, and skorch keeps "
        "such a net as if it were whole. Scores are those of the net as it is; train it again for "
        "those of a whole training.",
        InterruptedTrainingWarning,
        stacklevel=2,
    )


def _check_validation_is_there(net: NeuralNet) -> None:
    scorings = [c for c in _own_callbacks(net) if isinstance(c, EpochScoring) and not c.on_train]
    scored = [name for c in scorings for name in (c.name, c.scoring) if isinstance(name, str)]
    missing = [
        (name, column)
        for name, column in _monitored(net)
        if column.startswith("valid_") or column.removesuffix("_best") in scored
    ]
    if missing and net.train_split is None:
        name, column = missing[0]
        raise ValueError(
            f"{name} watches {column!r}, but the net has train_split=None, so there are no "
            "validation rows to watch. Give it monitor='train_loss', or the net a train_split "
            "that validates on other rows, such as skorch.helper.predefined_split(dataset)."
        )


def _has_default_split(net: NeuralNet) -> bool:
    split = net.train_split
    return type(split) is ValidSplit and split.cv == 5 and split.random_state is None


def _watches_validation(net: NeuralNet) -> bool:
    """Tell whether a callback reads a column of the history that training alone does not fill."""
    return any(not column.startswith("train") for _, column in _monitored(net))


def _monitored(net: NeuralNet) -> list[tuple[str, str]]:
    """List the columns of the history that callbacks watch, by the name of the callback."""
    settings: list[tuple[str, Any]] = [
        (name, value) for name, value in net.get_params().items() if name.endswith("__monitor")
    ]
    for callback in _own_callbacks(net):
        if isinstance(callback, type):
            parameter = inspect.signature(callback).parameters.get("monitor")
            monitor = None if parameter is None else parameter.default
            settings.append((callback.__name__, monitor))
        else:
            settings.append((type(callback).__name__, getattr(callback, "monitor", None)))
    return [(name, value) for name, value in settings if isinstance(value, str)]


def _own_callbacks(net: NeuralNet) -> list[Any]:
    callbacks = net.callbacks if isinstance(net.callbacks, list | tuple) else []
    return [entry[1] if isinstance(entry, tuple) else entry for entry in callbacks]
