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
    limit = _tolerance(two, scale)
    if not math.isfinite(limit):
        return bool(torch.allclose(one, two, equal_nan=True))
    return _largest(one - two) <= limit  # False for NaN


def _tolerance(expected: Tensor, scale: float) -> float:
    """Say what rounding may change of values as large as these."""
    eps = torch.finfo(expected.dtype).eps
    if expected.dtype == torch.float32 and expected.is_cuda:
        eps = 2**-10  # TensorFloat-32, by which torch may multiply there
    # below 10 eps lies what is left of a difference such as p - 1 of a row the net is sure of
    return max(math.sqrt(eps) * max(_largest(expected), scale), 10 * eps)


def _largest(values: Tensor) -> float:
    low, high = torch.aminmax(values)  # several times faster than an absolute value or a norm
    return max(-float(low), float(high))
