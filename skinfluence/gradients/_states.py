"""A net at other parameters than its own: states read off it, and nets put into them."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from skinfluence.gradients._net_loss import Batch, NetLoss, private_copy
from skinfluence.gradients._skorch import Net, net_loss_of, shadow_of, step_scale_of

# Parameters and buffers by name.
State: TypeAlias = Mapping[str, Tensor]


def module_state(net: Net, *, buffers: bool = True) -> dict[str, Tensor]:
    """Copy the parameters of a net's module, and its buffers, to the CPU."""
    module = getattr(net.module_, "_orig_mod", net.module_)
    found = dict(module.named_parameters())
    if buffers:
        found.update(module.named_buffers())
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in found.items()}


def net_at(net: Net, state: State) -> Net:
    """Make a net that is like a fitted one, as `shadow_of` does, but for its parameters."""
    # On the CPU it may share tensors of the state that no forward pass writes to.
    shadow = shadow_of(net)
    parameters = dict(shadow.module_.named_parameters())
    tensors = {**parameters, **dict(shadow.module_.named_buffers())}
    missing = parameters.keys() - state.keys()
    unfit = missing | {
        name
        for name, value in state.items()
        if name not in tensors or tensors[name].shape != value.shape
    }
    if unfit:
        raise ValueError(
            f"The trace is of another module: {sorted(unfit)[:5]} are missing or have other "
            "shapes. Use the net that was trained with the recorder."
        )
    for name, value in state.items():
        tensors[name].data = value.to(tensors[name])
    shadow.__dict__["module_"] = private_copy(shadow.module_)
    return shadow


def net_losses_at(net: Net, states: Sequence[State | None]) -> list[NetLoss]:
    """Express a net's loss at each state; None stands for the net as it is."""
    return [net_loss_of(net if state is None else net_at(net, state)) for state in states]


def batch_gradients_at(
    net: Net, state: State, batch: Batch, weights: Tensor | None = None
) -> dict[str, Tensor]:
    """Differentiate a training batch's loss, as the net reduces it, in eval mode; on the CPU."""
    # `weights` are of the batch's rows, in the loss
    there = net_at(net, state)
    net_loss, scale_of = net_loss_of(there), step_scale_of(there)
    Xi, yi = batch
    parameters = dict(net_loss.module.named_parameters())
    trained = {name: p for name, p in parameters.items() if p.requires_grad}
    with torch.enable_grad():
        output = net_loss.forward(Xi)
        losses = net_loss.losses(output, yi, Xi)
        heavy = losses if weights is None else losses * weights.to(losses)
    found = torch.autograd.grad(heavy.sum(), list(trained.values()), allow_unused=True)
    scale = scale_of(output, yi, Xi, losses)
    gradients = dict(zip(trained, found, strict=True))
    return {
        name: torch.zeros_like(p, device="cpu")
        if gradients.get(name) is None
        else scale * gradients[name].cpu()
        for name, p in parameters.items()
    }
