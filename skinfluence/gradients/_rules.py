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
        a = torch.cat([_with_positions(call[0]) for call in calls], 1)
        b = torch.cat([_with_positions(call[1]) for call in calls], 1)
        return LinearGradients(a, b, weight="weight" in trainable, bias="bias" in trainable)


def _with_positions(values: Tensor) -> Tensor:
    """Flatten (n, ..., d) to (n, positions, d)."""
    return values.reshape(values.shape[0], -1, values.shape[-1])


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
