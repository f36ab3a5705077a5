"""The order in which images lie in memory while a net reads them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from skinfluence.gradients._closeness import all_close
from skinfluence.gradients._net_loss import Nested, map_tensors, n_rows, tensors_in


def laid_out(infer: Callable[[Nested], Nested], module: nn.Module) -> Callable[[Nested], Nested]:
    """Give a forward pass that reads images with channels last, where that is faster and equal."""
    # A processor does max pooling several times faster in that order. Whether the net takes it, and
    # gives the same, shows in the first call of several rows, which runs twice.
    channels_last = any(isinstance(part, nn.MaxPool2d) for part in module.modules()) and all(
        parameter.device.type == "cpu" for parameter in module.parameters()
    )
    compared = False

    def infer_laid_out(X: Nested) -> Nested:
        # a single row would gain nothing, and those that vmap takes cannot be laid out anew
        nonlocal channels_last, compared
        if not channels_last or n_rows(X) == 1:
            return infer(X)
        try:
            output = infer(map_tensors(_with_channels_last, X))
        except RuntimeError:  # a view of the usual order; another matter comes again
            channels_last = False
            return infer(X)
        if not compared:
            usual = infer(X)
            pairs = zip(tensors_in(output), tensors_in(usual), strict=True)
            channels_last, compared = all(all_close(one, two) for one, two in pairs), True
            output = output if channels_last else usual
        return output

    return infer_laid_out


def _with_channels_last(tensor: Tensor) -> Tensor:
    """Copy images."""
    is_image = tensor.dim() == 4 and tensor.is_floating_point()
    return tensor.clone(memory_format=torch.channels_last) if is_image else tensor
