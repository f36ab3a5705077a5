"""Products with the inverse of a damped curvature matrix, ``(C + damping I)^-1 v``.

C is the mean curvature of the training loss, a symmetric matrix known by its products. Every
inverse here has one method, `solve`, on directions of shape (k, n_parameters).
"""

import warnings
from collections.abc import Callable
from typing import Protocol

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from skinfluence.influence._net_rows import Curvature
from skinfluence.influence.solvers._curvature import gauss_newton_matrix, hessian_matrix


class Inverse(Protocol):
    """A damped inverse that has been prepared."""

    def solve(self, directions: Tensor) -> Tensor:
        """Multiply (k, n_parameters) directions with the inverse."""
        ...


class IdentityInverse:
    """The identity matrix in place of the curvature."""

    def solve(self, directions: Tensor) -> Tensor:
        """Give the directions back; see `Inverse`."""
        return directions


class ExactInverse:
    """A factorisation of the whole matrix.

    Parameters
    ----------
    curvature : Curvature
    damping : float
    max_bytes : int
        Refuse a larger matrix.
    """

    def __init__(self, curvature: Curvature, damping: float, max_bytes: int) -> None:
        zero = curvature.rows.zero
        needed = curvature.rows.n_parameters**2 * zero.element_size()
        if needed > max_bytes:
            raise ValueError(
                f"Exact() holds a matrix of {curvature.rows.n_parameters} x "
                f"{curvature.rows.n_parameters} numbers, {needed} bytes, more than "
                f"max_bytes={max_bytes}. Use ConjugateGradient(), which needs no matrix, choose "
                "fewer layers, or raise max_bytes."
            )
        matrix = explicit_matrix(curvature)
        matrix.diagonal().add_(damping)
        self._values, self._vectors = torch.linalg.eigh(matrix)
        check_positive(self._values, damping)

    def solve(self, directions: Tensor) -> Tensor:
        """Divide by the eigenvalues; see `Inverse`."""
        inside = directions @ self._vectors / self._values
        solved: Tensor = inside @ self._vectors.mT
        return solved


def explicit_matrix(curvature: Curvature) -> Tensor:
    """Build the mean curvature matrix.

    Parameters
    ----------
    curvature : Curvature

    Returns
    -------
    Tensor of shape (n_parameters, n_parameters)
    """
    rows = curvature.rows
    total = rows.zero.new_zeros(rows.n_parameters, rows.n_parameters)
    roots = curvature.root_loop() if curvature.kind == "ggn" else None
    for X, y in rows.batches():
        if curvature.kind == "ggn":
            total += gauss_newton_matrix(rows.net_loss, rows.layers, X, y, roots)
        else:
            total += hessian_matrix(rows.net_loss, rows.layers, X, y)
    return total / rows.n_rows


def check_positive(values: Tensor, damping: float) -> None:
    smallest = float(values.min())
    if smallest > 1e-12 * float(values.abs().max()):
        return
    raise ValueError(not_positive(smallest, damping))


def not_positive(value: float, damping: float) -> str:
    return (
        f"The damped curvature has a direction of curvature {value:.3g}, so the net is not at a "
        "minimum of the damped loss and its inverse says nothing about removing rows. Use "
        f"curvature='ggn', or damping above {damping - value:.3g}."
    )


class ConjugateGradientInverse:
    """One system of equations after another, by products alone.

    Parameters
    ----------
    curvature : Curvature
    damping : float
    tol : float
        Residual, relative to the right-hand side, at which to stop.
    max_iter : int
    """

    def __init__(self, curvature: Curvature, damping: float, tol: float, max_iter: int) -> None:
        self._curvature, self._damping = curvature, damping
        self._tol, self._max_iter = tol, max_iter

    def solve(self, directions: Tensor) -> Tensor:
        """Solve for one direction after another; see `Inverse`."""
        return torch.stack([self._solve_one(direction) for direction in directions])

    def _solve_one(self, b: Tensor) -> Tensor:
        found, residual = conjugate_gradient(
            self._curvature, self._damping, b, torch.zeros_like(b), self._max_iter, tol=self._tol
        )
        if residual > self._tol:
            warnings.warn(
                f"ConjugateGradient stopped after max_iter={self._max_iter} products at a relative "
                f"residual of {residual:.1e}, above tol={self._tol:g}. Raise max_iter, tol or the "
                "damping.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return found


def conjugate_gradient(
    curvature: Curvature,
    damping: float,
    b: Tensor,
    start: Tensor,
    max_iter: int,
    *,
    tol: float = 0.0,
    precondition: Callable[[Tensor], Tensor] = lambda residual: residual,
) -> tuple[Tensor, float]:
    """Solve ``(C + damping I) x = b`` for one vector.

    Parameters
    ----------
    curvature : Curvature
    damping : float
    b, start : Tensor of shape (n_parameters,)
    max_iter : int
    tol : float, default=0
        Relative residual at which to stop.
    precondition : callable, optional
        Product with a symmetric positive definite approximation of the inverse.

    Returns
    -------
    x : Tensor of shape (n_parameters,)
    residual : float
        Relative to the length of b.

    Raises
    ------
    ValueError
        If the damped curvature proves not to be positive definite.
    """

    def damped(v: Tensor) -> Tensor:
        return curvature.product(v) + damping * v

    size = float(b.norm()) or 1.0
    x = start.clone()
    residual = b - damped(x) if x.any() else b.clone()
    conditioned = precondition(residual)
    step, squared = conditioned.clone(), residual.dot(conditioned)
    for _ in range(max_iter):
        if float(residual.norm()) <= tol * size:
            break
        product = damped(step)
        curved = step.dot(product)
        if curved <= 0:
            raise ValueError(not_positive(float(curved / step.dot(step)), damping))
        alpha = squared / curved
        x += alpha * step
        residual -= alpha * product
        conditioned = precondition(residual)
        before, squared = squared, residual.dot(conditioned)
        step = conditioned + squared / before * step
    return x, float(residual.norm()) / size


class DataInfInverse:
    """The mean of the inverses of single rows' damped gradient products, layer by layer.

    Swapping inverse and mean gives every layer a closed form,
    ``1 / (n d) sum_i (v - g_i <v, g_i> / (d + |g_i|^2))``.

    Parameters
    ----------
    curvature : Curvature
        Its rows; its products are not used.
    damping : float or None
        None takes, for every layer, a tenth of the mean square of a gradient's entries.
    """

    def __init__(self, curvature: Curvature, damping: float | None) -> None:
        rows = curvature.rows
        self._rows = rows
        self._sizes = [layer.n_parameters for layer in rows.layers]
        self._damping: list[float] = []
        if damping is not None:
            self._damping = [damping] * len(self._sizes)
            return
        squares = torch.stack([rows.zero] * len(self._sizes))
        for block in rows.gradients():
            parts = torch.split(block.to(rows.zero), self._sizes, 1)
            squares += torch.stack([part.square().sum() for part in parts])
        pairs = zip(squares.tolist(), self._sizes, strict=True)
        self._damping = [0.1 * total / (rows.n_rows * size) for total, size in pairs]

    def solve(self, directions: Tensor) -> Tensor:
        """Sum over the rows' gradients; see `Inverse`."""
        given = torch.split(directions, self._sizes, 1)
        total = [torch.zeros_like(part) for part in given]
        for block in self._rows.gradients():
            parts = torch.split(block.to(directions), self._sizes, 1)
            for i, (v, g, damping) in enumerate(zip(given, parts, self._damping, strict=True)):
                if damping > 0:  # else the layer has no gradient at all
                    total[i] += v @ g.mT / (damping + g.square().sum(1)) @ g
        layers = zip(given, total, self._damping, strict=True)
        n_rows = self._rows.n_rows
        return torch.cat([(v - t / n_rows) / d if d > 0 else 0 * v for v, t, d in layers], 1)
