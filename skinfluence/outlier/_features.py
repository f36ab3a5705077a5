"""What a detector judges of rows: gradients along a training, and how they differ before it."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skinfluence.gradients._embedding import EmbeddingSettings
from skinfluence.gradients._readings import Inputs, TensorReading
from skinfluence.outlier._contrast import NeighborContrast
from skinfluence.rows._containers import check_finite
from skinfluence.rows._rows import Rows
from skinfluence.trace._training_trace import TrainingTrace


class TrainingFeatures(NamedTuple):
    """Features of the rows trained on, and what those of other rows need.

    Attributes
    ----------
    values : ndarray of shape (n_samples, n_components) or (n_samples,)
    strategy : dict of str to str
        The route each layer took.
    contrast : NeighborContrast or None
    """

    values: NDArray[Any]
    strategy: dict[str, str]
    contrast: NeighborContrast | None


def training_features(
    net: Any,
    trace: TrainingTrace | None,
    rows: Rows,
    settings: EmbeddingSettings,
    *,
    n_neighbors: int | None,
    reading: TensorReading | None = None,
) -> TrainingFeatures:
    """Compute the features of the rows that a net was trained on.

    Parameters
    ----------
    net : NeuralNet
        Fitted.
    trace : TrainingTrace or None
        None is enough without neighbors.
    rows : Rows
    settings : EmbeddingSettings
    n_neighbors : int or None
        How many neighbors' gradients before training to subtract; None for no contrast.
    reading : Reading, optional
        What to read off the gradients in the place of the embedding.

    Returns
    -------
    TrainingFeatures

    Raises
    ------
    ValueError
        If a gradient is not finite.
    """
    gathered = settings.gather(net, rows, reading)
    values = gathered.values
    if values.ndim == 2:
        check_finite(values, "The gradient embedding")
    if n_neighbors is None:
        return TrainingFeatures(values, gathered.strategy, None)
    assert trace is not None
    contrast = NeighborContrast(n_neighbors, *_before_training(net, trace, rows, settings))
    return TrainingFeatures(values + contrast.of_training_rows(), gathered.strategy, contrast)


def features_of(
    net: Any,
    trace: TrainingTrace | None,
    rows: Rows,
    settings: EmbeddingSettings,
    *,
    contrast: NeighborContrast | None,
    reading: TensorReading | None = None,
) -> NDArray[Any]:
    """Compute the features of rows not trained on, as `training_features` does of those that were.

    Parameters
    ----------
    net, trace, rows, settings, reading
        As for `training_features`.
    contrast : NeighborContrast or None
        Of the training rows.

    Returns
    -------
    ndarray of shape (n_samples, n_components) or (n_samples,)
    """
    values = settings.gather(net, rows, reading).values
    if contrast is None:
        return values
    assert trace is not None
    return np.asarray(values + contrast.of_rows(*_before_training(net, trace, rows, settings)))


def _before_training(
    net: Any, trace: TrainingTrace, rows: Rows, settings: EmbeddingSettings
) -> tuple[NDArray[Any] | None, NDArray[Any], NDArray[Any]]:
    """Give inputs, activations after and gradients before training, for the contrast."""
    inputs = rows.inputs if isinstance(rows.inputs, np.ndarray) else None
    activations = replace(settings, trajectory=None).gather(net, rows, Inputs())
    gradients = settings.at(trace.initial_state).gather(net, rows)
    return inputs, activations.values, gradients.values
