"""Damped inverses by series of curvature products: LiSSA and Arnoldi; see `_inverses`."""

import torch
from torch import Tensor

from skinfluence.influence.solvers._curvature import Curvature
from skinfluence.influence.solvers._inverses import check_positive
from skinfluence.rows._progress import told


class LiSSAInverse:
    """The Neumann series of the inverse, on batches drawn at random; parameters as of `LiSSA`."""

    # x <- x + (v - (C_batch + damping I) x) / scale has the solution as its fixed point when no
    # eigenvalue of the damped curvature exceeds twice the scale. What comes out is the mean of the
    # second half of the iterates: its expectation tends to the solution, and the noise of the
    # batches averages out. The same batches serve every direction, so that solving is linear.

    def __init__(
        self,
        curvature: Curvature,
        damping: float,
        *,
        depth: int,
        batch_size: int,
        repeats: int,
        scale: float | None,
        seed: int,
    ) -> None:
        self._curvature, self._damping = curvature, damping
        self._depth, self._batch_size, self._repeats = depth, batch_size, repeats
        self._seed = seed
        self._adapts = scale is None
        if scale is None:
            scale = largest_eigenvalue(curvature, seed) + damping
        self.scale = scale

    def solve(self, directions: Tensor) -> Tensor:
        """Sum the series; see `Inverse`."""
        for _ in range(30):
            found = self._series(directions)
            if found is not None:
                return found
            if not self._adapts:
                break
            self.scale *= 2
        needed = largest_eigenvalue(self._curvature, self._seed) + self._damping
        raise ValueError(
            f"LiSSA diverges with scale={self.scale:g}: the damped curvature of a batch exceeds "
            f"twice that. Try scale={max(2 * self.scale, needed):.3g}, larger batches, or "
            "scale=None, which adapts."
        )

    def _series(self, directions: Tensor) -> Tensor | None:
        total = torch.zeros_like(directions)
        for repeat in told("repeats", range(self._repeats)):
            x = directions / self.scale
            start = x.norm(dim=1).clamp_min(1e-300)
            kept, n_kept = torch.zeros_like(x), 0
            loss = self._curvature.rows.net_loss
            batches = self._curvature.rows.drawn_batches(
                self._depth, self._batch_size, self._seed + repeat
            )
            for step, (X, y) in enumerate(batches):
                curved = torch.stack([self._curvature.batch_sum(loss, X, y, row) for row in x])
                x = x + (directions - curved / len(y) - self._damping * x) / self.scale
                if not self._is_bounded(x, start, step):
                    return None
                if 2 * step >= self._depth - 1:
                    kept += x
                    n_kept += 1
            total += kept / n_kept
        return total / self._repeats

    def _is_bounded(self, x: Tensor, start: Tensor, step: int) -> bool:
        """Compare with what the series can reach: step + 2 terms, none longer than the first."""
        growth = x.norm(dim=1) / start
        return bool((growth <= 10 * (step + 2)).all())  # false for NaN too


def largest_eigenvalue(curvature: Curvature, seed: int, n_products: int = 12) -> float:
    """Estimate the largest absolute eigenvalue, slightly too low, by a short Lanczos run."""
    values, _ = lanczos(curvature, n_products, seed)
    return float(values.abs().max())


def lanczos(curvature: Curvature, n_products: int, seed: int) -> tuple[Tensor, Tensor]:
    """Find eigenvalues (n,) ascending, and vectors (n_parameters, n), in a random Krylov space."""
    # Ritz values; n is n_products, the dimension of the space, or less if that is exhausted
    zero, n_parameters = curvature.rows.zero, curvature.rows.n_parameters
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(n_parameters, generator=generator, dtype=torch.float64).to(zero)
    basis = [start / start.norm()]
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    for _ in told("products", range(min(n_products, n_parameters))):
        product = curvature.product(basis[-1])
        diagonal.append(basis[-1].dot(product))
        stacked = torch.stack(basis)
        for _ in range(2):  # once leaves what rounding brought back
            product = product - stacked.mT @ (stacked @ product)
        length = product.norm()
        size = torch.stack(diagonal).abs().max()
        if len(basis) == min(n_products, n_parameters) or length <= 1e-10 * size:
            break
        beside.append(length)
        basis.append(product / length)
    matrix = torch.diag(torch.stack(diagonal))
    if beside:
        off = torch.diag(torch.stack(beside), 1)
        matrix = matrix + off + off.mT
    values, vectors = torch.linalg.eigh(matrix)
    return values, stacked.mT @ vectors


class ArnoldiInverse:
    """The leading eigenvectors and a constant beyond; parameters as of `Arnoldi`."""

    def __init__(
        self,
        curvature: Curvature,
        damping: float,
        *,
        n_iterations: int,
        rank: int,
        complement: bool,
        seed: int,
    ) -> None:
        values, vectors = lanczos(curvature, n_iterations, seed)
        leading = values.abs().argsort(descending=True)[:rank]
        damped = values[leading] + damping
        check_positive(damped, damping)
        self._vectors = vectors[:, leading]
        self._outside = 1 / damping if complement else 0.0
        self._weights = 1 / damped - self._outside

    def solve(self, directions: Tensor) -> Tensor:
        """Project, divide and go back; see `Inverse`."""
        inside = (directions @ self._vectors * self._weights) @ self._vectors.mT
        return inside + self._outside * directions
