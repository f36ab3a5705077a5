"""What is read off per-sample gradients, layer by layer, while the backward pass goes on.

A reading turns the gradients of one layer into something small, and the parts of all layers into
the result of the batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor

from skinfluence.gradients._layers import Layer
from skinfluence.gradients.factors._layer_gradients import (
    LayerGradients,
    LayerProjection,
    unit_rows,
)

Part = TypeVar("Part")
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)


class Reading(Protocol[Part, Result_co]):
    """One quantity of a batch."""

    def layer(self, layer: Layer, gradients: LayerGradients) -> Part:
        """Read one layer."""
        ...

    def total(self, layers: Sequence[Layer], parts: list[Part]) -> Result_co:
        """Put the parts of all layers together, given in the order of the layers."""
        ...


# A reading of one tensor a batch, whatever it reads of a layer.
TensorReading: TypeAlias = Reading[Any, Tensor]


def scaling_of(reading: Reading[Any, Any], weight: float) -> float | None:
    """Say by what a layer's part grows as all gradients do, by a weight >= 0; None if unknown."""
    degree: int | None = getattr(reading, "degree", None)
    return None if degree is None else weight**degree


class SeededProjection(Protocol):
    """A projection with signs for every layer; see `skinfluence.gradients._projection`."""

    @property
    def n_components(self) -> int:
        """Give the length of a projected gradient."""
        ...

    def of_layer(self, layer: int) -> LayerProjection:
        """Give the part that belongs to one layer."""
        ...


@dataclass(frozen=True)
class Norm:
    """The norm of each row's whole gradient, the sum of absolute values for 1: (n_rows,)."""

    ord: int = 2

    @property
    def degree(self) -> int:
        """See `scaling_of`."""
        return self.ord

    def layer(self, layer: Layer, gradients: LayerGradients) -> Tensor:
        """Sum powers."""
        return gradients.power_sum(self.ord)

    def total(self, layers: Sequence[Layer], parts: list[Tensor]) -> Tensor:
        """Add up and take the root."""
        total = _sum(parts)
        return total if self.ord == 1 else total.sqrt()


@dataclass(frozen=True)
class Dense:
    """The matrix of gradients, (n_rows, n_parameters)."""

    degree: ClassVar[int] = 1

    def layer(self, layer: Layer, gradients: LayerGradients) -> Tensor:
        """Build the layer's columns."""
        return gradients.dense()

    def total(self, layers: Sequence[Layer], parts: list[Tensor]) -> Tensor:
        """Lay them side by side."""
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


@dataclass(frozen=True)
class InnerProduct:
    """Inner products with one direction, (n_rows,)."""

    direction: dict[str, Tensor]  # (n_parameters,) by layer name

    degree: ClassVar[int] = 1

    def layer(self, layer: Layer, gradients: LayerGradients) -> Tensor:
        """Multiply with the layer's part."""
        return gradients.dot(self.direction[layer.name])

    def total(self, layers: Sequence[Layer], parts: list[Tensor]) -> Tensor:
        """Add up."""
        return _sum(parts)


@dataclass(frozen=True)
class Kept:
    """The gradients themselves, factored, by layer name; memory of the whole batch."""

    def layer(self, layer: Layer, gradients: LayerGradients) -> LayerGradients:
        """Keep them."""
        return gradients

    def total(
        self, layers: Sequence[Layer], parts: list[LayerGradients]
    ) -> dict[str, LayerGradients]:
        """Name them."""
        return {layer.name: part for layer, part in zip(layers, parts, strict=True)}


@dataclass(frozen=True)
class Gram:
    """Inner products with every row of another batch, (n_rows, n_rows_of_other)."""

    other: dict[str, LayerGradients]  # what `Kept` gave for the other batch

    degree: ClassVar[int] = 1

    def layer(self, layer: Layer, gradients: LayerGradients) -> Tensor:
        """Multiply layer by layer."""
        return gradients.gram(self.other[layer.name])

    def total(self, layers: Sequence[Layer], parts: list[Tensor]) -> Tensor:
        """Add up."""
        return _sum(parts)


@dataclass(frozen=True)
class Inputs:
    """What flows into the layers, each scaled to unit norm, side by side (n_rows, n_inputs)."""

    def layer(self, layer: Layer, gradients: LayerGradients) -> Tensor:
        """Scale a layer's input."""
        return unit_rows(gradients.inputs())

    def total(self, layers: Sequence[Layer], parts: list[Tensor]) -> Tensor:
        """Lay them side by side."""
        return torch.cat(parts, 1)


@dataclass(frozen=True)
class Total:
    """The sum over the rows of a batch, by layer name, (n_parameters,) each."""

    def layer(self, layer: Layer, gradients: LayerGradients) -> Tensor:
        """Sum the rows."""
        return gradients.summed()

    def total(self, layers: Sequence[Layer], parts: list[Tensor]) -> dict[str, Tensor]:
        """Name them."""
        return {layer.name: part for layer, part in zip(layers, parts, strict=True)}


@dataclass(frozen=True)
class Projected:
    """A random projection of the gradients, (n_rows, n_components)."""

    projection: SeededProjection
    places: dict[str, int]  # the number of each layer among those of the net, which picks its signs

    degree: ClassVar[int] = 1

    def layer(self, layer: Layer, gradients: LayerGradients) -> Tensor:
        """Project one layer."""
        return gradients.project(self.projection.of_layer(self.places[layer.name]))

    def total(self, layers: Sequence[Layer], parts: list[Tensor]) -> Tensor:
        """Add up and scale, so that inner products are unbiased."""
        return _sum(parts) / math.sqrt(self.projection.n_components)


def _sum(parts: list[Tensor]) -> Tensor:
    return sum(parts[1:], parts[0])
