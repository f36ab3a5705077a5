"""Fingerprints: what a net, its data and its settings say, whatever process asks."""

import dis
import sys
import types
from collections.abc import Iterator
from contextlib import suppress
from functools import cache, cached_property, singledispatchmethod
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import sklearn
import skorch
import torch
from joblib.hashing import NumpyHasher
from torch import Tensor

from skinfluence.storage._sources import (
    BY_NAME,
    MAIN,
    VERSIONED,
    codes_in,
    imports_in,
    is_installed,
    is_standard,
    modules_named,
    origin_of,
    spec_of,
    strings_in,
)

_Code: TypeAlias = types.FunctionType | type
_PLAIN = str | bytes | int | float | complex | bool | None | types.EllipsisType | np.generic | Path
_ATOMS = {bool, int, float, str, bytes, type(None)}
_DEEPEST = 20_000  # pickling takes some twenty calls for a module within a module
_CHANGING = {"add", "append", "clear", "extend", "insert", "pop", "setdefault", "update"}


def versions() -> list[str]:
    """Name the versions that a training, and what is computed of it, depend on."""
    return [version("skinfluence"), *(m.__version__ for m in (torch, skorch, sklearn, np))]


def net_parameters(net: skorch.NeuralNet) -> list[object]:
    """List what decides how a net computes, for a fingerprint; its callbacks do not."""
    parameters = net.get_params(deep=False)
    return [type(net), {k: v for k, v in parameters.items() if k not in {"callbacks", "verbose"}}]


def fingerprint(value: object) -> str:
    """Hash anything by what it says rather than where it lies: the same in every process."""
    # What is installed counts by name and version. The user's classes and functions count by the
    # source of their module and of all of theirs that it imports, and by value besides: what runs
    # may differ from what the file says by now (an edit, a setting read at import, another method
    # put in the place of one), and a script or notebook has no file that others could import.
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _DEEPEST))
    try:
        digest: str = _Hasher(hash_name="sha256").hash(value)
    finally:
        sys.setrecursionlimit(limit)
    return digest


class _UnreadableError(TypeError):
    """Names what cannot be hashed."""


class _Hasher(NumpyHasher):
    """Hashes what pickle would write, but for code, nets, tensors and the order of mappings."""

    def save(self, obj: object) -> None:
        """Write an object; what is equal is written alike wherever it lies."""
        if type(obj) in _ATOMS:  # as pickle does, but in a third of the time
            self.dispatch[type(obj)](self, obj)
            return
        is_known = id(obj) in self.memo
        try:
            super().save(self._described(obj))
        except _UnreadableError:
            raise
        except Exception as error:
            raise _UnreadableError(
                "It has to be known whether a training is the same as an earlier one, but "
                f"{obj!r} in the net or the data cannot be read. Take it out, or set memory=None "
                "or resume=False."
            ) from error
        if type(obj) in {list, tuple} and not is_known and id(obj) in self.memo:
            # Forgotten, but for its number: equal ones count as equal, whether or not they are
            # one and the same, which a clone changes.
            number, _ = entry = self.memo.pop(id(obj))
            self.memo[-1 - number] = entry

    def _described(self, obj: Any) -> Any:
        """Put something plain in the place of what pickle writes differently in every process."""
        kind = type(obj)
        if isinstance(obj, Tensor):
            flat = obj.detach().cpu().contiguous().reshape(-1)  # numpy knows no bfloat16
            self._hash.update(flat.view(torch.uint8).numpy())
            return Tensor, str(obj.dtype), tuple(obj.shape), obj.requires_grad
        if kind in {np.ndarray, np.memmap} and not obj.dtype.hasobject:
            self._hash.update(np.ascontiguousarray(obj).reshape(-1).view(np.uint8))
            return np.ndarray, obj.dtype, obj.shape
        if isinstance(obj, Path):  # which pickle knows again where it is the same object
            return Path, str(obj)
        if kind in {dict, types.MappingProxyType}:  # in its order, which a net may be built in
            return dict, list(obj.items())
        if kind in {set, frozenset}:
            return kind, sorted(map(fingerprint, obj))
        return obj

    def reducer_override(self, obj: Any) -> Any:
        """Say what to write instead; what comes third may lead back to the object itself."""
        if isinstance(obj, skorch.NeuralNet):
            return tuple, (), [type(obj), sorted(obj.get_params(deep=False).items())]
        if isinstance(obj, types.ModuleType):
            return tuple, ((obj.__name__, origin_of(obj.__name__)),)
        if isinstance(obj, types.CodeType):
            arguments = obj.co_argcount, obj.co_posonlyargcount, obj.co_kwonlyargcount
            said = obj.co_code, obj.co_names, obj.co_consts, obj.co_varnames
            return tuple, ((*said, arguments),)
        if obj is tuple or not isinstance(obj, _Code):
            return NotImplemented
        module = obj.__module__ or ""
        module = "__main__" if module in MAIN else module
        name = module, obj.__qualname__, origin_of(module)
        if is_installed(module) and _is_found_by_name(obj, module):
            return tuple, (name,)
        return tuple, (name,), _class_parts(obj) if isinstance(obj, type) else _parts(obj)

    def save_global(self, obj: object, name: str | None = None, **_: object) -> None:
        """Write what pickle knows by a name, such as a cached function, as its module's code."""
        module = getattr(obj, "__module__", None) or ""
        said = module, name or getattr(obj, "__qualname__", ""), origin_of(module)
        self.save((*said, getattr(obj, "__wrapped__", None)))


def _is_found_by_name(code: _Code, module: str) -> bool:
    root = module.partition(".")[0]
    if isinstance(code, type) and (root in VERSIONED or is_standard(root)):
        return True  # some of those in C are found nowhere
    found: object = sys.modules.get(module)
    for name in code.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is code


def _class_parts(cls: type) -> list[object]:
    members = {name: m for name, m in vars(cls).items() if not _is_slot(name, m)}
    return [cls.__bases__, [(name, _unwrapped(member)) for name, member in sorted(members.items())]]


def _parts(function: types.FunctionType) -> list[object]:
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    parts: list[object] = [function.__code__, function.__defaults__, function.__kwdefaults__, cells]
    if is_installed(function.__module__ or ""):  # a closure: what it uses of its module is known
        return parts
    return [*parts, _globals_of(function), [origin_of(name) for name in _modules_of(function)]]


def _is_slot(name: str, member: Any) -> bool:
    """Tell what Python and pickling libraries add to a class from what its author wrote."""
    if name in {"_abc_impl", "__annotate__", "__annotate_func__"}:
        return True
    written = isinstance(member, types.FunctionType | staticmethod | classmethod)
    return name.startswith("__") and name.endswith("__") and not written


def _unwrapped(member: Any) -> Any:
    if isinstance(member, staticmethod | classmethod):
        return member.__func__
    if isinstance(member, cached_property):  # holds a lock in Python 3.11
        return member.func
    if isinstance(member, singledispatchmethod):
        return [member.func, list(member.dispatcher.registry.values())]
    if isinstance(member, property):
        return [member.fget, member.fset]
    is_function = isinstance(member, types.FunctionType)
    return member if is_function else getattr(member, "__wrapped__", member)  # a cached function


def _globals_of(function: types.FunctionType) -> dict[str, object]:
    """Find what a function uses of its module, but for what may change while it runs."""
    code, names = function.__code__, function.__globals__
    found = {name: names[name] for name in sorted(_names_loaded(code)) if name in names}
    for name, module in list(found.items()):
        if isinstance(module, types.ModuleType) and not is_installed(module.__name__):
            used = {inner for each in codes_in(code) for inner in each.co_names}
            held = sorted(used & vars(module).keys())
            found.update((f"{name}.{inner}", getattr(module, inner)) for inner in held)
    return {n: value for n, value in found.items() if _is_read(value, fixed=not _changes(code))}


def _is_read(value: object, *, fixed: bool) -> bool:
    """Tell whether a global counts: lists and mappings only where they are `fixed`."""
    if isinstance(value, tuple | frozenset) or (fixed and isinstance(value, list | set)):
        return all(_is_read(item, fixed=fixed) for item in value)
    if fixed and isinstance(value, dict):
        return all(_is_read(item, fixed=fixed) for pair in value.items() for item in pair)
    is_cached = isinstance(getattr(value, "__wrapped__", None), types.FunctionType)
    counted = _Code | types.ModuleType | np.ndarray | Tensor | _PLAIN
    return is_cached or isinstance(value, counted)


def _modules_of(function: types.FunctionType) -> Iterator[str]:
    """Name the modules that a function may import, or use as attributes of a package."""
    code, names = function.__code__, function.__globals__
    package = names.get("__package__") or ""
    yield from imports_in(code, package)
    used = {name for inner in codes_in(code) for name in inner.co_names}
    held = [names[name] for name in sorted(_names_loaded(code)) if name in names]
    if BY_NAME & {*used, *(getattr(value, "__name__", "") for value in held)}:
        for text in strings_in([*(inner.co_consts for inner in codes_in(code)), held]):
            yield from modules_named(text, package)
    for value in held:
        if isinstance(value, types.ModuleType) and not is_installed(value.__name__):
            yield from _submodules(value.__name__, used)


def _submodules(package: str, names: set[str]) -> Iterator[str]:
    """Name the modules of these names in a package, imported or not, and in those in it."""
    spec = spec_of(package)
    if spec is not None and spec.submodule_search_locations is not None:
        for name in sorted(names):
            inner = f"{package}.{name}"
            if spec_of(inner) is not None:
                yield inner
                yield from _submodules(inner, names)


@cache
def _names_loaded(code: types.CodeType) -> frozenset[str]:
    """Name the globals that code reads and never sets; not its attributes, as co_names does."""
    operations = [(i.opname, i.argval) for i in dis.get_instructions(code)]
    read = {name for operation, name in operations if operation == "LOAD_GLOBAL"}
    read -= {name for operation, name in operations if operation == "STORE_GLOBAL"}
    return frozenset(read.union(*(_names_loaded(inner) for inner in codes_in(code)[1:])))


@cache
def _changes(code: types.CodeType) -> bool:
    """Tell whether code may change a list or mapping, such as a log that a callback keeps."""
    codes = codes_in(code)
    stored = {i.opname for inner in codes for i in dis.get_instructions(inner)}
    called = {name for inner in codes for name in inner.co_names}
    return bool(stored & {"STORE_SUBSCR", "DELETE_SUBSCR"} or called & _CHANGING)
