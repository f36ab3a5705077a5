"""Per-sample gradients of one layer, as factors or dense, and what can be read off them.

Index conventions: n and m rows of two batches, t and s positions (sequence axes flattened),
i inputs, o outputs, p parameters, k components of a projection.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, Self, TypeAlias

import torch
from torch import Tensor

# For each call of a layer in the forward pass: its input and the gradient of the summed loss with
# respect to its output, both with the rows on the first axis.
Pairs: TypeAlias = list[tuple[Tensor, Tensor]]

# Blocks built on the way to a result stay below this many numbers.
_BLOCK_ELEMENTS = 2**22


class LayerProjection(Protocol):
    """The random signs of one layer; see `skinfluence.gradients._projection`."""

    def signs(self, part: int, n_columns: int, like: Tensor) -> Tensor:
        """Draw the signs (n_columns, n_components) of one part of the layer."""
        ...

    def project_dense(self, values: Tensor) -> Tensor:
        """Multiply a matrix (n_rows, n_parameters) with the signs of part 0."""
        ...


class LayerGradients(Protocol):
    """The gradients of every row's loss with respect to one layer's parameters.

    What is read off them is additive over layers. Columns are the layer's parameters in their
    own order, each flattened row-major.
    """

    def power_sum(self, ord: int) -> Tensor:
        """Sum ``|g|**ord``, ord 1 or 2, over the layer's parameters; of shape (n_rows,)."""
        ...

    def dense(self) -> Tensor:
        """Build the matrix, of shape (n_rows, n_parameters)."""
        ...

    def dot(self, direction: Tensor) -> Tensor:
        """Take inner products with one direction (n_parameters,); of shape (n_rows,)."""
        ...

    def gram(self, other: Self) -> Tensor:
        """Take inner products with another batch; of shape (n_rows, n_rows_of_other)."""
        ...

    def project(self, projection: LayerProjection) -> Tensor:
        """Project, up to a factor 1 / sqrt(n_components); of shape (n_rows, n_components)."""
        ...

    def with_unit_activations(self) -> Self:
        """Scale each row's layer input to unit norm and leave the bias out."""
        ...

    def inputs(self) -> Tensor:
        """Give each row's layer input, its mean over positions; of shape (n_rows, n_inputs)."""
        ...

    def scaled(self, weights: Tensor) -> Self:
        """Multiply each row's gradient with a number; weights of shape (n_rows,)."""
        ...

    def take(self, rows: slice) -> Self:
        """Select rows."""
        ...

    def summed(self) -> Tensor:
        """Add the gradients of all rows up; of shape (n_parameters,)."""
        ...


@dataclass(frozen=True)
class DenseGradients:
    """Gradients of a layer that no rule factors, as a matrix."""

    values: Tensor  # (n_rows, n_parameters)
    why: str = "that of this layer has none"  # factors, for errors

    def power_sum(self, ord: int) -> Tensor:
        """Sum over the columns."""
        return power_sum(self.values, ord)

    def dense(self) -> Tensor:
        """Give the matrix itself."""
        return self.values

    def dot(self, direction: Tensor) -> Tensor:
        """Multiply with the direction."""
        return self.values @ direction

    def gram(self, other: "LayerGradients") -> Tensor:
        """Multiply the matrices."""
        return self.values @ other.dense().mT

    def project(self, projection: LayerProjection) -> Tensor:
        """Multiply with random signs."""
        return projection.project_dense(self.values)

    def with_unit_activations(self) -> Self:
        """Refuse."""
        raise ValueError(self._refusal("normalize='activations'"))

    def inputs(self) -> Tensor:
        """Refuse."""
        raise ValueError(self._refusal("n_neighbors"))

    def _refusal(self, asked: str) -> str:
        return (
            f"{asked} takes gradients that have the layer's input as a factor, as those of Linear "
            f"and Conv layers do, but {self.why}. Set normalize='gradient' (or None) and "
            "n_neighbors=None, both of which are defined for any layer, or leave the layer out of "
            "`layers`."
        )

    def scaled(self, weights: Tensor) -> Self:
        """Multiply the rows."""
        return replace(self, values=scale_rows(self.values, weights))

    def take(self, rows: slice) -> Self:
        """Slice the matrix."""
        return replace(self, values=self.values[rows])

    def summed(self) -> Tensor:
        """Sum the rows."""
        return self.values.sum(0)


@dataclass(frozen=True)
class LinearGradients:
    """Gradients of a Linear layer: the outer products of what flows in and what flows back."""

    # A row's weight gradient is ``sum_t b_t a_t^T`` and its bias gradient ``sum_t b_t``.
    a: Tensor  # the input, (n_rows, n_inputs) or (n_rows, n_positions, n_inputs)
    b: Tensor  # the loss's gradient with respect to the output, with as many axes
    weight: bool  # whether the weight is among the parameters
    bias: bool

    @property
    def _biases(self) -> Tensor:
        return self.b if self.b.dim() == 2 else self.b.sum(1)

    @property
    def _positions(self) -> tuple[Tensor, Tensor]:
        return (self.a, self.b) if self.a.dim() == 3 else (self.a[:, None], self.b[:, None])

    def power_sum(self, ord: int) -> Tensor:
        """Sum over weight and bias, from the factors."""
        if self.a.dim() == 2:  # the entries of an outer product: their powers factor too
            back = power_sum(self.b, ord)
            return back * (power_sum(self.a, ord) + self.bias) if self.weight else back
        total = self.b.new_zeros(len(self.b))
        if self.weight:
            total = total + self._weight_power_sum(ord)
        return total + power_sum(self.b.sum(1), ord) if self.bias else total

    def _weight_power_sum(self, ord: int) -> Tensor:
        a, b = self.a, self.b
        positions, n_inputs, n_outputs = a.shape[1], a.shape[2], b.shape[2]
        if ord == 2 and positions_are_cheaper(positions, n_inputs, n_outputs):
            return in_blocks(
                lambda rows: gram_power_sum(a[rows], b[rows]), len(a), positions * positions
            )
        return in_blocks(
            lambda rows: power_sum(b[rows].mT @ a[rows], ord), len(a), n_inputs * n_outputs
        )

    def dense(self) -> Tensor:
        """Multiply the factors out, weight before bias."""
        a, b = self.a, self.b
        n, n_inputs, n_outputs = len(a), a.shape[-1], b.shape[-1]
        n_weights = n_inputs * n_outputs if self.weight else 0
        values = a.new_empty(n, n_weights + (n_outputs if self.bias else 0))
        if self.weight:
            weight = values[:, :n_weights].view(n, n_outputs, n_inputs)
            if a.dim() == 2:  # several times faster than a product of n thin matrices
                torch.mul(b[:, :, None], a[:, None, :], out=weight)
            else:
                weight.copy_(b.mT @ a)
        if self.bias:
            values[:, n_weights:] = self._biases
        return values

    def dot(self, direction: Tensor) -> Tensor:
        """Contract the direction with both factors."""
        n_inputs, n_outputs = self.a.shape[-1], self.b.shape[-1]
        total = self.b.new_zeros(len(self.b))
        if self.weight:
            matrix = direction[: n_outputs * n_inputs].view(n_outputs, n_inputs)
            total = total + ((self.a @ matrix.mT) * self.b).flatten(1).sum(1)
        if self.bias:
            total = total + (self.b @ direction[-n_outputs:]).reshape(len(self.b), -1).sum(1)
        return total

    def gram(self, other: "LayerGradients") -> Tensor:
        """Multiply Gram matrices of the factors."""
        if not isinstance(other, LinearGradients):
            return self.dense() @ other.dense().mT
        if self.a.dim() == other.a.dim() == 2:
            product = self.b @ other.b.mT
            return product * (self.a @ other.a.mT + self.bias) if self.weight else product
        one, two = self._biases, other._biases
        total = one @ two.mT if self.bias else one.new_zeros(len(one), len(two))
        if self.weight:
            total = total + gram_of_positions(*self._positions, *other._positions)
        return total

    def project(self, projection: LayerProjection) -> Tensor:
        """Project each factor with signs of its own."""
        a, b = self.a, self.b
        total = b.new_zeros(())
        if self.weight:
            outputs = projection.signs(0, b.shape[-1], b)
            inputs = projection.signs(1, a.shape[-1], a)
            product = (b @ outputs) * (a @ inputs)
            total = product if product.dim() == 2 else product.sum(1)
        if self.bias:
            total = total + self._biases @ projection.signs(2, b.shape[-1], b)
        return total

    def with_unit_activations(self) -> Self:
        """Scale the input factor."""
        check_has_weight(self.weight)
        return replace(self, a=unit_rows(self.a), bias=False)

    def inputs(self) -> Tensor:
        """Give the input factor."""
        return self.a if self.a.dim() == 2 else self.a.mean(1)

    def scaled(self, weights: Tensor) -> Self:
        """Multiply the factor that flows back."""
        return replace(self, b=scale_rows(self.b, weights))

    def take(self, rows: slice) -> Self:
        """Slice both factors."""
        return replace(self, a=self.a[rows], b=self.b[rows])

    def summed(self) -> Tensor:
        """Multiply the factors over rows and positions at once."""
        a, b = self.a.flatten(0, -2), self.b.flatten(0, -2)
        parts = [(b.mT @ a).flatten()] if self.weight else []
        return torch.cat([*parts, b.sum(0)]) if self.bias else parts[0]


def check_has_weight(weight: bool) -> None:
    """Refuse unit activations of a layer that trains its bias alone."""
    if not weight:
        raise ValueError(
            "normalize='activations' leaves biases out, and of one of the layers the weight is "
            "frozen (requires_grad=False), so that nothing of it would be left. Leave the layer "
            "out of `layers`, or use normalize='gradient'."
        )


def scale_rows(values: Tensor, weights: Tensor) -> Tensor:
    """Multiply along the first axis."""
    return values * weights.to(values).view(-1, *(1 for _ in values.shape[1:]))


def power_sum(values: Tensor, ord: int) -> Tensor:
    """Sum |v|**ord over all axes but the first."""
    values = values if values.dim() == 2 else values.flatten(1)
    if values.dtype in {torch.float16, torch.bfloat16}:  # squares overflow or lose all digits
        values = values.float()
    if ord == 1:  # here the vector norm is several times slower
        return values.abs().sum(1)
    # one read and no temporary of the same size
    norm: Tensor = torch.linalg.vector_norm(values, dim=1)
    return norm.square_()


def unit_rows(values: Tensor) -> Tensor:
    """Scale every row to unit norm over all its axes; rows of zeros stay."""
    norms = power_sum(values, 2).sqrt()
    safe = torch.where(norms > 0, norms, 1.0)
    return (values / safe.view(-1, *(1 for _ in values.shape[1:]))).to(values.dtype)


def positions_are_cheaper(positions: int, n_inputs: int, n_outputs: int) -> bool:
    """Compare pairs of positions with multiplying the gradient out."""
    return positions * (n_inputs + n_outputs) < n_inputs * n_outputs


def gram_power_sum(a: Tensor, b: Tensor) -> Tensor:
    """Compute ``||sum_t b_t a_t^T||^2 = sum_ts <a_t, a_s> <b_t, b_s>``, per row of (n, t, .)."""
    product = (a @ a.mT) * (b @ b.mT)
    return product.sum((1, 2)).clamp_min(0)  # rounding may leave a tiny negative


def gram_of_positions(a: Tensor, b: Tensor, a2: Tensor, b2: Tensor) -> Tensor:
    """Inner products of ``sum_t b_t a_t^T`` between rows of two batches, given as (n, t, .)."""
    pairs = a.shape[1] * a2.shape[1]
    n_inputs, n_outputs = a.shape[2], b.shape[2]
    if positions_are_cheaper(max(a.shape[1], a2.shape[1]), n_inputs, n_outputs):

        def by_pairs(rows: slice) -> Tensor:
            inner = torch.einsum("nti,msi->nmts", a[rows], a2)
            return (inner * torch.einsum("nto,mso->nmts", b[rows], b2)).sum((2, 3))

        return in_blocks(by_pairs, len(a), len(a2) * pairs)

    def by_matrices(rows: slice) -> Tensor:
        left = (b[rows].mT @ a[rows]).flatten(1)
        columns = in_blocks(
            lambda others: (b2[others].mT @ a2[others]).flatten(1) @ left.mT,
            len(a2),
            n_inputs * n_outputs,
        )
        return columns.mT

    return in_blocks(by_matrices, len(a), n_inputs * n_outputs)


def in_blocks(function: Callable[[slice], Tensor], n: int, elements_per_row: int) -> Tensor:
    """Concatenate `function` over slices of rows whose blocks stay small."""
    step = max(1, _BLOCK_ELEMENTS // max(1, elements_per_row))
    parts = [function(slice(start, start + step)) for start in range(0, n, step)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)
