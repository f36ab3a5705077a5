"""Per-sample gradients of a Linear layer that keeps its weight as (n_inputs, n_outputs)."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from skinfluence.gradients.factors._layer_gradients import (
    LayerGradients,
    LayerProjection,
    LinearGradients,
)


@dataclass(frozen=True)
class TransposedGradients:
    """Gradients of a layer ``y = x W + b``: those of a Linear one, the weight's turned round."""

    linear: LinearGradients

    def power_sum(self, ord: int) -> Tensor:
        """Sum the same numbers as those of a Linear layer."""
        return self.linear.power_sum(ord)

    def dense(self) -> Tensor:
        """Turn the weight's part round."""
        values = self.linear.dense()
        if not self.linear.weight:
            return values
        n, n_inputs, n_outputs = len(values), *self._sizes
        weight = values[:, : n_inputs * n_outputs].view(n, n_outputs, n_inputs)
        return torch.cat([weight.mT.reshape(n, -1), values[:, n_inputs * n_outputs :]], 1)

    def dot(self, direction: Tensor) -> Tensor:
        """Turn the direction round instead."""
        n_inputs, n_outputs = self._sizes
        n_weights = n_inputs * n_outputs if self.linear.weight else 0
        weight = direction[:n_weights].view(-1, n_outputs).mT.reshape(-1)
        return self.linear.dot(torch.cat([weight, direction[n_weights:]]))

    def gram(self, other: LayerGradients) -> Tensor:
        """Pair the same numbers as those of Linear layers."""
        if not isinstance(other, TransposedGradients):
            return self.dense() @ other.dense().mT
        return self.linear.gram(other.linear)

    def project(self, projection: LayerProjection) -> Tensor:
        """Project each factor with signs of its own."""
        return self.linear.project(projection)

    def with_unit_activations(self) -> Self:
        """Scale the input factor."""
        return replace(self, linear=self.linear.with_unit_activations())

    def inputs(self) -> Tensor:
        """Give the input factor."""
        return self.linear.inputs()

    def scaled(self, weights: Tensor) -> Self:
        """Multiply the factor that flows back."""
        return replace(self, linear=self.linear.scaled(weights))

    def take(self, rows: slice) -> Self:
        """Slice both factors."""
        return replace(self, linear=self.linear.take(rows))

    def summed(self) -> Tensor:
        """Turn the weight's part of the sum round."""
        total = self.linear.summed()
        if not self.linear.weight:
            return total
        n_inputs, n_outputs = self._sizes
        weight = total[: n_inputs * n_outputs].view(n_outputs, n_inputs)
        return torch.cat([weight.mT.reshape(-1), total[n_inputs * n_outputs :]])

    @property
    def _sizes(self) -> tuple[int, int]:
        return self.linear.a.shape[-1], self.linear.b.shape[-1]
