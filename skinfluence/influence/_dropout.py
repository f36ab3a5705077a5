"""Sub-models of one trained net: one fixed dropout mask each."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skinfluence.gradients._skorch import shadow_of

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


class FixedDropout(nn.Module):
    """Drop the same units of every row, in any mode.

    Parameters
    ----------
    p : float
        Chance of a unit to be dropped; the others are scaled by 1 / (1 - p).
    by_channel : bool
        Whether a unit is a channel, the first axis of a row.
    seed : int
    """

    def __init__(self, p: float, by_channel: bool, seed: int) -> None:
        super().__init__()
        self.p = p
        self.by_channel = by_channel
        self.seed = seed

    def forward(self, X: Tensor) -> Tensor:
        """Mask a batch.

        Parameters
        ----------
        X : Tensor of shape (n_rows, ...)

        Returns
        -------
        Tensor of the same shape
        """
        shape = X.shape[1:2] + (1,) * (X.dim() - 2) if self.by_channel else X.shape[1:]
        kept = np.random.default_rng(self.seed).random(tuple(shape)) >= self.p
        scale = 1 / (1 - self.p) if self.p < 1 else 0.0
        return X * torch.as_tensor(kept * scale, dtype=X.dtype, device=X.device)


def has_dropout(net: Any) -> bool:
    """Tell whether a fitted net has dropout layers that drop something.

    Parameters
    ----------
    net : NeuralNet

    Returns
    -------
    bool
    """
    return any(isinstance(part, _DROPOUTS) and part.p > 0 for part in net.module_.modules())


def dropout_submodel(net: Any, seed: int) -> Any:
    """Make a net like another one with some units dropped for good.

    Parameters
    ----------
    net : NeuralNet
        Fitted; left as it is.
    seed : int

    Returns
    -------
    NeuralNet
        Shares its weights.
    """
    member = shadow_of(net)
    places = [
        (parent, name, child)
        for parent in member.module_.modules()
        for name, child in parent.named_children()
        if isinstance(child, _DROPOUTS)
    ]
    for i, (parent, name, child) in enumerate(places):
        by_channel = not isinstance(child, nn.Dropout)
        setattr(parent, name, FixedDropout(child.p, by_channel, seed + i))
    return member
