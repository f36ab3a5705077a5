"""The loss a training step is taken on, as a multiple of the sum of its rows' losses."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from skinfluence.gradients._net_loss import Nested
from skinfluence.gradients._skorch import Net, batch_loss_of

# scale(output, y, X, losses): of a batch whose rows have these losses.
StepScale: TypeAlias = Callable[[Nested, Tensor, Nested, Tensor], float]

# Single precision's rounding of a loss.
_ROUNDING = 1e-5


def step_scale_of(net: Net) -> StepScale:
    """Divide the loss that a net is trained on by the sum of the rows' losses.

    The ratio does not depend on the parameters: 1/n for a mean, 1 for a sum, less for several
    outputs, and one over the sum of the weights for a mean with class weights.

    Parameters
    ----------
    net : NeuralNet
        Fitted; not written to.

    Returns
    -------
    callable
        ``scale(output, y, X, losses)``, a float; `output` as `NetLoss.forward` gives it, and its
        `losses`.
    """
    batch_loss = batch_loss_of(net)

    def scale(output: Nested, y: Tensor, X: Nested, losses: Tensor) -> float:
        losses = losses.detach().double()
        total, size = float(losses.sum()), float(losses.abs().sum())
        with torch.no_grad():
            found = float(batch_loss(output, y, X)) / total if total else np.nan
        n_rows = len(y)
        # a mean up to rounding, which losses of both signs make worse, or not known
        near = not np.isfinite(found) or abs(found * n_rows - 1) < _ROUNDING * size / abs(total)
        return 1 / n_rows if near else found

    return scale


def takes_plain_mean(net: Net) -> bool:
    """Tell whether the loss of a batch is the mean of its rows' losses, as far as torch says it.

    Parameters
    ----------
    net : NeuralNet
        Fitted.

    Returns
    -------
    bool
    """
    parts = list(net.criterion_.modules())  # a criterion may wrap another
    weighted = any(isinstance(getattr(part, "weight", None), Tensor) for part in parts)
    ignoring = any(getattr(part, "ignore_index", -100) >= 0 for part in parts)
    means = all(getattr(part, "reduction", "mean") in {"mean", "none"} for part in parts)
    return means and not weighted and not ignoring
