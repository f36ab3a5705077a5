"""The complexity gap of every row, in closed form: exact, and with a low-rank kernel matrix.

With H the kernel matrix of n rows, jitter on its diagonal, and y the targets, the complexity of
the data is ``y' H^-1 y``. The gap of row i is what the complexity loses when row i is deleted:

    v_i = y' H^-1 y - y_-i' (H_-i)^-1 y_-i = a_i**2 / D_i,   a = H^-1 y,   D = diag(H^-1).

Since ``a_i / D_i = y_i - f_-i(x_i)``, the error at row i of the interpolation through the other
rows, the gap is that error squared, times D_i. H does not depend on y, so one factorisation
serves any number of targets.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from scipy.linalg import LinAlgError, cholesky, get_lapack_funcs, solve_triangular
from scipy.sparse import csr_matrix, issparse

from skinfluence.rows._progress import told
from skinfluence.rows._weights import Weights
from skinfluence.rows._words import rows_of_length_one

# kernel(A, B) of shape (len(A), len(B)).
Kernel: TypeAlias = Callable[[Any, Any], ArrayLike]
# Rows that are compared; sparse ones stay so.
Table: TypeAlias = np.ndarray | csr_matrix
# Rows of a block: large enough for BLAS, small beside an n x n matrix.
_BLOCK = 256
# Of a row's variance given the others, in units of its noise: less is lost to rounding.
_RESOLUTION = 1e-10
# Of a weight, where one is the mean: below, a row's say is no more than rounding.
_NO_WEIGHT = 1e-9


class Solution(NamedTuple):
    """The inverse of the kernel matrix, as far as complexity gaps need it."""

    # a = H^-1 Y, of shape (n_rows, n_targets)
    weights: np.ndarray
    # D = diag(H^-1): one over the part of a row's kernel that the others do not explain
    precisions: np.ndarray
    # where rows weigh differently, both are those of each as a row of weight one among the others


class Gaps(NamedTuple):
    """Complexity gaps and the three terms they are the sum of."""

    # D (y - f)**2, with f what the other rows predict; large = irregular or mislabelled
    total: NDArray[np.float64]
    # D f**2, D y**2 and -2 D y f, of shape (n_rows, 3); the last is negative where f has y's sign
    terms: NDArray[np.float64]


def unit_rows(X: Table, dtype: DTypeLike) -> Table:
    """Divide finite rows by their Euclidean norms, without overflow; zero rows stay zero."""
    if issparse(X):
        return rows_of_length_one(X).astype(dtype)
    X = np.asarray(X, dtype=np.result_type(X.dtype, dtype))
    largest = np.abs(X).max(axis=1, keepdims=True, initial=0)
    scaled = X / np.where(largest > 0, largest, 1)
    norms = np.linalg.norm(scaled, axis=1, keepdims=True)
    return np.asarray(scaled / np.where(norms > 0, norms, 1), dtype=dtype)


def ntk(A: Table, B: Table) -> np.ndarray:
    """Compute the kernel of an infinitely wide two-layer ReLU net, first layer trained."""
    # Arora et al., "Fine-Grained Analysis of Optimization and Generalization for Overparameterized
    # Two-Layer Neural Networks", ICML 2019, equation 3: s (pi - arccos s) / (2 pi) with s the
    # inner product of rows of norm 1 or 0. 1/2 for equal rows, 0 for orthogonal or zero ones.
    cosines = dense(A @ B.T)
    angles: np.ndarray = np.clip(cosines, -1, 1)  # rounding gives 1 + 2e-16, whose arccos is NaN
    np.arccos(angles, out=angles)
    np.subtract(np.pi, angles, out=angles)
    angles *= cosines
    angles /= 2 * np.pi
    return angles


def gaps(solution: Solution, targets: np.ndarray) -> Gaps:
    """Read gaps off weights for these targets, of the same shape; those of a row are summed."""
    a = np.asarray(solution.weights, dtype=np.float64).reshape(len(targets), -1)
    y = np.asarray(targets, dtype=np.float64).reshape(len(targets), -1)
    D = np.asarray(solution.precisions, dtype=np.float64)[:, np.newaxis]
    others = a - D * y  # -D f
    terms = np.stack([others**2 / D, D * y**2, 2 * y * others], axis=-1).sum(1)
    return Gaps((a**2 / D).sum(1), terms)


def solve_exact(
    Z: Table, targets: np.ndarray, kernel: Kernel, jitter: float, weights: Weights = None
) -> Solution:
    """Factor the whole kernel matrix once, in place; the solution has the dtype of the rows."""
    # Memory: one n x n matrix. H = L L'; L is overwritten by its inverse, whose columns have the
    # squared norms D. That is 2/3 n**3 operations, whatever the number of targets.
    if weights is not None:
        return _solve_weighted(Z, targets, kernel, jitter, weights)
    inverse = _inverse_factor(Z, kernel, jitter)
    found = inverse.T @ (inverse @ targets.astype(Z.dtype))
    return Solution(found, np.einsum("ij,ij->j", inverse, inverse))


def _solve_weighted(
    Z: Table, targets: np.ndarray, kernel: Kernel, jitter: float, weights: NDArray[np.float64]
) -> Solution:
    """Solve with the jitter of a row divided by its weight, which is what copies of it come to."""
    # e_i = y_i - f_i, the others' error at row i, does not depend on its own weight: a_i / D_i. Nor
    # does its variance given them, s_i = 1 / D_i less its own jitter. As a row of weight one, it
    # has D = 1 / (s_i + jitter) and a = D e_i.
    counts = weights > _NO_WEIGHT
    seen, y = Z[counts], targets.astype(Z.dtype)
    noise = (jitter / weights[counts]).astype(Z.dtype)
    inverse = _inverse_factor(seen, kernel, noise)
    half = inverse @ y[counts]
    D = np.einsum("ij,ij->j", inverse, inverse)
    errors, variances = np.empty_like(y), np.empty(len(y))
    errors[counts], variances[counts] = inverse.T @ half / D[:, np.newaxis], 1 / D - noise
    absent = np.flatnonzero(~counts)
    for part in blocks(len(absent)):
        rows = absent[part]
        known = inverse @ _values(kernel, Z[rows], seen).T
        errors[rows] = y[rows] - known.T @ half
        variances[rows] = _diagonal(Z[rows], kernel) - np.einsum("ij,ij->j", known, known)
    return _of_weight_one(errors, variances, jitter)


def _of_weight_one(errors: np.ndarray, variances: np.ndarray, jitter: float) -> Solution:
    """Give the solution at rows of weight one, by what the others leave open at each."""
    left = np.maximum(variances, 0) + jitter
    if left.min() < _RESOLUTION:
        raise ValueError(_not_definite(jitter))
    return Solution(errors / left[:, np.newaxis], 1 / left)


def _inverse_factor(Z: Table, kernel: Kernel, noise: Any) -> np.ndarray:
    """Invert the Cholesky factor of the kernel matrix with a number, or one a row, added to it."""
    n_rows = Z.shape[0]
    H = np.empty((n_rows, n_rows), dtype=Z.dtype)
    for rows in told("blocks", list(blocks(n_rows))):
        H[rows] = _values(kernel, Z[rows], Z)
    block = slice(0, _BLOCK)
    if not np.allclose(H[block, block], H[block, block].T, rtol=1e-4, atol=1e-6):
        raise ValueError(
            f"kernel={kernel!r} is not symmetric: kernel(A, B) is not the transpose of kernel(B, "
            "A). Expected a positive definite kernel, such as sklearn's rbf_kernel."
        )
    if kernel is ntk:  # arccos is steep at 1: what rounding does to a cosine there shows
        np.fill_diagonal(H, 0.5)
    H.flat[:: n_rows + 1] += noise
    least = float(np.min(noise))
    L = _factor(H.T, least)  # the transpose of a symmetric matrix lies as LAPACK wants it
    del H
    invert = get_lapack_funcs("trtri", (L,))
    inverse, failed = invert(L, lower=1, overwrite_c=1)
    if failed:
        raise ValueError(_not_definite(least))
    return np.asarray(inverse)


def solve_low_rank(
    Z: Table,
    targets: np.ndarray,
    kernel: Kernel,
    jitter: float,
    landmarks: NDArray[np.intp],
    *,
    weights: Weights = None,
) -> Solution:
    """Solve in float64 with the kernel matrix seen through some of its rows, the landmarks."""
    # H = F F' + Lambda: F F' is the Nystroem approximation from the landmarks, and the diagonal
    # matrix Lambda (`noise`) holds the jitter and what F F' lacks on the diagonal, so that the
    # diagonal is exact. The Woodbury identity inverts that. With all rows as landmarks it is
    # `solve_exact`. Memory: one n x n_landmarks matrix. Time: n n_landmarks**2.
    n_rows = Z.shape[0]
    chosen = Z[landmarks]
    root = _inverse_root(_values(kernel, chosen, chosen), Z.dtype)
    F = np.empty((n_rows, root.shape[1]))
    noise, own, jitters = np.empty(n_rows), np.empty(n_rows), np.full(n_rows, float(jitter))
    if weights is not None:
        with np.errstate(divide="ignore"):
            jitters /= weights  # infinite without weight: the row says nothing
    M = np.eye(root.shape[1])
    onto = np.zeros((root.shape[1], targets.shape[1]))
    for rows in told("blocks", list(blocks(n_rows))):
        F[rows] = _values(kernel, Z[rows], chosen).astype(np.float64) @ root
        lacking = _diagonal(Z[rows], kernel) - np.einsum("ij,ij->i", F[rows], F[rows])
        own[rows] = np.maximum(lacking, 0)
        noise[rows] = own[rows] + jitters[rows]
        scaled = F[rows] / noise[rows, np.newaxis]
        M += F[rows].T @ scaled
        onto += scaled.T @ targets[rows]
    L = _factor(M.T, jitter)
    coefficients = solve_triangular(L, onto, lower=True)
    errors, variances = np.empty(targets.shape), np.empty(n_rows)
    for rows in told("blocks", list(blocks(n_rows))):
        half = solve_triangular(L, F[rows].T, lower=True)
        known = np.einsum("ij,ij->j", half, half)
        left = 1 - known / noise[rows]
        if left.min() < _RESOLUTION:
            raise ValueError(_not_definite(jitter))
        errors[rows] = (targets[rows] - half.T @ coefficients) / left[:, np.newaxis]
        variances[rows] = own[rows] + known / left  # noise / left, less the row's own jitter
    return _of_weight_one(errors, variances, jitter)


def blocks(n_rows: int, size: int = _BLOCK) -> Iterator[slice]:
    """Cut rows into blocks."""
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


def low_rank_bytes(n_rows: int, n_landmarks: int) -> int:
    """Count the bytes of the matrices `solve_low_rank` makes."""
    return 8 * (n_rows + 4 * n_landmarks) * n_landmarks


def _diagonal(Z: Table, kernel: Kernel) -> NDArray[np.float64]:
    if kernel is ntk:
        return np.full(Z.shape[0], 0.5)
    rows = (Z[i : i + 1] for i in range(Z.shape[0]))
    return np.array([_values(kernel, row, row).item() for row in rows])


def _values(kernel: Kernel, A: Table, B: Table) -> np.ndarray:
    values = dense(kernel(A, B))
    shape = A.shape[0], B.shape[0]
    if values.shape != shape or not np.isfinite(values).all():
        raise ValueError(
            f"kernel={kernel!r} gave shape {values.shape} for {shape[0]} and {shape[1]} rows, or "
            "values that are not finite. Expected kernel(A, B) of shape (n_a, n_b), finite."
        )
    return values


def dense(values: Any) -> np.ndarray:
    """Make an array of rows, or of a kernel of them, that may be sparse."""
    return np.asarray(values.toarray() if issparse(values) else values)


def _factor(H: np.ndarray, jitter: float) -> np.ndarray:
    try:
        L: np.ndarray = cholesky(H, lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError as error:
        raise ValueError(_not_definite(jitter)) from error
    return L


def _inverse_root(K: np.ndarray, dtype: np.dtype) -> NDArray[np.float64]:
    """Find R with ``R R' = K^-1``, where K has rank; duplicates among landmarks drop out."""
    values, vectors = np.linalg.eigh(K.astype(np.float64))
    kept = values > len(K) * np.finfo(dtype).eps * values[-1]  # directions below are rounding
    if not kept.any():
        raise ValueError(
            "The kernel is zero, or not positive, on all landmarks. Expected a positive definite "
            "kernel and rows that are not all zero."
        )
    root: NDArray[np.float64] = vectors[:, kept] / np.sqrt(values[kept])
    return root


def _not_definite(jitter: float) -> str:
    return (
        f"The kernel matrix is not safely positive definite with jitter={jitter}. Exact or near "
        "duplicates make it singular, and so does a kernel that is not positive definite. Raise "
        "jitter (1e-2 suits the default kernel), or check the kernel."
    )
