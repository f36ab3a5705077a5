"""Data with known label errors, to measure how well a method finds them."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.datasets import make_blobs, make_moons
from sklearn.utils import Bunch

from skinfluence.datasets._label_noise import (
    NAMES_OF_KINDS,
    check_kind,
    check_labels,
    check_rate,
    check_transition_matrix,
    draw_columns,
    flip,
)
from skinfluence.rows._seeds import own_random_state


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
        An int gives the same data every time; a RandomState instance is used and advanced; None
        gives new data every time, and leaves numpy's global generator untouched.

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
    labels, classes, codes = check_labels(y)
    rng = own_random_state(random_state)
    if isinstance(kind, str):
        check_kind(kind)
        rate = check_rate(rate, kind)
        noisy_codes = flip(kind, codes, n_classes=len(classes), rate=rate, X=X, rng=rng)
    else:
        if rate is not None:
            raise ValueError(
                f"rate={rate!r} was given together with a transition matrix, which holds its own "
                "rates; expected rate=None. Leave rate out, or name the kind: "
                f"{NAMES_OF_KINDS}."
            )
        noisy_codes = draw_columns(check_transition_matrix(kind, classes)[codes], rng)
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
    rng = own_random_state(random_state)
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
    rng = own_random_state(random_state)
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
    """Flip `n_flips` training labels and pack everything."""
    y_noisy, is_noisy = make_noisy_labels(y, rate=n_flips / len(y), random_state=rng)
    return Bunch(X=X, y=y_noisy, y_clean=y, is_noisy=is_noisy, X_test=X_test, y_test=y_test)
