"""What a detector judges of rows: gradients along a training, and how they differ before it."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from sklearn.neighbors import NearestNeighbors

from skinfluence.gradients._embedding import EmbeddingSettings
from skinfluence.gradients._outputs import input_table
from skinfluence.gradients._readings import Inputs, TensorReading
from skinfluence.rows._containers import center_and_scale, check_finite
from skinfluence.rows._rows import ModelRows
from skinfluence.trace._training_trace import TrainingTrace

# Features have unit norms, and distances of equal rows an error of about 1e-8.
_SAME = 1e-6


class NeighborContrast:
    """Gradients before training, less the mean of those of the nearest training rows."""

    # Before training a net has memorised nothing, so gradients of similar rows differ by their
    # labels alone. The difference stays where a later gradient has vanished because the net has
    # learnt a wrong label by heart; the later gradient stays where similar inputs are not found.
    # A row is near where its inputs (standardised, of unit norm; None if they are not of one size)
    # and the activations that the trained net makes of them (of unit norm) both are.

    def __init__(
        self,
        n_neighbors: int,
        inputs: np.ndarray | None,
        activations: np.ndarray,
        gradients: np.ndarray,
    ) -> None:
        self._gradients = gradients
        if inputs is not None:
            table = inputs.reshape(len(inputs), -1)
            self._center, self._scale = center_and_scale(table)
        self._count = min(n_neighbors, len(gradients) - 1)
        features = self._features(inputs, activations)
        self._search = NearestNeighbors(n_neighbors=self._count).fit(features)

    def of_training_rows(self) -> np.ndarray:
        """Contrast each training row with the others: (n_samples, n_components)."""
        return self._less_mean(self._gradients, self._search.kneighbors(return_distance=False))

    def of_rows(
        self, inputs: np.ndarray | None, activations: np.ndarray, gradients: np.ndarray
    ) -> np.ndarray:
        """Contrast rows with the training rows; one that is the same row is left out."""
        distance, near = self._search.kneighbors(
            self._features(inputs, activations), self._count + 1
        )
        first = (distance[:, :1] < _SAME).astype(np.intp)  # a row is not its own neighbor
        columns = first + np.arange(self._count)
        return self._less_mean(gradients, np.take_along_axis(near, columns, axis=1))

    def _less_mean(self, gradients: np.ndarray, near: np.ndarray) -> np.ndarray:
        mean = np.zeros_like(gradients)
        for neighbor in near.T:  # one at a time: (n, k, width) would be k embeddings
            mean += self._gradients[neighbor]
        contrast: np.ndarray = gradients - mean / near.shape[1]
        return contrast

    def _features(self, inputs: np.ndarray | None, activations: np.ndarray) -> np.ndarray:
        n_inputs = 0 if inputs is None else len(self._center)
        features = np.empty((len(activations), n_inputs + activations.shape[1]))
        left, right = features[:, :n_inputs], features[:, n_inputs:]
        if inputs is not None:
            np.subtract(inputs.reshape(len(inputs), -1), self._center, out=left)
            left /= self._scale
        right[:] = activations
        for part in (left, right):
            norms = np.sqrt(np.einsum("ij,ij->i", part, part))[:, np.newaxis]
            np.divide(part, np.where(norms > 0, norms, 1.0), out=part)
        return features


class TrainingFeatures(NamedTuple):
    """Features of the rows trained on, and what those of other rows need."""

    values: np.ndarray  # (n_samples, n_components), or (n_samples,) where norms are read
    strategy: dict[str, str]  # the route each layer took
    contrast: NeighborContrast | None


def training_features(
    net: Any,
    trace: TrainingTrace | None,
    rows: ModelRows,
    settings: EmbeddingSettings,
    *,
    n_neighbors: int | None,
    reading: TensorReading | None = None,
) -> TrainingFeatures:
    """Compute the features of the rows trained on; with neighbors, the contrast is added."""
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
    rows: ModelRows,
    settings: EmbeddingSettings,
    *,
    contrast: NeighborContrast | None,
    reading: TensorReading | None = None,
) -> np.ndarray:
    """Compute the features of other rows, with the contrast of the training rows."""
    values = settings.gather(net, rows, reading).values
    if contrast is None:
        return values
    assert trace is not None
    return np.asarray(values + contrast.of_rows(*_before_training(net, trace, rows, settings)))


def _before_training(
    net: Any, trace: TrainingTrace, rows: ModelRows, settings: EmbeddingSettings
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Give inputs, activations after and gradients before training, for the contrast."""
    if not trace.initial_state:
        raise ValueError(
            "The net brings no state from before its training, with which neighbors are compared. "
            "Set n_neighbors=None, or give from_torch an initial_state."
        )
    inputs = input_table(net, *rows, settings.batch_size, settings.max_bytes)
    activations = replace(settings, trajectory=None).gather(net, rows, Inputs())
    gradients = settings.at(trace.initial_state).gather(net, rows)
    return inputs, activations.values, gradients.values
