"""What is read off per-sample gradients, layer by layer, while the backward pass goes on.

A reading turns the gradients of one layer into something small, and the parts of all layers into
the result of the batch. Readings compose: `UnitGradient(InnerProduct(direction))` is a cosine up
to the length of the direction.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from skinfluence.gradients._layers import Layer
from skinfluence.gradients.factors._layer_gradients import (
    LayerGradients,
    LayerProjection,
    unit_rows,
)


class Reading(Protocol):
    """One quantity of a batch."""

    def layer(self, layer: Layer, gradients: LayerGradients) -> Any:
        """Read one layer."""
        ...

    def total(self, layers: Sequence[Layer], parts: list[Any]) -> Any:
        """Put the parts of all layers together, given in the order of the layers."""
        ...


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
    """The norm of each row's whole gradient, (n_rows,).

    Attributes
    ----------
    ord : {1, 2}
    """

    ord: int = 2

    def layer(self, layer: Layer, gradients: LayerGradients) -> Tensor:
        """Sum powers; see `Reading`."""
        return gradients.power_sum(self.ord)

    def total(self, layers: Sequence[Layer], parts: list[Tensor]) -> Tensor:
        """Add up and take the root; see `Reading`."""
        total = _sum(parts)
        return total if self.ord == 1 else total.sqrt()


@dataclass(frozen=True)
class Dense:
    """The matrix of gradients, (n_rows, n_parameters)."""

    def layer(self, layer: Layer, gradients: LayerGradients) -> Tensor:
        """Build the layer's columns; see `Reading`."""
        return gradients.dense()

    def total(self, layers: Sequence[Layer], parts: list[Tensor]) -> Tensor:
        """Lay them side by side; see `Reading`."""
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


@dataclass(frozen=True)
class InnerProduct:
    """Inner products with one direction, (n_rows,).

    Attributes
    ----------
    direction : dict of str to Tensor of shape (n_parameters,)
        By layer name.
    """

    direction: dict[str, Tensor]

    def layer(self, layer: Layer, gradients: LayerGradients) -> Tensor:
        """Multiply with the layer's part; see `Reading`."""
        return gradients.dot(self.direction[layer.name])

    def total(self, layers: Sequence[Layer], parts: list[Tensor]) -> Tensor:
        """Add up; see `Reading`."""
        return _sum(parts)


@dataclass(frozen=True)
class Kept:
    """The gradients themselves, factored, by layer name; memory of the whole batch."""

    def layer(self, layer: Layer, gradients: LayerGradients) -> LayerGradients:
        """Keep them; see `Reading`."""
        return gradients

    def total(
        self, layers: Sequence[Layer], parts: list[LayerGradients]
    ) -> dict[str, LayerGradients]:
        """Name them; see `Reading`."""
        return {layer.name: part for layer, part in zip(layers, parts, strict=True)}


@dataclass(frozen=True)
class Gram:
    """Inner products with every row of another batch, (n_rows, n_rows_of_other).

    Attributes
    ----------
    other : dict of str to LayerGradients
        What `Kept` gave for the other batch.
    """

    other: dict[str, LayerGradients]

    def layer(self, layer: Layer, gradients: LayerGradients) -> Tensor:
        """Multiply layer by layer; see `Reading`."""
        return gradients.gram(self.other[layer.name])

    def total(self, layers: Sequence[Layer], parts: list[Tensor]) -> Tensor:
        """Add up; see `Reading`."""
        return _sum(parts)


@dataclass(frozen=True)
class Inputs:
    """What flows into the layers, each scaled to unit norm, side by side (n_rows, n_inputs)."""

    def layer(self, layer: Layer, gradients: LayerGradients) -> Tensor:
        """Scale a layer's input; see `Reading`."""
        return unit_rows(gradients.inputs())

    def total(self, layers: Sequence[Layer], parts: list[Tensor]) -> Tensor:
        """Lay them side by side; see `Reading`."""
        return torch.cat(parts, 1)


@dataclass(frozen=True)
class Total:
    """The sum over the rows of a batch, by layer name, (n_parameters,) each."""

    def layer(self, layer: Layer, gradients: LayerGradients) -> Tensor:
        """Sum the rows; see `Reading`."""
        return gradients.summed()

    def total(self, layers: Sequence[Layer], parts: list[Tensor]) -> dict[str, Tensor]:
        """Name them; see `Reading`."""
        return {layer.name: part for layer, part in zip(layers, parts, strict=True)}


@dataclass(frozen=True)
class Projected:
    """A random projection of the gradients, (n_rows, n_components).

    Attributes
    ----------
    projection : SeededProjection
    places : dict of str to int
        The number of each layer among those of the net, which picks its signs.
    """

    projection: SeededProjection
    places: dict[str, int]

    def layer(self, layer: Layer, gradients: LayerGradients) -> Tensor:
        """Project one layer; see `Reading`."""
        return gradients.project(self.projection.of_layer(self.places[layer.name]))

    def total(self, layers: Sequence[Layer], parts: list[Tensor]) -> Tensor:
        """Add up and scale, so that inner products are unbiased; see `Reading`."""
        return _sum(parts) / math.sqrt(self.projection.n_components)


@dataclass(frozen=True)
class UnitGradient:
    """Another reading of gradients scaled to unit norm over all layers together.

    Attributes
    ----------
    reading : Reading
        One that is linear in the gradient. A row whose gradient is zero reads as zero.
    """

    reading: Reading

    def layer(self, layer: Layer, gradients: LayerGradients) -> tuple[Tensor, Any]:
        """Read the squared norm too; see `Reading`."""
        return gradients.power_sum(2), self.reading.layer(layer, gradients)

    def total(self, layers: Sequence[Layer], parts: list[tuple[Tensor, Any]]) -> Tensor:
        """Divide by the norm; see `Reading`."""
        norm = _sum([squares for squares, _ in parts]).sqrt()
        total: Tensor = self.reading.total(layers, [part for _, part in parts])
        scale = torch.where(norm > 0, norm, 1.0)
        scaled: Tensor = total / scale.view(-1, *(1 for _ in total.shape[1:]))
        return scaled


@dataclass(frozen=True)
class UnitActivations:
    """Another reading, of Linear and Conv layers with inputs scaled to unit norm, bias left out.

    Attributes
    ----------
    reading : Reading
    """

    reading: Reading

    def layer(self, layer: Layer, gradients: LayerGradients) -> Any:
        """Scale, then read; see `Reading`."""
        return self.reading.layer(layer, gradients.with_unit_activations())

    def total(self, layers: Sequence[Layer], parts: list[Any]) -> Any:
        """As the other reading; see `Reading`."""
        return self.reading.total(layers, parts)


def _sum(parts: list[Tensor]) -> Tensor:
    return sum(parts[1:], parts[0])
