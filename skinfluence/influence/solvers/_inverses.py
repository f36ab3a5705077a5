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

from skinfluence.influence._net_rows import Direction, NetRows
from skinfluence.influence.solvers._curvature import Curvature
from skinfluence.rows._progress import told


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
    """A factorisation of the whole matrix."""

    def __init__(self, curvature: Curvature, damping: float, max_bytes: int) -> None:
        n_parameters = curvature.rows.n_parameters
        needed = n_parameters**2 * curvature.rows.zero.element_size()
        if needed > max_bytes:
            raise ValueError(
                f"Exact() holds a matrix of {n_parameters} x {n_parameters} numbers, {needed} "
                f"bytes, more than max_bytes={max_bytes}. Use ConjugateGradient(), which needs no "
                "matrix, choose fewer layers, or raise max_bytes."
            )
        matrix = curvature.matrix()
        matrix.diagonal().add_(damping)
        self._values, self._vectors = torch.linalg.eigh(matrix)
        check_positive(self._values, damping)

    def solve(self, directions: Tensor) -> Tensor:
        """Divide by the eigenvalues; see `Inverse`."""
        inside = directions @ self._vectors / self._values
        solved: Tensor = inside @ self._vectors.mT
        return solved


def check_positive(damped: Tensor, damping: float) -> None:
    """Refuse eigenvalues of the damped curvature that are not all positive."""
    smallest = float(damped.min())
    if smallest <= 1e-12 * float(damped.abs().max()):
        raise _not_positive(smallest, damping)


def _not_positive(value: float, damping: float) -> ValueError:
    return ValueError(
        f"The damped curvature has a direction of curvature {value:.3g}, so the net is not at a "
        "minimum of the damped loss and its inverse says nothing about removing rows. Use "
        f"curvature='ggn', or damping above {damping - value:.3g}."
    )


class ConjugateGradientInverse:
    """One system of equations after another, by products alone."""

    def __init__(self, curvature: Curvature, damping: float, tol: float, max_iter: int) -> None:
        self._curvature, self._damping = curvature, damping
        self._tol, self._max_iter = tol, max_iter

    def solve(self, directions: Tensor) -> Tensor:
        """Solve for one direction after another; see `Inverse`."""
        return torch.stack([self._solve_one(direction) for direction in directions])

    def _solve_one(self, b: Direction) -> Direction:
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
    b: Direction,
    start: Direction,
    max_iter: int,
    *,
    tol: float = 0.0,  # of the residual, relative to the length of b
    # product with a symmetric positive definite approximation of the inverse
    precondition: Callable[[Direction], Direction] = lambda residual: residual,
) -> tuple[Direction, float]:
    """Solve ``(C + damping I) x = b`` for one vector; gives x and the relative residual."""

    def damped(v: Direction) -> Direction:
        return curvature.product(v) + damping * v

    size = float(b.norm()) or 1.0
    x = start.clone()
    residual = b - damped(x) if x.any() else b.clone()
    conditioned = precondition(residual)
    step, squared = conditioned.clone(), residual.dot(conditioned)
    for _ in told("steps", range(max_iter)):
        if float(residual.norm()) <= tol * size:
            break
        product = damped(step)
        curved = step.dot(product)
        if curved <= 0:
            raise _not_positive(float(curved / step.dot(step)), damping)
        alpha = squared / curved
        x += alpha * step
        residual -= alpha * product
        conditioned = precondition(residual)
        before, squared = squared, residual.dot(conditioned)
        step = conditioned + squared / before * step
    return x, float(residual.norm()) / size


class DataInfInverse:
    """The mean of the inverses of single rows' damped gradient products, layer by layer."""

    # Swapping inverse and mean gives every layer, with its damping d, a closed form:
    # 1 / (n d) sum_i w_i (v - g_i <v, g_i> / (d + |g_i|^2))

    def __init__(self, rows: NetRows, damping: float | None) -> None:
        self._rows = rows
        self._damping = _damping_by_layer(rows) if damping is None else [damping] * len(rows.layers)

    def solve(self, directions: Tensor) -> Tensor:
        """Sum over the rows' gradients; see `Inverse`."""
        given = self._rows.by_layer(directions)
        total = [torch.zeros_like(part) for part in given]
        for block, weights in self._rows.weighted_gradients():
            parts = self._rows.by_layer(block.to(directions))
            w = weights.to(directions)
            for i, (v, g, damping) in enumerate(zip(given, parts, self._damping, strict=True)):
                if damping > 0:  # else the layer has no gradient at all
                    total[i] += (v @ g.mT * (w / (damping + g.square().sum(1)))) @ g
        layers = zip(given, total, self._damping, strict=True)
        n_rows = self._rows.n_rows
        return torch.cat([(v - t / n_rows) / d if d > 0 else 0 * v for v, t, d in layers], 1)


def _damping_by_layer(rows: NetRows) -> list[float]:
    """Take, for every layer, a tenth of the mean square of a gradient's entries."""
    squares = torch.stack([rows.zero] * len(rows.layers))
    for block, weights in rows.weighted_gradients():
        parts = rows.by_layer(block.to(rows.zero))
        squares += torch.stack([weights @ part.square().sum(1) for part in parts])
    pairs = zip(squares.tolist(), rows.layers, strict=True)
    return [0.1 * total / (rows.n_rows * layer.n_parameters) for total, layer in pairs]
