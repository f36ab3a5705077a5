"""Per-sample gradients at several checkpoints of one training, taken together row by row.

Rows are outside, checkpoints inside: factors of one batch at k checkpoints are in memory, and
what is read off them is read off their combination. A mean of outer products is a sum over one
more position, so the mean gradient stays factored and its norm needs no matrix.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from skinfluence.gradients._layers import Layer
from skinfluence.gradients._net_loss import Nested
from skinfluence.gradients._readings import Kept, Part, Reading, Result, scaling_of
from skinfluence.gradients.factors._embedding import EmbeddingGradients
from skinfluence.gradients.factors._layer_gradients import (
    LayerGradients,
    LayerProjection,
    LinearGradients,
    in_blocks,
    power_sum,
)
from skinfluence.gradients.factors._tied import TiedGradients, joined_linears, joined_tables
from skinfluence.gradients.factors._transposed import TransposedGradients
from skinfluence.gradients.routes._capture import Recorder
from skinfluence.gradients.routes._loop import BatchLoop, GradientLoop

Combined = list[tuple[Layer, LayerGradients]]


@dataclass(frozen=True)
class MeanOf:
    """The mean gradient over checkpoints."""

    def layers(self, layers: Sequence[Layer], n_checkpoints: int) -> list[Layer]:
        """Give the layers that `combine` returns."""
        return list(layers)

    def combine(
        self, layers: Sequence[Layer], kept: list[dict[str, LayerGradients]], n_rows: int
    ) -> Combined:
        """Join what each checkpoint gave for a layer."""
        return [
            (layer, mean_of([gradients[layer.name] for gradients in kept], n_rows))
            for layer in layers
        ]


@dataclass(frozen=True)
class SideBySide:
    """The gradients of all checkpoints side by side, each times the root of its learning rate."""

    # Inner products of such gradients are TracIn's sum over checkpoints.
    rates: Sequence[Mapping[str, float]]  # for each checkpoint, of every parameter by name

    def layers(self, layers: Sequence[Layer], n_checkpoints: int) -> list[Layer]:
        """Give the layers that `combine` returns: one for each layer and checkpoint."""
        return [self.named(layer, place) for place in range(n_checkpoints) for layer in layers]

    def combine(
        self, layers: Sequence[Layer], kept: list[dict[str, LayerGradients]], n_rows: int
    ) -> Combined:
        """Scale what each checkpoint gave for a layer."""
        return [
            (
                self.named(layer, place),
                gradients[layer.name].scaled(_alike(self.weight(layer, place), n_rows)),
            )
            for place, gradients in enumerate(kept)
            for layer in layers
        ]

    def weight(self, layer: Layer, place: int) -> float:
        """Give what a layer's gradients at one checkpoint are multiplied with."""
        return math.sqrt(_rate_of(layer, self.rates[place]))

    def named(self, layer: Layer, place: int) -> Layer:
        """Name a layer at one checkpoint."""
        return replace(layer, name=f"{layer.name}@{place}")


Combination = MeanOf | SideBySide


@dataclass(frozen=True)
class _AtCheckpoint:
    """What is read off the gradients of one checkpoint that stand beside those of others."""

    reading: Reading[Any, Any]
    beside: SideBySide
    place: int
    n_rows: int
    has_unit_inputs: bool

    def layer(self, layer: Layer, gradients: LayerGradients) -> Any:
        """Read a layer, scaled before, or after where that is the same."""
        gradients = gradients.with_unit_activations() if self.has_unit_inputs else gradients
        named, weight = self.beside.named(layer, self.place), self.beside.weight(layer, self.place)
        scaling = scaling_of(self.reading, weight)
        if scaling is None:
            return self.reading.layer(named, gradients.scaled(_alike(weight, self.n_rows)))
        return self.reading.layer(named, gradients) * scaling

    def total(self, layers: Sequence[Layer], parts: list[Any]) -> list[Any]:
        """Give the parts of this checkpoint."""
        return parts


class TrajectoryLoop(BatchLoop):
    """Gradients of the same rows at several checkpoints, combined row by row."""

    # Each row's layer inputs ("activations"), or its whole gradient ("gradient"), are scaled to
    # unit norm at every checkpoint. `net_loss` and `strategy` are those at the last checkpoint.
    def __init__(
        self, loops: Sequence[GradientLoop], combination: Combination, normalize: str | None
    ) -> None:
        self._loops = loops
        self._combination = combination
        self._normalize = normalize
        self.layers = combination.layers(loops[0].layers, len(loops))
        self.net_loss, self.strategy = loops[-1].net_loss, loops[-1].strategy

    @property
    def n_parameters(self) -> int:
        """Count the columns of the dense matrix, without biases for unit activations."""
        if self._normalize != "activations":
            return super().n_parameters
        return sum(_n_weights(layer) for layer in self.layers)

    @property
    def rows_at_once(self) -> int:
        """See `BatchLoop`; what is read off all checkpoints is kept, and at times their factors."""
        dense = min(loop.dense_at_once for loop in self._loops) // len(self._loops)
        saved = min(loop.saved_at_once for loop in self._loops)
        return max(1, min(dense, saved if self._is_apart else saved // len(self._loops)))

    @property
    def rows_in_cache(self) -> int:
        """See `BatchLoop`."""
        return self._loops[-1].rows_in_cache

    def leave_factored(self) -> None:
        """See `BatchLoop`."""
        for loop in self._loops:
            loop.leave_factored()

    @contextmanager
    def opened(self) -> Iterator[Sequence[Recorder]]:
        """See `BatchLoop`; one recorder for each checkpoint."""
        with ExitStack() as stack:
            yield [each for loop in self._loops for each in stack.enter_context(loop.opened())]

    def read(
        self,
        recorders: Sequence[Recorder],
        X: Nested,
        y: Tensor,
        reading: Reading[Part, Result],
    ) -> Result:
        """See `BatchLoop`."""
        pairs = list(zip(self._loops, recorders, strict=True))
        beside = self._combination
        if self._is_apart:
            assert isinstance(beside, SideBySide)
            unit = self._normalize == "activations"
            found = [
                loop.read([recorder], X, y, _AtCheckpoint(reading, beside, place, len(y), unit))
                for place, (loop, recorder) in enumerate(pairs)
            ]
            return reading.total(self.layers, [part for parts in found for part in parts])
        kept = [self._normalized(loop.read([recorder], X, y, Kept())) for loop, recorder in pairs]
        combined = self._combination.combine(self._loops[0].layers, kept, len(y))
        parts = [reading.layer(layer, gradients) for layer, gradients in combined]
        return reading.total(self.layers, parts)

    @property
    def _is_apart(self) -> bool:
        """Tell whether each checkpoint is read for itself, so that no gradients are kept."""
        return isinstance(self._combination, SideBySide) and self._normalize != "gradient"

    def _normalized(self, kept: dict[str, LayerGradients]) -> dict[str, LayerGradients]:
        if self._normalize == "activations":
            return {name: part.with_unit_activations() for name, part in kept.items()}
        if self._normalize == "gradient":
            norms = torch.stack([part.power_sum(2) for part in kept.values()]).sum(0).sqrt()
            weights = torch.where(norms > 0, 1 / norms, 0.0)
            return {name: part.scaled(weights) for name, part in kept.items()}
        return kept


@dataclass(frozen=True)
class SummedGradients:
    """A sum of gradients whose factors do not join, such as those of convolutions."""

    parts: Sequence[LayerGradients]  # of the same rows and layer
    n_rows: int

    def power_sum(self, ord: int) -> Tensor:
        """Multiply out a few rows at a time."""
        width = self.parts[0].take(slice(0, 1)).dense().shape[1]
        return in_blocks(lambda rows: power_sum(self.take(rows).dense(), ord), self.n_rows, width)

    def dense(self) -> Tensor:
        """Add the matrices."""
        return self._added(lambda part: part.dense())

    def dot(self, direction: Tensor) -> Tensor:
        """Add the products."""
        return self._added(lambda part: part.dot(direction))

    def gram(self, other: LayerGradients) -> Tensor:
        """Multiply out."""
        return self.dense() @ other.dense().mT

    def project(self, projection: LayerProjection) -> Tensor:
        """Add the projections."""
        return self._added(lambda part: part.project(projection))

    def summed(self) -> Tensor:
        """Add the sums."""
        return self._added(lambda part: part.summed())

    def inputs(self) -> Tensor:
        """Average the parts."""
        return self._added(lambda part: part.inputs()) / len(self.parts)

    def with_unit_activations(self) -> Self:
        """Scale each part."""
        return replace(self, parts=[part.with_unit_activations() for part in self.parts])

    def scaled(self, weights: Tensor) -> Self:
        """Scale each part."""
        return replace(self, parts=[part.scaled(weights) for part in self.parts])

    def take(self, rows: slice) -> Self:
        """Slice each part."""
        parts = [part.take(rows) for part in self.parts]
        return replace(self, parts=parts, n_rows=len(range(*rows.indices(self.n_rows))))

    def _added(self, read: Callable[[LayerGradients], Tensor]) -> Tensor:
        total = read(self.parts[0])
        for part in self.parts[1:]:
            total = total + read(part)
        return total


def mean_of(parts: Sequence[LayerGradients], n_rows: int) -> LayerGradients:
    """Average gradients of the same rows and layer, as factors where that is possible."""
    if len(parts) == 1:
        return parts[0]
    linear = [part for part in parts if isinstance(part, LinearGradients)]
    if len(linear) == len(parts):
        whole = joined_linears(linear)
        return replace(whole, b=whole.b / len(parts))
    turned = [part.linear for part in parts if isinstance(part, TransposedGradients)]
    if len(turned) == len(parts):
        linear_mean = mean_of(turned, n_rows)
        assert isinstance(linear_mean, LinearGradients)
        return TransposedGradients(linear_mean)
    tied = [part for part in parts if isinstance(part, TiedGradients)]
    if len(tied) == len(parts):
        table_mean = mean_of([part.table for part in tied], n_rows)
        linear_mean = mean_of([part.linear for part in tied], n_rows)
        assert isinstance(table_mean, EmbeddingGradients)
        assert isinstance(linear_mean, LinearGradients)
        return TiedGradients(table_mean, linear_mean)
    embedding = [part for part in parts if isinstance(part, EmbeddingGradients)]
    if len(embedding) == len(parts):
        table = joined_tables(embedding)
        return replace(table, b=table.b / len(parts))
    share = torch.full((n_rows,), 1 / len(parts), dtype=torch.float64)
    return SummedGradients([part.scaled(share) for part in parts], n_rows)


def _alike(weight: float, n_rows: int) -> Tensor:
    return torch.full((n_rows,), weight, dtype=torch.float64)


def _n_weights(layer: Layer) -> int:
    names = {name.rsplit(".", 1)[-1]: p.numel() for name, p in layer.parameters.items()}
    return names.get("weight", 0) or layer.n_parameters


def _rate_of(layer: Layer, rates: Mapping[str, float]) -> float:
    found = {rates.get(name, 0.0) for name in layer.parameters}  # 0 if no group holds it
    if len(found) > 1:
        raise ValueError(
            f"The parameters of layer {layer.name} were trained at different learning rates, "
            f"{sorted(found)}, so its gradients have no one weight. Put them into one parameter "
            "group, or leave the layer out of `layers`."
        )
    return found.pop()
