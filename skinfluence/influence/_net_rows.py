"""Passes over all rows of a trained net: losses, inner products, sums of gradients, curvature."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skinfluence.gradients._directional import hessian_vector_product, inner_products
from skinfluence.gradients._net_loss import Nested, NetLoss
from skinfluence.gradients._readings import Dense, Gram, Kept, Norm, Part, Reading, Result
from skinfluence.gradients._skorch import as_dataset, iter_batches, net_loss_of
from skinfluence.gradients.factors._layer_gradients import DenseGradients, LayerGradients
from skinfluence.gradients.routes._capture import require_gradients_of
from skinfluence.gradients.routes._loop import GradientLoop
from skinfluence.influence.solvers._curvature import (
    BatchProduct,
    curvature_roots,
    gauss_newton_vector_product,
    has_one_output,
    root_batches,
    root_loss,
)

# Blocks of dense gradients and of Krylov vectors stay below this many bytes.
_BLOCK_BYTES = 2**27
PRODUCTS: dict[str, BatchProduct] = {
    "ggn": gauss_newton_vector_product,
    "hessian": hessian_vector_product,
}


class NetRows:
    """A trained net and rows to take gradients at; every method is one pass over the rows.

    Parameters
    ----------
    net : NeuralNet
        Fitted; left as it is.
    X, y : what skorch takes
    layers : "last", "all", or sequence of str
    batch_size : int

    Attributes
    ----------
    loop : GradientLoop
        Tried out on the first rows; refuses nets whose rows have no gradient of their own.
    layers : list of Layer
    n_rows, n_parameters : int
    """

    def __init__(
        self, net: Any, X: Any, y: Any, layers: str | Sequence[str], batch_size: int
    ) -> None:
        self._net, self._X, self._y, self._batch_size = net, X, y, batch_size
        first = next(iter_batches(net, X, y, min(batch_size, 3)))
        self.loop = GradientLoop(net_loss_of(net), *first, layers)
        self.layers = self.loop.layers
        self.n_parameters = self.loop.n_parameters
        self.n_rows = len(as_dataset(net, X, y))
        self._first = first

    @property
    def net_loss(self) -> NetLoss:
        """The net's forward pass and loss."""
        return self.loop.net_loss

    @property
    def zero(self) -> Tensor:
        """A scalar in the precision and on the device that sums are kept in."""
        parameter = next(iter(self.layers[0].parameters.values()))
        dtype = torch.float32 if parameter.device.type == "mps" else torch.float64
        return torch.zeros((), dtype=dtype, device=parameter.device)

    def rows(self, X: Any, y: Any) -> "NetRows":
        """Take other rows through the same net and layers.

        Parameters
        ----------
        X, y : what skorch takes

        Returns
        -------
        NetRows
        """
        names = [layer.name for layer in self.layers]
        return NetRows(self._net, X, y, names, self._batch_size)

    def take(self, i: int) -> Any:
        """Select one row.

        Parameters
        ----------
        i : int

        Returns
        -------
        data set of length 1
            That holds its target.
        """
        return torch.utils.data.Subset(as_dataset(self._net, self._X, self._y), [i])

    def batches(self, batch_size: int | None = None) -> Iterator[tuple[Nested, Tensor]]:
        """Yield the rows in order.

        Parameters
        ----------
        batch_size : int, optional

        Returns
        -------
        iterator of (nested tensors, Tensor)
        """
        return iter_batches(self._net, self._X, self._y, batch_size or self._batch_size)

    def drawn_batches(
        self, n_batches: int, batch_size: int, seed: int
    ) -> Iterator[tuple[Nested, Tensor]]:
        """Yield batches of rows drawn with replacement.

        Parameters
        ----------
        n_batches, batch_size : int
        seed : int

        Returns
        -------
        iterator of (nested tensors, Tensor)
        """
        draws = np.random.default_rng(seed).integers(self.n_rows, size=n_batches * batch_size)
        dataset = as_dataset(self._net, self._X, self._y)
        drawn = torch.utils.data.Subset(dataset, draws.tolist())
        return iter_batches(self._net, drawn, None, batch_size)

    def losses(self) -> NDArray[np.float64]:
        """Compute every row's loss.

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        with torch.no_grad():
            parts = [self.net_loss.row_losses(X, y) for X, y in self.batches()]
        return stacked(parts)

    def inner_products(self, direction: Tensor) -> NDArray[np.float64]:
        """Multiply every row's gradient with one direction; no gradient of a row is formed.

        Parameters
        ----------
        direction : Tensor of shape (n_parameters,)

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        parts = [
            inner_products(self.net_loss, self.layers, X, y, direction) for X, y in self.batches()
        ]
        return stacked(parts)

    def mean_gradient(self) -> Tensor:
        """Average the rows' gradients.

        Returns
        -------
        Tensor of shape (n_parameters,)
        """
        weights = torch.full((self.n_rows,), 1 / self.n_rows)
        return self.weighted_gradient(lambda _, X, y: self.net_loss.row_losses(X, y), weights)

    def weighted_gradient(
        self, values: Callable[[NetLoss, Nested, Tensor], Tensor], weights: Tensor
    ) -> Tensor:
        """Add up the gradients of a quantity that every row has.

        Parameters
        ----------
        values : callable
            ``values(net_loss, X, y) -> (n_rows,)``, differentiable by the net's parameters.
        weights : Tensor of shape (n_rows,)

        Returns
        -------
        Tensor of shape (n_parameters,)
        """
        total, start = self.zero.new_zeros(self.n_parameters), 0
        for X, y in self.batches():
            weight = weights[start : start + len(y)]
            start += len(y)
            with require_gradients_of(self.net_loss.module, self.layers):
                found = values(self.net_loss, X, y)
                total += self.flat_gradient((weight.to(found) * found).sum())
        return total

    def flat_gradient(self, value: Tensor) -> Tensor:
        """Differentiate a scalar by the parameters of the layers.

        Parameters
        ----------
        value : Tensor of shape ()

        Returns
        -------
        Tensor of shape (n_parameters,)
        """
        if not value.requires_grad:
            return self.zero.new_zeros(self.n_parameters)
        parameters = [p for layer in self.layers for p in layer.parameters.values()]
        parts = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
        return torch.cat([part.flatten() for part in parts]).to(self.zero)

    def gradients(self) -> Iterator[Tensor]:
        """Yield the matrix of gradients in blocks of rows.

        Yields
        ------
        Tensor of shape (n_rows_of_block, n_parameters)
            In the net's dtype.
        """
        yield from self.loop.batches(self.batches(self.rows_at_once), Dense())

    def kept_gradients(self) -> Iterator[dict[str, LayerGradients]]:
        """Yield gradients by layer, factored where they factor, in blocks of rows.

        Yields
        ------
        dict of str to LayerGradients
        """
        yield from self.loop.batches(self.batches(), Kept())

    def gram(self, other: dict[str, LayerGradients]) -> NDArray[np.float64]:
        """Multiply every row's gradient with some others.

        Parameters
        ----------
        other : dict of str to LayerGradients
            By layer name, m gradients.

        Returns
        -------
        ndarray of shape (m, n_rows)
        """
        parts = self.loop.batches(self.batches(self.rows_at_once), Gram(other))
        return to_numpy(torch.cat(list(parts)).mT)

    def gram_of_directions(self, directions: Tensor) -> NDArray[np.float64]:
        """Multiply every row's gradient with given directions.

        Parameters
        ----------
        directions : Tensor of shape (m, n_parameters)

        Returns
        -------
        ndarray of shape (m, n_rows)
        """
        sizes = [layer.n_parameters for layer in self.layers]
        parameter = next(iter(self.layers[0].parameters.values()))
        parts = torch.split(directions.to(parameter), sizes, 1)
        names = [layer.name for layer in self.layers]
        return self.gram({n: DenseGradients(p) for n, p in zip(names, parts, strict=True)})

    def squared_norm(self) -> float:
        """Average the squared length of the rows' gradients.

        Returns
        -------
        float
        """
        parts = self.loop.batches(self.batches(), Norm(2))
        return float(sum(part.double().square().sum() for part in parts)) / self.n_rows

    @property
    def rows_at_once(self) -> int:
        """How many rows of dense gradients fit a block."""
        row = self.n_parameters * next(iter(self.layers[0].parameters.values())).element_size()
        return max(1, min(self._batch_size, _BLOCK_BYTES // row))


class Curvature:
    """The mean curvature matrix of a net's loss over its training rows, as products.

    Parameters
    ----------
    rows : NetRows
        The training rows.
    kind : {"ggn", "hessian"}
    """

    def __init__(self, rows: NetRows, kind: str) -> None:
        self.rows = rows
        self.kind = kind
        self._product = PRODUCTS[kind]

    def product(self, direction: Tensor) -> Tensor:
        """Multiply with one direction, in one pass over the rows.

        Parameters
        ----------
        direction : Tensor of shape (n_parameters,)

        Returns
        -------
        Tensor of shape (n_parameters,)
        """
        total = torch.zeros_like(direction)
        for X, y in self.rows.batches():
            total += self.batch_sum(X, y, direction)
        return total / self.rows.n_rows

    def batch_sum(self, X: Nested, y: Tensor, direction: Tensor) -> Tensor:
        """Multiply the rows' curvature, summed over one batch, with one direction.

        Parameters
        ----------
        X : nested tensors of shape (n_rows, ...)
        y : Tensor of shape (n_rows, ...)
        direction : Tensor of shape (n_parameters,)

        Returns
        -------
        Tensor of shape (n_parameters,)
        """
        parameter = next(iter(self.rows.layers[0].parameters.values()))
        found = self._product(self.rows.net_loss, self.rows.layers, X, y, direction.to(parameter))
        return found.to(direction)

    def root_loop(self) -> GradientLoop | None:
        """Set up per-sample gradients of the roots of the Gauss-Newton matrix.

        Returns
        -------
        GradientLoop or None
            None for a net with several outputs, whose roots are not taken.
        """
        X, y = self.rows._first
        if not has_one_output(self.rows.net_loss, X):
            return None
        weights = curvature_roots(self.rows.net_loss, X, y)[0][0]
        names = [layer.name for layer in self.rows.layers]
        return GradientLoop(root_loss(self.rows.net_loss), X, weights, names)

    def read_roots(
        self, loop: GradientLoop, reading: Reading[Part, Result]
    ) -> Iterator[tuple[Result, Tensor]]:
        """Read one quantity off the roots of the Gauss-Newton matrix, block after block.

        Parameters
        ----------
        loop : GradientLoop
            What `root_loop` gave.
        reading : Reading

        Yields
        ------
        (object, Tensor of shape (n_rows_of_block,))
            What the reading makes of a block, and the signs of its rows.
        """
        for X, y in self.rows.batches(self.rows.rows_at_once):
            for batch, sign in root_batches(self.rows.net_loss, X, y):
                (found,) = loop.batches([batch], reading)  # so few rows come in one part
                yield found, sign


def to_numpy(values: Tensor) -> NDArray[np.float64]:
    """Move numbers to numpy, as float64."""
    return np.asarray(values.detach().cpu().double().numpy())


def stacked(parts: list[Tensor]) -> NDArray[np.float64]:
    """Join the results of blocks of rows, as float64."""
    return to_numpy(torch.cat(parts))
