"""Fingerprints: what a net, its data and its settings say, whatever process asks."""

import hashlib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import skorch
import torch
from torch import Tensor

_PLAIN = (str, bytes, int, float, complex, bool, type(None), type(Ellipsis), np.generic, Path)


def versions() -> list[str]:
    """Name the versions that a training's result depends on."""
    return [torch.__version__, skorch.__version__]


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
        Classes and functions count by name and code, objects by what pickle takes them apart
        into, nets by class and parameters. Functions that a function calls do not count.

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
        if isinstance(value, _PLAIN):
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
            self._all([value.__qualname__, value.__code__, defaults, cells])
        elif isinstance(value, types.ModuleType):
            self._text(value.__name__)
        elif isinstance(value, types.CodeType):
            self._all([value.co_code, value.co_names, value.co_consts])
        elif isinstance(value, skorch.NeuralNet):
            self._all([type(value), value.get_params(deep=False)])
        else:
            self._parts(value)

    def _class(self, cls: type) -> None:
        self._text(f"{cls.__module__}.{cls.__qualname__}")
        root = cls.__module__.partition(".")[0]
        if root in {"builtins", "torch", "skorch", "sklearn", "numpy"}:  # versions are in the key
            return
        members = {name: member for name, member in vars(cls).items() if not _is_slot(name)}
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


def _is_slot(name: str) -> bool:
    """Tell what Python and pickling libraries add to a class from what its author wrote."""
    written = name in {"__init__", "__call__", "__len__", "__getitem__", "__iter__"}
    return name.startswith("__") and name.endswith("__") and not written


def _unwrapped(member: Any) -> Any:
    if isinstance(member, staticmethod | classmethod):
        return member.__func__
    return [member.fget, member.fset] if isinstance(member, property) else member
