"""A net's optimiser as a rule of SGD, and how far recorded steps are from that rule."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch import nn

from skinfluence.gradients._net_loss import Batch
from skinfluence.gradients._states import batch_gradients_at, module_state
from skinfluence.rows._seeds import preserved_random_state
from skinfluence.trace._training_trace import State

# The callback, among a net's, whose `weights` the rows have in the training loss.
WEIGHING = "skinfluence_weights"


def description_of(net: NeuralNet) -> dict[str, Any]:
    """Say what `TrainingTrace` keeps of an optimiser's settings."""
    names = {id(parameter): name for name, parameter in own_module(net).named_parameters()}
    return {
        "parameter_groups": tuple(
            tuple(names[id(p)] for p in group["params"] if id(p) in names)
            for group in net.optimizer_.param_groups
        ),
        **settings_of(net),
        "optimizer": type(net.optimizer_).__name__,
    }


def settings_of(net: NeuralNet) -> dict[str, Any]:
    """Say what SGD's steps depend on besides learning rates, for every parameter group."""
    groups = net.optimizer_.param_groups
    return {
        "weight_decay": tuple(float(group.get("weight_decay", 0.0)) for group in groups),
        "momentum": tuple(float(group.get("momentum", 0.0)) for group in groups),
        "dampening": tuple(float(group.get("dampening", 0.0)) for group in groups),
        "nesterov": tuple(bool(group.get("nesterov", False)) for group in groups),
    }


def own_module(net: NeuralNet) -> nn.Module:
    """Give a net's module as it was before compilation."""
    module: nn.Module = getattr(net.module_, "_orig_mod", net.module_)
    return module


def momentum_of(net: NeuralNet) -> State:
    """Copy SGD's momentum buffers by parameter name, where there are any yet."""
    if not isinstance(net.optimizer_, torch.optim.SGD):
        return {}
    state = net.optimizer_.state
    buffers = {
        name: state[parameter].get("momentum_buffer")
        for name, parameter in own_module(net).named_parameters()
        if parameter in state
    }
    return {n: b.detach().to("cpu", copy=True) for n, b in buffers.items() if b is not None}


def replay_error(
    net: NeuralNet,
    batch: Batch,
    rows: NDArray[np.int64],  # of the batch
    before: State,
    momentum: State,
    *,
    rates: NDArray[np.float64],
) -> float:
    """Measure how far a step was from SGD's, relative to its length."""
    settings = description_of(net)
    after = module_state(net, buffers=False)
    with preserved_random_state():
        gradients = batch_gradients_at(net, before, batch, _weights_of(net, rows))
    deviation = length = 0.0
    for group, names in enumerate(settings["parameter_groups"]):
        mu, tau = settings["momentum"][group], settings["dampening"][group]
        for name in names:
            g = gradients[name] + settings["weight_decay"][group] * before[name]
            if mu:
                m = mu * momentum[name] + (1 - tau) * g if name in momentum else g
                g = g + mu * m if settings["nesterov"][group] else m
            step = (after[name] - before[name]).double()
            deviation += float((step + float(rates[group]) * g.double()).square().sum())
            length += float(step.square().sum())
    return float(np.sqrt(deviation / length)) if length else float(deviation > 0)


def _weights_of(net: NeuralNet, rows: NDArray[np.int64]) -> torch.Tensor | None:
    for name, callback in net.callbacks_:
        if name == WEIGHING:
            return torch.from_numpy(callback.weights[rows])
    return None
