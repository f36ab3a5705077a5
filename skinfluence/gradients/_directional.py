"""Products with one direction in parameter space, without per-sample gradients.

Inner products of every row's gradient with a direction cost two or three forward passes by
forward-mode differentiation; where an operator has no forward mode, two backward passes. Both need
derivatives that fused attention kernels lack, so these run with the plain ones.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from skinfluence.gradients._layers import Layer
from skinfluence.gradients._net_loss import Nested, NetLoss
from skinfluence.gradients.routes._capture import require_gradients_of
from skinfluence.gradients.routes._per_row import LossModule


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Use kernels that can be differentiated twice and forward, and restore the others."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def split_direction(direction: Tensor, layers: Sequence[Layer]) -> dict[str, Tensor]:
    """Cut a direction, ordered as the columns of the dense matrix, into its parts by layer."""
    sizes = [layer.n_parameters for layer in layers]
    if direction.shape != (sum(sizes),):
        raise ValueError(
            f"Got a direction of shape {tuple(direction.shape)}, but expected ({sum(sizes)},), "
            "one number for every parameter of the chosen layers, in their order."
        )
    names = [layer.name for layer in layers]
    return dict(zip(names, torch.split(direction, sizes), strict=True))


def inner_products(
    net_loss: NetLoss, layers: Sequence[Layer], X: Nested, y: Tensor, direction: Tensor
) -> Tensor:
    """Multiply every row's gradient with a direction, ordered as the dense columns: (n_rows,)."""
    tangents = _as_parameters(layers, direction)
    with plain_kernels():
        try:
            return forward_inner_products(net_loss, layers, X, y, tangents)
        except (RuntimeError, NotImplementedError):  # an operator without forward mode
            return double_backward_inner_products(net_loss, layers, X, y, tangents)


def forward_inner_products(
    net_loss: NetLoss, layers: Sequence[Layer], X: Nested, y: Tensor, tangents: dict[str, Tensor]
) -> Tensor:
    """Push a direction forward through the rows' losses; see `inner_products`."""
    moved = dict(tangents)
    for name, (padding, is_shared) in _padded_tables(net_loss.module).items():
        if is_shared:
            raise NotImplementedError("a table's padding that an output layer reads, too")
        if name in moved:  # training never moves this row, but forward mode would count it
            moved[name] = moved[name].clone()
            moved[name][padding] = 0
    loss_module = LossModule(net_loss)

    def row_losses(parameters: dict[str, Tensor]) -> Tensor:
        losses: Tensor = functional_call(loss_module, parameters, (X, y))
        return losses

    primals = {
        f"module.{name}": parameter.detach()
        for layer in layers
        for name, parameter in layer.parameters.items()
    }
    directions = {f"module.{name}": tangent for name, tangent in moved.items()}
    with require_gradients_of(net_loss.module, []), torch.no_grad():
        products: Tensor = jvp(row_losses, (primals,), (directions,))[1]
    return products


def double_backward_inner_products(
    net_loss: NetLoss, layers: Sequence[Layer], X: Nested, y: Tensor, tangents: dict[str, Tensor]
) -> Tensor:
    """Differentiate ``<grad sum_i w_i l_i, direction>`` by the weights; see `inner_products`."""
    with require_gradients_of(net_loss.module, layers):
        losses = net_loss.row_losses(X, y)
        weights = torch.ones_like(losses, requires_grad=True)
        along = _along(torch.dot(weights, losses), layers, tangents)
        if not along.requires_grad:
            return torch.zeros_like(losses)
        return torch.autograd.grad(along, weights, materialize_grads=True, allow_unused=True)[0]


def hessian_vector_product(
    net_loss: NetLoss, layers: Sequence[Layer], X: Nested, y: Tensor, direction: Tensor
) -> Tensor:
    """Multiply the Hessian of a batch's summed, not averaged, loss with a direction."""
    tangents = _as_parameters(layers, direction)
    parameters = [p for layer in layers for p in layer.parameters.values()]
    with plain_kernels(), require_gradients_of(net_loss.module, layers):
        loss = net_loss(X, y)
        refuse_wrong_second_derivatives(loss)
        along = _along(loss, layers, tangents)
        if not along.requires_grad:  # the loss is linear in the parameters
            return torch.zeros_like(direction)
        parts = torch.autograd.grad(along, parameters, allow_unused=True, materialize_grads=True)
    return torch.cat([part.flatten() for part in parts])


def refuse_wrong_second_derivatives(loss: Tensor) -> None:
    """Refuse, by name, layers that torch differentiates wrongly a second time."""
    stack: list[Node | None] = [loss.grad_fn]
    seen: set[Node] = set()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name().startswith("WeightNormInterface"):
            raise ValueError(
                "The net uses weight normalisation, whose second derivative is wrong in torch "
                "(gradgradcheck of torch._weight_norm fails), so Hessian products would be too. "
                "Remove it before: torch.nn.utils.parametrize.remove_parametrizations."
            )
        stack.extend(following for following, _ in node.next_functions)


def _as_parameters(layers: Sequence[Layer], direction: Tensor) -> dict[str, Tensor]:
    """Give the parts of a direction the shapes of the parameters, by full parameter name."""
    by_layer = split_direction(direction, layers)
    shaped = {}
    for layer in layers:
        sizes = [parameter.numel() for parameter in layer.parameters.values()]
        parts = torch.split(by_layer[layer.name], sizes)
        for (name, parameter), part in zip(layer.parameters.items(), parts, strict=True):
            shaped[name] = part.detach().view_as(parameter).to(parameter, copy=True)
    return shaped


def _padded_tables(module: nn.Module) -> dict[str, tuple[int, bool]]:
    """Find tables with a row for padding: that row, and whether others use the table, by name."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    users = Counter(
        id(parameter) for part in module.modules() for parameter in part.parameters(recurse=False)
    )
    return {
        names[id(part.weight)]: (part.padding_idx, users[id(part.weight)] > 1)
        for part in module.modules()
        if isinstance(part, nn.Embedding | nn.EmbeddingBag) and part.padding_idx is not None
    }


def _along(loss: Tensor, layers: Sequence[Layer], tangents: dict[str, Tensor]) -> Tensor:
    """Differentiate a loss along a direction, in a way that can be differentiated again."""
    names = [name for layer in layers for name in layer.parameters]
    parameters = [p for layer in layers for p in layer.parameters.values()]
    gradients = torch.autograd.grad(
        loss, parameters, create_graph=True, allow_unused=True, materialize_grads=True
    )
    pairs = zip(names, gradients, strict=True)
    return torch.stack([(gradient * tangents[name]).sum() for name, gradient in pairs]).sum()
