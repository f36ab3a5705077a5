"""What a row's gradient before training says against those of the rows like it.

Before training a net has memorised nothing, so gradients of similar rows differ by their labels
alone. The difference stays where a later gradient has vanished because the net has learnt a wrong
label by heart; the later gradient stays where similar inputs are not to be found.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

# Features have unit norms, and distances of equal rows an error of about 1e-8.
_SAME = 1e-6


class NeighborContrast:
    """Gradients less the mean gradient of the nearest training rows.

    Parameters
    ----------
    n_neighbors : int
        At most all other training rows.
    inputs : ndarray of shape (n_samples, ...) or None
        Of the training rows; standardised and scaled to unit norm. None where they are no numbers.
    activations : ndarray of shape (n_samples, n_activations)
        What the trained net makes of them, of unit norm. A row is near where both are.
    gradients : ndarray of shape (n_samples, n_components)
        Of the training rows, before training.
    """

    def __init__(
        self,
        n_neighbors: int,
        inputs: NDArray[Any] | None,
        activations: NDArray[Any],
        gradients: NDArray[Any],
    ) -> None:
        self._gradients = gradients
        if inputs is not None:
            table = inputs.reshape(len(inputs), -1)
            self._center = table.mean(0, dtype=np.float64)
            scale = table.std(0, dtype=np.float64)
            # a constant column is only centred
            self._scale = np.where(scale > 1e-6 * np.abs(self._center), scale, 1.0)
        self._count = min(n_neighbors, len(gradients) - 1)
        features = self._features(inputs, activations)
        self._search = NearestNeighbors(n_neighbors=self._count).fit(features)

    def of_training_rows(self) -> NDArray[Any]:
        """Contrast each training row with the others.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
        """
        return self._less_mean(self._gradients, self._search.kneighbors(return_distance=False))

    def of_rows(
        self, inputs: NDArray[Any] | None, activations: NDArray[Any], gradients: NDArray[Any]
    ) -> NDArray[Any]:
        """Contrast rows with the training rows; one that is the same row is left out.

        Parameters
        ----------
        inputs, activations, gradients
            As for the class, of these rows.

        Returns
        -------
        ndarray of shape (n_rows, n_components)
        """
        distance, near = self._search.kneighbors(
            self._features(inputs, activations), self._count + 1
        )
        first = (distance[:, :1] < _SAME).astype(np.intp)  # a row is not its own neighbor
        columns = first + np.arange(self._count)
        return self._less_mean(gradients, np.take_along_axis(near, columns, axis=1))

    def _less_mean(self, gradients: NDArray[Any], near: NDArray[Any]) -> NDArray[Any]:
        mean = np.zeros_like(gradients)
        for neighbor in near.T:  # one at a time: (n, k, width) would be k embeddings
            mean += self._gradients[neighbor]
        contrast: NDArray[Any] = gradients - mean / near.shape[1]
        return contrast

    def _features(self, inputs: NDArray[Any] | None, activations: NDArray[Any]) -> NDArray[Any]:
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
