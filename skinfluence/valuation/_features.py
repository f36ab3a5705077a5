"""What a net's last layer sees of every row."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skinfluence._random import preserved_random_state
from skinfluence._validation import n_samples_of
from skinfluence.gradients._layers import select_layers
from skinfluence.gradients._net_loss import n_rows
from skinfluence.gradients._skorch import iter_batches, net_loss_of


def penultimate_features(net: Any, X: Any, *, batch_size: int) -> NDArray[Any]:
    """Read the input of the trainable layer that a net's forward pass enters last.

    Parameters
    ----------
    net : NeuralNet
        Fitted; read in eval mode, never written.
    X : what the net takes
    batch_size : int
        Rows per pass.

    Returns
    -------
    ndarray of shape (n_samples, n_features)
        Float32, or float64 for a float64 net; flattened.

    Raises
    ------
    ValueError
        If that layer takes no tensor with one entry a row.
    """
    with preserved_random_state(), torch.no_grad():
        net_loss = net_loss_of(net)
        parts: list[NDArray[Any]] = []
        seen: list[Tensor] = []
        handle = None
        try:
            for Xi, _ in iter_batches(net, X, np.zeros(n_samples_of(X), np.int64), batch_size):
                if handle is None:
                    layer = select_layers(net_loss, Xi, "last")[0]
                    handle = layer.module.register_forward_pre_hook(
                        lambda _, inputs: seen.extend(inputs[:1])
                    )
                seen.clear()
                net_loss.forward(Xi)
                parts.append(_as_rows(seen, n_rows(Xi), layer.name))
        finally:
            if handle is not None:
                handle.remove()
    return np.concatenate(parts)


def _as_rows(seen: list[Tensor], rows: int, name: str) -> NDArray[Any]:
    last = seen[-1] if seen else None
    if not isinstance(last, Tensor) or last.ndim < 2 or len(last) != rows:
        shape = tuple(last.shape) if isinstance(last, Tensor) else type(last).__name__
        raise ValueError(
            f"The net's last layer, {name!r}, takes {shape} for a batch of {rows} rows; expected "
            "a tensor with one entry a row as its first argument. Use features='raw'."
        )
    values = last.detach().flatten(1).cpu()
    return (values if values.dtype == torch.float64 else values.float()).numpy()
