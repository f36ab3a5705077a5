"""Which gradients a method looks at: layers, checkpoints, normalisation, width."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skinfluence.gradients._net_loss import Batch, take_rows
from skinfluence.gradients._passes import (
    Gathered,
    Started,
    Trajectory,
    check_matrix_fits,
    gather,
    start,
)
from skinfluence.gradients._projection import Projection
from skinfluence.gradients._readings import Dense, Gram, Kept, Projected, TensorReading, Total
from skinfluence.gradients._skorch import Net, as_dataset
from skinfluence.gradients._states import State
from skinfluence.gradients._trajectory import MeanOf
from skinfluence.gradients.routes._loop import BatchLoop, slices
from skinfluence.rows._parameters import check_parameter
from skinfluence.rows._rows import ModelRows
from skinfluence.rows._seeds import preserved_random_state

# The width that n_components="auto" keeps.
_AUTO_COMPONENTS = 1024


@dataclass(frozen=True)
class EmbeddingSettings:
    """How rows become gradients and gradients a matrix; see `GradientEmbedding`."""

    layers: str | Sequence[str]
    n_components: int | str | None
    projection_seed: int
    max_bytes: int
    batch_size: int
    trajectory: Trajectory | None = None

    def gather(self, net: Net, rows: ModelRows, reading: TensorReading | None = None) -> Gathered:
        """Compute the gradient embedding of rows, or read something else off the gradients."""

        def choose(loop: BatchLoop, n_rows: int) -> TensorReading:
            return self._embedding(loop, n_rows) if reading is None else reading

        return gather(
            net,
            *rows,
            choose,
            layers=self.layers,
            batch_size=self.batch_size,
            trajectory=self.trajectory,
        )

    def at(self, state: State) -> "EmbeddingSettings":
        """Give the same settings at one state of the net."""
        normalize = None if self.trajectory is None else self.trajectory.normalize
        return replace(self, trajectory=Trajectory([state], MeanOf(), normalize))

    def mean_gradient(
        self, net: Net, rows: ModelRows, weights: NDArray[np.float64] | None = None
    ) -> dict[str, Tensor]:
        """Average the rows' gradients, by weights of mean one, for `InnerProduct`."""
        total: dict[str, Tensor] = {}
        with preserved_random_state():
            loop, batches, _ = self._start(net, rows)
            sums: Iterable[dict[str, Tensor]] = loop.batches(batches, Total())
            if weights is not None:
                sums = _weighted_sums(loop, batches, torch.from_numpy(weights))
            for part in sums:
                total = {name: total[name] + g if total else g for name, g in part.items()}
        n_rows = len(as_dataset(net, *rows))
        return {name: gradient / n_rows for name, gradient in total.items()}

    def inner_products(self, net: Net, one: ModelRows, two: ModelRows) -> NDArray[np.float64]:
        """Multiply the gradients of some rows with those of others: (n_one, n_two)."""
        with preserved_random_state():
            loop, batches, _ = self._start(net, one)
            blocks = [
                self.gather(net, two, Gram(kept)).values.T for kept in loop.batches(batches, Kept())
            ]
        return np.concatenate(blocks).astype(np.float64)

    def _start(self, net: Net, rows: ModelRows) -> Started:
        return start(
            net,
            *rows,
            layers=self.layers,
            batch_size=self.batch_size,
            trajectory=self.trajectory,
        )

    def _embedding(self, loop: BatchLoop, n_rows: int) -> TensorReading:
        width = loop.n_parameters
        if self.n_components == "auto":
            columns = min(width, _AUTO_COMPONENTS)
        elif self.n_components is None:
            columns = width
        else:
            columns = int(self.n_components)
            check_parameter(
                "n_components",
                columns,
                f"at most {width}, the number of parameters of the chosen layers",
                holds=lambda value: value <= width,
                fix="None keeps the full width.",
            )
        check_matrix_fits(loop, n_rows, columns, self.max_bytes)
        if columns == width:
            return Dense()
        places = {layer.name: place for place, layer in enumerate(loop.layers)}
        return Projected(Projection(columns, self.projection_seed), places)


def _weighted_sums(
    loop: BatchLoop, batches: Iterable[Batch], weights: Tensor
) -> Iterator[dict[str, Tensor]]:
    """Yield what `Total` reads off rows that count as often as they weigh."""
    start = 0
    for X, y in batches:
        for rows in slices(len(y), loop.rows_at_once):
            part = take_rows(X, rows), y[rows]
            (kept,) = loop.batches([part], Kept())
            heavy = weights[start : start + len(part[1])]
            start += len(heavy)
            yield {name: gradients.scaled(heavy).summed() for name, gradients in kept.items()}
