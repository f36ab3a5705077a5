"""What each training row does for given rows, and which ones matter most."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from skinfluence.methods._base import BaseDetrimentality
from skinfluence.rows._parameters import check_positive_integer
from skinfluence.rows._rows import ModelRows, Rows
from skinfluence.rows._seeds import preserved_random_state


class InfluenceQueries(BaseDetrimentality):
    """Base of the methods that have ``influence(X, y)``: `proponents` and `opponents` rank it."""

    # Every method documents its own, which calls `_answered`.
    influence: Callable[..., NDArray[np.float64]]
    _training_rows: ModelRows

    def _takes_weights(self) -> bool:
        return True  # those of a frozen net's training, too

    def proponents(self, X: Any, y: Any = None, k: int = 5) -> NDArray[np.intp]:
        """Find the training rows that lower the loss of given rows most.

        Parameters
        ----------
        X, y : as for `influence`
        k : int, default=5
            How many for each row.

        Returns
        -------
        ndarray of shape (n_query, k)
            Row numbers of the training set, most helpful first. The last ones may be harmful,
            where fewer than k rows help.
        """
        return _first(-self.influence(X, y), k)

    def opponents(self, X: Any, y: Any = None, k: int = 5) -> NDArray[np.intp]:
        """Find the training rows that raise the loss of given rows most.

        Parameters
        ----------
        X, y : as for `influence`
        k : int, default=5
            How many for each row.

        Returns
        -------
        ndarray of shape (n_query, k)
            Row numbers of the training set, most harmful first. An opponent of one row need not
            be detrimental to the whole.
        """
        return _first(self.influence(X, y), k)

    def _answered(self, X: object, y: object) -> NDArray[np.float64]:
        """Answer `influence`; where rows were split, each part for the rows it was trained on."""
        check_is_fitted(self)
        return self._influence_on_given(Rows.parse(self, X, y, reset=False))

    def _influence_on_given(self, queries: Rows) -> NDArray[np.float64]:
        if hasattr(self, "folds_"):
            return self._join_folds([fold._influence_on_given(queries) for fold in self.folds_])
        with preserved_random_state(), self._threads():
            return self._influence_on(self._trained.coded(queries))

    def _of_whole_rows(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn values of the training rows, the last axis, into those of their whole weight."""
        return values if self._training_weights is None else values * self._training_weights

    @abstractmethod
    def _influence_on(self, queries: ModelRows) -> NDArray[np.float64]:
        """Give (n_query, n_train); positive = the training row lowers the query's loss."""


def _first(values: NDArray[np.float64], k: int) -> NDArray[np.intp]:
    """Give the column numbers of the k smallest values of each row, ties in their order."""
    check_positive_integer("k", k)
    if k > values.shape[1]:
        raise ValueError(
            f"Got k={k}, but there are {values.shape[1]} training rows to choose from."
        )
    return np.argsort(values, axis=1, kind="stable")[:, :k]
