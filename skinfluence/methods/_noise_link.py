"""How labels come about: by classes that models are more or less sure of, and by noise."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import softmax

# Bounds of what sharpens probabilities: the logarithm of a factor, and its growth with confidence.
_LOG_FACTOR, _CONVEXITY = (-1.5, 3.0), (0.0, 10.0)
# Where the search starts: the logarithm of the factor, and the noise rate.
_STARTS = ((0.0, 0.02), (0.7, 0.15), (1.2, 0.35))
# Rows by which a class's rate is drawn to that of all, and its wrong labels to all alike.
_TIE, _EVEN = 10.0, 5.0
_EM_STEPS = 30
# No class is taken to be wrong more often.
_MOST_WRONG = 0.95
_TINY = 1e-12


class Spread(NamedTuple):
    """How wrong labels are spread over classes, for a noise rate of one; e times that for e.

    `of_rows`, (n_rows, n_classes), is learnt by the other rows: how likely a row of each class gets
    the row's own label or, of the class of that label, another one. `of_classes`, (n_classes,
    n_classes), is learnt by all: to which label each class's rows go, and the diagonal how many do.
    """

    of_rows: NDArray[np.float64]
    of_classes: NDArray[np.float64]

    def transitions(self, rate: float) -> NDArray[np.float64]:
        """Give how likely a row of each class is given each label."""
        wrong = rate * np.diag(self.of_classes)
        toward = self.of_classes - np.diag(np.diag(self.of_classes))
        toward /= np.maximum(toward.sum(1, keepdims=True), _TINY)  # of 0 where none is wrong
        return np.asarray(wrong[:, None] * toward + np.diag(1 - wrong))


@dataclass(frozen=True)
class Link:
    """How probabilities of the given label tell those of the right one, and the noise rate."""

    log_factor: float
    rate: float
    convexity: float
    loss: float  # minus the log-likelihood

    def clean(self, logits: np.ndarray) -> NDArray[np.float64]:
        """Give the probabilities of the right classes, (n_rows, n_classes)."""
        stretch = np.exp(self.log_factor) * (1 + self.convexity * _confidence(logits))
        return np.asarray(softmax(logits * stretch[:, None], axis=1))

    def wrong(self, logits: np.ndarray, codes: np.ndarray) -> NDArray[np.float64]:
        """Give the probability that each label is wrong, by Bayes' rule."""
        clean = self.clean(logits)
        return wrong_given(clean, codes, self.rate, learn_spread(clean, codes, self.rate))


def fit_link(
    logits: np.ndarray,
    codes: np.ndarray,
    start: Link | None = None,
    fixed: float | None = None,
) -> Link:
    """Fit by how often labels are the likeliest class; the rate may be fixed, near a `start`."""
    n, n_classes = logits.shape
    rows, likeliest, confidence = np.arange(n), logits.argmax(1), _confidence(logits)
    agrees, chance = likeliest == codes, 1 / (n_classes - 1)
    sign = np.where(agrees, 1.0, -1.0)

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        log_factor, rate, convexity = values
        factor, curve = np.exp(log_factor), 1 + convexity * confidence
        clean = softmax(logits * (factor * curve)[:, None], axis=1)
        top = clean[rows, likeliest]
        p = (1 - rate) * top + rate * chance * (1 - top)
        p = np.clip(np.where(agrees, p, 1 - p), _TINY, 1)
        by_top = -sign / p * (1 - rate * (1 + chance))
        by_rate = -sign / p * (chance * (1 - top) - top)
        # how the top probability grows with what logits are multiplied by
        by_stretch = by_top * top * (logits[rows, likeliest] - (clean * logits).sum(1))
        slope = [factor * (by_stretch * curve).sum(), by_rate.sum()]
        slope.append(factor * (by_stretch * confidence).sum())
        return -np.log(p).sum(), np.array(slope)

    limits = (0.0, highest_rate(n_classes)) if fixed is None else (fixed, fixed)
    starts = [(factor, np.clip(rate, *limits), 0.0) for factor, rate in _STARTS]
    if start is not None:
        starts = [(start.log_factor, np.clip(start.rate, *limits), start.convexity)]
    bounds = [_LOG_FACTOR, limits, _CONVEXITY]
    found = [minimize(loss, first, jac=True, method="L-BFGS-B", bounds=bounds) for first in starts]
    best = min(found, key=lambda result: float(result.fun))
    log_factor, rate, convexity = (float(value) for value in best.x)
    return Link(log_factor, rate, convexity, float(best.fun))


def learn_spread(clean: np.ndarray, codes: np.ndarray, rate: float) -> Spread:
    """Learn how wrong labels are spread by expectation-maximisation, each row by the others."""
    # a row's own label would confirm itself where classes have few rows
    n, n_classes = clean.shape
    own = np.arange(n), codes
    given = np.zeros((n, n_classes))
    given[own] = 1
    even = (1 - np.eye(n_classes)) / (n_classes - 1)
    drawn = min(n_classes - 1, _EVEN)
    alike = even + np.eye(n_classes)
    of_rows = alike[:, codes].T
    if rate == 0:
        return Spread(of_rows, alike)
    for _ in range(_EM_STEPS):
        joint = clean * _likely(rate, codes, of_rows)
        joint /= np.maximum(joint.sum(1, keepdims=True), _TINY)
        wrong = joint.copy()
        wrong[own] = 0
        of_class, toward = joint.sum(0), wrong.T @ given
        of_wrong = toward.sum(1)
        tie = _TIE * of_wrong.sum() / n
        # so that the classes' rates add up to that of all
        unit = n / max(((of_wrong + tie) / (of_class + _TIE)) @ of_class, _TINY)
        rates = unit * (of_wrong - wrong + tie) / (of_class - joint + _TIE)
        rates = np.minimum(rates, _MOST_WRONG / rate)
        to_label = toward[:, codes].T - wrong + drawn * even[:, codes].T
        of_rows = rates * to_label / (of_wrong - wrong + drawn)
        of_rows[own] = rates[own]
    all_rates = np.minimum(unit * (of_wrong + tie) / (of_class + _TIE), _MOST_WRONG / rate)
    shares = (toward + drawn * even) / (of_wrong + drawn)[:, None]
    return Spread(of_rows, all_rates[:, None] * shares + np.diag(all_rates))


def wrong_given(
    clean: np.ndarray, codes: np.ndarray, rate: float, spread: Spread
) -> NDArray[np.float64]:
    """Give the probability that each label is wrong, from those of the right classes."""
    joint = clean * _likely(rate, codes, spread.of_rows)
    right = joint[np.arange(len(codes)), codes] / np.maximum(joint.sum(1), np.finfo(float).tiny)
    return np.asarray(np.clip(1 - right, 0, 1))


def _likely(rate: float, codes: np.ndarray, of_rows: np.ndarray) -> NDArray[np.float64]:
    """Give how likely a row of each class is given the label that each row has."""
    own = np.arange(len(codes)), codes
    likely = rate * of_rows
    likely[own] = 1 - likely[own]
    return np.asarray(likely)


def highest_rate(n_classes: int) -> float:
    """Give the largest noise rate looked at: below it, right labels are the most frequent."""
    return 0.98 * (1 - 1 / n_classes)


def _confidence(logits: np.ndarray) -> NDArray[np.float64]:
    squares = np.square(logits.max(1))
    return np.asarray(squares / max(squares.mean(), _TINY))
