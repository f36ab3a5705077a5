"""Label noise by kind, on codes (each row's index among the sorted classes), and its checks."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from scipy.stats import truncnorm
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_array

# The kinds of noise that have a name.
KINDS = ("symmetric", "pair", "instance")
NAMES_OF_KINDS = ", ".join(map(repr, KINDS))


def flip(
    kind: str,
    codes: NDArray[np.intp],
    *,
    n_classes: int,
    rate: float,
    X: ArrayLike | None,
    rng: np.random.RandomState,
) -> NDArray[np.intp]:
    """Give the codes after flips of a kind, in a new array."""
    if kind == "instance":
        return _flip_by_features(codes, n_classes, rate, _check_features(X, len(codes)), rng)
    rows = rng.choice(len(codes), size=round(rate * len(codes)), replace=False)
    # A step of 1 to n_classes - 1 around the circle of classes reaches each other class once.
    steps = 1 if kind == "pair" else rng.randint(1, n_classes, size=len(rows))
    noisy_codes = codes.copy()
    noisy_codes[rows] = (codes[rows] + steps) % n_classes
    return noisy_codes


def _flip_by_features(
    codes: NDArray[np.intp],
    n_classes: int,
    rate: float,
    features: NDArray[np.float64],
    rng: np.random.RandomState,
) -> NDArray[np.intp]:
    """Move rows as their features say (Xia et al. 2020, Algorithm 2)."""
    if rate == 0:
        # Truncation at 0 would leave a mean flip rate of 8 %, where the caller asked for none.
        return codes.copy()
    sd = 0.1
    flip_rates = truncnorm.rvs(
        -rate / sd, (1 - rate) / sd, loc=rate, scale=sd, size=len(codes), random_state=rng
    )
    scaler = StandardScaler().fit(features)
    probabilities = np.empty((len(codes), n_classes))
    # One class at a time: all the projections at once would take n_classes times the memory.
    for code in range(n_classes):
        rows = codes == code
        projection = rng.standard_normal((features.shape[1], n_classes))
        logits = scaler.transform(features[rows]) @ projection
        logits[:, code] = -np.inf
        probabilities[rows] = flip_rates[rows, np.newaxis] * softmax(logits, axis=1)
        probabilities[rows, code] = 1 - flip_rates[rows]
    return draw_columns(probabilities, rng)


def draw_columns(
    probabilities: NDArray[np.float64], rng: np.random.RandomState
) -> NDArray[np.intp]:
    """Draw one column index for each row, with that row's probabilities."""
    cumulative = probabilities.cumsum(axis=1)
    # Scaled by the row's own total, which rounding may have left a little off 1: otherwise a draw
    # above the total would fall to the last column even where that has probability 0.
    draws = rng.random_sample((len(probabilities), 1)) * cumulative[:, -1:]
    columns: NDArray[np.intp] = (cumulative <= draws).sum(axis=1)
    return columns


def check_labels(y: ArrayLike) -> tuple[np.ndarray, np.ndarray, NDArray[np.intp]]:
    """Copy labels, for the caller to write to; find the sorted classes and each row's code."""
    labels = np.array(y)
    if labels.ndim != 1:
        raise ValueError(
            f"y has shape {labels.shape}; expected one label for each row, shape (n_samples,). A "
            "table with one column or one-hot labels are the usual cause: pass y.ravel() for the "
            "first, y.argmax(axis=1) for the second."
        )
    classes, codes = _sorted_classes(labels)
    # tolist() turns numpy's floats of any width into Python's, and leaves objects as they are.
    fractions = [c for c in classes.tolist() if isinstance(c, float) and c % 1 != 0]
    if fractions:
        raise ValueError(
            f"y holds {fractions[0]!r}; expected class labels: strings, booleans, integers or "
            "whole floats. A continuous regression target is the usual cause, and has no classes "
            "to flip between: bin it first, or pass the labels of a classification task."
        )
    if len(classes) < 2:
        raise ValueError(
            f"y has {len(classes)} class(es) in {len(labels)} rows: {classes.tolist()}; expected "
            "at least 2, since a flipped label needs another class to go to. A subset of sorted "
            "data is the usual cause: shuffle the rows before taking it."
        )
    return labels, classes, codes


def _sorted_classes(labels: np.ndarray) -> tuple[np.ndarray, NDArray[np.intp]]:
    """Find the distinct labels, sorted, and each label's index among them."""
    try:
        classes, codes = np.unique(labels, return_inverse=True)
        # NaN and NaT differ from everything, themselves included.
        missing = np.flatnonzero(classes[codes] != labels)
    except TypeError as error:
        types = ", ".join(sorted({type(label).__name__ for label in labels.tolist()}))
        raise ValueError(
            f"y holds labels of type {types} that cannot be sorted; expected labels of one type "
            "and none missing. Missing labels (None, NaN, NA) are the usual cause: drop those "
            "rows, or convert all the labels to strings."
        ) from error
    if missing.size:
        raise ValueError(
            f"y has {missing.size} missing label(s), the first in row {missing[0]}; expected a "
            "label in every row. Unlabelled rows are the usual cause: drop them before adding "
            "noise."
        )
    return classes, codes


def check_kind(kind: str) -> None:
    """Refuse a kind of noise that is not known, and list those that are."""
    if kind not in KINDS:
        raise ValueError(
            f"kind={kind!r} is not a known kind of noise; expected one of {NAMES_OF_KINDS}, or "
            "a transition matrix. A typing error or another library's name for it is the usual "
            "cause: use one of these names."
        )


def check_rate(rate: float | None, kind: str) -> float:
    """Refuse a rate that is missing or outside [0, 1)."""
    if rate is None:
        raise ValueError(
            f"rate is None; kind={kind!r} expects the share of rows to flip, a number in [0, 1). "
            "There is no default: pass rate, for example rate=0.2 for one row in five."
        )
    if not 0 <= rate < 1:
        raise ValueError(
            f"rate={rate!r}; expected the share of rows to flip, a number in [0, 1). A percentage "
            "is the usual cause: write 20 % as rate=0.2."
        )
    return rate


def _check_features(X: ArrayLike | None, n_rows: int) -> NDArray[np.float64]:
    """Flatten the features of each row."""
    if X is None:
        raise ValueError(
            "X is None; kind='instance' expects the features of each row, because they decide "
            "which labels go wrong and how. Pass X=, the array that goes with y."
        )
    array: NDArray[np.float64] = check_array(
        X,
        dtype=np.float64,
        ensure_2d=False,
        allow_nd=True,
        ensure_all_finite=False,
        input_name="X",
    )
    if len(array) != n_rows:
        raise ValueError(
            f"X has {len(array)} rows and y has {n_rows}; expected the same number. Another split "
            "or a transposed array is the usual cause: pass the X that goes with y, rows first."
        )
    features = array.reshape(n_rows, -1)
    bad_rows = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if bad_rows.size:
        raise ValueError(
            f"X has NaN or infinite values in {bad_rows.size} row(s), the first is row "
            f"{bad_rows[0]}; expected finite numbers. Missing values are the usual cause: fill "
            "them in or drop those rows."
        )
    return features


def check_transition_matrix(kind: ArrayLike, classes: np.ndarray) -> NDArray[np.float64]:
    """Check that a matrix holds one probability distribution for each class."""
    matrix = np.asarray(kind, dtype=np.float64)
    n_classes = len(classes)
    if matrix.shape != (n_classes, n_classes):
        raise ValueError(
            f"kind is an array of shape {matrix.shape} and y has {n_classes} classes; expected one "
            f"of {NAMES_OF_KINDS}, or a transition matrix of shape ({n_classes}, {n_classes}). "
            "A class that does not occur in y is the usual cause: drop its row and column, and "
            "make the other rows sum to 1 again."
        )
    # The negation of >= rather than <, so that NaN is caught too.
    negative = np.flatnonzero(~(matrix >= 0).all(axis=1))
    if negative.size:
        raise ValueError(
            f"kind has negative or NaN entries in {_name_rows(negative, classes)}; expected "
            "probabilities: T[i, j] is the chance that class i gets label j. A matrix of logits "
            "or of differences is the usual cause: turn it into probabilities first."
        )
    sums = matrix.sum(axis=1)
    off = np.flatnonzero(np.abs(sums - 1) > 1e-6)  # float32 probabilities are good to about 1e-7
    if off.size:
        raise ValueError(
            f"kind does not sum to 1 in {_name_rows(off, classes)}; the first sums to "
            f"{sums[off][0]}. Expected T[i, j], the chance that class i gets label j, so that each "
            "row sums to 1. A matrix of counts or a transposed one is the usual cause: divide each "
            "row by its sum, or pass T.T."
        )
    return matrix


def _name_rows(rows: NDArray[np.intp], classes: np.ndarray) -> str:
    names = classes.tolist()
    text = ", ".join(f"row {i} (class {names[i]!r})" for i in rows[:5])
    return text + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")
