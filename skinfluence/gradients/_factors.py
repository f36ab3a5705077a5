"""Per-sample gradients of one layer, as factors or dense, and what can be read off them.

Index conventions: n rows, t positions (sequence axes flattened), i inputs, o outputs, p parameters.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# A dense (rows, o, i) block built on the way to a norm stays below this many numbers.
_BLOCK_ELEMENTS = 2**24


class LayerGradients(Protocol):
    """The gradients of every row's loss with respect to one layer's parameters."""

    def power_sum(self, ord: int) -> Tensor:
        """Sum ``|g|**ord`` over the layer's parameters.

        Parameters
        ----------
        ord : {1, 2}

        Returns
        -------
        Tensor of shape (n_rows,)
        """
        ...

    def dense(self) -> Tensor:
        """Build the matrix.

        Returns
        -------
        Tensor of shape (n_rows, n_parameters)
            Columns in the order of the layer's parameters, each flattened.
        """
        ...


@dataclass(frozen=True)
class DenseGradients:
    """Gradients of a layer that no rule factors, as a matrix.

    Attributes
    ----------
    values : Tensor of shape (n_rows, n_parameters)
    """

    values: Tensor

    def power_sum(self, ord: int) -> Tensor:
        """Sum ``|g|**ord`` over the columns; see `LayerGradients`.

        Parameters
        ----------
        ord : {1, 2}

        Returns
        -------
        Tensor of shape (n_rows,)
        """
        return _power_sum(self.values, ord)

    def dense(self) -> Tensor:
        """Give the matrix itself; see `LayerGradients`.

        Returns
        -------
        Tensor of shape (n_rows, n_parameters)
        """
        return self.values


@dataclass(frozen=True)
class LinearGradients:
    """Gradients of a Linear layer: the outer products of what flows in and what flows back.

    A row's weight gradient is ``sum_t b_t a_t^T`` and its bias gradient ``sum_t b_t``.

    Attributes
    ----------
    a : Tensor of shape (n_rows, n_inputs) or (n_rows, n_positions, n_inputs)
        The layer's input.
    b : Tensor of shape (n_rows, n_outputs) or (n_rows, n_positions, n_outputs)
        The gradient of the loss with respect to the layer's output.
    weight, bias : bool
        Whether the weight and the bias are among the parameters.
    """

    a: Tensor
    b: Tensor
    weight: bool
    bias: bool

    def power_sum(self, ord: int) -> Tensor:
        """Sum ``|g|**ord`` over weight and bias, from the factors; see `LayerGradients`.

        Parameters
        ----------
        ord : {1, 2}

        Returns
        -------
        Tensor of shape (n_rows,)
        """
        if self.a.dim() == 2:  # the entries of an outer product: their powers factor too
            back = _power_sum(self.b, ord)
            return back * (_power_sum(self.a, ord) + self.bias) if self.weight else back
        weight = self._weight_power_sum(ord) if self.weight else self.b.new_zeros(len(self.b))
        return weight + _power_sum(self.b.sum(1), ord) if self.bias else weight

    def _weight_power_sum(self, ord: int) -> Tensor:
        a, b = self.a, self.b
        positions, n_inputs, n_outputs = a.shape[1], a.shape[2], b.shape[2]
        if ord == 2 and positions * (n_inputs + n_outputs) < n_inputs * n_outputs:
            # ||sum_t b_t a_t^T||^2 = sum_ts <a_t, a_s> <b_t, b_s>
            def from_gram(rows: slice) -> Tensor:
                gram = (a[rows] @ a[rows].mT) * (b[rows] @ b[rows].mT)
                return gram.sum((1, 2)).clamp_min(0)

            return _in_blocks(from_gram, len(a), positions * positions)
        return _in_blocks(
            lambda rows: _power_sum(b[rows].mT @ a[rows], ord), len(a), n_inputs * n_outputs
        )

    def dense(self) -> Tensor:
        """Multiply the factors out; see `LayerGradients`.

        Returns
        -------
        Tensor of shape (n_rows, n_parameters)
            The weight's columns (row-major), then the bias's.
        """
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
            values[:, n_weights:] = b if b.dim() == 2 else b.sum(1)
        return values


def _power_sum(values: Tensor, ord: int) -> Tensor:
    """Sum |v|**ord over all axes but the first."""
    values = values if values.dim() == 2 else values.flatten(1)
    if ord == 1:  # here the vector norm is several times slower
        return values.abs().sum(1)
    # one read and no temporary of the same size
    norm: Tensor = torch.linalg.vector_norm(values, dim=1)
    return norm.square_()


def _in_blocks(function: Callable[[slice], Tensor], n: int, elements_per_row: int) -> Tensor:
    """Concatenate `function` over slices of rows whose blocks stay small."""
    step = max(1, _BLOCK_ELEMENTS // elements_per_row)
    return torch.cat([function(slice(start, start + step)) for start in range(0, n, step)])
