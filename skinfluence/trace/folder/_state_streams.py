"""States of a net one after the other in a file: appended, and read back one at a time."""

import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TextIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Tensors start at multiples of this many bytes, so that any dtype may be read in place.
_ALIGNMENT = 16
# States are mapped by blocks of about so many bytes, so that a walk through a file larger than
# memory holds one block of it at a time, and a list of all states does not take a mapping each.
_BLOCK_BYTES = 2**24


class Entry(NamedTuple):
    """Where a tensor lies in a record."""

    name: str
    shape: list[int]
    dtype: str  # such as "float32"
    start: int  # bytes
    stop: int


class StateFile(Sequence[dict[str, Tensor]]):
    """States on disk, read when they are indexed."""

    def __init__(self, path: Path, layout: list[Entry], length: int) -> None:
        self.path = path
        self.layout = layout
        self._length = length
        self._block: tuple[int, NDArray[np.uint8]] | None = None
        # held open: the states stay readable when another trace takes the place of this one
        self._descriptor: int | None = self._opened()

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._length))]
        if not -self._length <= index < self._length:
            raise IndexError(f"state {index} of {self._length}")
        record = torch.from_numpy(self._record(int(index) % self._length))
        return {
            entry.name: record[entry.start : entry.stop]
            .view(getattr(torch, entry.dtype))
            .view(entry.shape)
            for entry in self.layout
        }

    def _record(self, index: int) -> NDArray[np.uint8]:
        size = record_bytes(self.layout)
        per_block = max(1, _BLOCK_BYTES // max(1, size))
        number, place = divmod(index, per_block)
        block = self._block
        if block is None or block[0] != number:
            start = number * per_block
            shape = (min(per_block, self._length - start), size)
            if self._descriptor is None:
                self._descriptor = self._opened()
            with open(self._descriptor, "rb", closefd=False) as file:
                # copy on write: tensors may be changed, the file never
                rows = np.memmap(file, np.uint8, mode="c", offset=start * size, shape=shape)
            self._block = block = (number, rows)
        record: NDArray[np.uint8] = block[1][place]
        return record

    def _opened(self) -> int:
        descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, descriptor)
        return descriptor

    def __getstate__(self) -> dict[str, object]:
        # pickled as a reference to the file
        return {**vars(self), "_block": None, "_descriptor": None}


class Stream:
    """A file that grows by one state at a time."""

    def __init__(self, path: Path, layout: list[Entry], length: int | None = None) -> None:
        self.path = path
        self.layout = layout
        self.length = length or 0
        if length is not None:
            check_whole(path, length * record_bytes(layout))
        self._is_synced = length is not None
        self._file = path.open("wb" if length is None else "r+b", buffering=0)

    def append(self, state: dict[str, Tensor]) -> None:
        """Write a state after those there are, of the same names, shapes and dtypes."""
        _check_same_layout(self.layout, state)
        record = bytearray(record_bytes(self.layout))
        for entry in self.layout:
            tensor = state[entry.name].detach().cpu().contiguous().reshape(-1)
            record[entry.start : entry.stop] = tensor.view(torch.uint8).numpy().tobytes()
        start = self.length * len(record)
        self._is_synced = False
        try:
            self._file.seek(start)
            view = memoryview(record)
            while view:  # an unbuffered write may stop short
                view = view[self._file.write(view) :]
        except OSError as error:
            error.add_note(
                f"Could not write state {self.length} of the trace ({len(record)} bytes) to "
                f"{self.path.parent}. Free space there, or record less: steps='last_epoch', "
                "fewer checkpoints."
            )
            raise
        self.length += 1

    def restart(self) -> None:
        """Let the next state take the place of the first."""
        self.length = 0

    def drop_last(self) -> None:
        """Let the next state take the place of the last."""
        self.length -= 1

    def sync(self) -> None:
        """Wait until what was written is on the disk."""
        if not self._is_synced:
            sync_file(self._file)
            self._is_synced = True

    def close(self) -> None:
        """Cut off what was dropped, and finish the file."""
        self._file.truncate(self.length * record_bytes(self.layout))
        sync_file(self._file)
        self._file.close()

    def discard(self) -> None:
        self._file.close()


def layout_of(state: dict[str, Tensor]) -> list[Entry]:
    """Place the tensors of a state one after the other."""
    layout = []
    start = 0
    for name, tensor in state.items():
        stop = start + tensor.numel() * tensor.element_size()
        dtype = str(tensor.dtype).removeprefix("torch.")
        layout.append(Entry(name, list(tensor.shape), dtype, start, stop))
        start = -(-stop // _ALIGNMENT) * _ALIGNMENT
    return layout


def _check_same_layout(layout: list[Entry], state: dict[str, Tensor]) -> None:
    """Refuse a state that would not fit its place: records all have the size of the first one."""
    first = {entry.name: (tuple(entry.shape), f"torch.{entry.dtype}") for entry in layout}
    now = {name: (tuple(tensor.shape), str(tensor.dtype)) for name, tensor in state.items()}
    for name in {**first, **now}:
        if first.get(name) != now.get(name):
            raise ValueError(
                f"The tensor {name!r} of the net is {_in_words(now.get(name))}, but was "
                f"{_in_words(first.get(name))} in the first state of the trace. A folder takes "
                "tensors of the same names, shapes and dtypes every time; likely causes are a "
                "buffer that grows and a net cast to another dtype while it trains. Keep them as "
                "they are, or record with storage='memory'."
            )


def _in_words(tensor: tuple[tuple[int, ...], str] | None) -> str:
    return "missing" if tensor is None else f"of shape {tensor[0]} and {tensor[1]}"


def copy_start(source: Path, target: Path, n_bytes: int) -> None:
    """Copy the first bytes of a file of states, onto the disk."""
    left = n_bytes
    try:
        with source.open("rb") as old, target.open("wb") as new:
            while left:
                chunk = old.read(min(left, _BLOCK_BYTES))
                new.write(chunk)
                left -= len(chunk)
            sync_file(new)
    except OSError as error:
        error.add_note(
            f"The trace that an interrupted training left in {source.parent} is copied before the "
            f"training goes on, which takes {n_bytes} bytes. All complete epochs are kept: free "
            "space there and train again."
        )
        raise


def check_whole(path: Path, expected: int) -> None:
    """Refuse a file to go on with that is shorter than it was."""
    size = path.stat().st_size if path.is_file() else None
    if size is None or size < expected:
        found = "is missing" if size is None else f"has {size} bytes"
        raise ValueError(
            f"The training in {path.parent} cannot go on: {path.name} {found}, expected at least "
            f"{expected} bytes. It was probably cut short while being copied; copy the whole "
            "folder again, or remove it to begin anew."
        )


def record_bytes(layout: list[Entry]) -> int:
    """Count the bytes from the start of one state to that of the next."""
    stop = layout[-1].stop if layout else 0
    return -(-stop // _ALIGNMENT) * _ALIGNMENT


def sync_file(file: BinaryIO | TextIO) -> None:
    """Wait until what was written to an open file is on the disk."""
    file.flush()
    os.fsync(file.fileno())
