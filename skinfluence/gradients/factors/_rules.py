"""The registry of layers whose per-sample gradients factor: one small class a kind of layer."""

from typing import Any, Protocol, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from skinfluence.gradients.factors._convolution import ConvGradients, shape_of
from skinfluence.gradients.factors._embedding import EmbeddingGradients
from skinfluence.gradients.factors._layer_gradients import (
    DenseGradients,
    LayerGradients,
    LinearGradients,
    Pairs,
)
from skinfluence.gradients.factors._transposed import TransposedGradients

_Norm: TypeAlias = nn.LayerNorm | nn.GroupNorm | nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


class LayerRule(Protocol):
    """How the gradients of one kind of layer follow from its inputs and output gradients."""

    def applies(self, module: Any) -> bool:
        """Tell whether the rule holds for this module's settings."""
        ...

    def gradients(self, module: Any, calls: Pairs, trainable: set[str]) -> LayerGradients:
        """Build the gradients of those parameters that are trainable, from a layer's calls."""
        ...


class LinearRule:
    """`torch.nn.Linear`, also over sequence axes and when called several times."""

    def applies(self, module: nn.Linear) -> bool:
        """Hold for every setting."""
        return True

    def gradients(self, module: nn.Linear, calls: Pairs, trainable: set[str]) -> LinearGradients:
        """Join the calls along the position axis."""
        a = _join_positions([a for a, _ in calls])
        b = _join_positions([b for _, b in calls])
        return LinearGradients(a, b, weight="weight" in trainable, bias="bias" in trainable)


class ConvRule:
    """`torch.nn.Conv1d`, `Conv2d` and `Conv3d`, with any groups, stride, dilation and padding."""

    def applies(self, module: nn.Conv2d) -> bool:
        """Hold for every setting."""
        return True

    def gradients(self, module: nn.Conv2d, calls: Pairs, trainable: set[str]) -> LayerGradients:
        """Keep the factors of one call; several calls are multiplied out and summed."""
        weight, bias = "weight" in trainable, "bias" in trainable
        parts = [ConvGradients(x, b, shape_of(module), weight, bias) for x, b in calls]
        return parts[0] if len(parts) == 1 else _summed(module, parts)


class EmbeddingRule:
    """`torch.nn.Embedding`; its rows are looked up, so most of its gradient is zero."""

    def applies(self, module: nn.Embedding) -> bool:
        """Hold unless a look-up changes the table or the batch scales the gradient."""
        return module.max_norm is None and not module.scale_grad_by_freq and not module.sparse

    def gradients(
        self, module: nn.Embedding, calls: Pairs, trainable: set[str]
    ) -> EmbeddingGradients:
        """Join the calls along the position axis."""
        tokens = torch.cat([tokens.reshape(len(tokens), -1) for tokens, _ in calls], 1).long()
        b = torch.cat([b.reshape(len(b), -1, b.shape[-1]) for _, b in calls], 1)
        if module.padding_idx is not None:
            b = b * (tokens != module.padding_idx)[:, :, None]
        return EmbeddingGradients(tokens, b, module.num_embeddings)


class NormRule:
    """LayerNorm, GroupNorm and, in eval mode, BatchNorm: a scale and a shift per channel."""

    def applies(self, module: _Norm) -> bool:
        """Hold unless BatchNorm uses the statistics of the batch."""
        return getattr(module, "running_mean", True) is not None

    def gradients(self, module: _Norm, calls: Pairs, trainable: set[str]) -> DenseGradients:
        """Sum ``b * normalised input`` and ``b`` over positions."""
        parts = []
        if "weight" in trainable:
            parts.append(sum(_to_parameter(module, b * _normalized(module, x)) for x, b in calls))
        if "bias" in trainable:
            parts.append(sum(_to_parameter(module, b) for _, b in calls))
        why = f"that of a {type(module).__name__} has none"
        return DenseGradients(torch.cat(parts, 1), why)  # type: ignore[arg-type]


class TransposedLinearRule:
    """The `Conv1D` of GPT-2 in transformers: a Linear layer whose weight is (n_in, n_out)."""

    def applies(self, module: nn.Module) -> bool:
        """Hold for every setting."""
        return True

    def gradients(self, module: nn.Module, calls: Pairs, trainable: set[str]) -> LayerGradients:
        """Join the calls along the position axis."""
        a = _join_positions([a for a, _ in calls])
        b = _join_positions([b for _, b in calls])
        linear = LinearGradients(a, b, weight="weight" in trainable, bias="bias" in trainable)
        return TransposedGradients(linear)


class RMSNormRule:
    """Root-mean-square norms: one scale per channel of the last axis, and no shift."""

    def applies(self, module: nn.Module) -> bool:
        """Hold where the scale is the only parameter and has one axis."""
        parameters = dict(module.named_parameters())
        return set(parameters) == {"weight"} and parameters["weight"].dim() == 1

    def gradients(self, module: nn.Module, calls: Pairs, trainable: set[str]) -> DenseGradients:
        """Sum ``b * d output / d weight`` over positions; the output is linear in the weight."""
        parts = [b * _slope(module, x) for x, b in calls]
        values = sum(part.reshape(len(part), -1, part.shape[-1]).sum(1) for part in parts)
        why = f"that of a {type(module).__name__} has none"
        return DenseGradients(values, why)  # type: ignore[arg-type]


RULES: dict[type[nn.Module], LayerRule] = {
    nn.Linear: LinearRule(),
    nn.Conv1d: ConvRule(),
    nn.Conv2d: ConvRule(),
    nn.Conv3d: ConvRule(),
    nn.Embedding: EmbeddingRule(),
    nn.LayerNorm: NormRule(),
    nn.GroupNorm: NormRule(),
    nn.RMSNorm: RMSNormRule(),
    nn.BatchNorm1d: NormRule(),
    nn.BatchNorm2d: NormRule(),
    nn.BatchNorm3d: NormRule(),
}

# By the name of the class, of libraries that need not be there. Each model of transformers has an
# RMSNorm of its own, some with a scale of 1 + weight; what computes something else is found out
# when the route is tried.
_CONV1D = ("transformers.pytorch_utils", "Conv1D")
_RMS_NORMS = ("RMSNorm", "T5LayerNorm")


def rule_for(module: nn.Module) -> LayerRule | None:
    """Find the rule of a layer; none for subclasses, whose forward may do something else."""
    rule = RULES.get(type(module)) or _rule_by_name(type(module))
    return rule if rule is not None and rule.applies(module) else None


def _rule_by_name(kind: type[nn.Module]) -> LayerRule | None:
    if (kind.__module__, kind.__qualname__) == _CONV1D:
        return TransposedLinearRule()
    return RMSNormRule() if kind.__qualname__.endswith(_RMS_NORMS) else None


def _slope(module: nn.Module, x: Tensor) -> Tensor:
    """Compute the derivative of a scaling layer's output by its scale, as large as the input."""
    weight = module.get_parameter("weight").detach()
    with torch.no_grad():
        at_one, at_zero = (
            functional_call(module, {"weight": value}, (x,))
            for value in (torch.ones_like(weight), torch.zeros_like(weight))
        )
    slope: Tensor = at_one - at_zero
    return slope


def _join_positions(parts: list[Tensor]) -> Tensor:
    """Flatten each (n, ..., d) to (n, positions, d) and lay them side by side."""
    if len(parts) == 1 and parts[0].dim() == 2:
        return parts[0]
    return torch.cat([part.reshape(part.shape[0], -1, part.shape[-1]) for part in parts], 1)


def _summed(module: nn.Module, parts: list[ConvGradients]) -> DenseGradients:
    total = parts[0].dense()
    for part in parts[1:]:
        total = total + part.dense()
    name = type(module).__name__
    return DenseGradients(total, f"that of a {name} called {len(parts)} times has none")


def _normalized(module: _Norm, x: Tensor) -> Tensor:
    if isinstance(module, nn.LayerNorm):
        return F.layer_norm(x, module.normalized_shape, eps=module.eps)
    if isinstance(module, nn.GroupNorm):
        return F.group_norm(x, module.num_groups, eps=module.eps)
    return F.batch_norm(x, module.running_mean, module.running_var, eps=module.eps)


def _to_parameter(module: _Norm, values: Tensor) -> Tensor:
    """Sum over the axes that share a parameter, to (n, n_parameters)."""
    if isinstance(module, nn.LayerNorm):
        n_shared = values.dim() - 1 - len(module.normalized_shape)
        shared = tuple(range(1, 1 + n_shared))
        return (values.sum(shared) if shared else values).flatten(1)
    return values.flatten(2).sum(2) if values.dim() > 2 else values
