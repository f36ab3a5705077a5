"""The adapter: from a fitted skorch net to its differentiable loss and its batches in row order."""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from skorch.dataset import Dataset
from skorch.utils import is_dataset
from torch import Tensor, nn
from torch.utils.data import DataLoader, SequentialSampler

from skinfluence.gradients._net_loss import (
    Nested,
    NetLoss,
    map_tensors,
    private_copy,
    take_rows,
    tensors_in,
)

# Losses of class indices; torch asks for int64 targets.
_CLASS_INDEX_LOSSES = (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss, nn.MultiLabelMarginLoss)
# Losses that compare output and target element by element, where a missing axis would broadcast.
_ELEMENTWISE_LOSSES = (
    nn.BCELoss,
    nn.BCEWithLogitsLoss,
    nn.HuberLoss,
    nn.L1Loss,
    nn.MSELoss,
    nn.PoissonNLLLoss,
    nn.SmoothL1Loss,
    nn.SoftMarginLoss,
)
_SKORCH_NETS = (NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor, NeuralNet)


class _Relabelled(torch.utils.data.Dataset[Any]):
    """A data set's inputs with other targets."""

    def __init__(self, dataset: Any, y: Any) -> None:
        self.dataset = dataset
        self.y = y

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        return self.dataset[i][0], self.y[i]


def as_dataset(net: NeuralNet, X: Any, y: Any) -> Any:
    """Join inputs and targets as the net's own data set.

    Parameters
    ----------
    net : NeuralNet
    X : what skorch takes
    y : array-like or None
        For a torch data set, None keeps its own targets and anything else replaces them.

    Returns
    -------
    Dataset
    """
    if is_dataset(X) and y is not None:
        return _Relabelled(X, y)
    return net.get_dataset(X, y)


def is_fitted(net: NeuralNet) -> bool:
    """Tell whether a net has a module to take gradients of.

    Parameters
    ----------
    net : NeuralNet

    Returns
    -------
    bool
    """
    return bool(getattr(net, "initialized_", False))


def is_net(candidate: object) -> bool:
    """Tell a skorch net from anything else."""
    return isinstance(candidate, NeuralNet)


def kind_of(net: NeuralNet) -> str:
    """Name what a net predicts.

    Parameters
    ----------
    net : NeuralNet

    Returns
    -------
    {"binary", "classes", "regression", "other"}
    """
    kinds = {
        NeuralNetBinaryClassifier: "binary",
        NeuralNetClassifier: "classes",
        NeuralNetRegressor: "regression",
    }
    return next((name for base, name in kinds.items() if isinstance(net, base)), "other")


def compares_elementwise(net: NeuralNet) -> bool:
    """Tell whether the criterion would broadcast targets of another shape.

    Parameters
    ----------
    net : NeuralNet
        Initialised.

    Returns
    -------
    bool
    """
    return isinstance(net.criterion_, _ELEMENTWISE_LOSSES)


def takes_class_indices(net: NeuralNet) -> bool:
    """Tell whether the criterion's targets are the indices of outputs.

    Parameters
    ----------
    net : NeuralNet
        Initialised.

    Returns
    -------
    bool
    """
    return isinstance(net.criterion_, _CLASS_INDEX_LOSSES)


def shadow_of(net: NeuralNet) -> NeuralNet:
    """Make a net that predicts like another one and may be changed freely.

    Parameters
    ----------
    net : NeuralNet
        Fitted. Not written to, not even its train or eval mode.

    Returns
    -------
    NeuralNet
        Of the same class, with a private copy of the module (unwrapped if compiled) in eval mode.
    """
    # Not copy.copy, which pickles the weights; not setattr, which registers modules on the class.
    shadow = object.__new__(type(net))
    shadow.__dict__.update(net.__dict__)
    module = getattr(net.module_, "_orig_mod", net.module_)
    shadow.__dict__["module_"] = private_copy(module)
    return shadow


def net_loss_of(net: NeuralNet) -> NetLoss:
    """Express a net's own forward pass and loss as functions of its parameters.

    The loss is the net's `get_loss` with the reductions of a copied criterion set to "sum". It is
    trusted to add up over rows when both are skorch's and torch's own; any other `get_loss` or
    criterion is called one row at a time.

    Parameters
    ----------
    net : NeuralNet
        Fitted; not written to.

    Returns
    -------
    NetLoss
    """
    shadow = shadow_of(net)
    criterion = copy.deepcopy(net.criterion_)
    if isinstance(criterion, nn.Module):
        criterion.eval()
        for part in criterion.modules():
            if getattr(part, "reduction", None) in {"mean", "batchmean"}:
                vars(part)["reduction"] = "sum"
    shadow.__dict__["criterion_"] = criterion
    adds_up = _has_own_get_loss(net) and _is_torch_loss(criterion)
    align = _aligner(criterion)

    overwrites: bool | None = None

    def forward(X: Nested) -> Nested:
        # A forward may overwrite its input, which must survive a second pass and belongs to the
        # user. The first call finds out on a copy; most nets need none after that.
        nonlocal overwrites
        if overwrites is False:
            return shadow.infer(X)
        copied = map_tensors(torch.clone, X)
        versions = [tensor._version for tensor in tensors_in(copied)]
        output = shadow.infer(copied)
        if overwrites is None:
            overwrites = versions != [tensor._version for tensor in tensors_in(copied)]
        return output

    def loss(output: Nested, y: Tensor, X: Nested) -> Tensor:
        if adds_up:
            return _total(shadow.get_loss(output, align(output, y), X=X, training=False))
        losses = []
        for i in range(len(y)):
            row = slice(i, i + 1)
            one, target = take_rows(output, row), align(take_rows(output, row), y[row])
            losses.append(_total(shadow.get_loss(one, target, X=take_rows(X, row), training=False)))
        return torch.stack(losses).sum()

    return NetLoss(shadow.module_, forward, loss)


def iter_batches(
    net: NeuralNet, X: Any, y: Any, batch_size: int
) -> Iterator[tuple[Nested, Tensor]]:
    """Yield the rows in order, as the net's own data set and collate function make them.

    Parameters
    ----------
    net : NeuralNet
        Fitted.
    X, y : what skorch takes
        y is None for a torch data set, which holds its targets.
    batch_size : int

    Yields
    ------
    (nested tensors, Tensor)
        Inputs in the floating dtype of the module; integer arrays as int64 if the module has an
        Embedding, else in that dtype too. Targets in the dtype the criterion takes.

    Raises
    ------
    ValueError
        If the net's validation loader changes the order or the number of rows.
    """
    dataset = as_dataset(net, X, y)
    cast_input, cast_target = _input_cast(net, X), _target_cast(net)
    n_seen = 0
    for Xi, yi in _raw_batches(net, dataset, batch_size):
        n_seen += len(yi)
        yield map_tensors(cast_input, Xi), cast_target(yi)
    if n_seen != len(dataset):
        raise ValueError(
            f"The net's validation loader gave {n_seen} rows of {len(dataset)}. "
            "Expected each row once; check iterator_valid and its parameters."
        )


def module_dtype(module: nn.Module) -> torch.dtype:
    """Find the floating dtype a module computes in.

    Parameters
    ----------
    module : Module

    Returns
    -------
    dtype
        Of the first floating parameter; torch's default without one.
    """
    for parameter in module.parameters():
        if parameter.is_floating_point():
            return parameter.dtype
    return torch.get_default_dtype()


def takes_integers(module: nn.Module) -> bool:
    """Tell whether an integer array is meant as indices.

    Parameters
    ----------
    module : Module

    Returns
    -------
    bool
        Whether the module has an Embedding.
    """
    return any(isinstance(part, nn.Embedding | nn.EmbeddingBag) for part in module.modules())


def _has_own_get_loss(net: NeuralNet) -> bool:
    return any(type(net).get_loss is base.get_loss for base in _SKORCH_NETS)


def _is_torch_loss(criterion: Any) -> bool:
    return type(criterion).__module__.startswith("torch.nn.") and hasattr(criterion, "reduction")


def _total(loss: Tensor) -> Tensor:
    return loss if loss.dim() == 0 else loss.sum()


def _aligner(criterion: Any) -> Callable[[Nested, Tensor], Tensor]:
    """Give targets the shape of outputs, (n,) against (n, 1), where torch would broadcast."""

    def align(output: Nested, y: Tensor) -> Tensor:
        if not isinstance(output, Tensor) or output.shape == y.shape:
            return y
        if output.numel() == y.numel():
            return y.reshape(output.shape)
        raise ValueError(
            f"The net's output has shape {tuple(output.shape)} and the target {tuple(y.shape)}. "
            f"{type(criterion).__name__} compares them element by element; make the net's number "
            "of outputs that of the target's columns."
        )

    if isinstance(criterion, _ELEMENTWISE_LOSSES):
        return align
    return lambda _, y: y


def _input_cast(net: NeuralNet, X: Any) -> Callable[[Tensor], Tensor]:
    dtype = module_dtype(net.module_)
    is_array = isinstance(X, np.ndarray | Tensor)
    integers = dtype if is_array and not takes_integers(net.module_) else None

    def cast(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point():
            return tensor.to(dtype)
        if integers is not None and tensor.dtype != torch.bool:
            return tensor.to(integers)
        return tensor

    return cast


def _target_cast(net: NeuralNet) -> Callable[[Tensor], Tensor]:
    dtype = module_dtype(net.module_)
    criterion = net.criterion_

    def cast(target: Tensor) -> Tensor:
        if isinstance(criterion, _ELEMENTWISE_LOSSES) or target.is_floating_point():
            return target.to(dtype)
        return target.to(torch.int64) if isinstance(criterion, _CLASS_INDEX_LOSSES) else target

    return cast


def _raw_batches(net: NeuralNet, dataset: Any, batch_size: int) -> Iterator[tuple[Nested, Any]]:
    if _slices_like_loader(net, dataset):
        X, y = _to_tensors(dataset.X), _to_tensors(dataset.y)
        for start in range(0, len(dataset), batch_size):
            rows = slice(start, start + batch_size)
            yield take_rows(X, rows), y[rows]
        return
    shadow = object.__new__(type(net))
    shadow.__dict__.update(net.__dict__)
    order = {"batch_size": batch_size, "shuffle": False, "sampler": None, "batch_sampler": None}
    for name, value in {**order, "drop_last": False}.items():
        shadow.__dict__[f"iterator_valid__{name}"] = value
    loader = shadow.get_iterator(dataset, training=False)
    if isinstance(loader, DataLoader) and not isinstance(loader.sampler, SequentialSampler):
        raise ValueError(
            f"The net's validation loader uses {type(loader.sampler).__name__}, which may change "
            "the order of the rows; scores could not be told apart. Use a plain DataLoader as "
            "iterator_valid."
        )
    yield from loader


def _slices_like_loader(net: NeuralNet, dataset: Any) -> bool:
    """Tell whether slices of the data set are what the loader would collate row by row."""
    return (
        type(dataset) is Dataset
        and net.iterator_valid is DataLoader
        and not (net.get_params_for("iterator_valid").keys() - {"batch_size", "num_workers"})
        and _is_sliceable(dataset.X)
        and isinstance(dataset.y, np.ndarray | Tensor)
    )


def _is_sliceable(X: Any) -> bool:
    if isinstance(X, Mapping):
        return all(_is_sliceable(value) for value in X.values())
    return isinstance(X, np.ndarray | Tensor)


def _to_tensors(value: Any) -> Nested:
    """View arrays as tensors; the loop never writes to its batches."""
    if isinstance(value, Mapping):
        return {key: _to_tensors(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        if min(value.strides, default=0) < 0:
            value = value.copy()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            return torch.as_tensor(value)
    return value
