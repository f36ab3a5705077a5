"""The Shapley value of every row for a nearest-neighbour classifier, exactly."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, issparse

from skinfluence.methods._base import BaseDetrimentality
from skinfluence.rows._folds import check_validation_rule
from skinfluence.rows._parameters import check_positive_integer
from skinfluence.rows._progress import told
from skinfluence.rows._rows import ModelRows, Rows
from skinfluence.rows._weights import Weights
from skinfluence.rows._words import holds_words
from skinfluence.valuation._kernel_gap import Table, blocks, dense
from skinfluence.valuation._rows import (
    check_features,
    coded_rows,
    feature_map,
    score_or_swap,
)

# Distances held at a time: 32 MiB of float64.
_BLOCK_DISTANCES = 2**22
_BLOCK_NUMBERS = 2**22


def knn_shapley_values(
    X: Table,
    y: np.ndarray,
    X_val: Table,
    y_val: np.ndarray,
    *,
    k: int,
    weights: Weights = None,
    judging_weights: Weights = None,
) -> NDArray[np.float64]:
    """Compute each training row's Shapley value in the utility of k neighbours; large = helpful."""
    # The utility of a subset S of the training rows is the share of right votes, averaged over
    # the validation rows v: U(S) = mean_v 1/k sum_{j <= min(k, |S|)} [y of v's j-th neighbour in S
    # is y_v], with U({}) = 0. Jia et al., theorem 1: with rows sorted by distance, nearest first
    # (of equally distant ones the first is nearer), and m_j telling whether row j has the
    # validation row's label,
    #     s_n = m_n / max(n, k),  s_j = s_{j+1} + (m_j - m_{j+1}) / k * min(k, j) / j.
    #
    # w_j copies of a row follow each other and match alike, so that all have the value of the last
    # of them, at place W_j = w_1 + ... + w_j instead of j; the row's is the sum, w_j s_j.
    n_rows = X.shape[0]
    place = np.arange(1.0, n_rows + 1)
    values = np.zeros(n_rows)
    judged = np.ones(X_val.shape[0]) if judging_weights is None else judging_weights
    if issparse(X):
        X_val = csr_matrix(X_val)
    distances = _product_distances if issparse(X) and holds_words(X) else _distances
    cut = blocks(X_val.shape[0], max(1, _BLOCK_DISTANCES // n_rows))
    for block in told("blocks", list(cut)):
        order = _nearest_first(distances(X_val[block], X))
        matches = (y[order] == y_val[block, np.newaxis]).astype(np.float64)
        if weights is not None:
            place = np.cumsum(weights[order], axis=1)
        share = 1 / np.maximum(place, k)  # min(k, place) / (k place)
        matches[:, :-1] -= matches[:, 1:]
        sums = np.cumsum((matches * share)[:, ::-1], axis=1)[:, ::-1]
        for nearest_first, of_row, says in zip(order, sums, judged[block], strict=True):
            values[nearest_first] += says * of_row
    values /= X_val.shape[0]
    return values if weights is None else values * weights


def _nearest_first(distances: NDArray[np.float64]) -> NDArray[np.intp]:
    """Sort each row, ties in the order given; a stable sort takes three times as long."""
    order = np.argsort(distances, axis=1)
    ranked = np.take_along_axis(distances, order, axis=1)
    tied = (ranked[:, 1:] == ranked[:, :-1]).any(axis=1)
    order[tied] = np.argsort(distances[tied], axis=1, kind="stable")
    return order


def _product_distances(A: csr_matrix, B: csr_matrix) -> NDArray[np.float64]:
    """Do what `_distances` does by sparse products, of words, which lie around the origin."""
    A, B = A.astype(np.float64), B.astype(np.float64)
    squares = np.asarray(B.multiply(B).sum(axis=1)).ravel()
    return np.asarray(squares - 2 * (A @ B.T).toarray())


def _distances(A: Table, B: Table) -> NDArray[np.float64]:
    """Square distances, less a constant for each row of `A`; float64 block by block."""
    # far from the origin the square would drown them
    center = np.asarray(B.mean(axis=0, dtype=np.float64)).ravel()
    A = dense(A) - center
    distances = np.empty((len(A), B.shape[0]))
    for rows in blocks(B.shape[0], min(4096, max(1, _BLOCK_NUMBERS // B.shape[1]))):
        centered = dense(B[rows]) - center
        distances[:, rows] = np.einsum("ij,ij->i", centered, centered) - 2 * (A @ centered.T)
    return distances


class KNNShapley(BaseDetrimentality):
    """Score training rows by their Shapley value for a nearest-neighbour classifier.

    Answers: does removing the row raise validation accuracy, over all orders of removal? For
    mislabelled rows it does, so it finds them well. The Shapley value, an average over all
    subsets of the training rows, has an exact recursion for this classifier: no retraining.

    Parameters
    ----------
    net : NeuralNet, FrozenEstimator or None, default=None
        For ``features="penultimate"`` only, as for `GradientEmbedding`; else neither used nor
        trained.
    k : int, default=5
        Neighbours that vote.
    features : {"raw", "penultimate"}, default="raw"
        Measure distances between inputs as they are, or between what the last layer of `net` sees
        of them. Standardise the columns of a table first.
    validation : "cross" or float, default="cross"
        Used if fit gets no X_val: two folds of the training rows validate each other, or that
        share is held out and scored by the other rows. Then `detrimentality_` is a row's quantile
        within its fold. Trusted X_val, y_val are better: the labels of the folds are noisy, too.
    batch_size : int, default=1024
        Most rows per pass through the net; on a processor it takes fewer where they would not fit
        its caches. It changes memory and speed, not the result.
    task : {"classification", "regression"}, optional
        What the targets are, where no net or estimator of your own says it. By default their
        values tell: floats with a fraction, or more than 20 distinct ones, are numbers.
    random_state : int, RandomState or None, default=None
        Seed of the folds and the training of a net. Global generators are neither used nor changed.
        With X_val and raw features nothing is random.
    verbose : int, default=0
        1 shows on stderr how far the fit is, and the time left. It does not change the result.

    Attributes
    ----------
    detrimentality_ : ndarray of shape (n_samples,)
        Minus the Shapley value, float64, in units of validation accuracy; without X_val, its
        quantile within the fold. Higher = more detrimental; the paper's sign is the opposite.
    ranking_ : ndarray of shape (n_samples,)
        Row numbers, most detrimental first.
    net_ : NeuralNet
        The net whose features are compared, with ``features="penultimate"``; of two folds, the
        second one's.
    classes_ : ndarray of shape (n_classes,)
        The labels.
    n_features_in_ : int
        For arrays and data frames.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        For data frames with string column names.

    Raises
    ------
    ValueError
        From fit: if the target is numeric, or a parameter is out of range.

    See Also
    --------
    DataShapley : The same for any estimator, by sampling.

    Notes
    -----
    With weights of rows, one on the mean, neighbours vote until their weights add up to `k`, and a
    row's value is the sum of those of as many copies of it as it weighs.

    Cost: all distances between training and validation rows, each validation row's sorted;
    memory for 2**22 of them, or those of one validation row. Zero is not a threshold between good
    and bad rows. Equally distant rows are taken in the order given, as far as rounding lets the
    distances be equal. New rows cannot be scored.

    References
    ----------
    Jia, Dao, Wang, Hubis, Gurel, Li, Zhang, Spanos, Song. "Efficient Task-Specific Data Valuation
    for Nearest Neighbor Algorithms". VLDB 2019, arXiv 1908.08619, theorem 1.

    Examples
    --------
    Row 1 is nearest to both validation rows and has the wrong label for both:

    >>> from skinfluence import KNNShapley
    >>> X, y = [[0.0], [2.0], [4.0]], ["a", "b", "a"]
    >>> method = KNNShapley(k=1).fit(X, y, X_val=[[1.9], [2.1]], y_val=["a", "a"])
    >>> (-method.detrimentality_).round(3).tolist()
    [0.333, -0.667, 0.333]
    """

    def __init__(
        self,
        net: Any = None,
        *,
        k: int = 5,
        features: str = "raw",
        validation: str | float = "cross",
        batch_size: int = 1024,
        task: str | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.net = net
        self.k = k
        self.features = features
        self.validation = validation
        self.batch_size = batch_size
        self.task = task
        self.random_state = random_state
        self.verbose = verbose

    def _check_parameters(self) -> None:
        check_positive_integer("k", self.k)
        check_features(self.features, self.batch_size)
        check_validation_rule(self.validation)

    def _needs_validation(self) -> bool:
        return True

    def _takes_weights(self) -> bool:
        return True

    def _trains_folds(self, X_val: object) -> bool:
        """Leave the folds to `_fit_scores`, which splits rows whose classes are numbered."""
        return False

    def _prepare(self, rows: Rows, validation: Rows | None) -> tuple[ModelRows, ModelRows | None]:
        coded = coded_rows(self, rows, validation)
        if not hasattr(self, "classes_"):
            raise ValueError(
                "y is a numeric target: it has a fraction or more than 20 distinct floats, but "
                "KNNShapley counts neighbours with the same label. Set task='classification' if "
                "these are classes, bin y into classes, or use DataShapley."
            )
        return coded

    def _fit_scores(self, rows: ModelRows, validation: ModelRows | None) -> NDArray[np.float64]:
        rule, seed = self.validation, self._seeds[1]
        weights = self._training_weights
        return score_or_swap(self._scores, rows, validation, weights, rule=rule, seed=seed)

    def _scores(
        self, rows: ModelRows, validation: ModelRows, weights: Weights, judging_weights: Weights
    ) -> NDArray[np.float64]:
        extract = feature_map(self, rows, self._seeds[0], weights)
        return -knn_shapley_values(
            extract(rows.inputs),
            rows.targets,
            extract(validation.inputs),
            validation.targets,
            k=self.k,
            weights=weights,
            judging_weights=judging_weights,
        )
