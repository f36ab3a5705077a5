"""The adapter: from a fitted skorch net to its differentiable loss and its batches in row order."""

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, Self, TypeAlias, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, issparse
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from skorch.dataset import Dataset, get_len
from skorch.utils import is_dataset
from torch import Tensor, nn
from torch.utils.data import DataLoader

from skinfluence.gradients._layout import laid_out
from skinfluence.gradients._net_loss import (
    Batch,
    Nested,
    NetLoss,
    map_tensors,
    private_copy,
    take_rows,
    tensors_in,
)
from skinfluence.gradients._numbered import Relabelled, batches_in_order
from skinfluence.gradients._row_losses import RowByRow
from skinfluence.gradients._verdicts import Key, key_of
from skinfluence.rows._progress import tell

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
# Rows of a sparse table are made dense together up to so many bytes.
_MADE_DENSE_BYTES = 2**26
# The batches of a trial.
_TRIED_CALLS = 2
# Single precision's rounding of a loss.
_ROUNDING = 1e-5
_SKORCH_NETS = (NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor, NeuralNet)


class Net(Protocol):
    """What the package uses of a skorch net, which brings no types of its own."""

    module: object
    module_: nn.Module
    criterion_: nn.Module
    optimizer: object
    optimizer_: torch.optim.Optimizer
    iterator_valid: object
    train_split: object
    predict_nonlinearity: object
    callbacks: Any
    callbacks_: list[tuple[str, Any]]
    history: Any
    max_epochs: int
    batch_size: int

    def initialize(self) -> Self: ...

    def fit(self, X: object, y: object = None, **fit_params: object) -> Self: ...

    def partial_fit(self, X: object, y: object = None, **fit_params: object) -> Self: ...

    def predict(self, X: object) -> np.ndarray: ...

    def predict_proba(self, X: object) -> np.ndarray: ...

    def infer(self, x: Nested, **fit_params: object) -> Nested: ...

    def get_loss(self, y_pred: Nested, y_true: Tensor, X: Nested, training: bool) -> Tensor: ...

    def get_dataset(self, X: object, y: object = None) -> Any: ...

    def get_iterator(self, dataset: object, training: bool = False) -> Iterable[Any]: ...

    def get_params(self, deep: bool = True) -> dict[str, Any]: ...

    def get_params_for(self, prefix: str) -> dict[str, Any]: ...

    def set_params(self, **params: object) -> Self: ...


def as_dataset(net: Net, X: object, y: object) -> Any:
    """Join inputs and targets as the net's own data set; None for `y` keeps a data set's own."""
    if isinstance(X, DataLoader):
        raise TypeError("Got a DataLoader as X. Pass its data set, X.dataset.")
    if is_dataset(X):
        return X if y is None else Relabelled(X, y)
    if y is None:
        raise ValueError(
            "Got y=None, but the gradient of a row's loss needs its target. Only a torch data "
            "set as X brings its own."
        )
    if isinstance(X, Mapping) and not isinstance(X, dict) and not issparse(X):
        X = dict(X)  # a tokenizer's encoding, which skorch takes for one row
    return net.get_dataset(X, y)


def array_of(dataset: Any) -> np.ndarray | None:
    """Find the one array that a data set gives the rows of; None if it gives others."""
    plain = type(dataset) is Dataset and isinstance(dataset.X, np.ndarray)
    return dataset.X if plain else None


def is_fitted(net: Net) -> bool:
    """Tell whether a net has a module to take gradients of."""
    return bool(getattr(net, "initialized_", False))


def is_net(candidate: object) -> TypeGuard[Net]:
    """Tell a skorch net from anything else."""
    return isinstance(candidate, NeuralNet)


def kind_of(net: Net) -> str:
    """Name what a net predicts: "binary", "classes", "regression" or "other"."""
    kinds = {
        NeuralNetBinaryClassifier: "binary",
        NeuralNetClassifier: "classes",
        NeuralNetRegressor: "regression",
    }
    return next((name for base, name in kinds.items() if isinstance(net, base)), "other")


def compares_elementwise(net: Net) -> bool:
    """Tell whether the criterion would broadcast targets of another shape."""
    return isinstance(net.criterion_, _ELEMENTWISE_LOSSES)


def takes_one_output(net: Net) -> bool:
    """Tell whether the loss is skorch's and torch's own, of a tensor."""
    return _uses_skorch_get_loss(net) and _is_torch_loss(net.criterion_)


def takes_class_indices(net: Net) -> bool:
    """Tell whether the criterion's targets are the indices of outputs."""
    return isinstance(net.criterion_, _CLASS_INDEX_LOSSES)


def shadow_of(net: Net) -> Net:
    """Make a net in eval mode that predicts like a fitted one and may be changed freely."""
    check_is_not_lazy(net)
    shadow = _in_order(net)
    module = getattr(net.module_, "_orig_mod", net.module_)  # as it is before torch.compile
    shadow.__dict__["module_"] = private_copy(module)
    shadow.__dict__["criterion_"] = copy.deepcopy(net.criterion_)
    return shadow


def check_is_not_lazy(net: Net) -> None:
    """Refuse a net whose module has parameters that take their size from the first batch."""
    tensors = [*net.module_.named_parameters(), *net.module_.named_buffers()]
    lazy = [name for name, tensor in tensors if nn.parameter.is_lazy(tensor)]
    if lazy:
        raise ValueError(
            f"{', '.join(lazy[:3])} of the net's module have no size yet: they belong to lazy "
            "layers, which take it from the first batch, but it has to be known before training. "
            "Give the sizes (nn.Linear for nn.LazyLinear), or run a batch through the module at "
            "the end of its __init__."
        )


def _in_order(net: Net) -> Net:
    """Copy a net, but nothing in it, with a validation loader that keeps the order of the rows."""
    # Not copy.copy, which pickles the weights; not setattr, which registers modules on the class.
    shadow: Net = object.__new__(type(net))
    attributes = shadow.__dict__
    attributes.update(net.__dict__)
    order = {"shuffle": False, "sampler": None, "batch_sampler": None, "drop_last": False}
    for name, value in order.items():
        if name == "shuffle" or f"iterator_valid__{name}" in attributes:
            attributes[f"iterator_valid__{name}"] = value
    return shadow


def net_loss_of(net: Net) -> NetLoss:
    """Express a fitted net's own forward pass and loss as functions of its parameters."""
    # The loss is the net's `get_loss` with a copied criterion. Where both are skorch's and torch's
    # own, a batch is computed at once, with reduction "none"; a row's outputs are summed. Any other
    # `get_loss` or criterion is called as it is written, for each row alone; only torch losses with
    # class weights inside it get reduction "sum", since "mean" would divide the weight away.
    shadow = shadow_of(net)
    criterion = shadow.criterion_
    by_batch = takes_one_output(net)
    if isinstance(criterion, nn.Module):
        criterion.eval()
        _set_reductions(criterion, by_batch)
    # In float32, p - 1 keeps no digits once the net is sure of a row, and most rows are such. (The
    # log skorch takes for NLLLoss adds an epsilon that depends on the dtype: left alone.)
    in_double = by_batch and not isinstance(criterion, nn.NLLLoss) and _has_double(net)
    if in_double:
        criterion.double()
    align = _aligner(net, criterion)

    infer = laid_out(shadow.infer, shadow.module_)
    n_tried, overwrites = 0, False

    def forward(X: Nested) -> Nested:
        # A forward may overwrite its input, which must survive a second pass and belongs to the
        # user. The first calls find out on copies; most nets need none after that.
        nonlocal n_tried, overwrites
        if n_tried >= _TRIED_CALLS and not overwrites:
            return infer(X)
        copied = map_tensors(torch.clone, X)
        versions = [tensor._version for tensor in tensors_in(copied)]
        output = infer(copied)
        n_tried += 1
        overwrites |= versions != [tensor._version for tensor in tensors_in(copied)]
        return output

    def own_loss(output: Nested, y: Tensor, X: Nested) -> Tensor:
        return shadow.get_loss(output, align(output, y), X=X, training=False).sum()

    row_by_row = RowByRow(forward, own_loss)

    def losses(output: Nested, y: Tensor, X: Nested) -> Tensor:
        if by_batch:
            if in_double and isinstance(output, Tensor):
                output, y = output.double(), y.double() if y.is_floating_point() else y
            loss = shadow.get_loss(output, align(output, y), X=X, training=False)
            return loss if loss.shape == y.shape[:1] else loss.reshape(len(y), -1).sum(1)
        return row_by_row(output, y, X)

    originals = frozenset(id(parameter) for parameter in net.module_.parameters())
    return NetLoss(
        shadow.module_, forward, losses, originals, batch_loss=None if by_batch else own_loss
    )


def trial_key(
    net: Net,
    batches: Sequence[Batch],
    layers: str | Sequence[str],
    state: Mapping[str, Tensor] | None,
) -> Key | None:
    """Describe a trial of a net at a state; None if it runs code that no comparison reaches."""
    own_infer = not any(type(net).infer is base.infer for base in _SKORCH_NETS)
    if own_infer or not takes_one_output(net) or not isinstance(net.criterion_, nn.Module):
        return None
    module = getattr(net.module_, "_orig_mod", net.module_)
    return key_of(module, (type(net), net.criterion_), batches, layers, state)


# scale(output, y, X, losses): of a batch whose rows have these losses.
StepScale: TypeAlias = Callable[[Nested, Tensor, Nested, Tensor], float]


def step_scale_of(net: Net) -> StepScale:
    """Divide the loss of a batch that a net is trained on by the sum of the rows' losses."""
    # The ratio does not depend on the parameters: 1/n for a mean, 1 for a sum, less for several
    # outputs, and one over the sum of the weights for a mean with class weights.
    shadow = shadow_of(net)
    align = _aligner(net, shadow.criterion_)

    def scale(output: Nested, y: Tensor, X: Nested, losses: Tensor) -> float:
        losses = losses.detach().double()
        total, size = float(losses.sum()), float(losses.abs().sum())
        with torch.no_grad():
            batch_loss = shadow.get_loss(output, align(output, y), X=X, training=False)
        found = float(batch_loss) / total if total else np.nan
        n_rows = len(y)
        # a mean up to rounding, which losses of both signs make worse, or not known
        near = not np.isfinite(found) or abs(found * n_rows - 1) < _ROUNDING * size / abs(total)
        return 1 / n_rows if near else found

    return scale


def takes_plain_mean(net: Net) -> bool:
    """Tell whether the loss of a batch is the mean of its rows' losses, as far as torch says it."""
    parts = list(net.criterion_.modules())  # a criterion may wrap another
    weighted = any(isinstance(getattr(part, "weight", None), Tensor) for part in parts)
    ignoring = any(getattr(part, "ignore_index", -100) >= 0 for part in parts)
    means = all(getattr(part, "reduction", "mean") in {"mean", "none"} for part in parts)
    return means and not weighted and not ignoring


def iter_batches(net: Net, X: object, y: object, batch_size: int) -> Iterator[Batch]:
    """Yield the rows in order, as the net's own data set and collate function make them."""
    # Floating inputs get the dtype of the module, integers int64 if the module has an Embedding;
    # targets the dtype that the criterion takes.
    cast_input, cast_target = _input_cast(net), _target_cast(net)
    dataset = as_dataset(net, X, y)
    loop, n, done = object(), len(dataset), 0
    try:
        for Xi, yi in _raw_batches(net, dataset, batch_size):
            if done:  # often no more than the first is asked for
                tell(loop, "rows", done, n)
            yield map_tensors(cast_input, Xi), cast_target(yi)
            done += len(yi)
    finally:
        tell(loop, "rows", done, done)


def rows_made_dense(dataset: Any, most: int) -> int:
    """Say how many rows a batch takes, at most so many: fewer of a wide sparse table."""
    if not issparse(getattr(dataset, "X", None)):
        return most
    n_columns: int = dataset.X.shape[1]
    return max(1, min(most, _MADE_DENSE_BYTES // (n_columns * torch.float32.itemsize)))


def rows_at(net: Net, dataset: Any, index: NDArray[np.intp]) -> Batch | None:
    """Read some rows of a data set of arrays as one batch; None for any other data set."""
    if not _slices_like_loader(net, dataset):
        return None
    rows = index.tolist()
    X, y = _taken(_to_tensors(dataset.X), rows), _to_tensor(dataset.y)[rows]
    return map_tensors(_input_cast(net), X), _target_cast(net)(y)


def collated(net: Net, samples: list[Any]) -> Batch:
    """Make a batch of samples with the net's own loader, in this process."""
    batches = _raw_batches(net, samples, len(samples), in_process=True)
    X, y = next(batches)
    return map_tensors(_input_cast(net), X), _target_cast(net)(y)


def check_loader_keeps_order(net: Net, X: object) -> None:
    """Refuse a net whose loader, other than torch's own, gives rows in another order."""
    own = net.iterator_valid is not DataLoader or "collate_fn" in net.get_params_for(
        "iterator_valid"
    )
    if own or not any(type(net).get_iterator is base.get_iterator for base in _SKORCH_NETS):
        n: int = get_len(X)
        for _ in _raw_batches(net, as_dataset(net, X, np.zeros(n, np.int64)), 256):
            pass


def module_dtype(module: nn.Module) -> torch.dtype:
    """Find the dtype of the first floating parameter; torch's default without one."""
    for parameter in module.parameters():
        if parameter.is_floating_point():
            return parameter.dtype
    return torch.get_default_dtype()


def takes_doubles(module: nn.Module) -> bool:
    """Tell whether a module takes inputs in the precision they come in, and rounds them itself."""
    return bool(getattr(getattr(module, "_orig_mod", module), "takes_doubles", False))


def takes_integers(module: nn.Module) -> bool:
    """Tell whether integers are meant as indices: whether the module has an Embedding."""
    return any(isinstance(part, nn.Embedding | nn.EmbeddingBag) for part in module.modules())


def _uses_skorch_get_loss(net: Net) -> bool:
    return any(type(net).get_loss is base.get_loss for base in _SKORCH_NETS)


def _is_torch_loss(criterion: object) -> bool:
    return type(criterion).__module__.startswith("torch.nn.") and hasattr(criterion, "reduction")


def _has_double(net: Net) -> bool:
    return all(p.device.type != "mps" for p in net.module_.parameters())


def _set_reductions(criterion: nn.Module, by_batch: bool) -> None:
    if by_batch:
        vars(criterion)["reduction"] = "none"
        return
    for part in criterion.modules():
        weighted = getattr(part, "weight", None) is not None
        if weighted and getattr(part, "reduction", None) == "mean":
            vars(part)["reduction"] = "sum"


def _aligner(net: Net, criterion: object) -> Callable[[Nested, Tensor], Tensor]:
    """Give targets the shape of outputs, (n,) against (n, 1), where torch would broadcast."""
    elementwise = isinstance(criterion, _ELEMENTWISE_LOSSES)

    def align(output: Nested, y: Tensor) -> Tensor:
        if not isinstance(output, Tensor) or output.shape == y.shape:
            return y
        if output.numel() == y.numel():
            return y.reshape(output.shape)
        if not elementwise:
            return y
        raise ValueError(
            f"The net's output has shape {tuple(output.shape)} and the target {tuple(y.shape)}. "
            f"{type(criterion).__name__} compares them element by element; make the net's number "
            "of outputs that of the target's columns."
        )

    return align if elementwise or kind_of(net) == "regression" else lambda _, y: y


def _input_cast(net: Net) -> Callable[[Tensor], Tensor]:
    dtype = module_dtype(net.module_)
    as_indices = takes_integers(net.module_)
    keeps = {torch.float32, torch.float64} if takes_doubles(net.module_) else set()

    def cast(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point():
            return tensor if tensor.dtype in keeps else tensor.to(dtype)
        return tensor.long() if as_indices and tensor.dtype != torch.bool else tensor

    return cast


def _target_cast(net: Net) -> Callable[[Tensor], Tensor]:
    dtype = module_dtype(net.module_)
    criterion = net.criterion_

    def cast(target: Tensor) -> Tensor:
        if isinstance(criterion, _ELEMENTWISE_LOSSES) or target.is_floating_point():
            return target.to(dtype)
        return target.to(torch.int64) if isinstance(criterion, _CLASS_INDEX_LOSSES) else target

    return cast


def _raw_batches(
    net: Net, dataset: Any, batch_size: int, *, in_process: bool = False
) -> Iterator[Batch]:
    if _slices_like_loader(net, dataset):
        X, y = _to_tensors(dataset.X), _to_tensor(dataset.y)
        for start in range(0, len(dataset), batch_size):
            rows = slice(start, start + batch_size)
            yield _taken(X, rows), y[rows]
        return
    shadow = _in_order(net)
    shadow.__dict__["iterator_valid__batch_size"] = batch_size
    # a few rows are not worth the start of the loader's workers
    alone = {"num_workers": 0, "prefetch_factor": None, "persistent_workers": False, "timeout": 0}
    for name, value in alone.items() if in_process else ():
        if f"iterator_valid__{name}" in shadow.__dict__:
            shadow.__dict__[f"iterator_valid__{name}"] = value
    yield from batches_in_order(shadow.get_iterator, dataset)


def _slices_like_loader(net: Net, dataset: Any) -> bool:
    """Tell whether slices of the data set are what the loader would collate row by row."""
    return (
        type(dataset) is Dataset
        and net.iterator_valid is DataLoader
        and not (net.get_params_for("iterator_valid").keys() - {"batch_size", "num_workers"})
        and _is_sliceable(dataset.X)
        and isinstance(dataset.y, np.ndarray | Tensor)
    )


def _is_sliceable(X: object) -> bool:
    if isinstance(X, Mapping) and not issparse(X):
        return all(_is_sliceable(value) for value in X.values())
    return isinstance(X, np.ndarray | Tensor) or issparse(X)


def _taken(X: Any, rows: slice | list[int]) -> Nested:
    """Take rows as tensors; of a sparse table, only these are made dense."""
    return torch.from_numpy(X[rows].toarray()) if issparse(X) else take_rows(X, rows)


def _to_tensors(X: Mapping[str, Any] | np.ndarray | Tensor | csr_matrix) -> Any:
    if issparse(X):
        return csr_matrix(X)
    if isinstance(X, Mapping):
        return {key: _to_tensors(item) for key, item in X.items()}
    return _to_tensor(X)


def _to_tensor(array: np.ndarray | Tensor) -> Tensor:
    """View an array as a tensor; the loop never writes to its batches."""
    if isinstance(array, np.ndarray) and min(array.strides, default=0) < 0:
        array = array.copy()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.as_tensor(array)
