"""Gradients by plain autograd, row by row, and how close to them readings must come."""

import numpy as np
import pytest
import torch

from skinfluence.gradients._trajectory import MeanOf, TrajectoryLoop
from tests._shared.net_zoo import CASES

TOLERANCE = 1e-8
# Their second derivative is wrong in torch.
WEIGHT_NORM = {"weight_norm", "old_weight_norm"}
every_case = pytest.mark.parametrize("name", CASES)


def row_losses_by_hand(shadow, X, y):
    """Each row's loss by the net itself, one row at a time; nothing of the package."""
    shadow.module_.eval()
    if type(shadow.criterion_).__module__.startswith("torch.nn"):
        shadow.criterion_.reduction = "sum"  # a custom criterion stays as it is written
    index_target = isinstance(shadow.criterion_, torch.nn.CrossEntropyLoss | torch.nn.NLLLoss)
    for i in range(len(y)):
        x = {k: torch.tensor(v[i : i + 1]) for k, v in X.items()} if isinstance(X, dict) else None
        x = torch.tensor(X[i : i + 1]) if x is None else x
        target = torch.tensor(np.asarray(y[i : i + 1]))
        output = shadow.infer(x)
        if not index_target and not isinstance(shadow.criterion_, CASES["own_criterion"].criterion):
            target = target.double().reshape(output.shape)
        yield shadow.get_loss(output, target, X=x)


def flat_gradient(loss, module, **kwargs):
    parameters = [p for p in module.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True, **kwargs)
    pairs = zip(gradients, parameters, strict=True)
    return torch.cat(
        [torch.zeros_like(p).flatten() if g is None else g.flatten() for g, p in pairs]
    )


def by_hand(shadow, X, y):
    """All-layer gradients by plain autograd on the net itself."""
    losses = row_losses_by_hand(shadow, X, y)
    return torch.stack([flat_gradient(loss, shadow.module_) for loss in losses]).numpy()


def read(loop, batches, reading):
    return torch.cat(list(loop.batches(batches, reading)))


def close(found, expected):
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found, expected, atol=TOLERANCE * scale, rtol=TOLERANCE)


def normalized(loop, normalize):
    return TrajectoryLoop([loop], MeanOf(), normalize)
