"""What the trial of a net found, kept for passes over the same rows while nothing has changed.

Whatever could change what is found is compared: the module and all it is made of, its parameters'
versions, the criterion, the rules, the layers that were asked for and the rows that are tried. A
module that holds what cannot be compared, such as a dict or an object, is tried in every pass.
"""

import hashlib
import types
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from skinfluence.gradients._layers import CallOrder
from skinfluence.gradients._net_loss import Batch, map_tensors, tensors_in
from skinfluence.gradients.factors._rules import rule_for

# By module: the last few that were found.
_KEPT: "WeakKeyDictionary[nn.Module, dict[Hashable, Verdict]]" = WeakKeyDictionary()
_KEPT_A_MODULE = 8

_ATOMS = (
    bool,
    int,
    float,
    str,
    bytes,
    type(None),
    type,
    torch.dtype,
    torch.device,
    types.BuiltinFunctionType,
)
_HOOKS = frozenset(name for name in vars(nn.Module()) if "_hooks" in name)
_APART = frozenset({"training", "_parameters", "_buffers", "_modules"}) | _HOOKS


class Verdict(NamedTuple):
    """Which modules a forward enters, the route that each layer may take, what a row takes."""

    order: CallOrder
    strategy: Mapping[str, str]
    saved_a_row: int  # bytes that autograd saves of a row's forward pass


Key: TypeAlias = tuple[nn.Module, Hashable]


class _NotComparedError(Exception):
    """Something of a net whose changes would not show."""


def key_of(
    module: nn.Module,
    parts: Sequence[object],
    batches: Sequence[Batch],
    layers: str | Sequence[str],
    state: Mapping[str, Tensor] | None,
) -> Key | None:
    """Describe a trial: a module, other parts of the net, rows, layers, parameters elsewhere."""
    if type(module).__hash__ is not object.__hash__:  # another may pass for it
        return None
    chosen = layers if isinstance(layers, str) else tuple(layers)
    at = None if state is None else tuple((n, *_tensor(t)) for n, t in state.items())
    try:
        described = (_module(module), _value(tuple(parts)), chosen, at, _settings())
    except _NotComparedError:
        return None
    return module, (described, _digest(batches))


def recalled(key: Key | None) -> Verdict | None:
    """Give what was found in the same trial before; None if there was none."""
    return None if key is None else _KEPT.get(key[0], {}).get(key[1])


def keep(key: Key | None, verdict: Verdict) -> None:
    """Keep what a trial found, as long as the module lives."""
    if key is None:
        return
    module, described = key
    found = _KEPT.setdefault(module, {})
    found[described] = verdict
    for oldest in list(found)[:-_KEPT_A_MODULE]:
        found.pop(oldest, None)


def _settings() -> tuple[object, ...]:
    """List what torch is told elsewhere of how to compute."""
    if nn.modules.module._has_any_global_hook():  # type: ignore[no-untyped-call]
        raise _NotComparedError
    return (torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda"))


def _module(module: nn.Module) -> Hashable:
    return tuple((name, *_part(part)) for name, part in module.named_modules())


def _part(part: nn.Module) -> tuple[object, ...]:
    own = vars(part)
    if any(own.get(hooks) for hooks in _HOOKS):
        raise _NotComparedError
    rule = rule_for(part)
    tensors = [
        (name, None if tensor is None else _tensor(tensor))
        for name, tensor in (*part._parameters.items(), *part._buffers.items())
    ]
    others = [(name, _value(value)) for name, value in own.items() if name not in _APART]
    code = (type(part).forward, type(part).__call__, type(rule))
    return (id(part), type(part), code, tuple(tensors), tuple(others))


def _tensor(tensor: Tensor) -> tuple[Hashable, ...]:
    where = (id(tensor), tensor._version, tensor.data_ptr())
    return (*where, tensor.shape, tensor.dtype, tensor.device, tensor.requires_grad)


def _value(value: object) -> Hashable:
    if isinstance(value, _ATOMS):
        return (type(value), value)
    if isinstance(value, types.FunctionType) and value.__closure__ is None:
        return value
    if isinstance(value, tuple | list):
        return (type(value), *map(_value, value))
    if isinstance(value, set | frozenset) and not value:
        return type(value)
    if isinstance(value, Tensor):
        return _tensor(value)
    if isinstance(value, nn.Module):
        return _module(value)
    raise _NotComparedError


def _digest(batches: Sequence[Batch]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for X, y in batches:
        digest.update(repr(map_tensors(lambda t: t.shape, X)).encode())  # type: ignore[arg-type, return-value]
        for tensor in (*tensors_in(X), y):
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            whole = tensor.detach().cpu()
            whole = whole.float() if whole.dtype == torch.bfloat16 else whole
            digest.update(whole.numpy().tobytes())
    return digest.digest()
