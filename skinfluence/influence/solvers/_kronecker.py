"""EK-FAC: the Gauss-Newton matrix of a layer in the eigenbasis of its Kronecker factors.

A Linear layer's gradient is ``sum_t b_t a_t^T``. With A the mean of ``a a^T`` (a with a one for the
bias) and B that of ``b b^T`` over the roots of the Gauss-Newton matrix, the eigenvectors of both
span a basis in which the layer's block is nearly diagonal; the diagonal itself is taken exactly.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from skinfluence.gradients._layers import Layer
from skinfluence.gradients.factors._convolution import ConvGradients
from skinfluence.gradients.factors._layer_gradients import LayerGradients, LinearGradients
from skinfluence.gradients.routes._loop import GradientLoop
from skinfluence.influence._net_rows import Direction
from skinfluence.influence.solvers._curvature import Curvature
from skinfluence.influence.solvers._inverses import check_positive, conjugate_gradient

_ROW_BLOCK = 64


@dataclass
class _KroneckerBlock:
    """A Linear or Conv layer: two bases, and the diagonal in their product."""

    inputs: Tensor
    outputs: Tensor
    bias: bool
    values: Tensor

    def add_factors(
        self, factors: tuple[Tensor, Tensor], sign: Tensor, weights: Tensor | None
    ) -> None:
        """Add rows to the second moments of the layer's inputs and output gradients."""
        a, b = factors  # b holds the root of the row's weight
        heavy = a if weights is None else weights[:, None, None] * a
        self.inputs += torch.einsum("nti,ntj->ij", heavy, a)
        self.outputs += torch.einsum("n,nto,ntp->op", sign, b, b)

    def turn_into_bases(self) -> None:
        """Replace the second moments by their eigenvectors."""
        self.inputs = torch.linalg.eigh(self.inputs)[1]
        self.outputs = torch.linalg.eigh(self.outputs)[1]

    def add_values(self, factors: tuple[Tensor, Tensor], sign: Tensor) -> None:
        """Add rows to the diagonal that the block has in the eigenbases."""
        a, b = factors[0] @ self.inputs, factors[1] @ self.outputs
        if a.shape[1] == 1:  # the squares of an outer product factor too
            self.values += (sign[:, None] * b[:, 0].square()).mT @ a[:, 0].square()
            return
        for start in range(0, len(a), _ROW_BLOCK):
            part = slice(start, start + _ROW_BLOCK)
            rotated = (b[part].mT @ a[part]).square()
            self.values += torch.einsum("n,noi->oi", sign[part], rotated)

    def divide(self, directions: Tensor, damping: float) -> Tensor:
        matrix = self._as_matrix(directions)
        rotated = self.outputs.mT @ matrix @ self.inputs / (self.values + damping)
        return self._as_vector(self.outputs @ rotated @ self.inputs.mT)

    def _as_matrix(self, directions: Tensor) -> Tensor:
        n_outputs = len(self.outputs)
        if not self.bias:
            return directions.view(len(directions), n_outputs, -1)
        weight = directions[:, :-n_outputs].view(len(directions), n_outputs, -1)
        return torch.cat([weight, directions[:, -n_outputs:, None]], 2)

    def _as_vector(self, matrix: Tensor) -> Tensor:
        if not self.bias:
            return matrix.flatten(1)
        return torch.cat([matrix[:, :, :-1].flatten(1), matrix[:, :, -1]], 1)


@dataclass
class _DiagonalBlock:
    """Any other layer: the diagonal of its block."""

    values: Tensor

    def divide(self, directions: Tensor, damping: float) -> Tensor:
        return directions / (self.values + damping)


class EKFACInverse:
    """Blocks of Linear and Conv layers in their Kronecker eigenbasis, others by their diagonal."""

    def __init__(self, curvature: Curvature, damping: float, n_corrections: int) -> None:
        self._curvature, self._damping = curvature, damping
        self._n_corrections = n_corrections
        loop = curvature.root_loop()
        if loop is None:
            raise ValueError(
                "EKFAC needs a net whose forward returns one tensor with a row for each sample; "
                "this one returns several. Use ConjugateGradient(), which serves any net."
            )
        self._blocks: dict[str, _KroneckerBlock | _DiagonalBlock] = {}
        self._find_bases(loop)
        self._find_values(loop)

    def _find_bases(self, loop: GradientLoop) -> None:
        rows = self._curvature.rows
        for kept, sign, weights in self._curvature.kept_roots(loop):
            for layer in rows.layers:
                block = self._block(layer, kept[layer.name], rows.zero)
                if isinstance(block, _KroneckerBlock):
                    factors = _factors(kept[layer.name], rows.zero)
                    block.add_factors(factors, sign.to(rows.zero), weights)
        for found in self._blocks.values():
            if isinstance(found, _KroneckerBlock):
                found.turn_into_bases()

    def _find_values(self, loop: GradientLoop) -> None:
        rows = self._curvature.rows
        for kept, sign, _ in self._curvature.kept_roots(loop):
            for name, block in self._blocks.items():
                if isinstance(block, _KroneckerBlock):
                    block.add_values(_factors(kept[name], rows.zero), sign.to(rows.zero))
                else:
                    squares = kept[name].dense().to(rows.zero).square()
                    block.values += sign.to(squares) @ squares
        for found in self._blocks.values():
            found.values /= rows.n_rows
            check_positive(found.values + self._damping, self._damping)

    def solve(self, directions: Tensor) -> Tensor:
        """Divide in every layer's basis, then correct; see `Inverse`."""
        divided = self._divide(directions)
        if self._n_corrections == 0:
            return divided
        pairs = zip(directions, divided, strict=True)
        return torch.stack([self._corrected(given, start) for given, start in pairs])

    def _divide(self, directions: Tensor) -> Tensor:
        parts = self._curvature.rows.by_layer(directions)
        pairs = zip(self._blocks.values(), parts, strict=True)
        return torch.cat([block.divide(part, self._damping) for block, part in pairs], 1)

    def _corrected(self, given: Direction, start: Direction) -> Direction:
        return conjugate_gradient(
            self._curvature,
            self._damping,
            given,
            start,
            self._n_corrections,
            precondition=lambda residual: self._divide(residual[None])[0],
        )[0]

    def _block(
        self, layer: Layer, gradients: LayerGradients, zero: Tensor
    ) -> _KroneckerBlock | _DiagonalBlock:
        if layer.name not in self._blocks:
            linear = _as_linear(gradients)
            if linear is None:
                self._blocks[layer.name] = _DiagonalBlock(zero.new_zeros(layer.n_parameters))
            else:
                n_inputs, n_outputs = linear.a.shape[-1] + linear.bias, linear.b.shape[-1]
                self._blocks[layer.name] = _KroneckerBlock(
                    zero.new_zeros(n_inputs, n_inputs),
                    zero.new_zeros(n_outputs, n_outputs),
                    linear.bias,
                    zero.new_zeros(n_outputs, n_inputs),
                )
        return self._blocks[layer.name]


def _as_linear(gradients: LayerGradients) -> LinearGradients | None:
    linear = gradients.as_linear() if isinstance(gradients, ConvGradients) else gradients
    return linear if isinstance(linear, LinearGradients) and linear.weight else None


def _factors(gradients: LayerGradients, zero: Tensor) -> tuple[Tensor, Tensor]:
    """Give a (n, t, i), with a one for the bias, and b (n, t, o)."""
    linear = _as_linear(gradients)
    if linear is None:
        raise ValueError(
            "A layer left the factored route after the first rows, so its Kronecker factors are "
            "those of a part of the rows. Use ConjugateGradient(), which needs no factors."
        )
    a, b = linear.a.to(zero), linear.b.to(zero)
    a, b = (a, b) if a.dim() == 3 else (a[:, None], b[:, None])
    return (torch.cat([a, torch.ones_like(a[..., :1])], 2) if linear.bias else a), b
