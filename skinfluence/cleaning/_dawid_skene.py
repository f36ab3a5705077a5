"""The true class behind several annotators' labels, by how often each takes one for another."""

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.special import softmax
from scipy.stats import beta
from sklearn.exceptions import ConvergenceWarning

# Stands for labels that nobody gave, so that no confusion is impossible.
_UNSEEN = 0.01
_MAX_ITER = 1000
_TOL = 1e-5
# So many labels' worth of the mean annotator's quality is added to each in its interval.
_PRIOR_LABELS = 2.0


class Annotations(NamedTuple):
    """Who said what of which row, one entry a label; all coded from zero."""

    rows: NDArray[np.intp]
    annotators: NDArray[np.intp]
    labels: NDArray[np.intp]
    shape: tuple[int, int, int]  # numbers of rows, annotators and classes

    @property
    def table(self) -> Any:
        """Give a column an annotator and label, and ones where the two meet in a row: sparse."""
        n_rows, n_annotators, n_classes = self.shape
        places = self.rows, self.annotators * n_classes + self.labels
        ones = np.ones(len(self.rows))
        return coo_array((ones, places), (n_rows, n_annotators * n_classes)).tocsr()


class Consensus(NamedTuple):
    """What is believed of rows and annotators."""

    probabilities: NDArray[np.float64]  # of the true class, (n_rows, n_classes)
    confusions: NDArray[np.float64]  # P(label given | true class), (n_annotators, n_classes, same)


def vote_shares(given: Annotations) -> NDArray[np.float64]:
    """Count the votes for each class of a row, as shares of its votes: (n_rows, n_classes)."""
    _, n_annotators, n_classes = given.shape
    votes = given.table @ np.tile(np.eye(n_classes), (n_annotators, 1))
    shares: NDArray[np.float64] = votes / votes.sum(1, keepdims=True)
    return shares


def dawid_skene(
    given: Annotations,
    probabilities: NDArray[np.float64],
    *,
    pooling: float,
    prior: np.ndarray | None = None,
) -> Consensus:
    """Find likely true classes and confusions by expectation and maximisation, in turn."""
    # `probabilities`: where to begin; `prior`: what else is known of each row's class; both
    # (n_rows, n_classes). Without a prior, it is the shares of the classes.
    table = given.table
    n_classes = given.shape[2]
    confusions = _confusions(table, probabilities, pooling)
    for _ in range(_MAX_ITER):
        earlier = probabilities
        known = _class_shares(probabilities) if prior is None else prior
        said = np.log(confusions).transpose(0, 2, 1).reshape(-1, n_classes)
        probabilities = softmax(np.log(known) + table @ said, axis=1)
        confusions = _confusions(table, probabilities, pooling)
        if np.abs(probabilities - earlier).max() < _TOL:
            break
    else:
        warnings.warn(
            f"The consensus still moves after {_MAX_ITER} steps. Annotators who gave few labels "
            "may be of several minds: raise pooling.",
            ConvergenceWarning,
            stacklevel=3,
        )
    return Consensus(probabilities, confusions)


def _class_shares(probabilities: np.ndarray) -> np.ndarray:
    n_rows, n_classes = probabilities.shape
    shares: np.ndarray = (probabilities.sum(0) + 1) / (n_rows + n_classes)
    return shares


def _confusions(table: Any, probabilities: np.ndarray, pooling: float) -> NDArray[np.float64]:
    n_classes = probabilities.shape[1]
    counts = (table.T @ probabilities).reshape(-1, n_classes, n_classes).transpose(0, 2, 1)
    pooled = counts.sum(0) + _UNSEEN
    pooled /= pooled.sum(1, keepdims=True)
    counts = counts + _UNSEEN + pooling * pooled  # each is drawn to that of all together
    confusions: NDArray[np.float64] = counts / counts.sum(2, keepdims=True)
    return confusions


def qualities(
    given: Annotations, consensus: Consensus, level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the share of each annotator's labels that is expected right, and its interval."""
    # Counting its own vote, an annotator agrees too much with the consensus, and too little with
    # that of the others alone: the interval reaches from the one to the other.
    own = consensus.probabilities[given.rows, given.labels]
    with np.errstate(divide="ignore"):
        others = np.log(consensus.probabilities[given.rows])
    others -= np.log(consensus.confusions[given.annotators, :, given.labels])
    without = softmax(others, axis=1)[np.arange(len(own)), given.labels]
    n_labels = np.bincount(given.annotators, minlength=given.shape[1])
    right = [np.bincount(given.annotators, part, len(n_labels)) for part in (own, without)]
    tail = (1 - level) / 2
    ends = []
    for count, share in ((np.minimum(*right), tail), (np.maximum(*right), 1 - tail)):
        mean = count.sum() / len(own)
        a = count + _PRIOR_LABELS * mean
        b = n_labels - count + _PRIOR_LABELS * (1 - mean)
        ends.append(beta.ppf(share, a, np.maximum(b, np.finfo(float).tiny)))
    quality = right[0] / n_labels
    low, high = np.minimum(ends[0], quality), np.maximum(ends[1], quality)
    # a share of few labels is no number between two of its own: all right is 1, not nearly
    whole = np.floor(low * n_labels), np.ceil(high * n_labels)
    return quality, np.stack(whole, axis=1) / n_labels[:, np.newaxis]
