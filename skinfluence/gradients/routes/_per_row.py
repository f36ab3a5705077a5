"""The routes that serve any module: vmap over rows, and one backward pass a row.

The second is the reference the others are held against: slow and obviously right.
"""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from skinfluence.gradients._layers import Layer
from skinfluence.gradients._net_loss import Nested, NetLoss, map_tensors, n_rows, take_rows
from skinfluence.gradients.routes._capture import require_gradients_of


class LossModule(nn.Module):
    """Forward and losses as one module, so that functional_call swaps parameters for both."""

    def __init__(self, net_loss: NetLoss) -> None:
        super().__init__()
        self.module = net_loss.module
        self._net_loss = net_loss

    def forward(self, X: Nested, y: Tensor) -> Tensor:
        """Compute the loss of every row; of shape (n_rows,)."""
        return self._net_loss.row_losses(X, y)


def functional_gradients(
    net_loss: NetLoss, layers: Sequence[Layer], X: Nested, y: Tensor
) -> dict[str, Tensor]:
    """Take gradients (n_rows, n_parameters) by layer name with ``vmap(grad(functional_call))``."""
    loss_module = LossModule(net_loss)

    def row_loss(parameters: dict[str, Tensor], x: Nested, target: Tensor) -> Tensor:
        row = (map_tensors(lambda tensor: tensor.unsqueeze(0), x), target.unsqueeze(0))
        losses: Tensor = functional_call(loss_module, parameters, row)
        return losses.sum()

    # vmap has no rule for the fused attention kernels, the plain one is matrix products
    with (
        require_gradients_of(net_loss.module, []),
        torch.no_grad(),
        sdpa_kernel(SDPBackend.MATH),
        warnings.catch_warnings(),
    ):
        # an operation that vmap takes row by row itself, as packing is: no matter of the caller's
        warnings.filterwarnings("ignore", "There is a performance drop")
        parameters = {
            f"module.{name}": parameter.detach()
            for layer in layers
            for name, parameter in layer.parameters.items()
        }
        gradients = vmap(grad(row_loss), in_dims=(None, 0, 0))(parameters, X, y)
    return {
        layer.name: torch.cat([gradients[f"module.{n}"].flatten(1) for n in layer.parameters], 1)
        for layer in layers
    }


def loop_gradients(
    net_loss: NetLoss, layers: Sequence[Layer], X: Nested, y: Tensor
) -> dict[str, Tensor]:
    """Take gradients (n_rows, n_parameters) by layer name with one backward pass a row."""
    parameters = [p for layer in layers for p in layer.parameters.values()]
    rows = n_rows(y)
    found = {
        layer.name: next(iter(layer.parameters.values())).new_empty(rows, layer.n_parameters)
        for layer in layers
    }
    with require_gradients_of(net_loss.module, layers):
        for i in range(rows):
            row = slice(i, i + 1)
            loss = net_loss(take_rows(X, row), y[row])
            gradients = iter(gradients_or_zeros(loss, parameters))
            for layer in layers:
                parts = [next(gradients).flatten() for _ in layer.parameters]
                torch.cat(parts, out=found[layer.name][i])
    return found


def gradients_or_zeros(loss: Tensor, parameters: list[nn.Parameter]) -> Sequence[Tensor]:
    """Differentiate a loss; parameters it does not depend on have a gradient of zeros."""
    if not loss.requires_grad:  # the loss of this row reads none of them
        return [torch.zeros_like(parameter) for parameter in parameters]
    return torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
