"""Which gradients a method looks at: layers, checkpoints, normalisation, width."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from skinfluence._trained_net import Rows
from skinfluence._validation import check_parameter, check_positive_integer
from skinfluence.gradients._gather import (
    BatchLoop,
    Gathered,
    Trajectory,
    check_matrix_fits,
    cross_products,
    gather,
    mean_gradient,
)
from skinfluence.gradients._readings import Dense, Projected, Reading
from skinfluence.gradients._trajectory import MeanOf, SideBySide
from skinfluence.projection import Projection
from skinfluence.trace import TraceRecorder, TrainingTrace

# The width that n_components="auto" keeps.
_AUTO_COMPONENTS = 1024


def check_n_components(n_components: Any) -> None:
    """Refuse an `n_components` that is neither "auto" nor None nor a positive integer.

    Parameters
    ----------
    n_components : "auto", None or int

    Raises
    ------
    ValueError
        With the value.
    """
    if n_components is not None and n_components != "auto":
        check_positive_integer("n_components", n_components)


def check_checkpoints(checkpoints: Any) -> None:
    """Refuse `checkpoints` other than "last", "all" and a positive integer.

    Parameters
    ----------
    checkpoints : "last", "all" or int

    Raises
    ------
    ValueError
        With the value.
    """
    if checkpoints not in {"last", "all"}:
        check_positive_integer("checkpoints", checkpoints)


def check_gradient_settings(estimator: Any) -> None:
    """Check the parameters that `GradientEmbedding` shares with methods on it.

    Parameters
    ----------
    estimator : estimator

    Raises
    ------
    ValueError
        Naming the parameter and its value.
    """
    check_positive_integer("batch_size", estimator.batch_size)
    check_positive_integer("max_bytes", estimator.max_bytes)
    check_n_components(estimator.n_components)
    check_checkpoints(estimator.checkpoints)
    check_normalize(estimator.normalize)


def check_normalize(normalize: Any) -> None:
    """Refuse an unknown `normalize`.

    Parameters
    ----------
    normalize : {None, "activations", "gradient"}
    """
    check_parameter(
        "normalize",
        normalize,
        'None, "activations" or "gradient"',
        holds=lambda value: value in {None, "activations", "gradient"},
    )


def check_combine(combine: Any) -> None:
    """Refuse an unknown `combine`.

    Parameters
    ----------
    combine : {"mean", "concat"}
    """
    check_parameter(
        "combine", combine, '"mean" or "concat"', holds=lambda value: value in {"mean", "concat"}
    )


def recorder_of(checkpoints: int | str, combine: str = "mean") -> TraceRecorder | None:
    """Say what must be recorded for gradients at some checkpoints.

    Parameters
    ----------
    checkpoints : "last", "all" or int
    combine : {"mean", "concat"}

    Returns
    -------
    TraceRecorder or None
        None if the trained net alone is enough.
    """
    if checkpoints == "last" and combine == "mean":
        return None
    return TraceRecorder(checkpoints=checkpoints)


def trajectory_of(
    trace: TrainingTrace | None, checkpoints: int | str, *, combine: str, normalize: str | None
) -> Trajectory | None:
    """Choose checkpoints of a trace and how to combine the gradients there.

    Parameters
    ----------
    trace : TrainingTrace or None
        None where `recorder_of` asks for none.
    checkpoints : "last", "all" or int
    combine : {"mean", "concat"}
    normalize : {None, "activations", "gradient"}

    Returns
    -------
    Trajectory or None
        None for plain gradients at the net's present parameters.
    """
    if combine == "concat":
        assert trace is not None
        chosen = trace.evenly_spaced(checkpoints)
        weighted = SideBySide([trace.rates_of(checkpoint) for checkpoint in chosen])
        return Trajectory([checkpoint.state for checkpoint in chosen], weighted, normalize)
    if checkpoints == "last":
        return None if normalize is None else Trajectory([None], MeanOf(), normalize)
    assert trace is not None
    states = [checkpoint.state for checkpoint in trace.evenly_spaced(checkpoints)]
    return Trajectory(list(states), MeanOf(), normalize)


@dataclass(frozen=True)
class EmbeddingSettings:
    """How rows become gradients and gradients a matrix; see `GradientEmbedding`."""

    layers: str | Sequence[str]
    n_components: int | str | None
    projection_seed: int
    max_bytes: int
    batch_size: int
    trajectory: Trajectory | None = None

    def gather(self, net: Any, rows: Rows, reading: Reading | None = None) -> Gathered:
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

    def mean_gradient(self, net: Any, rows: Rows) -> dict[str, Tensor]:
        """Average the rows' gradients, as a direction for `InnerProduct`."""
        return mean_gradient(
            net,
            rows.inputs,
            rows.targets,
            layers=self.layers,
            batch_size=self.batch_size,
            trajectory=self.trajectory,
        )

    def inner_products(self, net: Any, one: Rows, two: Rows) -> NDArray[np.float64]:
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
