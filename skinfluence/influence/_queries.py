"""Which training rows matter for given rows: rankings of an influence matrix."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinfluence.rows._parameters import check_positive_integer


def strongest(influence: NDArray[Any], k: int, *, helpful: bool) -> NDArray[np.intp]:
    """Rank the training rows for every query row.

    Parameters
    ----------
    influence : ndarray of shape (n_query, n_train)
        Positive = the training row lowers the query's loss.
    k : int
        How many, at most n_train.
    helpful : bool
        Whether to start from the largest or from the smallest.

    Returns
    -------
    ndarray of shape (n_query, k)
        Numbers of training rows, strongest first; ties in the order of the rows.

    Raises
    ------
    ValueError
        If k is no integer from 1 to n_train.
    """
    check_positive_integer("k", k)
    if k > influence.shape[1]:
        raise ValueError(
            f"Got k={k}, but there are {influence.shape[1]} training rows to choose from."
        )
    order = np.argsort(-influence if helpful else influence, axis=1, kind="stable")
    return order[:, :k]


class InfluenceQueries:
    """`proponents` and `opponents` for estimators with ``influence(X, y)``."""

    influence: Any

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
        return strongest(self.influence(X, y), k, helpful=True)

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
        return strongest(self.influence(X, y), k, helpful=False)
