"""Fingerprints: what a net, its data and its settings say, whatever process asks."""

import dis
import random
import sys
import types
from collections.abc import Iterator
from contextlib import suppress
from functools import cache, cached_property, partial, singledispatchmethod
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import sklearn
import skorch
import torch
from joblib.hashing import NumpyHasher
from scipy.sparse import csr_array, csr_matrix
from torch import Tensor

from skinfluence.storage._sources import (
    MAIN,
    VERSIONED,
    SourceError,
    codes_in,
    imports_by_name,
    imports_in,
    instructions_of,
    is_installed,
    is_standard,
    modules_named,
    origin_of,
    spec_of,
    strings_in,
)

_Code: TypeAlias = types.FunctionType | type
_PLAIN = str | bytes | int | float | complex | bool | None | types.EllipsisType | np.generic | Path
_COUNTED = types.FunctionType | type | types.ModuleType | np.ndarray | Tensor | _PLAIN
_ATOMS = {bool, int, float, str, bytes, type(None)}
_WANTED = "It has to be known whether a training is the same as an earlier one"
_REMEDY = "or set memory=None or resume=False."
_DEEPEST = 20_000  # pickling takes some twenty calls for a module within a module
_CHANGING = {"add", "append", "clear", "extend", "insert", "pop", "setdefault", "update"}
_WRITING = {"STORE_SUBSCR", "DELETE_SUBSCR", "STORE_ATTR", "DELETE_ATTR"}
_DRAWN_FROM = np.random.Generator | np.random.RandomState | random.Random | torch.Generator


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


class _Held(NamedTuple):
    """What functions hold of their modules: what cannot be read in it counts by its class."""

    value: object


class _Hasher(NumpyHasher):
    """Hashes what pickle would write, but for code, nets, tensors and the order of mappings."""

    _is_tolerant = False

    def save(self, obj: object) -> None:
        """Write an object; what is equal is written alike wherever it lies."""
        if type(obj) in _ATOMS:  # as pickle does, but in a third of the time
            self.dispatch[type(obj)](self, obj)
            return
        if type(obj) is _Held:
            before, self._is_tolerant = self._is_tolerant, True
            self.save(obj.value)
            self._is_tolerant = before
            return
        is_known = id(obj) in self.memo
        try:
            super().save(self._described(obj))
        except _UnreadableError:
            raise
        except SourceError as error:
            raise _UnreadableError(
                f"{_WANTED}, but {error}. Put the file back, {_REMEDY}"
            ) from error
        except Exception as error:
            if not self._is_tolerant:
                raise _UnreadableError(
                    f"{_WANTED}, but {obj!r} in the net or the data cannot be read. Take it out, "
                    f"{_REMEDY}"
                ) from error
            self.save(type(obj))
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
        if kind in {csr_array, csr_matrix}:  # which note, when asked, in what order entries are
            obj = kind, obj.shape, obj.data, obj.indices, obj.indptr
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
    return [*parts, _Held(_globals_of(function)), origin_of(*_modules_of(function))]


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
    """Find what a function uses of its module and of those it holds, as it is before it runs."""
    code, names = function.__code__, function.__globals__
    found = {name: names[name] for name in sorted(_names_loaded(code)) if name in names}
    used = sorted({name for inner in codes_in(code) for name in inner.co_names})
    for name, module in list(found.items()):
        if isinstance(module, types.ModuleType) and not is_installed(module.__name__):
            found |= {f"{name}.{inner}": value for inner, value in _members(module, used)}
    changed = set(_changed(code))
    for chain in _chains(code):  # methods that change what they are called on
        for end in range(1, len(chain)):
            name = ".".join(chain[:end])
            method = getattr(type(found.get(name)), chain[end], None)
            if isinstance(method, types.FunctionType):
                itself = method.__code__.co_varnames[:1]
                changed |= {name} if itself and itself[0] in _changed(method.__code__) else set()
    # what its file makes is known from there; a script or a notebook has none to know it from
    module = function.__module__ or ""
    has_file = module not in MAIN and spec_of(module) is not None
    read = partial(_read, objects=not has_file)
    return {name: read(value, fixed=name not in changed) for name, value in found.items()}


def _members(module: types.ModuleType, names: list[str]) -> Iterator[tuple[str, object]]:
    """Find members of a module, also those that it makes when they are asked for."""
    for name in names:
        value = missing = object()
        with suppress(Exception):  # its own __getattr__ may raise anything
            value = getattr(module, name)
        inner = f"{module.__name__}.{name}"
        is_inside = isinstance(value, types.ModuleType) and value.__name__ == inner
        # modules in a package are held once something has imported them: they count by their files
        if value is not missing and not is_inside and not name.startswith("__"):
            yield name, value


def _read(value: Any, *, fixed: bool, objects: bool) -> object:
    """Give what counts of a global: only its class if it changes, or of an object not wanted."""
    kind, read = type(value), partial(_read, fixed=fixed, objects=objects)
    if isinstance(value, set | frozenset):
        fixed = fixed or isinstance(value, frozenset)
        return kind, {item for item in value if fixed and isinstance(item, _COUNTED)}
    if isinstance(value, tuple) or (fixed and isinstance(value, list)):
        return kind, [*map(read, value)]
    if fixed and isinstance(value, dict):
        return kind, [(key, read(item)) for key, item in value.items()]
    is_cached = isinstance(getattr(value, "__wrapped__", None), types.FunctionType)
    if is_cached or isinstance(value, _COUNTED):
        return value
    return value if fixed and objects and not isinstance(value, _DRAWN_FROM) else kind


def _modules_of(function: types.FunctionType) -> Iterator[str]:
    """Name the modules that a function may import, or use as attributes of a package."""
    code, names = function.__code__, function.__globals__
    package = names.get("__package__") or ""
    yield from imports_in(code, package)
    used = {name for inner in codes_in(code) for name in inner.co_names}
    held = [names[name] for name in sorted(_names_loaded(code)) if name in names]
    if imports_by_name({*used, *(getattr(value, "__name__", "") for value in held)}):
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
    operations = [(i.opname, i.argval) for i in instructions_of(code)]
    # a class that is made in a function loads globals as names
    read = {name for operation, name in operations if operation in {"LOAD_GLOBAL", "LOAD_NAME"}}
    read = {name for name in read if not name.startswith("__")}
    read -= {name for operation, name in operations if operation == "STORE_GLOBAL"}
    return frozenset(read.union(*(_names_loaded(inner) for inner in codes_in(code)[1:])))


@cache
def _changed(code: types.CodeType) -> frozenset[str]:
    """Name the variables, and attributes of them, that code writes into, such as a log."""
    changed: set[str] = set()
    for inner in codes_in(code):
        operations = instructions_of(inner)
        # where the expressions begin that something is put into
        begins = {_place(each): each for each in operations if each.opname in _WRITING}
        for chain, place in _chains_in(operations):
            written = begins.get(place)
            into = chain[:-1] if chain[-1] in _CHANGING else ()
            if written is not None:
                is_attribute = written.opname.endswith("_ATTR")
                into = (*chain, written.argval) if is_attribute else chain
            changed |= {".".join(into[:end]) for end in range(1, len(into) + 1)}
    return frozenset(changed)


@cache
def _chains(code: types.CodeType) -> list[tuple[str, ...]]:
    """List the variables that code reads, each with the attributes it asks of it."""
    codes = [instructions_of(inner) for inner in codes_in(code)]
    return [chain for operations in codes for chain, _ in _chains_in(operations)]


def _chains_in(
    operations: list[dis.Instruction],
) -> Iterator[tuple[tuple[str, ...], object]]:
    for number, operation in enumerate(operations):
        if operation.opname.startswith(("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FAST", "LOAD_DEREF")):
            following = operations[number + 1 :]
            asked = takewhile(lambda o: o.opname in {"LOAD_ATTR", "LOAD_METHOD"}, following)
            name = operation.argval  # or names, of several loaded at once
            name = name if isinstance(name, str) else name[-1]
            yield (name, *(each.argval for each in asked)), _place(operation)


def _place(operation: dis.Instruction) -> object:
    where = operation.positions
    return None if where is None else (where.lineno, where.col_offset)
