"""Many nets of one kind at once: their parameters stacked, the same batch put through all."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call, grad, vmap

from skinfluence.gradients._net_loss import Nested, NetLoss
from skinfluence.gradients.routes._per_row import LossModule

Batch: TypeAlias = tuple[Nested, Tensor]


def mean_loss(net_loss: NetLoss, batches: list[Batch]) -> float:
    """Average the losses of rows.

    Parameters
    ----------
    net_loss : NetLoss
    batches : list of (nested tensors, Tensor)

    Returns
    -------
    float
    """
    with torch.no_grad():
        total = sum(float(net_loss(X, y)) for X, y in batches)
    return total / sum(len(y) for _, y in batches)


def stacked_gradients(net_loss: NetLoss) -> Any:
    """Differentiate one batch's loss for a stack of nets.

    Parameters
    ----------
    net_loss : NetLoss

    Returns
    -------
    callable
        ``gradients(stacks, X, y, kept, scale)`` by parameter name, stacked; `kept` of shape
        (n_nets, n_rows) says which rows count for each net, `scale` multiplies their sum.
    """
    loss_module = LossModule(net_loss)

    def loss(
        parameters: dict[str, Tensor], X: Nested, y: Tensor, kept: Tensor, scale: float
    ) -> Tensor:
        named = {f"module.{name}": value for name, value in parameters.items()}
        total: Tensor = (functional_call(loss_module, named, (X, y)) * kept).sum()
        return total * scale

    return vmap(grad(loss), in_dims=(0, None, None, 0, None))


def stacked_losses(
    net_loss: NetLoss, stacks: Mapping[str, Tensor], batches: list[Batch]
) -> NDArray[np.float64]:
    """Average the losses of rows for each net of a stack.

    Parameters
    ----------
    net_loss : NetLoss
    stacks : dict of str to Tensor of shape (n_nets, ...)
        By parameter name.
    batches : list of (nested tensors, Tensor)

    Returns
    -------
    ndarray of shape (n_nets,)
    """
    loss_module = LossModule(net_loss)

    def loss(parameters: dict[str, Tensor], X: Nested, y: Tensor) -> Tensor:
        named = {f"module.{name}": value for name, value in parameters.items()}
        total: Tensor = functional_call(loss_module, named, (X, y)).sum()
        return total

    values = {name: stack.detach() for name, stack in stacks.items()}
    with torch.no_grad():
        totals = [vmap(loss, in_dims=(0, None, None))(values, X, y) for X, y in batches]
    mean = torch.stack(totals).sum(0).double() / sum(len(y) for _, y in batches)
    return np.asarray(mean.cpu().numpy())
