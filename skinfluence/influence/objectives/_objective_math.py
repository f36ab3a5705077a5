"""Gradients of what a validation set is to show: a loss, a gap between groups, an attack."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skinfluence.gradients._net_loss import Nested, NetLoss, map_tensors, tensors_in
from skinfluence.gradients.routes._capture import require_gradients_of
from skinfluence.influence._net_rows import Direction, NetRows
from skinfluence.rows._rows import ModelRows

# function(module, X_val, y_val) is to give a scalar tensor; lower is better.
UserObjective: TypeAlias = Callable[[nn.Module, Nested, Tensor], object]


def group_gap_gradient(
    rows: NetRows,
    criterion: object,
    positive: int,
    groups: NDArray[np.intp],
    counted: NDArray[np.bool_],
) -> Direction:
    """Differentiate the gap in the mean chance of class number `positive`, over counted rows."""
    transform = probabilities_for(criterion)

    def chances(X: Nested, y: Tensor) -> Tensor:
        return transform(tensors_in(rows.net_loss.forward(X))[0])[:, positive]

    with torch.no_grad():
        values = torch.cat([chances(X, y) for X, y in rows.batches()])
    weights = gap_weights(values.double().cpu(), torch.as_tensor(groups), torch.as_tensor(counted))
    return rows.weighted_gradient(chances, weights)


def gap_weights(values: Tensor, groups: Tensor, counted: Tensor) -> Tensor:
    """Differentiate the gap of group means by the rows' values: (n_rows,)."""
    # 1 / size in the group of the highest mean, -1 / size in that of the lowest, else 0
    members = [(groups == group) & counted for group in range(int(groups.max()) + 1)]
    members = [member for member in members if member.any()]
    if len(members) < 2:
        raise ValueError(
            f"The validation rows that count belong to {len(members)} group of sensitive_val, but "
            "a gap needs two. Give validation rows of every group (for EqualOpportunity, with the "
            "positive label)."
        )
    means = torch.stack([values[member].mean() for member in members])
    weights = torch.zeros_like(values)
    for member, sign in ((members[int(means.argmax())], 1.0), (members[int(means.argmin())], -1.0)):
        weights[member] += sign / float(member.sum())
    return weights


def probabilities_for(criterion: object) -> Callable[[Tensor], Tensor]:
    """Find what turns a net's outputs into class probabilities, (n_rows, n_classes)."""

    def stacked(chance: Tensor) -> Tensor:
        chance = chance.reshape(len(chance))
        return torch.stack([1 - chance, chance], 1)

    if isinstance(criterion, nn.CrossEntropyLoss):
        return lambda output: torch.softmax(output, 1)
    if isinstance(criterion, nn.NLLLoss):  # skorch takes probabilities with it
        return lambda output: output
    if isinstance(criterion, nn.BCEWithLogitsLoss):
        return lambda output: stacked(torch.sigmoid(output))
    if isinstance(criterion, nn.BCELoss):
        return stacked
    raise ValueError(
        f"A gap between groups needs class probabilities, but the net's criterion is "
        f"{type(criterion).__name__}. Use CrossEntropyLoss, NLLLoss, BCEWithLogitsLoss or BCELoss, "
        "or pass a callable objective."
    )


def perturbed(rows: NetRows, eps: float) -> NetRows:
    """Move every row's inputs by `eps` along the sign of its loss gradient; targets stay."""
    moved, targets = [], []
    for X, y in rows.batches():
        moved.append(_fast_gradient_sign(rows.net_loss, X, y, eps))
        targets.append(y)
    parts = [tensors_in(batch) for batch in moved]
    joined = iter([torch.cat(list(columns)).cpu() for columns in zip(*parts, strict=True)])
    inputs = map_tensors(lambda _: next(joined), moved[0])
    return rows.others(ModelRows(inputs, torch.cat(targets).cpu()))


def _fast_gradient_sign(net_loss: NetLoss, X: Nested, y: Tensor, eps: float) -> Nested:
    """Move a batch's inputs, ``X + eps sign(grad_X loss)`` (FGSM)."""
    leaves: list[Tensor] = []

    def leaf(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        leaves.append(tensor.detach().clone().requires_grad_())
        return leaves[-1]

    inputs = map_tensors(leaf, X)
    with require_gradients_of(net_loss.module, []):
        loss = net_loss(inputs, y)
        if not leaves or not loss.requires_grad:
            raise ValueError(
                "AdversarialLoss moves inputs along the gradient of the loss, but this net has no "
                "floating input that its loss depends on. It suits numeric tables and images, not "
                "tokens."
            )
        slopes = iter(torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True))

    def move(tensor: Tensor) -> Tensor:
        return tensor + eps * next(slopes).sign() if tensor.is_floating_point() else tensor

    return map_tensors(move, X)


def called_gradient(rows: NetRows, function: UserObjective) -> Direction:
    """Differentiate a user's function of the module and the validation rows."""
    ((X, y),) = rows.batches(rows.n_rows)
    module = rows.net_loss.module
    with require_gradients_of(module, rows.layers):
        value = function(module, X, y)
        if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
            raise ValueError(
                f"Got {value!r} from the objective {function!r}, but expected a scalar tensor that "
                "depends on the module's parameters. Compute it from module(X_val), without "
                "detach, item or numpy."
            )
        return rows.flat_gradient(value.reshape(()))
