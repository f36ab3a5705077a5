"""The losses of a batch's rows from a loss that is written for a batch, and may average over it."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.func import vmap

from skinfluence.gradients._closeness import all_close
from skinfluence.gradients._net_loss import Nested, map_tensors, take_rows, tensors_in

# loss(output, y, X): of a batch, here always of one row; a scalar.
OwnLoss: TypeAlias = Callable[[Nested, Tensor, Nested], Tensor]

# So many rows of a batch are held against a loop, once.
_TRIED_ROWS = 8


class RowByRow:
    """Calls a loss for each row alone: for all rows at once by vmap, in a loop where it refuses."""

    def __init__(self, forward: Callable[[Nested], Nested], loss: OwnLoss) -> None:
        self._forward = forward
        self._loss = loss
        self._follows: list[bool] = []  # which tensors of an output have one entry a row
        self._learned_on = 0
        self._takes_vmap: bool | None = None

    def __call__(self, output: Nested, y: Tensor, X: Nested) -> Tensor:
        """Compute (n_rows,) losses."""
        self._learn(output, X)
        if len(y) > 1 and self._takes_vmap is not False:
            try:
                losses = self._at_once(output, y, X)
            except Exception:  # what vmap has no rule for; the loop meets the rest
                self._takes_vmap = False
            else:
                if self._takes_vmap is None:
                    some = self._one_by_one(output, y[:_TRIED_ROWS], X)
                    self._takes_vmap = all_close(losses[:_TRIED_ROWS], some)
                if self._takes_vmap:
                    return losses
        return self._one_by_one(output, y, X)

    def _learn(self, output: Nested, X: Nested) -> None:
        """Compare with the output of one row; again once a batch has several."""
        rows = len(tensors_in(X)[0])
        if isinstance(output, Tensor):
            self._follows = [True]
        elif self._learned_on < min(rows, 2):
            with torch.no_grad():
                alone = tensors_in(self._forward(take_rows(X, slice(0, 1))))
            pairs = zip(alone, tensors_in(output), strict=True)
            self._follows = [t.shape[:1] == (1,) and u.shape[:1] == (rows,) for t, u in pairs]
            self._learned_on = rows

    def _one_by_one(self, output: Nested, y: Tensor, X: Nested) -> Tensor:
        rows = []
        for i in range(len(y)):
            row = slice(i, i + 1)
            target = y[row].clone()  # a loss may write to its target
            rows.append(self._loss(self._row_of(output, row), target, take_rows(X, row)))
        return torch.stack(rows)

    def _row_of(self, output: Nested, row: slice) -> Nested:
        following = iter(self._follows)
        return map_tensors(lambda tensor: tensor[row] if next(following) else tensor, output)

    def _at_once(self, output: Nested, y: Tensor, X: Nested) -> Tensor:
        tensors = [*tensors_in(output), y.clone(), *tensors_in(X)]
        follows = [*self._follows, *(True for _ in tensors[len(self._follows) :])]

        def loss(*row: Tensor) -> Tensor:
            parts = iter(t[None] if f else t for t, f in zip(row, follows, strict=True))
            one = map_tensors(lambda _: next(parts), output)
            target = next(parts)
            return self._loss(one, target, map_tensors(lambda _: next(parts), X))

        found: Tensor = vmap(loss, in_dims=tuple(0 if f else None for f in follows))(*tensors)
        return found
