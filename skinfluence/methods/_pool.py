"""One prediction of many: weights by what members say of rows that they were not trained on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar, nnls
from scipy.special import expit, logsumexp, softmax

from skinfluence.methods._transitions import even_noise, noise_transitions

# Keeps weights of members that say the same from growing against each other; of many rows it counts
# as much as so many of them.
_RIDGE, _RIDGE_ROWS = 1e-2, 40.0
# Residuals beyond so many medians count less in the fit of a numeric target (Huber).
_HUBER = 1.5
_HUBER_STEPS = 10
# The median of the absolute value of a standard normal number.
MEDIAN_OF_NORMAL = 0.6745
# Weights and transitions are found in turn, from noise of this rate that is even among classes.
_TURNS, _RATE = 2, 0.1
# That wrong labels go to few classes is taken over by half at least, and wholly where labels are
# likelier for it by half of the most: the logarithm of the number of other classes a wrong label.
_LEAST, _WHOLE = 0.5, 0.5
# Between these logarithms a factor of logits is looked for.
_SHARPNESS = (-1.0, 2.5)


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
        outputs, spread = _in_units(_centered(outputs, kind))
        return cls(kind, _likeliest_weights(outputs, targets, kind, of_rows) / spread)

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


def _in_units(outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Divide each member's outputs by their size, and give the sizes."""
    spread = np.sqrt(np.square(outputs).mean((1, 2)))
    spread[spread == 0] = 1  # a member that says the same of all
    return outputs / spread[:, None, None], spread


def _likeliest_weights(
    outputs: np.ndarray,
    targets: np.ndarray,
    kind: str,
    of_rows: np.ndarray | None,
    *,
    transitions: np.ndarray | None = None,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """Choose them, for labels that are right or, with transitions, wrong by these."""
    n_members, n_rows, _ = outputs.shape
    w = np.ones(n_rows) if of_rows is None else of_rows
    ridge = min(_RIDGE, _RIDGE_ROWS / n_rows)
    if kind != "classes":
        given = targets.astype(np.float64)
    elif transitions is None:
        log_given = np.full(outputs.shape[1:], -np.inf)
        log_given[np.arange(n_rows), targets] = 0
    else:
        log_given = np.log(transitions[:, targets].T)  # log T[class, label], (n_rows, n_classes)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        pooled = np.tensordot(weights, outputs, 1)
        if kind != "classes":
            losses, error = (np.logaddexp(0, pooled) - given * pooled).sum(1), expit(pooled) - given
        else:
            joint, norm = pooled + log_given, logsumexp(pooled, axis=1, keepdims=True)
            of_labels = logsumexp(joint, axis=1, keepdims=True)
            losses = (norm - of_labels)[:, 0]
            error = np.exp(pooled - norm) - np.exp(joint - of_labels)
        slope = np.tensordot(outputs, w[:, np.newaxis] * error, 2) / n_rows
        return (w * losses).mean() + ridge * (weights @ weights), slope + 2 * ridge * weights

    start = np.full(n_members, 1 / n_members) if start is None else start
    bounds = [(0, None)] * n_members
    found: np.ndarray = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    return found


def _log_likelihood(
    pooled: np.ndarray, given: np.ndarray, of_rows: np.ndarray | None, sharpness: float = 1.0
) -> float:
    """Give the mean over the rows; `given`: how likely each class is given the row's label."""
    of_labels = (softmax(sharpness * pooled, axis=1) * given).sum(1)
    return float(np.average(np.log(of_labels), weights=of_rows))


def _sharpness(pooled: np.ndarray, given: np.ndarray, of_rows: np.ndarray | None) -> float:
    """Choose by what to multiply logits so that labels are likeliest."""
    found = minimize_scalar(
        lambda log: -_log_likelihood(pooled, given, of_rows, np.exp(log)),
        bounds=_SHARPNESS,
        method="bounded",
        options={"xatol": 0.02},
    )
    return float(np.exp(found.x))


def fit_pool(
    outputs: np.ndarray,
    targets: np.ndarray,
    kind: str,
    of_rows: NDArray[np.float64] | None = None,
) -> tuple[Pool, NDArray[np.float64] | None]:
    """Choose weights and, of classes, how labels go wrong: transitions between them."""
    n_classes = outputs.shape[2]
    if kind != "classes" or n_classes == 1:
        transitions = np.ones((1, 1)) if kind == "classes" else None
        return Pool.fit(outputs, targets, kind, of_rows), transitions
    if of_rows is not None:  # rows without weight have no say in units either
        counting = of_rows > 0
        outputs, targets, of_rows = outputs[:, counting], targets[counting], of_rows[counting]
        of_rows = of_rows / of_rows.mean()
    outputs, spread = _in_units(_centered(outputs, kind))

    def settle(
        weights: np.ndarray, transitions: np.ndarray, directed: float
    ) -> tuple[np.ndarray, np.ndarray, float]:
        for _ in range(_TURNS):
            by = {"transitions": transitions, "start": weights}
            weights = _likeliest_weights(outputs, targets, kind, of_rows, **by)
            pooled, given = np.tensordot(weights, outputs, 1), transitions[:, targets].T
            likelihood = _log_likelihood(pooled, given, of_rows)
            # the ridge leaves members less sure than labels are, which would pass for wrong ones
            sharper = _sharpness(pooled, given, of_rows) * pooled
            transitions = noise_transitions(softmax(sharper, axis=1), targets, of_rows, directed)
        return weights, transitions, likelihood

    weights, transitions = np.full(len(outputs), 1 / len(outputs)), even_noise(n_classes, _RATE)
    weights, transitions, alike = settle(weights, transitions, directed=0.0)
    if n_classes > 2:
        # that wrong labels go to few classes makes them likelier, but hardly those of hard rows,
        # which the members expect themselves
        *_, likelihood = settle(weights, transitions, directed=1.0)
        most = (1 - transitions[0, 0]) * np.log(n_classes - 1)
        directed = float(np.clip((likelihood - alike) / (_WHOLE * most), _LEAST, 1))
        weights, transitions, _ = settle(weights, transitions, directed)
    return Pool(kind, weights / spread), transitions


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
        pool, transitions = fit_pool(outputs, targets, kind, of_rows)
        pooled = pool.predict(outputs)
    errors = error_vectors(pooled, targets, kind, transitions, scale)
    return pooled, np.linalg.norm(errors, ord=1 if kind == "classes" else 2, axis=1)


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
