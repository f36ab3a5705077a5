"""A copy of a net that is pushed up the loss of some rows."""

import math
from typing import Any

import torch

from skinfluence.gradients._skorch import shadow_of
from skinfluence.influence._net_rows import NetRows


def free_copy(net: Any) -> Any:
    """Copy a net together with its parameters.

    Parameters
    ----------
    net : NeuralNet
        Fitted; left as it is.

    Returns
    -------
    NeuralNet
        To predict and take losses with; its parameters are its own.
    """
    copy = shadow_of(net)
    for parameter in copy.module_.parameters():
        parameter.data = parameter.data.clone()
    return copy


def ascend(rows: NetRows, n_steps: int, step_size: float) -> float:
    """Move a net's parameters up the mean loss of some rows, by plain gradient ascent.

    Parameters
    ----------
    rows : NetRows
        Of a `free_copy`; its parameters are moved.
    n_steps : int
    step_size : float
        Length of the first step, relative to the length of all parameters.

    Returns
    -------
    float
        Learning rate times number of steps: what the change of a row's loss is to be divided by
        to give its inner product with the mean gradient, to first order. Zero if the gradient is.
    """
    rate = 0.0
    for step in range(n_steps):
        gradient = rows.mean_gradient()
        if step == 0:
            length = float(gradient.norm())
            if length == 0:
                return 0.0
            rate = step_size * _parameter_norm(rows) / length
        _move(rows, rate * gradient)
    return rate * n_steps


def _parameter_norm(rows: NetRows) -> float:
    parameters = [p for layer in rows.layers for p in layer.parameters.values()]
    return math.sqrt(sum(float(p.detach().square().sum()) for p in parameters) or 1.0)


def _move(rows: NetRows, change: Any) -> None:
    parameters = [p for layer in rows.layers for p in layer.parameters.values()]
    parts = torch.split(change, [p.numel() for p in parameters])
    with torch.no_grad():
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.add_(part.view_as(parameter).to(parameter))
