"""Fingerprints: what a net, its data and its settings say, whatever process asks."""

import dis
import hashlib
import sys
import sysconfig
import types
from collections.abc import Mapping
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import skorch
import torch
from torch import Tensor

# Code of these counts by the name, their versions besides.
_VERSIONED = {"skinfluence", "torch", "skorch", "sklearn", "numpy"}
_Plain = str | bytes | int | float | complex | bool | None | types.EllipsisType | np.generic | Path
_CHANGING = {"add", "append", "clear", "extend", "insert", "pop", "setdefault", "update"}


def versions() -> list[str]:
    """Name the versions that a training, and what is computed of it, depend on."""
    return [version("skinfluence"), *(m.__version__ for m in (torch, skorch, sklearn, np))]


def net_parameters(net: skorch.NeuralNet) -> list[Any]:
    """List what decides how a net computes, for a fingerprint; its callbacks do not.

    Parameters
    ----------
    net : NeuralNet

    Returns
    -------
    list
    """
    parameters = net.get_params(deep=False)
    return [type(net), {k: v for k, v in parameters.items() if k not in {"callbacks", "verbose"}}]


def fingerprint(value: Any) -> str:
    """Hash anything by what it says rather than where it lies in memory.

    Parameters
    ----------
    value : object
        Classes and functions count by name and code, with the functions, classes, numbers,
        strings, arrays and containers of these that their code finds among its module's globals;
        containers only where the code does not change any. What code of installed packages finds
        does not count. Objects count by what pickle takes them apart into, nets by class and
        parameters.

    Returns
    -------
    str
        The same in every process.

    Raises
    ------
    TypeError
        If something can be neither read nor pickled.
    """
    stream = _Hash()
    stream.add(value)
    return stream.digest()


class _Hash:
    """Feeds a hash function; objects met before count by their number."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []  # so that no id is used twice

    def digest(self) -> str:
        return self._hash.hexdigest()

    def add(self, value: Any) -> None:
        self._text(f"{type(value).__module__}.{type(value).__qualname__}")
        if isinstance(value, _Plain):
            self._text(repr(value))
        elif isinstance(value, list | tuple):
            self._all(value)
        elif isinstance(value, set | frozenset):
            self._all(sorted(fingerprint(item) for item in value))
        elif isinstance(value, np.ndarray) and value.dtype != object:
            self._all([str(value.dtype), value.shape])
            self._hash.update(np.ascontiguousarray(value).tobytes())
        elif isinstance(value, Tensor):
            self._all([str(value.dtype), tuple(value.shape)])
            flat = value.detach().cpu().contiguous().reshape(-1)  # numpy knows no bfloat16
            self._hash.update(flat.view(torch.uint8).numpy().tobytes())
        elif id(value) in self._seen:
            self._text(str(self._seen[id(value)]))
        else:
            self._seen[id(value)] = len(self._seen)
            self._alive.append(value)
            self._object(value)

    def _object(self, value: Any) -> None:
        if isinstance(value, Mapping):
            self._all([part for pair in value.items() for part in pair])
        elif isinstance(value, np.ndarray):
            self._all([value.shape, value.ravel().tolist()])
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, types.FunctionType):
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            defaults = [value.__defaults__, value.__kwdefaults__]
            named = _globals_of(value)
            self._all([value.__qualname__, value.__code__, defaults, cells, named])
        elif isinstance(value, types.ModuleType):
            self._text(value.__name__)
        elif isinstance(value, types.CodeType):
            arguments = [value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount]
            self._all([value.co_code, value.co_names, value.co_consts])
            self._all([*arguments, value.co_varnames])
        elif isinstance(value, skorch.NeuralNet):
            self._all([type(value), value.get_params(deep=False)])
        else:
            self._parts(value)

    def _class(self, cls: type) -> None:
        self._text(f"{cls.__module__}.{cls.__qualname__}")
        root = cls.__module__.partition(".")[0]
        if root in _VERSIONED or root == "builtins":
            return
        members = {n: member for n, member in vars(cls).items() if not _is_slot(n, member)}
        self._all([cls.__bases__, {name: _unwrapped(m) for name, m in sorted(members.items())}])

    def _parts(self, value: Any) -> None:
        """Add what pickle would take an object apart into."""
        try:
            parts = value.__reduce_ex__(4)
        except Exception as error:
            raise TypeError(
                "It has to be known whether a training is the same as an earlier one, but "
                f"{value!r} in the net or the data cannot be read. Take it out, or set memory=None "
                "or resume=False."
            ) from error
        if isinstance(parts, str):  # the name of something global
            self._text(parts)
            return
        made_of, iterators = list(parts[:3]), list(parts[3:5])
        self._all([*made_of, *(list(items or ()) for items in iterators)])

    def _all(self, values: Any) -> None:
        self._text(str(len(values)))
        for value in values:
            self.add(value)

    def _text(self, text: str) -> None:
        data = text.encode()
        self._hash.update(len(data).to_bytes(8, "little") + data)


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
    return [member.fget, member.fset] if isinstance(member, property) else member


def _globals_of(function: types.FunctionType) -> dict[str, Any]:
    """Find what a user's function uses of its module, but for what may change while it runs."""
    if _is_installed(function.__module__ or ""):
        return {}
    code, names = function.__code__, function.__globals__
    found = {name: names[name] for name in sorted(_names_loaded(code)) if name in names}
    return {n: value for n, value in found.items() if _is_read(value, fixed=not _changes(code))}


def _is_read(value: Any, *, fixed: bool) -> bool:
    """Tell whether a global counts: lists and mappings only where they are `fixed`."""
    if isinstance(value, tuple | frozenset) or (fixed and isinstance(value, list | set)):
        return all(_is_read(item, fixed=fixed) for item in value)
    if fixed and isinstance(value, dict):
        return all(_is_read(item, fixed=fixed) for pair in value.items() for item in pair)
    return isinstance(value, types.FunctionType | type | np.ndarray | Tensor | _Plain)


@cache
def _names_loaded(code: types.CodeType) -> frozenset[str]:
    """Name the globals that code reads and never sets; not its attributes, as co_names does."""
    operations = [(i.opname, i.argval) for i in dis.get_instructions(code)]
    read = {name for operation, name in operations if operation == "LOAD_GLOBAL"}
    read -= {name for operation, name in operations if operation == "STORE_GLOBAL"}
    inner = [_names_loaded(c) for c in code.co_consts if isinstance(c, types.CodeType)]
    return frozenset(read.union(*inner))


@cache
def _changes(code: types.CodeType) -> bool:
    """Tell whether code may change a list or mapping, such as a log that a callback keeps."""
    stored = any(i.opname in {"STORE_SUBSCR", "DELETE_SUBSCR"} for i in dis.get_instructions(code))
    inner = [_changes(c) for c in code.co_consts if isinstance(c, types.CodeType)]
    return stored or bool(_CHANGING.intersection(code.co_names)) or any(inner)


@cache
def _is_installed(module: str) -> bool:
    """Tell the standard library and installed packages from code that is being written."""
    root = module.partition(".")[0]
    if root == "__main__":
        return False
    if root in _VERSIONED or root in sys.stdlib_module_names:
        return True
    file = getattr(sys.modules.get(root), "__file__", None)
    folders = [sysconfig.get_path(name) for name in ("purelib", "platlib")]
    return file is not None and any(Path(file).is_relative_to(folder) for folder in folders)
