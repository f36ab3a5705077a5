"""A net at other parameters than its own: states read off it, and nets put into them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from skinfluence.gradients._net_loss import private_copy
from skinfluence.gradients._skorch import Net, net_loss_of, shadow_of
from skinfluence.gradients._step_scale import step_scale_of


def module_state(net: Net, *, buffers: bool = True) -> dict[str, Tensor]:
    """Copy the parameters of a net's module, and its buffers, to the CPU.

    Parameters
    ----------
    net : NeuralNet
        Initialised.
    buffers : bool, default=True

    Returns
    -------
    dict of str to Tensor
    """
    module = getattr(net.module_, "_orig_mod", net.module_)
    found = dict(module.named_parameters())
    if buffers:
        found.update(module.named_buffers())
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in found.items()}


def net_at(net: Net, state: Mapping[str, Tensor]) -> Net:
    """Make a net that is like another one but for its parameters.

    Parameters
    ----------
    net : NeuralNet
        Fitted; not written to.
    state : mapping of str to Tensor
        By parameter or buffer name; on the CPU the net returned may share tensors that no
        forward pass writes to.

    Returns
    -------
    NeuralNet
        As `shadow_of` makes it.

    Raises
    ------
    ValueError
        If the names or shapes are not those of the module.
    """
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


def batch_gradients_at(net: Net, state: Mapping[str, Tensor], batch: Any) -> dict[str, Tensor]:
    """Differentiate the loss of a training batch, as the net reduces it, in eval mode.

    Parameters
    ----------
    net : NeuralNet
        Not written to.
    state : mapping of str to Tensor
        The parameters at which to differentiate.
    batch : what the net's training loader yields

    Returns
    -------
    dict of str to Tensor
        By parameter name, on the CPU; zero for a parameter that the loss does not depend on.
    """
    there = net_at(net, state)
    net_loss, scale_of = net_loss_of(there), step_scale_of(there)
    Xi, yi = batch
    parameters = dict(net_loss.module.named_parameters())
    trained = {name: p for name, p in parameters.items() if p.requires_grad}
    with torch.enable_grad():
        output = net_loss.forward(Xi)
        losses = net_loss.losses(output, yi, Xi)
    found = torch.autograd.grad(losses.sum(), list(trained.values()), allow_unused=True)
    scale = scale_of(output, yi, Xi, losses)
    gradients = dict(zip(trained, found, strict=True))
    return {
        name: torch.zeros_like(p, device="cpu")
        if gradients.get(name) is None
        else scale * gradients[name].cpu()
        for name, p in parameters.items()
    }
