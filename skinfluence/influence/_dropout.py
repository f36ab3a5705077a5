"""Sub-models of one trained net: one fixed dropout mask each."""

import numpy as np
import torch
from torch import Tensor, nn

from skinfluence.gradients._skorch import Net, shadow_of

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


class FixedDropout(nn.Module):
    """Drop the same units, or channels (first axis), of every row, in any mode."""

    def __init__(self, p: float, by_channel: bool, seed: int) -> None:
        super().__init__()
        self.p = p
        self.by_channel = by_channel
        self.seed = seed

    def forward(self, X: Tensor) -> Tensor:
        """Mask a batch, and scale what is kept by 1 / (1 - p)."""
        shape = X.shape[1:2] + (1,) * (X.dim() - 2) if self.by_channel else X.shape[1:]
        kept = np.random.default_rng(self.seed).random(tuple(shape)) >= self.p
        scale = 1 / (1 - self.p) if self.p < 1 else 0.0
        return X * torch.as_tensor(kept * scale, dtype=X.dtype, device=X.device)


def has_dropout(module: nn.Module) -> bool:
    """Tell whether a module has dropout layers that drop something."""
    return any(isinstance(part, _DROPOUTS) and part.p > 0 for part in module.modules())


def dropout_submodel(net: Net, seed: int) -> Net:
    """Make a net that shares another one's weights, with some units dropped for good."""
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
