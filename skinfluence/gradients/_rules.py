"""The registry of layers whose per-sample gradients factor: one small class a kind of layer."""

from typing import Protocol

import torch
from torch import Tensor, nn

from skinfluence.gradients._factors import LayerGradients, LinearGradients


class LayerRule(Protocol):
    """How the gradients of one kind of layer follow from its inputs and output gradients."""

    def gradients(
        self, module: nn.Module, calls: list[tuple[Tensor, Tensor]], trainable: set[str]
    ) -> LayerGradients:
        """Build the gradients of a layer from what its calls recorded.

        Parameters
        ----------
        module : Module
        calls : list of (Tensor, Tensor)
            For each call in the forward pass, the layer's input and the gradient of the summed
            loss with respect to its output, both with the rows on the first axis.
        trainable : set of str
            The module's own parameter names that are asked for.

        Returns
        -------
        LayerGradients
        """
        ...


class LinearRule:
    """`torch.nn.Linear`, also over sequence axes and when called several times."""

    def gradients(
        self, module: nn.Module, calls: list[tuple[Tensor, Tensor]], trainable: set[str]
    ) -> LinearGradients:
        """Join the calls along the position axis; see `LayerRule`.

        Parameters
        ----------
        module : Linear
        calls : list of (Tensor, Tensor)
            Input of shape (n_rows, ..., in_features), output gradient (n_rows, ..., out_features).
        trainable : set of str
            From {"weight", "bias"}.

        Returns
        -------
        LinearGradients
        """
        a = _join_positions([a for a, _ in calls])
        b = _join_positions([b for _, b in calls])
        return LinearGradients(a, b, weight="weight" in trainable, bias="bias" in trainable)


def _join_positions(parts: list[Tensor]) -> Tensor:
    """Flatten each (n, ..., d) to (n, positions, d) and lay them side by side."""
    if len(parts) == 1 and parts[0].dim() == 2:
        return parts[0]
    return torch.cat([part.reshape(part.shape[0], -1, part.shape[-1]) for part in parts], 1)


RULES: dict[type[nn.Module], LayerRule] = {nn.Linear: LinearRule()}


def rule_for(module: nn.Module) -> LayerRule | None:
    """Find the rule of a layer.

    Parameters
    ----------
    module : Module

    Returns
    -------
    LayerRule or None
        None for subclasses too: their forward may do something else.
    """
    return RULES.get(type(module))
