"""Per-sample gradients of an embedding table: one row of the table for every distinct token."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from skinfluence.gradients.factors._layer_gradients import (
    LayerGradients,
    LayerProjection,
    in_blocks,
    power_sum,
    scale_rows,
)


@dataclass(frozen=True)
class EmbeddingGradients:
    """Gradients of an embedding table, as the tokens and what flows back to each."""

    tokens: Tensor  # int64, (n_rows, n_positions)
    b: Tensor  # of the loss by each token's vector (n_rows, n_positions, n_outputs); 0 for padding
    n_tokens: int  # rows of the table

    @cached_property
    def _distinct(self) -> tuple[Tensor, Tensor]:
        """Tokens (n, t) without repetition and the summed gradient of each; zeros fill up."""
        order = self.tokens.argsort(dim=1, stable=True)
        tokens = self.tokens.gather(1, order)
        starts = torch.ones_like(tokens, dtype=torch.bool)
        starts[:, 1:] = tokens[:, 1:] != tokens[:, :-1]
        place = starts.cumsum(1) - 1
        summed = torch.zeros_like(self.b)
        index = place[:, :, None].expand_as(self.b)
        summed.scatter_add_(1, index, self.b.gather(1, order[:, :, None].expand_as(self.b)))
        kept = torch.zeros_like(tokens).scatter_(1, place, tokens)
        return kept, summed

    def power_sum(self, ord: int) -> Tensor:
        """Sum over the rows of the table that were used."""
        return power_sum(self._distinct[1], ord)

    def dense(self) -> Tensor:
        """Write every token's gradient into its row."""
        n, _, width = self.b.shape
        values = self.b.new_zeros(n, self.n_tokens, width)
        values.scatter_add_(1, self.tokens[:, :, None].expand_as(self.b), self.b)
        return values.flatten(1)

    def dot(self, direction: Tensor) -> Tensor:
        """Look the direction up by token."""
        table = direction.view(self.n_tokens, -1)
        return (table[self.tokens] * self.b).sum((1, 2))

    def gram(self, other: LayerGradients) -> Tensor:
        """Pair positions that hold the same token."""
        if not isinstance(other, EmbeddingGradients):
            return self.dense() @ other.dense().mT

        def against_all(rows: slice) -> Tensor:
            same = self.tokens[rows, None, :, None] == other.tokens[None, :, None, :]
            inner = torch.einsum("nto,mso->nmts", self.b[rows], other.b)
            return (inner * same).sum((2, 3))

        pairs = self.tokens.shape[1] * other.tokens.shape[1]
        return in_blocks(against_all, len(self.b), len(other.b) * pairs)

    def project(self, projection: LayerProjection) -> Tensor:
        """Look the signs of the tokens up."""
        by_token = projection.signs(0, self.n_tokens, self.b)
        outputs = projection.signs(1, self.b.shape[2], self.b)

        def block(rows: slice) -> Tensor:
            return (by_token[self.tokens[rows]] * (self.b[rows] @ outputs)).sum(1)

        return in_blocks(block, len(self.b), 2 * self.tokens.shape[1] * outputs.shape[1])

    def inputs(self) -> Tensor:
        """Refuse."""
        raise ValueError(
            "n_neighbors compares rows by the inputs of Linear and Conv layers; those of Embedding "
            "are tokens. Leave it out of `layers`, or set n_neighbors=None."
        )

    def scaled(self, weights: Tensor) -> Self:
        """Multiply what flows back."""
        return replace(self, b=scale_rows(self.b, weights))

    def take(self, rows: slice) -> Self:
        """Slice both factors."""
        return replace(self, tokens=self.tokens[rows], b=self.b[rows])

    def summed(self) -> Tensor:
        """Write every token's gradient into one table."""
        table = self.b.new_zeros(self.n_tokens, self.b.shape[2])
        return table.index_add(0, self.tokens.flatten(), self.b.flatten(0, 1)).flatten()

    def with_unit_activations(self) -> Self:
        """Refuse."""
        raise ValueError(
            "normalize='activations' takes gradients that have the layer's input as a factor, as "
            "those of Linear and Conv layers do, but the inputs of an Embedding are tokens, which "
            "have no norm. Set normalize='gradient' (or None), or leave the layer out of `layers`."
        )
