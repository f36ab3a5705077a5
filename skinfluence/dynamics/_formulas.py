"""The scores themselves: what logits or class probabilities say about the labels given.

Logits z and log probabilities log p have shape (n_rows, n_classes), labels y shape (n_rows,) with
values 0, 1, ..., n_classes - 1, margins of all epochs shape (n_epochs, n_rows), NaN where a row was
not seen. Logarithms keep the digits that p near 0 or 1 would lose. Higher = more detrimental.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
Codes = NDArray[np.int64]

# exp of more would not fit float64
_LARGEST_LOG = 700.0


def log_softmax(z: Matrix) -> Matrix:
    """Turn logits into log probabilities, that of a class near certainty included."""
    top = z.argmax(1)[:, np.newaxis]
    shifted = z - np.take_along_axis(z, top, 1)
    others = np.exp(shifted)
    np.put_along_axis(others, top, 0.0, 1)
    log_p: Matrix = shifted - np.log1p(others.sum(1, keepdims=True))
    return log_p


def margin(z: Matrix, y: Codes) -> Vector:
    """Subtract the largest other entry of a row from that of its label."""
    others = z.copy()
    np.put_along_axis(others, y[:, np.newaxis], -np.inf, 1)
    difference: Vector = _given(z, y) - others.max(1)
    return difference


def self_confidence(log_p: Matrix, y: Codes) -> Vector:
    """Score by ``-p_y``."""
    return -np.exp(_given(log_p, y))


def normalized_margin(log_p: Matrix, y: Codes) -> Vector:
    """Score by ``max_{k != y} p_k - p_y``."""
    return -margin(np.exp(log_p), y)


def confidence_weighted_entropy(log_p: Matrix, y: Codes) -> Vector:
    """Score by ``-log(1 + x) / x``, where x is the entropy over ``log(n_classes) p_y``."""
    # in [-1, 0], and increasing in x
    with np.errstate(divide="ignore"):  # log(0) for a class of probability 1
        log_entropy_over_p = logsumexp(log_p + np.log(-log_p), axis=1) - _given(log_p, y)
    log_x = log_entropy_over_p - np.log(np.log(log_p.shape[1]))
    x = np.exp(np.clip(log_x, -_LARGEST_LOG, _LARGEST_LOG))
    score: Vector = -np.log1p(x) / x
    return score


def error_norm(log_p: Matrix, y: Codes) -> Vector:
    """Score by the Euclidean norm of ``p - onehot(y)``."""
    error = np.exp(log_p)
    lacking = np.expm1(_given(log_p, y))  # p_y - 1, with all its digits
    np.put_along_axis(error, y[:, np.newaxis], lacking[:, np.newaxis], 1)
    norm: Vector = np.linalg.norm(error, axis=1)
    return norm


def area_under_margin(margins: Matrix) -> Vector:
    """Average the margins of each row, negated, over the epochs that saw it, those not NaN."""
    area: Vector = np.nanmean(margins, axis=0)
    return -area


def forgetting_events(margins: Matrix) -> Vector:
    """Count how often each row's margin went from > 0 to <= 0 between epochs that saw it."""
    n_epochs, n_rows = margins.shape
    events = np.zeros(n_rows)
    was_right = np.zeros(n_rows, dtype=bool)
    learnt = np.zeros(n_rows, dtype=bool)
    for epoch in margins:
        right, wrong = epoch > 0, epoch <= 0
        events += was_right & wrong
        was_right = (was_right | right) & ~wrong
        learnt |= right
    # what was never right has the number of epochs, which no count reaches
    return np.where(learnt, events, float(n_epochs))


def _given(values: Matrix, y: Codes) -> Vector:
    return np.take_along_axis(values, y[:, np.newaxis], 1)[:, 0]
