"""A training loss in which rows have weights: of nets, and of other models."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter
from skorch.callbacks import Callback
from torch import Tensor, nn

from skinfluence.gradients._skorch import is_net
from skinfluence.trace._batch_order import BatchOrder, WatchedGetIterator


class WeightedLoss(Callback):
    """Weighs the rows of every batch that a net trains on, by their number in the data set."""

    # The criterion's own forward is asked for the rows' losses and, for its scale (a mean, a mean
    # by class weights, a sum), for the loss of the batch: weights of one change nothing.
    def __init__(self, weights: NDArray[np.float64]) -> None:
        self.weights = weights

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Stand by the criterion and the training loader; called by skorch."""
        criterion = net.criterion_
        if getattr(criterion, "reduction", None) not in {"mean", "sum"}:
            raise ValueError(
                f"Got sample_weight, but the net's criterion, {type(criterion).__name__}, has no "
                "reduction of 'mean' or 'sum' to be taken from it, so the losses of single rows "
                "are not known. Give it one, as torch's losses have, or leave sample_weight out."
            )
        self._order = BatchOrder(len(self.weights))
        self._stand_in = WatchedGetIterator(net, [self._order.watch])
        self._batch = _Batch(criterion)

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Forget what was drawn ahead; called by skorch."""
        self._order.new_epoch()

    def on_batch_begin(
        self, net: Any, batch: Any = None, training: bool | None = None, **kwargs: Any
    ) -> None:
        """Find the weights of the batch's rows; called by skorch."""
        if training:
            rows = self._order.next_rows()
            self._batch.begin(torch.from_numpy(self.weights[rows]))

    def on_batch_end(
        self, net: Any, batch: Any = None, training: bool | None = None, **kwargs: Any
    ) -> None:
        """Refuse a net that does not ask its criterion; called by skorch."""
        if training:
            self._batch.check_used(net)

    def leave(self) -> None:
        """Leave net and criterion as they were."""
        for name in ("_batch", "_stand_in"):
            if hasattr(self, name):
                getattr(self, name).remove()
                delattr(self, name)


class _Batch:
    """The weights of the batch at hand, put into what the criterion returns."""

    def __init__(self, criterion: Any) -> None:  # a torch module
        self._weights: Tensor | None = None
        self._is_used = False
        reduction = criterion.reduction

        # Functions, which a deep copy of the criterion shares: the copy is left alone.
        def weighs(module: nn.Module) -> bool:
            return module is criterion and module.training and self._weights is not None

        def before(module: nn.Module, args: Any, kwargs: Any) -> None:
            if weighs(module):
                criterion.reduction = "none"

        def after(module: nn.Module, args: Any, kwargs: Any, losses: Tensor) -> Tensor | None:
            if not weighs(module):
                return None
            assert self._weights is not None
            criterion.reduction = reduction
            self._is_used = True
            with torch.no_grad():
                whole = criterion.forward(*args, **kwargs)
            return _weighted(losses, whole, self._weights, criterion)

        self._handles = [
            criterion.register_forward_pre_hook(before, with_kwargs=True),
            criterion.register_forward_hook(after, with_kwargs=True),
        ]
        self._criterion, self._reduction = criterion, reduction

    def begin(self, weights: Tensor) -> None:
        self._weights, self._is_used = weights, False

    def check_used(self, net: Any) -> None:
        if not self._is_used:
            raise ValueError(
                f"Got sample_weight, but {type(net).__name__} computes its training loss without "
                "its criterion, so that weights would count for nothing. Let get_loss call "
                "criterion_, or leave sample_weight out."
            )
        self._weights = None

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._criterion.reduction = self._reduction


def _weighted(losses: Tensor, whole: Tensor, weights: Tensor, criterion: nn.Module) -> Tensor:
    """Weigh the rows' losses, on the scale of the loss of the batch."""
    if losses.dim() == 0 or len(losses) != len(weights):
        raise ValueError(
            f"Got sample_weight, but the net's criterion, {type(criterion).__name__}, gives "
            f"losses of shape {tuple(losses.shape)} for {len(weights)} rows when its reduction is "
            "'none'. Expected one or several for each row."
        )
    total = losses.detach().sum()
    scale = whole / total if bool(total != 0) else 1 / losses.numel()
    by_row = losses.reshape(len(losses), -1).sum(1)
    return (by_row * weights.to(by_row)).sum() * scale


def weight_parameters(model: Any, weights: NDArray[np.float64] | None) -> dict[str, Any]:
    """Name the parameter by which a scikit-learn model's fit takes weights, or refuse them."""
    if weights is None:
        return {}
    final, prefix = model, ""
    while isinstance(final, Pipeline):
        name, final = final.steps[-1]
        prefix += f"{name}__"
    if is_net(final) or not has_fit_parameter(final, "sample_weight"):
        raise ValueError(
            f"Got sample_weight, but {type(final).__name__} takes none in its fit. Use a model "
            "that does, or leave sample_weight out."
        )
    return {f"{prefix}sample_weight": weights}
