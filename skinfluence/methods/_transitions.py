"""How likely a row of each class is given each label, by the rows that models are surest of."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

# Of the rows predicted as a class, the share that models are surest of, which show what becomes of
# its labels: rows of one class almost surely. Where these are few, up to a half, or so many.
_SUREST, _FEW, _FEWEST = 0.25, 30.0, 10.0
# Pseudo-counts that draw a class's wrong labels to all alike: where the likeliest is looked for.
_DRAWN = np.geomspace(0.3, 300, 13)
# Members that are even less sure than by so much tell no rate.
_LEAST_KNOWN = 0.1
# Probabilities that differ by less are as likely.
_TIE = 1e-9


def likeliest(probabilities: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Predict classes; where none is likelier than the one given, as by no weight at all, that."""
    own = probabilities[np.arange(len(codes)), codes]
    return np.where(own >= probabilities.max(1) - _TIE, codes, probabilities.argmax(1))


def noise_transitions(
    probabilities: np.ndarray,
    codes: np.ndarray,
    of_rows: NDArray[np.float64] | None = None,
    directed: float = 1.0,
) -> NDArray[np.float64]:
    """Estimate them, (n_classes, n_classes): `directed` from 0, all wrong labels alike, to 1."""
    n_classes = probabilities.shape[1]
    if n_classes == 1:
        return np.ones((1, 1))
    of_rows = np.ones(len(codes)) if of_rows is None else of_rows
    predicted = likeliest(probabilities, codes)
    say = _say_of_surest(probabilities.max(1), predicted, of_rows)
    counts = np.zeros((n_classes, n_classes))
    np.add.at(counts, (predicted, codes), say)
    wrong = counts - np.diag(np.diag(counts))
    rate = _rate(wrong.sum(), counts.sum(), say @ (1 - probabilities.max(1)), n_classes)
    even = even_noise(n_classes, 1.0)
    toward = wrong + _pseudo_counts(wrong) * even
    toward /= toward.sum(1, keepdims=True)
    transitions: NDArray[np.float64] = rate * (directed * toward + (1 - directed) * even)
    np.fill_diagonal(transitions, 1 - rate)
    return transitions


def even_noise(n_classes: int, rate: float) -> NDArray[np.float64]:
    """Give transitions of noise that makes no difference between classes."""
    transitions = np.full((n_classes, n_classes), rate / max(n_classes - 1, 1))
    np.fill_diagonal(transitions, 1 - rate)
    return transitions


def _rate(n_disagree: float, n: float, n_doubted: float, n_classes: int) -> float:
    """Give the rate of wrong labels by which more of n disagree than the members expect."""
    # with u the share doubted and r the rate, 1 - (1 - r) (1 - u) - r u / (n_classes - 1) disagree
    doubt = n_doubted / n
    known = max(1 - doubt * n_classes / (n_classes - 1), _LEAST_KNOWN)
    rate = (n_disagree / n - doubt) / known
    # below the highest rate right labels are the most frequent; n rows tell none below 1 / n
    return float(np.clip(rate, 1 / (n + 1), 0.98 * (1 - 1 / n_classes)))


def _say_of_surest(
    sureness: np.ndarray, predicted: np.ndarray, of_rows: np.ndarray
) -> NDArray[np.float64]:
    """Give the surest rows of each predicted class their weight, ties too, and others none."""
    say = np.zeros(len(predicted))
    sureness = sureness.round(9)  # rows that are the same are as sure, whatever is added up first
    for k in np.unique(predicted):
        rows = np.flatnonzero((predicted == k) & (of_rows > 0))
        if not len(rows):
            continue
        rows = rows[np.argsort(-sureness[rows], kind="stable")]
        before = np.cumsum(of_rows[rows]) - of_rows[rows]
        n = of_rows[rows].sum()
        wanted = max(_SUREST * n, min(n / 2, _FEW), _FEWEST)
        least = sureness[rows[before < wanted][-1]]
        rows = rows[sureness[rows] >= least]
        say[rows] = of_rows[rows]
    return say


def _pseudo_counts(wrong: np.ndarray) -> float:
    """Choose how far wrong labels are drawn to all alike: the likeliest for all classes."""
    # empirical Bayes: the counts of a class are Dirichlet-multinomial
    n_others = len(wrong) - 1
    each = wrong[~np.eye(len(wrong), dtype=bool)].reshape(len(wrong), n_others)
    of_class = each.sum(1)
    found = [
        (gammaln(drawn) - gammaln(drawn + of_class)).sum()
        + (gammaln(each + drawn / n_others) - gammaln(drawn / n_others)).sum()
        for drawn in _DRAWN
    ]
    return float(_DRAWN[int(np.argmax(found))])
