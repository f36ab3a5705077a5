"""One prediction of many: weights by what members say of rows that they were not trained on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, nnls
from scipy.special import expit, softmax

# Keeps weights of members that say the same from growing against each other.
_RIDGE = 1e-2
# Residuals beyond so many medians count less in the fit of a numeric target (Huber).
_HUBER = 1.5
_HUBER_STEPS = 10
# The median of the absolute value of a standard normal number.
MEDIAN_OF_NORMAL = 0.6745
# Probabilities that differ by less are as likely.
_TIE = 1e-9


@dataclass(frozen=True)
class Pool:
    """Weights of members, which add up their outputs: (n_members, n_rows, n_outputs) to two axes.

    Of classes and labels, outputs are on the scale of logits, so that the weighted sum is the
    last layer of one net: its softmax is the normalised product of the members' probabilities.
    """

    kind: str  # "classes", "labels" or "numbers"
    weights: NDArray[np.float64]  # (n_members,), not negative

    @classmethod
    def fit(
        cls,
        outputs: np.ndarray,
        targets: np.ndarray,
        kind: str,
        of_rows: NDArray[np.float64] | None = None,
    ) -> "Pool":
        """Choose weights that make the targets given likeliest, of outputs out of sample."""
        if kind == "numbers":
            return cls(kind, _robust_weights(outputs, targets, of_rows))
        outputs = _centered(outputs, kind)
        spread = np.sqrt(np.square(outputs).mean((1, 2)))
        spread[spread == 0] = 1  # a member that says the same of all
        weights = _likeliest_weights(outputs / spread[:, None, None], targets, kind, of_rows)
        return cls(kind, weights / spread)

    def predict(self, outputs: np.ndarray) -> NDArray[np.float64]:
        """Pool outputs: probabilities, or numbers, (n_rows, n_outputs)."""
        pooled = self.added(outputs)
        if self.kind == "numbers":
            return pooled
        return np.asarray(softmax(pooled, axis=1) if self.kind == "classes" else expit(pooled))

    def added(self, outputs: np.ndarray) -> NDArray[np.float64]:
        """Add up outputs, on the scale that they have: (n_rows, n_outputs)."""
        return np.asarray(np.tensordot(self.weights, _centered(outputs, self.kind), 1))


def _centered(outputs: np.ndarray, kind: str) -> np.ndarray:
    return outputs - outputs.mean(2, keepdims=True) if kind == "classes" else outputs


def _likeliest_weights(
    outputs: np.ndarray, targets: np.ndarray, kind: str, of_rows: np.ndarray | None
) -> np.ndarray:
    n_members, n_rows, _ = outputs.shape
    w = np.ones(n_rows) if of_rows is None else of_rows
    if kind == "classes":
        given = np.zeros(outputs.shape[1:])
        given[np.arange(n_rows), targets] = 1
    else:
        given = targets.astype(np.float64)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        pooled = np.tensordot(weights, outputs, 1)
        if kind == "classes":
            top = pooled.max(1, keepdims=True)
            norm = np.log(np.exp(pooled - top).sum(1, keepdims=True)) + top
            value = (w * (norm[:, 0] - (given * pooled).sum(1))).mean()
            error = np.exp(pooled - norm)
        else:
            value = (w * (np.logaddexp(0, pooled) - given * pooled).sum(1)).mean()
            error = expit(pooled)
        slope = np.tensordot(outputs, w[:, np.newaxis] * (error - given), 2) / n_rows
        return value + _RIDGE * (weights @ weights), slope + 2 * _RIDGE * weights

    start = np.full(n_members, 1 / n_members)
    bounds = [(0, None)] * n_members
    found: np.ndarray = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    return found


def _robust_weights(
    outputs: np.ndarray, targets: np.ndarray, of_rows: np.ndarray | None
) -> NDArray[np.float64]:
    """Fit by least squares, again and again with less say for rows that are far off."""
    if of_rows is not None:  # a median knows no weights
        counting = of_rows > 0
        outputs, targets, of_rows = outputs[:, counting], targets[counting], of_rows[counting]
    columns, flat = outputs.reshape(len(outputs), -1).T, targets.ravel()
    root = np.ones(len(targets)) if of_rows is None else np.sqrt(of_rows)
    root = np.repeat(root, len(flat) // len(targets))
    weights, _ = nnls(columns * root[:, None], flat * root)
    for _ in range(_HUBER_STEPS):
        off = np.abs(columns @ weights - flat)
        bound = _HUBER * np.median(off)
        say = np.sqrt(np.minimum(1, bound / np.maximum(off, np.finfo(float).tiny))) * root
        if not say.any():
            break
        weights, _ = nnls(columns * say[:, None], flat * say)
    found: NDArray[np.float64] = weights
    return found


def likeliest(probabilities: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Predict classes; where none is likelier than the one given, as by no weight at all, that."""
    own = probabilities[np.arange(len(codes)), codes]
    return np.where(own >= probabilities.max(1) - _TIE, codes, probabilities.argmax(1))


def noise_transitions(probabilities: np.ndarray, codes: np.ndarray) -> NDArray[np.float64]:
    """Estimate how likely a row of each class is given each label: (n_classes, n_classes)."""
    # Half-way between counts of predicted classes against labels given, and noise that makes no
    # difference between classes: with few rows, counts are as much errors of the prediction.
    n_classes = probabilities.shape[1]
    counts = np.zeros((n_classes, n_classes))
    np.add.at(counts, (likeliest(probabilities, codes), codes), 1)
    of_class = counts.sum(1, keepdims=True)
    np.fill_diagonal(counts, 0)
    rate = min(max(counts.sum() / len(codes), 1 / (len(codes) + 1)), 1 - 1 / n_classes)
    even = np.full((n_classes, n_classes), 1.0) - np.eye(n_classes)
    noisy = counts + even * np.maximum(of_class * rate, 1) / (n_classes - 1)
    transitions: NDArray[np.float64] = rate * noisy / noisy.sum(1, keepdims=True)
    np.fill_diagonal(transitions, 1 - rate)
    return transitions


def pool_predictions(
    predicted: np.ndarray,
    targets: np.ndarray,
    kind: str,
    of_rows: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pool predictions out of sample, (n_models, n_rows, n_outputs), and score rows by the pool."""
    transitions, scale = None, np.ones(targets.shape[1:])
    # rows without weight have no say in centers, units and transitions either
    counting = slice(None) if of_rows is None else of_rows > 0
    if kind == "numbers":
        center = np.median(targets[counting], axis=0)
        outputs, off = predicted - center, targets - center
        pooled = center + Pool.fit(outputs, off, kind, of_rows).predict(outputs)
        scale = spread_of((pooled - targets)[counting])
    else:
        # n rows tell no probability that is finer than 1 / n
        finest = 1 / (len(targets) + 1)
        outputs = np.log(np.maximum(predicted, finest))
        if kind == "labels":
            outputs -= np.log(np.maximum(1 - predicted, finest))
        pooled = Pool.fit(outputs, targets, kind, of_rows).predict(outputs)
    if kind == "classes":
        transitions = noise_transitions(pooled[counting], targets[counting])
    errors = error_vectors(pooled, targets, kind, transitions, scale)
    return pooled, np.linalg.norm(errors, axis=1)


def spread_of(errors: np.ndarray) -> NDArray[np.float64]:
    """Give the spread of normal errors with this median size, of each column; 1 for none."""
    middle = np.median(np.abs(errors), axis=0) / MEDIAN_OF_NORMAL
    return np.where(middle > 0, middle, 1.0)


def error_vectors(
    predicted: np.ndarray,
    targets: np.ndarray,
    kind: str,
    transitions: np.ndarray | None = None,
    scale: np.ndarray | float = 1.0,
) -> NDArray[np.float64]:
    """Give the gradient of each row's loss at the pooled outputs: (n_rows, n_outputs)."""
    # Of classes, P(class | row, label given) - onehot(label given): outputs are shifted by how
    # likely rows of each class are given that label.
    if kind != "classes":
        return np.asarray((predicted - targets) / scale)
    assert transitions is not None
    errors: np.ndarray = predicted * transitions[:, targets].T
    errors /= errors.sum(1, keepdims=True)
    errors[np.arange(len(targets)), targets] -= 1
    return errors
