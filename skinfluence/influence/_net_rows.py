"""Passes over rows of a trained net: losses, inner products, sums of gradients."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skinfluence.gradients._directional import inner_products
from skinfluence.gradients._net_loss import Nested, NetLoss
from skinfluence.gradients._readings import Dense, Gram, Kept
from skinfluence.gradients._skorch import (
    as_dataset,
    iter_batches,
    net_loss_of,
    rows_made_dense,
)
from skinfluence.gradients._trial import check_results_follow_rows, draw_trial
from skinfluence.gradients.factors._layer_gradients import DenseGradients, LayerGradients
from skinfluence.gradients.routes._capture import require_gradients_of
from skinfluence.gradients.routes._loop import GradientLoop
from skinfluence.rows._rows import ModelRows
from skinfluence.rows._weights import Weights

# (n_parameters,), ordered as the columns of the matrix of gradients: layer after layer.
Direction: TypeAlias = Tensor

# Blocks of dense gradients stay below this many bytes.
_BLOCK_BYTES = 2**27


class NetRows:
    """A trained net, left as it is, and rows; every method is one pass over the rows."""

    def __init__(
        self,
        net: Any,
        rows: ModelRows,
        layers: str | Sequence[str],
        batch_size: int,
        weights: Weights = None,  # of the rows in means, one on the mean
    ) -> None:
        self._net, self._batch_size, self.weights = net, batch_size, weights
        self._dataset = as_dataset(net, rows.inputs, rows.targets)
        self.n_rows = len(self._dataset)
        self.trial = draw_trial(net, self._dataset)
        # refuses nets whose rows have no gradient of their own
        self._loop = GradientLoop(net_loss_of(net), self.trial, layers)
        fitting = min(batch_size, self._loop.rows_in_cache, self._loop.saved_at_once)
        self._rows_of_pass = rows_made_dense(self._dataset, fitting)
        self.net_loss = self._loop.net_loss
        self.layers = self._loop.layers
        self.parameters = [p for layer in self.layers for p in layer.parameters.values()]
        self.n_parameters = self._loop.n_parameters

    @property
    def zero(self) -> Tensor:
        """A scalar in the precision and on the device that sums are kept in."""
        device = self.parameters[0].device
        dtype = torch.float32 if device.type == "mps" else torch.float64
        return torch.zeros((), dtype=dtype, device=device)

    @property
    def layer_names(self) -> list[str]:
        """Name the chosen layers, in the order of the parameters."""
        return [layer.name for layer in self.layers]

    @property
    def rows_at_once(self) -> int:
        """How many rows of dense gradients fit a block."""
        bytes_of_row = self.n_parameters * self.parameters[0].element_size()
        return max(1, min(self._rows_of_pass, _BLOCK_BYTES // bytes_of_row))

    def others(self, rows: ModelRows) -> "NetRows":
        """Take other rows, of the same weights, through the same net and layers."""
        return NetRows(self._net, rows, self.layer_names, self._batch_size, self.weights)

    def row(self, i: int) -> ModelRows:
        """Select one row, as a data set that holds its target."""
        return ModelRows(torch.utils.data.Subset(self._dataset, [i]), None)

    def batches(self, batch_size: int | None = None) -> Iterator[tuple[Nested, Tensor]]:
        """Yield (X, y) of the rows in order."""
        return iter_batches(self._net, self._dataset, None, batch_size or self._rows_of_pass)

    def weighted_batches(
        self, batch_size: int | None = None
    ) -> Iterator[tuple[NetLoss, Nested, Tensor]]:
        """Yield (X, y) of the rows in order, and the loss in which they have their weights."""
        start = 0
        for X, y in self.batches(batch_size):
            yield self._weighted_loss(slice(start, start + len(y))), X, y
            start += len(y)

    def _weighted_loss(self, rows: slice) -> NetLoss:
        weights, losses = self.weights_of(rows), self.net_loss.losses
        if weights is None:
            return self.net_loss

        def weighted(output: Nested, y: Tensor, X: Nested) -> Tensor:
            found = losses(output, y, X)
            return found * weights.to(found)

        return replace(self.net_loss, losses=weighted)

    def weights_of(self, rows: slice) -> Tensor | None:
        """Give the weights of some rows; None if all are the same."""
        return None if self.weights is None else torch.as_tensor(self.weights[rows]).to(self.zero)

    def drawn_batches(
        self, n_batches: int, batch_size: int, seed: int
    ) -> Iterator[tuple[Nested, Tensor]]:
        """Yield (X, y) of rows drawn with replacement, as often as they weigh."""
        rng, size = np.random.default_rng(seed), n_batches * batch_size
        if self.weights is None:
            draws = rng.integers(self.n_rows, size=size)
        else:
            draws = rng.choice(self.n_rows, size, p=self.weights / self.weights.sum())
        drawn = torch.utils.data.Subset(self._dataset, draws.tolist())
        return iter_batches(self._net, drawn, None, batch_size)

    def losses(self) -> NDArray[np.float64]:
        """Compute every row's loss: (n_rows,)."""
        with torch.no_grad():
            return self._of_rows(self.net_loss.row_losses)

    def inner_products(self, direction: Direction) -> NDArray[np.float64]:
        """Multiply every row's gradient with one direction, forming no gradient: (n_rows,)."""
        return self._of_rows(
            lambda X, y: inner_products(self.net_loss, self.layers, X, y, direction)
        )

    def _of_rows(self, read: Callable[[Nested, Tensor], Tensor]) -> NDArray[np.float64]:
        """Read one number off every row, in one pass: (n_rows,)."""
        values = stacked([read(X, y) for X, y in self.batches()])
        check_results_follow_rows(
            self.trial, self.net_loss, values, stacked([read(*self.trial.batches[1])])
        )
        return values

    def mean_gradient(self) -> Direction:
        """Average the rows' gradients, by their weights."""
        weights = self.weights_of(slice(None))
        if weights is None:
            weights = torch.ones(self.n_rows)
        return self.weighted_gradient(self.net_loss.row_losses, weights / self.n_rows)

    def weighted_gradient(
        self, values: Callable[[Nested, Tensor], Tensor], weights: Tensor
    ) -> Direction:
        """Add up, by (n_rows,) weights, the gradients of ``values(X, y)``, a number for a row."""
        total, start = self.zero.new_zeros(self.n_parameters), 0
        for X, y in self.batches():
            weight = weights[start : start + len(y)]
            start += len(y)
            with require_gradients_of(self.net_loss.module, self.layers):
                found = values(X, y)
                total += self.flat_gradient((weight.to(found) * found).sum())
        return total

    def flat_gradient(self, value: Tensor) -> Direction:
        """Differentiate a scalar by the parameters of the layers."""
        if not value.requires_grad:
            return self.zero.new_zeros(self.n_parameters)
        parts = torch.autograd.grad(
            value, self.parameters, allow_unused=True, materialize_grads=True
        )
        return torch.cat([part.flatten() for part in parts]).to(self.zero)

    def gradients(self) -> Iterator[Tensor]:
        """Yield (n_rows_of_block, n_parameters) gradients in the net's dtype, block after block."""
        yield from self._loop.batches(self.batches(self.rows_at_once), Dense())

    def weighted_gradients(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield what `gradients` does, and the weights of these rows."""
        start = 0
        for block in self.gradients():
            weights = self.weights_of(slice(start, start + len(block)))
            yield block, self.zero.new_ones(len(block)) if weights is None else weights
            start += len(block)

    def kept_gradients(self) -> Iterator[dict[str, LayerGradients]]:
        """Yield gradients by layer, factored where they factor, in blocks of rows."""
        yield from self._loop.batches(self.batches(), Kept())

    def gram(self, others: dict[str, LayerGradients]) -> NDArray[np.float64]:
        """Multiply every row's gradient with m others, given by layer: (m, n_rows)."""
        parts = self._loop.batches(self.batches(self.rows_at_once), Gram(others))
        return _to_numpy(torch.cat(list(parts)).mT)

    def gram_of_directions(self, directions: Tensor) -> NDArray[np.float64]:
        """Multiply every row's gradient with (m, n_parameters) directions: (m, n_rows)."""
        parts = self.by_layer(directions.to(self.parameters[0]))
        pairs = zip(self.layer_names, parts, strict=True)
        return self.gram({name: DenseGradients(part) for name, part in pairs})

    def by_layer(self, directions: Tensor) -> tuple[Tensor, ...]:
        """Cut the columns of (m, n_parameters) directions where a layer ends."""
        return torch.split(directions, [layer.n_parameters for layer in self.layers], 1)


def stacked(parts: list[Tensor]) -> NDArray[np.float64]:
    """Join the results of blocks of rows, as float64."""
    return _to_numpy(torch.cat(parts))


def _to_numpy(values: Tensor) -> NDArray[np.float64]:
    return np.asarray(values.detach().cpu().double().numpy())
