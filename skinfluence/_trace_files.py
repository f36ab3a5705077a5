"""Traces in a folder: raw arrays beside one manifest that is written last.

States are appended while training goes on, so that a trajectory may be larger than memory. All
data files are new ones; the manifest that names them replaces the old manifest in one step, so a
run that is killed leaves the old trace readable (and files that no manifest names, most of which
end in ``.partial``).
"""

import json
import os
import uuid
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MANIFEST = "trace.json"
_FORMAT = "skinfluence training trace"
_VERSION = 1
# Tensors start at multiples of this many bytes, so that any dtype may be read in place.
_ALIGNMENT = 16


class Entry(NamedTuple):
    """Where a tensor lies in a record.

    Attributes
    ----------
    name : str
    shape : list of int
    dtype : str
        Such as "float32".
    start, stop : int
        Bytes.
    """

    name: str
    shape: list[int]
    dtype: str
    start: int
    stop: int


class StateFile(Sequence[dict[str, Tensor]]):
    """States on disk, read when they are indexed.

    Parameters
    ----------
    path : Path
    layout : list of Entry
    length : int
    """

    def __init__(self, path: Path, layout: list[Entry], length: int) -> None:
        self.path = path
        self.layout = layout
        self._length = length
        self._bytes: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._length))]
        if not -self._length <= index < self._length:
            raise IndexError(f"state {index} of {self._length}")
        if self._bytes is None:
            shape = (self._length, _record_bytes(self.layout))
            # copy on write: tensors may be changed, the file never
            self._bytes = np.memmap(self.path, np.uint8, mode="c", shape=shape)
        record = torch.from_numpy(self._bytes[index])
        return {
            entry.name: record[entry.start : entry.stop]
            .view(getattr(torch, entry.dtype))
            .view(entry.shape)
            for entry in self.layout
        }

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_bytes": None}  # pickled as a reference to the file


class TraceWriter:
    """Writes one trace into a folder, state by state.

    Parameters
    ----------
    folder : Path
        Made if it does not exist; the folder it lies in must.

    Raises
    ------
    OSError
        If it cannot be made.
    ValueError
        If another program's file has the name of the manifest.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            error.add_note(f"The trace is to be written to {folder}; its parent folder must exist.")
            raise
        if (folder / _MANIFEST).is_file():
            _check_not_foreign(folder / _MANIFEST)
        self._token = uuid.uuid4().hex[:12]
        self._streams: dict[str, _Stream] = {}
        self._made: list[Path] = []
        # also when forgotten, and when the interpreter ends
        self._remove = weakref.finalize(self, _remove, self._streams, self._made)

    def append(self, kind: str, state: dict[str, Tensor]) -> None:
        """Add a state to the file of its kind.

        Parameters
        ----------
        kind : {"states", "steps"}
        state : dict of str to Tensor
            Of the same names, shapes and dtypes every time.
        """
        if kind not in self._streams:
            self._streams[kind] = _Stream(self._path(kind), layout_of(state))
        self._streams[kind].append(state)

    def restart(self, kind: str) -> None:
        """Drop the states of one kind that were written so far."""
        if kind in self._streams:
            self._streams[kind].restart()

    def drop_last(self, kind: str) -> None:
        """Drop the last state of one kind."""
        self._streams[kind].drop_last()

    def commit(self, meta: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        """Write the arrays, then put the new trace in the place of the old one.

        Parameters
        ----------
        meta : dict
            What JSON can hold.
        arrays : dict of str to ndarray

        Raises
        ------
        OSError
            If it cannot be written; the old trace stays.
        """
        old = _files_of(self.folder)
        try:
            manifest = {"format": _FORMAT, "version": _VERSION, "files": self._write(arrays)}
            part = self._path(_MANIFEST)
            with part.open("w", encoding="utf-8") as file:
                json.dump({**manifest, "meta": meta}, file)
                _sync(file)
            part.replace(self.folder / _MANIFEST)
        except OSError as error:
            error.add_note(f"Could not complete the trace in {self.folder}; an old one is intact.")
            raise
        self._remove.detach()
        for name in old:
            (self.folder / name).unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove what was written and not committed."""
        self._remove()

    def _write(self, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
        files: dict[str, Any] = {}
        for kind, stream in self._streams.items():
            stream.close()
            files[kind] = {
                "file": self._final(stream.path),
                "layout": stream.layout,
                "shape": [stream.length, _record_bytes(stream.layout)],
                "dtype": "uint8",
            }
        for name, array in arrays.items():
            path = self._path(name)
            with path.open("wb") as file:
                file.write(np.ascontiguousarray(array).tobytes())
                _sync(file)
            files[name] = {
                "file": self._final(path),
                "shape": list(array.shape),
                "dtype": str(array.dtype),
            }
        return files

    def _path(self, name: str) -> Path:
        path = self.folder / f"{name}-{self._token}.partial"
        self._made.append(path)
        return path

    def _final(self, path: Path) -> str:
        final = path.with_suffix(".bin")
        self._made.append(final)
        return path.replace(final).name


class _Stream:
    """A file that grows by one state at a time."""

    def __init__(self, path: Path, layout: list[Entry]) -> None:
        self.path = path
        self.layout = layout
        self.length = 0
        self._file = path.open("wb", buffering=0)

    def append(self, state: dict[str, Tensor]) -> None:
        record = bytearray(_record_bytes(self.layout))
        for entry in self.layout:
            tensor = state[entry.name].detach().cpu().contiguous().reshape(-1)
            record[entry.start : entry.stop] = tensor.view(torch.uint8).numpy().tobytes()
        start = self.length * len(record)
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
        self.length = 0

    def drop_last(self) -> None:
        self.length -= 1

    def close(self) -> None:
        self._file.truncate(self.length * _record_bytes(self.layout))
        _sync(self._file)
        self._file.close()

    def discard(self) -> None:
        self._file.close()


def layout_of(state: dict[str, Tensor]) -> list[Entry]:
    """Place the tensors of a state one after the other.

    Parameters
    ----------
    state : dict of str to Tensor

    Returns
    -------
    list of Entry
    """
    layout = []
    start = 0
    for name, tensor in state.items():
        stop = start + tensor.numel() * tensor.element_size()
        dtype = str(tensor.dtype).removeprefix("torch.")
        layout.append(Entry(name, list(tensor.shape), dtype, start, stop))
        start = -(-stop // _ALIGNMENT) * _ALIGNMENT
    return layout


def read_folder(
    folder: Path,
) -> tuple[dict[str, Any], dict[str, StateFile], dict[str, NDArray[Any]]]:
    """Open what `TraceWriter.commit` wrote.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    meta : dict
    states : dict of str to StateFile
    arrays : dict of str to ndarray
        Memory-mapped, copied when written to.

    Raises
    ------
    ValueError
        If there is no trace, or a foreign, newer or incomplete one.
    """
    manifest = _manifest(folder)
    try:
        states, arrays = _open_files(folder, manifest["files"])
        return dict(manifest["meta"]), states, arrays
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder / _MANIFEST} lacks what belongs to a trace ({error!r}); it is damaged."
        ) from error


def _open_files(
    folder: Path, files: dict[str, Any]
) -> tuple[dict[str, StateFile], dict[str, NDArray[Any]]]:
    states: dict[str, StateFile] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for name, entry in files.items():
        path, shape, dtype = folder / entry["file"], tuple(entry["shape"]), np.dtype(entry["dtype"])
        if path.parent != folder:
            raise ValueError(f"{folder / _MANIFEST} names {path}, which lies outside its folder.")
        expected = int(np.prod(shape)) * dtype.itemsize
        size = path.stat().st_size if path.is_file() else None
        if size != expected:
            found = "is missing" if size is None else f"has {size} bytes"
            raise ValueError(
                f"The trace in {folder} is damaged: {path.name} {found}, expected {expected} "
                "bytes. It was probably cut short while being copied; copy the whole folder again."
            )
        if "layout" in entry:
            states[name] = StateFile(path, [Entry(*e) for e in entry["layout"]], shape[0])
        elif expected:
            arrays[name] = np.memmap(path, dtype, mode="c", shape=shape)
        else:  # an empty file cannot be mapped
            arrays[name] = np.zeros(shape, dtype)
    return states, arrays


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    if not path.is_file():
        raise ValueError(
            f"{folder} holds no trace: there is no {_MANIFEST} in it. Expected the folder given to "
            "TrainingTrace.save or to TraceRecorder(storage=...); a run that was killed before "
            "its end leaves none."
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not readable as JSON ({error}); it is damaged.") from error
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise ValueError(f"{path} does not describe a skinfluence trace. Check the folder.")
    if manifest.get("version") != _VERSION:
        raise ValueError(
            f"{path} has version {manifest.get('version')!r}, this skinfluence reads {_VERSION}. "
            "Use the version that wrote it."
        )
    return manifest


def _check_not_foreign(path: Path) -> None:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # a damaged trace may be replaced
        return
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise ValueError(
            f"{path} does not describe a skinfluence trace and would be overwritten. Give a folder "
            "of its own."
        )


def _files_of(folder: Path) -> list[str]:
    """Name the data files of the trace in a folder, if there is one that can be read."""
    try:
        files = _manifest(folder)["files"].values()
        return [name for name in (entry["file"] for entry in files) if Path(name).name == name]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def _record_bytes(layout: list[Entry]) -> int:
    stop = layout[-1].stop if layout else 0
    return -(-stop // _ALIGNMENT) * _ALIGNMENT


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _remove(streams: dict[str, _Stream], paths: list[Path]) -> None:
    for stream in streams.values():
        stream.discard()
    for path in paths:
        path.unlink(missing_ok=True)
