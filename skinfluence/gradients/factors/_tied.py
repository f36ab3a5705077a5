"""Per-sample gradients of one matrix that an embedding looks up and an output layer multiplies by.

Index conventions: n and m rows, t positions of the embedding, s of the output layer, v rows of the
matrix (tokens), d its columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from skinfluence.gradients.factors._embedding import EmbeddingGradients
from skinfluence.gradients.factors._layer_gradients import (
    LayerGradients,
    LayerProjection,
    LinearGradients,
    in_blocks,
    power_sum,
)


def joined(parts: Sequence[LayerGradients]) -> LayerGradients:
    """Add up what the uses of one (v, d) matrix by Embedding and Linear layers give."""
    tables = [part for part in parts if isinstance(part, EmbeddingGradients)]
    linears = [part for part in parts if isinstance(part, LinearGradients)]
    assert len(tables) + len(linears) == len(parts)
    if not linears:
        return joined_tables(tables)
    linear = joined_linears(linears)
    return TiedGradients(joined_tables(tables), linear) if tables else linear


def joined_tables(parts: Sequence[EmbeddingGradients]) -> EmbeddingGradients:
    """Add up gradients of one table, as those of more positions."""
    tokens = torch.cat([part.tokens for part in parts], 1)
    return replace(parts[0], tokens=tokens, b=torch.cat([part.b for part in parts], 1))


def joined_linears(parts: Sequence[LinearGradients]) -> LinearGradients:
    """Add up gradients of one layer, as those of more positions."""
    a = torch.cat([_with_positions(part.a) for part in parts], 1)
    return replace(parts[0], a=a, b=torch.cat([_with_positions(part.b) for part in parts], 1))


@dataclass(frozen=True)
class TiedGradients:
    """Gradients of a matrix as the table of an embedding and as the weight of an output layer."""

    table: EmbeddingGradients
    linear: LinearGradients  # of a weight without bias, with positions

    def power_sum(self, ord: int) -> Tensor:
        """Square the sum of both from the factors; other powers multiply out a few rows."""
        n, width = len(self.table.b), self.table.n_tokens * self.table.b.shape[2]
        if ord != 2:
            return in_blocks(lambda rows: power_sum(self.take(rows).dense(), ord), n, width)
        squares = self.table.power_sum(2) + self.linear.power_sum(2)
        # a sum of squares, of which rounding may leave a tiny negative
        return (squares + 2 * self._inner()).clamp_min(0)

    def dense(self) -> Tensor:
        """Add the matrices."""
        return self.table.dense() + self.linear.dense()

    def dot(self, direction: Tensor) -> Tensor:
        """Add the products."""
        return self.table.dot(direction) + self.linear.dot(direction)

    def gram(self, other: LayerGradients) -> Tensor:
        """Pair each use with each."""
        if not isinstance(other, TiedGradients):
            return self.dense() @ other.dense().mT
        same = self.table.gram(other.table) + self.linear.gram(other.linear)
        return same + _mixed(self.table, other.linear) + _mixed(other.table, self.linear).mT

    def project(self, projection: LayerProjection) -> Tensor:
        """Add the projections, which draw the same signs for the tokens and for the columns."""
        return self.table.project(projection) + self.linear.project(projection)

    def with_unit_activations(self) -> Self:
        """Refuse, as an embedding does."""
        self.table.with_unit_activations()
        return self

    def inputs(self) -> Tensor:
        """Refuse, as an embedding does."""
        return self.table.inputs()

    def scaled(self, weights: Tensor) -> Self:
        """Scale both."""
        return replace(self, table=self.table.scaled(weights), linear=self.linear.scaled(weights))

    def take(self, rows: slice) -> Self:
        """Slice both."""
        return replace(self, table=self.table.take(rows), linear=self.linear.take(rows))

    def summed(self) -> Tensor:
        """Add the sums."""
        return self.table.summed() + self.linear.summed()

    def _inner(self) -> Tensor:
        """Take the inner product of the two uses, row by row: ``sum_ts c_s[v_t] <b_t, h_s>``."""
        tokens, b, h, c = self.table.tokens, self.table.b, self.linear.a, self.linear.b
        index = tokens[:, None, :].expand(-1, c.shape[1], -1)
        return (c.gather(2, index) * (h @ b.mT)).sum((1, 2))


def _mixed(table: EmbeddingGradients, linear: LinearGradients) -> Tensor:
    """Take inner products of look-ups of n rows with the output layer's gradients of m rows."""
    tokens, b = table.tokens, table.b

    def against_all(rows: slice) -> Tensor:
        inner = torch.einsum("ntd,msd->nmts", b[rows], linear.a)
        back = linear.b[:, :, tokens[rows]]  # (m, s, n, t)
        return torch.einsum("nmts,msnt->nm", inner, back)

    pairs = tokens.shape[1] * linear.a.shape[1]
    return in_blocks(against_all, len(b), len(linear.a) * pairs)


def _with_positions(factor: Tensor) -> Tensor:
    return factor if factor.dim() == 3 else factor[:, None]
