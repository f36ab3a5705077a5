"""Which gradients a method looks at: layers, checkpoints, normalisation, width."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from skinfluence.gradients._passes import (
    BatchLoop,
    Gathered,
    Trajectory,
    check_matrix_fits,
    cross_products,
    gather,
    mean_gradient,
)
from skinfluence.gradients._projection import Projection
from skinfluence.gradients._readings import Dense, Projected, Reading
from skinfluence.gradients._skorch import Net
from skinfluence.gradients._trajectory import MeanOf
from skinfluence.rows._parameters import check_parameter
from skinfluence.rows._rows import Rows

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

    def gather(self, net: Net, rows: Rows, reading: Reading | None = None) -> Gathered:
        """Compute the gradient embedding of rows, or read something else off the gradients.

        Parameters
        ----------
        net : NeuralNet
            Fitted.
        rows : Rows
        reading : Reading, optional
            In the place of the embedding.

        Returns
        -------
        Gathered
            With values of shape (n_samples, n_components), or what the reading gives.
        """

        def choose(loop: BatchLoop, n_rows: int) -> Reading:
            return self._embedding(loop, n_rows) if reading is None else reading

        return gather(
            net,
            rows.inputs,
            rows.targets,
            choose,
            layers=self.layers,
            batch_size=self.batch_size,
            trajectory=self.trajectory,
        )

    def at(self, state: Mapping[str, Tensor]) -> "EmbeddingSettings":
        """Give the same settings at one state of the net."""
        normalize = None if self.trajectory is None else self.trajectory.normalize
        return replace(self, trajectory=Trajectory([state], MeanOf(), normalize))

    def mean_gradient(self, net: Net, rows: Rows) -> dict[str, Tensor]:
        """Average the rows' gradients, as a direction for `InnerProduct`."""
        return mean_gradient(
            net,
            rows.inputs,
            rows.targets,
            layers=self.layers,
            batch_size=self.batch_size,
            trajectory=self.trajectory,
        )

    def inner_products(self, net: Net, one: Rows, two: Rows) -> NDArray[np.float64]:
        """Multiply the gradients of some rows with those of others, (n_one, n_two)."""
        products = cross_products(
            net,
            one,
            two,
            layers=self.layers,
            batch_size=self.batch_size,
            trajectory=self.trajectory,
        )
        return products.astype(np.float64)

    def _embedding(self, loop: BatchLoop, n_rows: int) -> Reading:
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
