"""Which parameters a caller asked for: layers by name, the last one, or all."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property

import torch
from torch import nn

from skinfluence.gradients._net_loss import Nested, NetLoss, n_rows

# The name of the layer that a module's own parameters form when no submodule holds them.
ROOT = "<root>"
# Their weights are (n_outputs, n_inputs) and (n_tokens, n_columns), so that one may be the other.
_MATRIX_LAYERS = (nn.Linear, nn.Embedding)


@dataclass(frozen=True)
class Layer:
    """A module that holds trainable parameters, and those parameters."""

    name: str  # the module's path inside the net's module, `ROOT` for that module itself
    module: nn.Module
    # by full name, in the net's order; a tied parameter stands under its first name
    parameters: dict[str, nn.Parameter]
    # Linear and Embedding layers that use this one's weight, too, its only parameter: as an output
    # layer does that is tied to the table of input tokens.
    ties: tuple[nn.Module, ...] = ()

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """List the modules that use the parameters."""
        return (self.module, *self.ties)

    @property
    def n_parameters(self) -> int:
        """Count the layer's trainable numbers."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    @cached_property
    def own_names(self) -> set[str]:
        """Name the parameters as the module itself does: dotted if a submodule holds them."""
        prefix = "" if self.name == ROOT else f"{self.name}."
        return {name.removeprefix(prefix) for name in self.parameters}


@dataclass(frozen=True)
class CallOrder:
    """The modules that a forward pass enters, by name, in the order of the calls."""

    names: tuple[str, ...]
    largest_output: int  # of any of them, in bytes a row


# A processor is fastest while a layer's output stays in its caches, but for very few rows; on
# other devices it shall leave room for the rest.
_CACHED_BYTES, _DEVICE_BYTES = 2**22, 2**28
_LEAST_CACHED_ROWS = 16


def rows_in_cache(net_loss: NetLoss, order: CallOrder) -> int:
    """Say how many rows a pass takes together, by what caches hold or, elsewhere, memory."""
    on_cpu = all(parameter.device.type == "cpu" for parameter in net_loss.module.parameters())
    fitting = (_CACHED_BYTES if on_cpu else _DEVICE_BYTES) // max(1, order.largest_output)
    return max(_LEAST_CACHED_ROWS, 2 ** (fitting.bit_length() - 1) if fitting else 0)


def select_layers(net_loss: NetLoss, order: CallOrder, layers: str | Sequence[str]) -> list[Layer]:
    """Resolve "last", "all", names or shell patterns to layers, in the order of the parameters."""
    if not isinstance(layers, str) and not (
        isinstance(layers, Sequence) and all(isinstance(name, str) for name in layers)
    ):
        raise ValueError(
            f"Got layers={layers!r}, but expected 'last', 'all', or a list of layer names."
        )
    available = _trainable_layers(net_loss.module, set(order.names))
    if not available:
        raise ValueError(
            "The net has no trainable parameter, so there is no gradient to take: "
            "every parameter has requires_grad=False, or the module has none."
        )
    names = [layer.name for layer in available]
    if isinstance(layers, str) and layers == "all":
        return available
    if isinstance(layers, str) and layers == "last":
        called = [name for name in order.names if name in names]
        chosen = {called[-1] if called else names[-1]}
    else:
        patterns = [layers] if isinstance(layers, str) else list(layers)
        chosen = _matching(names, patterns)
    return [layer for layer in available if layer.name in chosen]


def _matching(names: list[str], patterns: list[str]) -> set[str]:
    chosen: set[str] = set()
    for pattern in patterns:
        matches = {name for name in names if name == pattern or fnmatchcase(name, pattern)}
        if not matches:
            raise ValueError(
                f"layers={pattern!r} names no trainable layer of this net. "
                f"Expected 'last', 'all', or names or patterns of: {', '.join(names)}."
            )
        chosen |= matches
    if not chosen:
        raise ValueError(
            f"layers={patterns!r} is empty. Expected 'last', 'all', or names or patterns of: "
            f"{', '.join(names)}."
        )
    return chosen


def call_order(net_loss: NetLoss, X: Nested) -> CallOrder:
    """Run a few rows forward and note which modules are entered."""
    names: list[str] = []
    sizes = [0]

    def note_size(module: nn.Module, args: object, output: object) -> None:
        if isinstance(output, torch.Tensor):
            sizes.append(output.numel() * output.element_size())

    modules = list(net_loss.module.named_modules())
    handles = [
        module.register_forward_pre_hook(lambda *_, name=name or ROOT: names.append(name))
        for name, module in modules
    ]
    handles += [module.register_forward_hook(note_size) for _, module in modules]
    try:
        with torch.no_grad():
            net_loss.forward(X)
    finally:
        for handle in handles:
            handle.remove()
    return CallOrder(tuple(names), max(sizes) // max(1, n_rows(X)))


def last_module(net_loss: NetLoss, order: CallOrder) -> tuple[str, nn.Module]:
    """Find the module with trainable parameters, be they tied, that is entered last."""
    modules = dict(net_loss.module.named_modules())
    called = set(order.names)
    # A head whose weight is tied is no layer: the weight stands under the name of another.
    holders = {
        _owner(name, modules, called)
        for name, parameter in net_loss.module.named_parameters(remove_duplicate=False)
        if parameter.requires_grad
    }
    (layer,) = select_layers(net_loss, order, "last")
    name = next((name for name in reversed(order.names) if name in holders), layer.name)
    return name, modules["" if name == ROOT else name]


def _trainable_layers(module: nn.Module, called: set[str]) -> list[Layer]:
    modules = dict(module.named_modules())
    grouped: dict[str, dict[str, nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            owner = _owner(name, modules, called)
            grouped.setdefault(owner, {})[name] = parameter
    layers = [
        Layer(name, modules["" if name == ROOT else name], parameters)
        for name, parameters in grouped.items()
    ]
    return [replace(layer, ties=_ties(layer, module)) for layer in layers]


def _ties(layer: Layer, module: nn.Module) -> tuple[nn.Module, ...]:
    """Find the other layers that use a layer's weight as it does."""
    if layer.own_names != {"weight"} or type(layer.module) not in _MATRIX_LAYERS:
        return ()
    weight = layer.module.weight
    return tuple(
        other
        for other in module.modules()
        if type(other) in _MATRIX_LAYERS and other.weight is weight and other is not layer.module
    )


def _owner(parameter_name: str, modules: dict[str, nn.Module], called: set[str]) -> str:
    """Find the layer a parameter belongs to."""
    # What a parametrization holds belongs to the parametrized layer. A module that is never
    # entered on its own (attention calls no forward of its out_proj) belongs to the nearest
    # module above it that is, when that one holds parameters itself.
    holder = parameter_name.split(".")[:-1]
    if "parametrizations" in holder:
        holder = holder[: holder.index("parametrizations")]
    path = ".".join(holder)
    above = path
    while above and above not in called:
        above = above.rpartition(".")[0]
        if above in called and next(modules[above].parameters(recurse=False), None) is not None:
            return above
    return path or ROOT
