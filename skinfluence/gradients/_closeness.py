"""Equality up to rounding."""

import math

import torch
from torch import Tensor


def all_close(one: Tensor, two: Tensor) -> bool:
    """Compare to what the order of floating-point sums may change, NaNs being equal."""
    one, two = one.detach(), two.detach()
    if one.shape != two.shape or not one.is_floating_point():
        return bool(torch.equal(one, two))
    if not two.numel():
        return True
    limit = _tolerance(two)
    if not math.isfinite(limit):
        return bool(torch.allclose(one, two, equal_nan=True))
    return _largest(one.sub(two)) <= limit  # False for NaN


def _tolerance(expected: Tensor) -> float:
    """Say what rounding may change of values as large as these."""
    eps = torch.finfo(expected.dtype).eps
    if expected.dtype == torch.float32 and expected.is_cuda:
        eps = 2**-10  # TensorFloat-32, by which torch may multiply there
    # below 10 eps lies what is left of a difference such as p - 1 of a row the net is sure of
    return max(math.sqrt(eps) * _largest(expected), 10 * eps)


def _largest(values: Tensor) -> float:
    low, high = torch.aminmax(values)  # several times faster than an absolute value or a norm
    return max(-float(low), float(high))
