"""Data with known label errors, to measure how well a method finds them.

`make_noisy_labels` plants label noise of a chosen kind in any labels; `make_noisy_blobs` and
`make_noisy_moons` are two small synthetic data sets with a fixed number of flipped labels.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from scipy.stats import truncnorm
from sklearn.datasets import make_blobs, make_moons
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch, check_array, check_random_state

__all__ = ["make_noisy_blobs", "make_noisy_labels", "make_noisy_moons"]


def make_noisy_labels(
    y: ArrayLike,
    *,
    rate: float | None = None,
    kind: str | ArrayLike = "symmetric",
    X: ArrayLike | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Flip some labels and say which.

    The classes are the distinct values of `y`, in sorted order. Only their order counts, not
    their names: renaming the classes without reordering them renames the result.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Clean labels of at least two classes: strings, booleans, integers or whole floats. It is
        not modified.
    rate : float in [0, 1), default=None
        Share of the rows to flip. Required when `kind` is a name, and not allowed when `kind` is
        a matrix, which holds its own rates.
    kind : {"symmetric", "pair", "instance"} or array-like, default="symmetric"
        How labels go wrong:

        - ``"symmetric"``: exactly ``round(rate * n_samples)`` rows, drawn without replacement,
          each get another class, drawn uniformly from the other classes.
        - ``"pair"``: exactly ``round(rate * n_samples)`` rows, drawn without replacement, each get
          the next class in sorted order; the last class becomes the first.
        - ``"instance"``: both the chance of an error and the wrong class depend on the row
          (Algorithm 2 of [1]_). See Notes.
        - a matrix ``T`` of shape (n_classes, n_classes), each row summing to 1: a label of class
          ``i`` becomes class ``j`` with probability ``T[i, j]``, classes in sorted order. The
          number of flips is random.
    X : array-like of shape (n_samples, ...), default=None
        Features, of any number of dimensions, finite. Required for ``kind="instance"``, ignored
        otherwise.
    random_state : int, RandomState instance or None, default=None
        An int gives the same result every time; a RandomState instance is used and advanced; None
        gives a new result every time. None leaves numpy's global generator untouched.

    Returns
    -------
    y_noisy : ndarray of shape (n_samples,)
        Labels after the flips, of the dtype of ``np.asarray(y)``.
    is_noisy : ndarray of shape (n_samples,), dtype bool
        True exactly where `y_noisy` differs from `y`.

    Raises
    ------
    ValueError
        If `y` is not one-dimensional, is continuous, has missing labels or fewer than two classes;
        if `rate` is missing, outside [0, 1) or given together with a matrix; if `kind` is neither
        a known name nor a row-stochastic matrix of the right shape; if ``kind="instance"`` and `X`
        is missing, has another number of rows than `y` or is not finite.

    Notes
    -----
    Instance-dependent noise draws a flip rate for each row from a normal distribution with mean
    `rate` and standard deviation 0.1, truncated to [0, 1]. It draws one matrix of standard normal
    numbers for each class; the matrix of a row's clean class projects the row's flattened,
    standardised features to one logit for each class, and the softmax over the other classes says
    where a flip goes. The paper takes the features as they come; they are standardised here, so
    that their units do not matter.

    The number of these flips is random, with an expectation near ``rate * n_samples``. Truncation
    pulls it inwards near the ends: a rate of 0.2 gives 20.6 % on average, 0.1 gives 12.9 %, and
    0.05 gives 10.1 %. A rate of exactly 0 flips nothing.

    References
    ----------
    .. [1] Xia, X., Liu, T., Han, B., Wang, N., Gong, M., Liu, H., Niu, G., Tao, D. and Sugiyama, M.
       "Part-dependent Label Noise: Towards Instance-dependent Label Noise." Advances in Neural
       Information Processing Systems 33, 2020. arXiv:2006.07836.

    Examples
    --------
    >>> from skinfluence.datasets import make_noisy_labels
    >>> y = ["cat", "cat", "cat", "dog", "dog", "dog", "owl", "owl"]
    >>> y_noisy, is_noisy = make_noisy_labels(y, rate=0.25, random_state=0)
    >>> print(y_noisy)
    ['cat' 'cat' 'dog' 'dog' 'dog' 'dog' 'dog' 'owl']
    >>> is_noisy.nonzero()[0]
    array([2, 6])

    A matrix for labels where half of the cats are taken for dogs:

    >>> T = [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    >>> y_noisy, is_noisy = make_noisy_labels(y, kind=T, random_state=0)
    >>> print(y_noisy)
    ['dog' 'dog' 'dog' 'dog' 'dog' 'dog' 'owl' 'owl']
    """
    labels, classes, codes = _check_labels(y)
    rng = _own_random_state(random_state)
    if isinstance(kind, str):
        flip = _check_kind(kind)
        noisy_codes = flip(codes, len(classes), _check_rate(rate, kind), X, rng)
    else:
        if rate is not None:
            raise ValueError(
                f"rate={rate!r} was given together with a transition matrix, which holds its own "
                "rates; expected rate=None. Leave rate out, or name the kind: "
                f"{_names_of_kinds()}."
            )
        noisy_codes = _draw_columns(_check_transition_matrix(kind, classes)[codes], rng)
    is_noisy = noisy_codes != codes
    labels[is_noisy] = classes[noisy_codes[is_noisy]]
    return labels, is_noisy


def make_noisy_blobs(*, random_state: int | np.random.RandomState | None = None) -> Bunch:
    """Make two linearly separable blobs with 10 flipped labels.

    It follows the linear synthetic set of section 4.1 of [1]_: 150 training rows, 10 of them with
    a flipped label, and 100 clean test rows, the two classes in equal numbers. The sizes are the
    paper's, the rows are not: they are drawn anew for each seed.

    Parameters
    ----------
    random_state : int, RandomState instance or None, default=None
        An int gives the same data every time; a RandomState instance is used and advanced; None
        gives new data every time, and leaves numpy's global generator untouched.

    Returns
    -------
    data : sklearn.utils.Bunch
        With these arrays:

        - X : float64 of shape (150, 2), training features.
        - y : int of shape (150,), training labels, 0 or 1, after the flips.
        - y_clean : int of shape (150,), training labels before the flips.
        - is_noisy : bool of shape (150,), True for the 10 flipped labels.
        - X_test : float64 of shape (100, 2), test features.
        - y_test : int of shape (100,), test labels, clean.

    See Also
    --------
    make_noisy_moons : The same for two classes that no line separates.
    make_noisy_labels : Flip labels of your own data.

    References
    ----------
    .. [1] Chhabra, A., Li, B., Chen, J., Mohapatra, P. and Liu, H. "Outlier Gradient Analysis:
       Efficiently Identifying Detrimental Training Samples for Deep Learning Models."
       International Conference on Machine Learning, 2025. arXiv:2405.03869.

    Examples
    --------
    >>> from skinfluence.datasets import make_noisy_blobs
    >>> data = make_noisy_blobs(random_state=0)
    >>> data.X.shape, data.X_test.shape, int(data.is_noisy.sum())
    ((150, 2), (100, 2), 10)
    """
    rng = _own_random_state(random_state)
    # Each centre is 5.7 standard deviations from the line between the two: a clean row on the
    # wrong side of it turns up in about 2 of a million data sets.
    centers = [[-4.0, -4.0], [4.0, 4.0]]
    X, y = make_blobs(150, centers=centers, cluster_std=1.0, random_state=rng)
    X_test, y_test = make_blobs(100, centers=centers, cluster_std=1.0, random_state=rng)
    return _noisy_bunch(X, y, X_test, y_test, n_flips=10, rng=rng)


def make_noisy_moons(
    *, noise: float = 0.1, random_state: int | np.random.RandomState | None = None
) -> Bunch:
    """Make two interleaving half moons with 20 flipped labels.

    It follows the non-linear synthetic set of section 4.1 of [1]_: 250 training rows, 20 of them
    with a flipped label, and 100 clean test rows, the two classes in equal numbers. The sizes are
    the paper's, the rows are not: they are drawn anew for each seed.

    Parameters
    ----------
    noise : float, default=0.1
        Standard deviation of the Gaussian noise added to the features, 0 or more.
    random_state : int, RandomState instance or None, default=None
        An int gives the same data every time; a RandomState instance is used and advanced; None
        gives new data every time, and leaves numpy's global generator untouched.

    Returns
    -------
    data : sklearn.utils.Bunch
        With these arrays:

        - X : float64 of shape (250, 2), training features.
        - y : int of shape (250,), training labels, 0 or 1, after the flips.
        - y_clean : int of shape (250,), training labels before the flips.
        - is_noisy : bool of shape (250,), True for the 20 flipped labels.
        - X_test : float64 of shape (100, 2), test features.
        - y_test : int of shape (100,), test labels, clean.

    Raises
    ------
    ValueError
        If `noise` is negative.

    See Also
    --------
    make_noisy_blobs : The same for two classes that a line separates.
    make_noisy_labels : Flip labels of your own data.

    References
    ----------
    .. [1] Chhabra, A., Li, B., Chen, J., Mohapatra, P. and Liu, H. "Outlier Gradient Analysis:
       Efficiently Identifying Detrimental Training Samples for Deep Learning Models."
       International Conference on Machine Learning, 2025. arXiv:2405.03869.

    Examples
    --------
    >>> from skinfluence.datasets import make_noisy_moons
    >>> data = make_noisy_moons(random_state=0)
    >>> data.X.shape, data.X_test.shape, int(data.is_noisy.sum())
    ((250, 2), (100, 2), 20)
    """
    rng = _own_random_state(random_state)
    X, y = make_moons(250, noise=noise, random_state=rng)
    X_test, y_test = make_moons(100, noise=noise, random_state=rng)
    return _noisy_bunch(X, y, X_test, y_test, n_flips=20, rng=rng)


def _noisy_bunch(
    X: NDArray[np.float64],
    y: NDArray[np.intp],
    X_test: NDArray[np.float64],
    y_test: NDArray[np.intp],
    *,
    n_flips: int,
    rng: np.random.RandomState,
) -> Bunch:
    """Flip `n_flips` training labels and pack everything.

    Returns
    -------
    data : sklearn.utils.Bunch
    """
    y_noisy, is_noisy = make_noisy_labels(y, rate=n_flips / len(y), random_state=rng)
    return Bunch(X=X, y=y_noisy, y_clean=y, is_noisy=is_noisy, X_test=X_test, y_test=y_test)


# The kinds of noise that have a name. All take (codes, n_classes, rate, X, rng), codes being each
# row's index among the sorted classes, and return the codes after the flips, in a new array.
_Flip: TypeAlias = Callable[
    [NDArray[np.intp], int, float, ArrayLike | None, np.random.RandomState], NDArray[np.intp]
]


def _flip_symmetric(
    codes: NDArray[np.intp],
    n_classes: int,
    rate: float,
    X: ArrayLike | None,
    rng: np.random.RandomState,
) -> NDArray[np.intp]:
    """Move a share of the rows to any other class.

    Returns
    -------
    noisy_codes : ndarray of shape (n_samples,)
    """
    rows = _draw_rows(len(codes), rate, rng)
    # A step of 1 to n_classes - 1 around the circle of classes reaches each other class once.
    return _step(codes, rows, rng.randint(1, n_classes, size=len(rows)), n_classes)


def _flip_pair(
    codes: NDArray[np.intp],
    n_classes: int,
    rate: float,
    X: ArrayLike | None,
    rng: np.random.RandomState,
) -> NDArray[np.intp]:
    """Move a share of the rows to the next class.

    Returns
    -------
    noisy_codes : ndarray of shape (n_samples,)
    """
    return _step(codes, _draw_rows(len(codes), rate, rng), 1, n_classes)


def _flip_instance(
    codes: NDArray[np.intp],
    n_classes: int,
    rate: float,
    X: ArrayLike | None,
    rng: np.random.RandomState,
) -> NDArray[np.intp]:
    """Move rows as their features say (Xia et al. 2020, Algorithm 2).

    Returns
    -------
    noisy_codes : ndarray of shape (n_samples,)
    """
    features = _check_features(X, len(codes))
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
    return _draw_columns(probabilities, rng)


_KINDS: dict[str, _Flip] = {
    "symmetric": _flip_symmetric,
    "pair": _flip_pair,
    "instance": _flip_instance,
}


def _names_of_kinds() -> str:
    return ", ".join(map(repr, _KINDS))


def _draw_rows(n_rows: int, rate: float, rng: np.random.RandomState) -> NDArray[np.intp]:
    return rng.choice(n_rows, size=round(rate * n_rows), replace=False)


def _step(
    codes: NDArray[np.intp],
    rows: NDArray[np.intp],
    steps: NDArray[np.intp] | int,
    n_classes: int,
) -> NDArray[np.intp]:
    noisy_codes = codes.copy()
    noisy_codes[rows] = (codes[rows] + steps) % n_classes
    return noisy_codes


def _draw_columns(
    probabilities: NDArray[np.float64], rng: np.random.RandomState
) -> NDArray[np.intp]:
    """Draw one column index for each row, with that row's probabilities.

    Returns
    -------
    columns : ndarray of shape (n_rows,)
    """
    cumulative = probabilities.cumsum(axis=1)
    # Scaled by the row's own total, which rounding may have left a little off 1: otherwise a draw
    # above the total would fall to the last column even where that has probability 0.
    draws = rng.random_sample((len(probabilities), 1)) * cumulative[:, -1:]
    columns: NDArray[np.intp] = (cumulative <= draws).sum(axis=1)
    return columns


def _own_random_state(
    random_state: int | np.random.RandomState | None,
) -> np.random.RandomState:
    if random_state is None:
        # check_random_state(None) would return numpy's global generator and so advance it.
        return np.random.RandomState(np.random.MT19937(np.random.SeedSequence()))
    rng: np.random.RandomState = check_random_state(random_state)
    return rng


def _check_labels(y: ArrayLike) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]:
    """Copy the labels, and find their classes.

    Returns
    -------
    labels : ndarray of shape (n_samples,)
        A copy, for the caller to write to.
    classes : ndarray of shape (n_classes,)
        Distinct labels, sorted.
    codes : ndarray of shape (n_samples,)
        Index in `classes` of each label.

    Raises
    ------
    ValueError
        If these are not class labels, or all of one class.
    """
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


def _sorted_classes(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Find the distinct labels and each label's index among them.

    Returns
    -------
    classes : ndarray of shape (n_classes,)
    codes : ndarray of shape (n_samples,)

    Raises
    ------
    ValueError
        If labels are missing or cannot be compared with each other.
    """
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


def _check_kind(kind: str) -> _Flip:
    if kind not in _KINDS:
        raise ValueError(
            f"kind={kind!r} is not a known kind of noise; expected one of {_names_of_kinds()}, or "
            "a transition matrix. A typing error or another library's name for it is the usual "
            "cause: use one of these names."
        )
    return _KINDS[kind]


def _check_rate(rate: float | None, kind: str) -> float:
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
    """Flatten the features of each row.

    Returns
    -------
    features : ndarray of shape (n_samples, n_features)

    Raises
    ------
    ValueError
        If there are no features, not `n_rows` rows of them, or if some are not finite.
    """
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


def _check_transition_matrix(kind: ArrayLike, classes: NDArray[Any]) -> NDArray[np.float64]:
    """Check that a matrix holds one probability distribution for each class.

    Returns
    -------
    matrix : ndarray of shape (n_classes, n_classes)

    Raises
    ------
    ValueError
        If it does not.
    """
    matrix = np.asarray(kind, dtype=np.float64)
    n_classes = len(classes)
    if matrix.shape != (n_classes, n_classes):
        raise ValueError(
            f"kind is an array of shape {matrix.shape} and y has {n_classes} classes; expected one "
            f"of {_names_of_kinds()}, or a transition matrix of shape ({n_classes}, {n_classes}). "
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


def _name_rows(rows: NDArray[np.intp], classes: NDArray[Any]) -> str:
    names = classes.tolist()
    text = ", ".join(f"row {i} (class {names[i]!r})" for i in rows[:5])
    return text + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")
