"""Per-sample gradients of convolutions: sums of outer products over output positions.

Index conventions as in `_layer_gradients`, and g groups; a patch is what one output position sees.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skinfluence.gradients.factors._layer_gradients import (
    LayerGradients,
    LayerProjection,
    LinearGradients,
    check_has_weight,
    gram_of_positions,
    gram_power_sum,
    in_blocks,
    positions_are_cheaper,
    power_sum,
    scale_rows,
    unit_rows,
)

_CONVOLVE: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}

# What it takes to move a number, in multiplications within a product of matrices.
_MOVE = 45
# Convolutions of fewer channels are padded to so many by their kernels, and products are faster.
_FEW_CHANNELS = 8


@dataclass(frozen=True)
class ConvShape:
    """The fixed part of a convolution."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    # as `torch.nn.functional.pad` has them: before and after every axis, the last axis first
    padding: tuple[int, ...]
    padding_mode: str

    def pad(self, x: Tensor) -> Tensor:
        """Pad inputs, so that the convolution that follows needs no padding."""
        return F.pad(x, self.padding, mode=self.padding_mode) if any(self.padding) else x

    def patches(self, x: Tensor) -> Tensor:
        """Cut padded inputs (n, channels, ...) into patches (n, g, t, i)."""
        n, channels = x.shape[:2]
        for axis, (size, step, gap) in enumerate(
            zip(self.kernel, self.stride, self.dilation, strict=True)
        ):
            x = x.unfold(2 + axis, (size - 1) * gap + 1, step)[..., ::gap]
        d = len(self.kernel)
        x = x.flatten(2 + d).flatten(2, 1 + d)  # (n, channels, t, kernel)
        t = x.shape[2]
        x = x.reshape(n, self.groups, channels // self.groups, t, -1).transpose(2, 3)
        return x.reshape(n, self.groups, t, -1)

    def convolve(self, x: Tensor, weight: Tensor, groups: int) -> Tensor:
        """Apply other filters to padded inputs."""
        function = _CONVOLVE[len(self.kernel)]
        return function(x, weight, stride=self.stride, dilation=self.dilation, groups=groups)

    def weight_gradients(self, x: Tensor, b: Tensor) -> Tensor:
        """Differentiate every row on its own, from inputs that are not padded yet."""
        if self.groups == 1 and self.stride[0] == 1 and x.shape[1] < _FEW_CHANNELS:
            return self._from_shifts(self.pad(x), b)
        return self._from_groups(x, b)

    def _from_groups(self, x: Tensor, b: Tensor) -> Tensor:
        """Run one convolution with a group a row, which pads by itself where it can."""
        d = len(self.kernel)
        before, after = self.padding[::2], self.padding[1::2]
        pads = self.padding_mode == "constant" and before == after
        x = x if pads else self.pad(x)
        n, channels, outputs = len(x), x.shape[1], b.shape[1]
        weight = x.new_empty(n * outputs, channels // self.groups, *self.kernel)
        gradient: Tensor = torch.ops.aten.convolution_backward(
            b.reshape(1, n * outputs, *b.shape[2:]),
            x.reshape(1, n * channels, *x.shape[2:]),
            weight,
            None,
            self.stride,
            before[::-1] if pads else (0,) * d,
            self.dilation,
            False,
            (0,) * d,
            n * self.groups,
            (False, True, False),
        )[1]
        return gradient.reshape(n, -1)

    def _from_shifts(self, x: Tensor, b: Tensor) -> Tensor:
        """Multiply with shifted padded inputs: views along the first axis, copies along others."""
        n, channels = x.shape[:2]
        sizes = zip(self.kernel[1:], self.stride[1:], self.dilation[1:], b.shape[3:], strict=True)
        windows = [
            [slice(i * gap, i * gap + (out - 1) * step + 1, step) for i in range(size)]
            for size, step, gap, out in sizes
        ]
        copies = [x[(..., *window)] for window in itertools.product(*windows)]  # type: ignore[index]
        planes = (torch.stack(copies, 2) if len(copies) > 1 else copies[0]).reshape(
            n, channels * len(copies), -1
        )
        back = b.flatten(2).mT
        positions, line = back.shape[1], math.prod(b.shape[3:])
        starts = [i * self.dilation[0] * line for i in range(self.kernel[0])]
        parts = [torch.bmm(planes[:, :, i : i + positions], back) for i in starts]
        gradient = torch.stack(parts, 1).view(n, len(starts), channels, len(copies), -1)
        return gradient.permute(0, 4, 2, 1, 3).reshape(n, -1)

    def pixel_gram(self, x: Tensor, outputs: tuple[int, ...]) -> Tensor:
        """Take inner products of all patches of padded inputs (n, g, i, ...): (n, g, t, t)."""
        # Those of pixels, added up along the kernel: no patch is cut.
        sizes = x.shape[3:]
        flat = x.flatten(3)
        pixels = (flat.mT @ flat).view(*x.shape[:2], *sizes, *sizes)
        ends = [(out - 1) * step + 1 for out, step in zip(outputs, self.stride, strict=True)]
        total: Tensor | None = None
        for place in itertools.product(*map(range, self.kernel)):
            parts = zip(place, self.dilation, ends, self.stride, strict=True)
            window = [slice(i * gap, i * gap + end, step) for i, gap, end, step in parts]
            part = pixels[(..., *window, *window)]  # type: ignore[index]
            total = part.clone() if total is None else total.add_(part)
        assert total is not None
        positions = math.prod(outputs)
        return total.view(*x.shape[:2], positions, positions)


@dataclass(frozen=True)
class ConvGradients:
    """Gradients of a convolution, kept as its input and its output's gradient."""

    x: Tensor  # the input (n_rows, n_channels, ...), padded only when it is used
    b: Tensor  # the loss's gradient with respect to the output (n_rows, n_outputs, ...)
    shape: ConvShape
    weight: bool  # whether the weight is among the parameters
    bias: bool

    @property
    def _sizes(self) -> tuple[int, int, int]:
        """Positions, inputs of one output, outputs of one group."""
        positions = self.b[0, 0].numel()
        n_inputs = self.x.shape[1] // self.shape.groups
        for size in self.shape.kernel:
            n_inputs *= size
        return positions, n_inputs, self.b.shape[1] // self.shape.groups

    @property
    def _padded_sizes(self) -> list[int]:
        sides = zip(self.shape.padding[::2], self.shape.padding[1::2], strict=True)
        added = [before + after for before, after in sides][::-1]  # the last axis came first
        return [size + more for size, more in zip(self.x.shape[2:], added, strict=True)]

    def _positions(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Factors (n * g, t, i) and (n * g, t, o)."""
        a = self.shape.patches(self.shape.pad(self.x[rows]))
        b = self.b[rows].flatten(2).unflatten(1, (self.shape.groups, -1)).transpose(2, 3)  # type: ignore[no-untyped-call]
        return a.flatten(0, 1), b.flatten(0, 1)

    def as_linear(self) -> LinearGradients | None:
        """View the layer as a Linear one applied to every patch; None for one in groups."""
        if self.shape.groups > 1:
            return None
        a, b = self._positions(slice(None))
        return LinearGradients(a, b, self.weight, self.bias)

    @property
    def _biases(self) -> Tensor:
        return self.b.flatten(2).sum(2)

    def _weights(self, rows: slice) -> Tensor:
        return self.shape.weight_gradients(self.x[rows], self.b[rows])

    def power_sum(self, ord: int) -> Tensor:
        """Sum over weight and bias."""
        total = self.b.new_zeros(len(self.b))
        if self.weight:
            total = total + self._weight_power_sum(ord)
        return total + power_sum(self._biases, ord) if self.bias else total

    def _weight_power_sum(self, ord: int) -> Tensor:
        positions, n_inputs, n_outputs = self._sizes
        groups, channels = self.shape.groups, self.x.shape[1] // self.shape.groups
        n_pixels = math.prod(self._padded_sizes)

        def from_positions(rows: slice) -> Tensor:
            return gram_power_sum(*self._positions(rows)).view(-1, groups).sum(1)

        def from_pixels(rows: slice) -> Tensor:
            x = self.shape.pad(self.x[rows]).unflatten(1, (groups, -1))  # type: ignore[no-untyped-call]
            b = self.b[rows].flatten(2).unflatten(1, (groups, -1))  # type: ignore[no-untyped-call]
            product: Tensor = self.shape.pixel_gram(x, tuple(self.b.shape[2:])) * (b.mT @ b)
            return product.flatten(1).sum(1).clamp_min(0)  # rounding may leave a tiny negative

        def multiplied_out(rows: slice) -> Tensor:
            return power_sum(self._weights(rows), ord)

        pairs = positions * positions
        kernel = n_inputs // channels
        # by way: what it takes, in multiplications, and how many numbers of a row are in memory
        ways: dict[str, tuple[int, int, Callable[[slice], Tensor]]] = {
            "product": (positions * n_inputs * n_outputs, n_inputs * n_outputs, multiplied_out),
        }
        if ord == 2:
            ways["positions"] = (
                pairs * (n_inputs + n_outputs) + _MOVE * positions * n_inputs,
                positions * max(positions, n_inputs),
                from_positions,
            )
            ways["pixels"] = (
                n_pixels**2 * channels + pairs * (n_outputs + _MOVE * kernel),
                4 * n_pixels**2,
                from_pixels,
            )
        _, numbers, way = ways[_cheapest({name: cost for name, (cost, _, _) in ways.items()})]
        return in_blocks(way, len(self.x), groups * numbers)

    def dense(self) -> Tensor:
        """Multiply out, weight before bias."""
        parts = [self._weights(slice(None))] if self.weight else []
        if self.bias:
            parts.append(self._biases)
        return torch.cat(parts, 1)

    def dot(self, direction: Tensor) -> Tensor:
        """Convolve with the direction."""
        outputs = self.b.shape[1]
        total = self.b.new_zeros(len(self.b))
        if self.weight:
            filters = direction[: direction.numel() - outputs * self.bias]
            filters = filters.view(outputs, -1, *self.shape.kernel)
            along = self.shape.convolve(self.shape.pad(self.x), filters, self.shape.groups)
            total = total + (along * self.b).flatten(1).sum(1)
        if self.bias:
            total = total + self._biases @ direction[-outputs:]
        return total

    def gram(self, other: LayerGradients) -> Tensor:
        """Pair positions or multiply out, whichever is cheaper."""
        if not isinstance(other, ConvGradients):
            return self.dense() @ other.dense().mT
        total = self.b.new_zeros(len(self.b), len(other.b))
        if self.weight:
            total = total + self._weight_gram(other)
        if self.bias:
            total = total + self._biases @ other._biases.mT
        return total

    def _weight_gram(self, other: "ConvGradients") -> Tensor:
        positions, n_inputs, n_outputs = self._sizes
        groups = self.shape.groups
        if groups == 1 and positions_are_cheaper(positions, n_inputs, n_outputs):
            everything = slice(None)
            return gram_of_positions(*self._positions(everything), *other._positions(everything))
        size = groups * n_inputs * n_outputs

        def against_all(rows: slice) -> Tensor:
            left = self._weights(rows)
            return in_blocks(lambda others: other._weights(others) @ left.mT, len(other.x), size).mT

        return in_blocks(against_all, len(self.x), size)

    def project(self, projection: LayerProjection) -> Tensor:
        """Project both factors, before or after summing positions."""
        outputs = self.b.shape[1]
        total = self.b.new_zeros(())
        if self.weight:
            total = self._project_weights(projection)
        if self.bias:
            total = total + self._biases @ projection.signs(2, outputs, self.b)
        return total

    def _project_weights(self, projection: LayerProjection) -> Tensor:
        positions, n_inputs, n_outputs = self._sizes
        groups, outputs = self.shape.groups, self.b.shape[1]
        back = projection.signs(0, outputs, self.b)  # (o, k), all groups
        front = projection.signs(1, n_inputs, self.b)  # (i, k), the same for every group
        k = back.shape[1]

        def from_positions(rows: slice) -> Tensor:
            filters = front.mT.reshape(k, -1, *self.shape.kernel)
            filters = filters.repeat(groups, *(1 for _ in filters.shape[1:]))
            a = self.shape.convolve(self.shape.pad(self.x[rows]), filters, groups)
            a = a.flatten(2).view(-1, groups, k, positions)
            grouped = self.b[rows].flatten(2).view(-1, groups, n_outputs, positions)
            b = back.view(groups, n_outputs, k).mT @ grouped
            return (a * b).sum((1, 3))

        def from_matrices(rows: slice) -> Tensor:
            matrix = self._weights(rows).view(-1, outputs, n_inputs)
            return ((matrix @ front) * back).sum(1)

        if positions_are_cheaper(positions, n_inputs, n_outputs):
            return in_blocks(from_positions, len(self.x), 2 * groups * k * positions)
        return in_blocks(from_matrices, len(self.x), outputs * max(n_inputs, k))

    def with_unit_activations(self) -> Self:
        """Scale the input factor."""
        check_has_weight(self.weight)
        return replace(self, x=unit_rows(self.x), bias=False)

    def inputs(self) -> Tensor:
        """Average each channel of the input."""
        return self.x.flatten(2).mean(2)

    def scaled(self, weights: Tensor) -> Self:
        """Multiply the factor that flows back."""
        return replace(self, b=scale_rows(self.b, weights))

    def take(self, rows: slice) -> Self:
        """Slice both factors."""
        return replace(self, x=self.x[rows], b=self.b[rows])

    def summed(self) -> Tensor:
        """Multiply out a few rows at a time."""
        _, n_inputs, n_outputs = self._sizes
        size = self.shape.groups * n_inputs * n_outputs
        parts = []
        if self.weight:
            blocks = in_blocks(lambda rows: self._weights(rows).sum(0)[None], len(self.x), size)
            parts.append(blocks.sum(0))
        if self.bias:
            parts.append(self.b.flatten(2).sum((0, 2)))
        return torch.cat(parts)


def _cheapest(costs: dict[str, int]) -> str:
    return min(costs, key=costs.__getitem__)


def shape_of(module: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> ConvShape:
    """Read the fixed part off a convolution."""
    return ConvShape(
        tuple(module.kernel_size),
        tuple(module.stride),
        tuple(module.dilation),
        module.groups,
        tuple(module._reversed_padding_repeated_twice),  # "same" resolved, as the module pads
        "constant" if module.padding_mode == "zeros" else module.padding_mode,
    )
