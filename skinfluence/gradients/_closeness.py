"""Equality up to rounding."""

import math

import torch
from torch import Tensor


def all_close(one: Tensor, two: Tensor, scale: float = 0.0) -> bool:
    """Compare to what the order of floating-point sums may change, NaNs being equal."""
    # `scale`: how large summands were, where sums may be smaller
    one, two = one.detach(), two.detach()
    if one.shape != two.shape or not one.is_floating_point():
        return bool(torch.equal(one, two))
    if not two.numel():
        return True
    eps = torch.finfo(two.dtype).eps
    if two.dtype == torch.float32 and two.is_cuda:
        eps = 2**-10  # TensorFloat-32, by which torch may multiply there
    # below 10 eps lies what is left of a difference such as p - 1 of a row the net is sure of
    limit = max(math.sqrt(eps) * scale, 10 * eps)
    difference = _largest(one - two)  # NaN, which is below nothing, if either is not finite
    if difference <= limit:
        return True
    limit = max(math.sqrt(eps) * _largest(two), limit)
    if not math.isfinite(limit):
        return bool(torch.allclose(one, two, equal_nan=True))
    return difference <= limit


def _largest(values: Tensor) -> float:
    low, high = torch.aminmax(values)  # several times faster than an absolute value or a norm
    return max(-float(low), float(high))
