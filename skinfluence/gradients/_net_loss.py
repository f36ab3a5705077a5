"""A net's forward pass and loss on a private copy of its module, and batches of nested tensors."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor, nn

# What a data loader yields and a module takes or returns: a tensor, or dicts and sequences of them.
Nested: TypeAlias = "Tensor | Mapping[str, Nested] | list[Nested] | tuple[Nested, ...] | None"


@dataclass(frozen=True)
class NetLoss:
    """The differentiable part of a trained net.

    Attributes
    ----------
    module : Module
        A private copy in eval mode; its parameters share storage with the net's, so hooks and
        `requires_grad` may be set on it while the net stays as it is.
    forward : callable
        ``forward(X) -> output`` runs `module` on a batch.
    losses : callable
        ``losses(output, y, X) -> (n_rows,)``, each row's own loss.
    originals : frozenset of int
        Identities of the net's own parameters, which no graph of the copy may reach.
    """

    module: nn.Module
    forward: Callable[[Nested], Nested]
    losses: Callable[[Nested, Tensor, Nested], Tensor]
    originals: frozenset[int] = frozenset()

    def row_losses(self, X: Nested, y: Tensor) -> Tensor:
        """Compute the loss of every row of a batch.

        Parameters
        ----------
        X : nested tensors of shape (n_rows, ...)
        y : Tensor of shape (n_rows, ...)

        Returns
        -------
        Tensor of shape (n_rows,)
        """
        return self.losses(self.forward(X), y, X)

    def __call__(self, X: Nested, y: Tensor) -> Tensor:
        """Sum the losses of a batch; a scalar."""
        return self.row_losses(X, y).sum()


def private_copy(module: nn.Module) -> nn.Module:
    """Copy a module's structure and share its tensors.

    Parameters
    ----------
    module : Module

    Returns
    -------
    Module
        In eval mode. Parameters are new objects on the same storage (ties are kept), so that
        their `requires_grad` and `grad` are the copy's own; buffers, which a forward may write
        to, are copied. Nothing of the original is written.
    """
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
    return copy.deepcopy(module, memo).eval()


def map_tensors(function: Callable[[Tensor], Tensor], value: Nested) -> Nested:
    """Apply a function to every tensor of a nested value.

    Parameters
    ----------
    function : callable
    value : nested tensors
        Leaves that are no tensors stay as they are.

    Returns
    -------
    nested tensors
        Mappings as dicts; lists and tuples keep their type.
    """
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: map_tensors(function, item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_make"):  # a named tuple
        made: tuple[Nested, ...] = value._make(map_tensors(function, item) for item in value)
        return made
    if isinstance(value, list | tuple):
        return type(value)(map_tensors(function, item) for item in value)
    return value


def tensors_in(value: Nested) -> list[Tensor]:
    """List the tensors of a nested value.

    Parameters
    ----------
    value : nested tensors

    Returns
    -------
    list of Tensor
        In the order of the mapping or sequence.
    """
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(note, value)
    return found


def take_rows(value: Nested, index: slice | list[int]) -> Nested:
    """Select rows along the first axis of every tensor.

    Parameters
    ----------
    value : nested tensors of shape (n_rows, ...)
    index : slice or list of int

    Returns
    -------
    nested tensors
    """
    return map_tensors(lambda tensor: tensor[index], value)


def n_rows(value: Nested) -> int:
    """Count the rows of a batch.

    Parameters
    ----------
    value : nested tensors of shape (n_rows, ...)

    Returns
    -------
    int
        The length of the first tensor.

    Raises
    ------
    ValueError
        If there is no tensor in it.
    """
    tensors = tensors_in(value)
    if not tensors:
        raise ValueError(
            f"Expected a batch of tensors, got {type(value).__name__} without any. "
            "The net's data loader must yield (X, y) with tensors, or dicts or tuples of them."
        )
    return int(tensors[0].shape[0])
