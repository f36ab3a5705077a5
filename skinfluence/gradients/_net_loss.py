"""A net's forward pass and loss on a private copy of its module, and batches of nested tensors."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor, nn

# What a data loader yields and a module takes or returns: a tensor, or dicts and sequences of them.
Nested: TypeAlias = "Tensor | Mapping[str, Nested] | list[Nested] | tuple[Nested, ...] | None"
Batch: TypeAlias = tuple[Nested, Tensor]  # inputs and targets of the same rows


@dataclass(frozen=True)
class NetLoss:
    """The differentiable part of a trained net."""

    # A private copy in eval mode; its parameters share storage with the net's, so hooks and
    # `requires_grad` may be set on it while the net stays as it is.
    module: nn.Module
    # forward(X) -> output
    forward: Callable[[Nested], Nested]
    # losses(output, y, X) -> (n_rows,), each row's own loss
    losses: Callable[[Nested, Tensor, Nested], Tensor]
    # identities of the net's own parameters, which no graph of the copy may reach
    originals: frozenset[int] = frozenset()
    # batch_loss(output, y, X), a scalar, of a loss that is called for each row alone; else None
    batch_loss: Callable[[Nested, Tensor, Nested], Tensor] | None = None

    def row_losses(self, X: Nested, y: Tensor) -> Tensor:
        """Compute the loss of every row of a batch: (n_rows,)."""
        return self.losses(self.forward(X), y, X)

    def __call__(self, X: Nested, y: Tensor) -> Tensor:
        """Sum the losses of a batch; a scalar."""
        return self.row_losses(X, y).sum()


def private_copy(module: nn.Module) -> nn.Module:
    """Copy a module's structure in eval mode and share its tensors; nothing of it is written."""
    # Parameters are new objects on the same storage (ties are kept), so that their `requires_grad`
    # and `grad` are the copy's own; buffers, which a forward may write to, are copied.
    memo: dict[int, Tensor] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach(), parameter.requires_grad)
    for child in module.modules():
        if isinstance(child, nn.Embedding | nn.EmbeddingBag) and child.max_norm is not None:
            own = nn.Parameter(child.weight.detach().clone(), child.weight.requires_grad)
            memo[id(child.weight)] = own  # a look-up rescales the table
        for value in vars(child).values():
            if isinstance(value, Tensor):  # such as the weight an old-style weight norm computes
                memo.setdefault(id(value), value.detach())
    copied = copy.deepcopy(module, memo).eval()
    for child in copied.modules():
        if isinstance(child, nn.Embedding | nn.EmbeddingBag):
            child.sparse = False  # an optimiser's matter; second derivatives have no sparse form
    return copied


def map_tensors(function: Callable[[Tensor], Tensor], value: Nested) -> Nested:
    """Apply a function to every tensor of a nested value; any other leaf stays as it is."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        mapped = {key: map_tensors(function, item) for key, item in value.items()}
        if not hasattr(value, "__dataclass_fields__"):
            return mapped
        kind: Any = type(value)  # an output of transformers, whose items a loss reads as attributes
        output: Nested = kind(**mapped)
        return output
    if isinstance(value, tuple) and hasattr(value, "_make"):  # a named tuple
        made: tuple[Nested, ...] = value._make(map_tensors(function, item) for item in value)
        return made
    if isinstance(value, list | tuple):
        return type(value)(map_tensors(function, item) for item in value)
    return value


def tensors_in(value: Nested) -> list[Tensor]:
    """List the tensors of a nested value, in the order of the mapping or sequence."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(note, value)
    return found


def take_rows(value: Nested, index: slice | list[int]) -> Nested:
    """Select rows along the first axis of every tensor."""
    return map_tensors(lambda tensor: tensor[index], value)


def n_rows(value: Nested) -> int:
    """Count the rows of a batch: the length of its first tensor."""
    tensors = tensors_in(value)
    if not tensors:
        raise ValueError(
            f"Expected a batch of tensors, got {type(value).__name__} without any. "
            "The net's data loader must yield (X, y) with tensors, or dicts or tuples of them."
        )
    return int(tensors[0].shape[0])
