"""Files that are replaced in one step, and states in them that load without running code."""

import io
import os
from collections import Counter
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

# Marks what stands for a numpy array, which torch does not read back without its pickled class.
_ARRAY = "numpy array"
# What `packed` takes: tensors, arrays, numbers, strings, and containers of them.
Plain: TypeAlias = dict[str, Any]


def replace_file(path: Path, data: bytes) -> None:
    """Write a file at once: a process killed meanwhile leaves the old one as it was."""
    beside = path.with_name(path.name + ".tmp")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.add_note(
                f"What is computed so far could not be written to {path}; an older file of that "
                "name is as it was. Free space there, or choose another folder."
            )
        raise


def numbered(folder: str | Path, number: int) -> Path:
    """Name the folder of one part of a fit, beside where that of the whole would be."""
    folder = Path(folder)
    if folder.name in {"", ".."}:  # "." has no name, but the folder has one
        folder = folder.resolve()
    return folder.parent / f"{folder.name}-{number}"


def packed(state: Any) -> bytes:
    """Turn tensors, arrays and plain containers into bytes."""
    # written to memory first: torch hides an OSError of the file in an error of its own
    buffer = io.BytesIO()
    torch.save(_plain(state), buffer)
    return buffer.getvalue()


def unpacked(data: bytes, source: Path) -> Any:
    """Read what `packed` made; no code in it is run."""
    try:
        if data[:2] != b"PK":  # torch would warn before it fails
            raise ValueError("no zip file")
        return _restored(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))
    except (RuntimeError, UnpicklingError, EOFError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{source} is damaged or not a file of skinfluence ({type(error).__name__}). It was "
            "probably cut short while being copied; copy the folder again, or remove it to begin "
            "anew."
        ) from error


def _plain(value: Any) -> Any:
    plain = value
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        flat = torch.from_numpy(value.flatten().view(np.uint8))
        plain = {_ARRAY: value.dtype.str, "shape": value.shape, "bytes": flat}
    elif isinstance(value, np.generic):
        plain = _plain(value.item())
    elif isinstance(value, Tensor):
        plain = value.detach().to("cpu", copy=True)
    elif isinstance(value, dict):
        items = {_plain(key): _plain(item) for key, item in value.items()}
        plain = Counter(items) if isinstance(value, Counter) else items
    elif isinstance(value, list):
        plain = [_plain(item) for item in value]
    elif isinstance(value, tuple):
        plain = tuple(_plain(item) for item in value)
    elif value is not None and type(value) not in {bool, int, float, str}:
        raise TypeError(
            f"Got {value!r} of type {type(value).__name__} in the state of a training, but only "
            "tensors, arrays, numbers, strings and containers of them can be kept in a file and "
            "read back without running code. Likely causes are an optimiser or a learning rate "
            "scheduler that holds an object; record it with resume=False."
        )
    return plain


def _restored(value: Any) -> Any:
    if isinstance(value, dict) and _ARRAY in value:
        flat: np.ndarray = value["bytes"].numpy()
        return flat.view(np.dtype(value[_ARRAY])).reshape(value["shape"])
    if isinstance(value, dict):
        return type(value)({key: _restored(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return type(value)(_restored(item) for item in value)
    return value
