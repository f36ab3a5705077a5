"""Traces in a folder: raw arrays beside one manifest that is written last.

States are appended while training goes on, so that a trajectory may be larger than memory. All
data files are new ones; the manifest that names them replaces the old manifest in one step, so a
run that is killed leaves the old trace readable (and files that no manifest names, most of which
end in ``.partial``). A training that may go on after a kill adds to the same files of states; it
begins in a folder without a trace, and the record of `ResumePoint` says how much of them counts.
Files that a manifest names are never written to again, for a trace may be mapped from them.
"""

import json
import re
import uuid
import weakref
from pathlib import Path

import numpy as np
from torch import Tensor

from skinfluence.storage._files import Plain, unpacked
from skinfluence.storage._lock import check_free, make_folder
from skinfluence.trace.folder._state_streams import (
    Entry,
    StateFile,
    Stream,
    check_whole,
    copy_start,
    layout_of,
    record_bytes,
    sync_file,
)

_MANIFEST = "trace.json"
# All that is written under a name with a token. Only such files are removed unread: other programs
# name theirs in the same way.
_OWN_NAME = re.compile(
    r"(states|steps|epochs|batch_indices|batch_sizes|learning_rates|logits)-[0-9a-f]{12}"
    r"\.(bin|partial)|trace\.json-[0-9a-f]{12}\.partial"
)
_FORMAT = "skinfluence training trace"
_VERSION = 2
# What a training that may go on leaves beside its trace; see `ResumePoint`.
RESUME_FILE = "resume.pt"
RESUME_FORMAT = "skinfluence resume point"


class TraceWriter:
    """Writes one trace into a folder, state by state."""

    def __init__(
        self, folder: Path, *, resumable: bool = False, streams: Plain | None = None
    ) -> None:
        self.folder = folder
        self._resumable = resumable
        make_folder(folder)
        if not resumable:
            check_free(folder)
        if (folder / _MANIFEST).is_file():
            _check_not_foreign(folder / _MANIFEST)
        self._token = uuid.uuid4().hex[:12]
        self._streams: dict[str, Stream] = {}
        self._made: list[Path] = []
        self._kept: set[Path] = set()
        # also when forgotten, and when the interpreter ends
        self._remove = weakref.finalize(self, _remove, self._streams, self._made, self._kept)
        streams = streams or {}
        self._kept.update(folder / entry["file"] for entry in streams.values())
        try:
            self._go_on(streams)
        except BaseException:
            self.discard()
            raise
        self.has_copied = any(stream.path not in self._kept for stream in self._streams.values())

    def _go_on(self, streams: Plain) -> None:
        handed_out = set(files_of_trace(self.folder))
        for kind, entry in streams.items():
            path, length = self.folder / entry["file"], entry["length"]
            layout = [Entry(*e) for e in entry["layout"]]
            if path.name in handed_out:
                # An interrupt ended the training with a trace, which its owner may still read from
                # this file: written over, it would change under them, and cut short it would kill
                # the process. The copy costs as much disk again until the record names it, but
                # after an interrupt alone; a kill or an error leaves no trace to spare.
                n_bytes = length * record_bytes(layout)
                check_whole(path, n_bytes)
                source, path = path, self._stream_path(kind)
                copy_start(source, path, n_bytes)
            self._streams[kind] = Stream(path, layout, length)

    def append(self, kind: str, state: dict[str, Tensor]) -> None:
        """Add a state to the file of its kind."""
        if kind not in self._streams:
            self._streams[kind] = Stream(self._stream_path(kind), layout_of(state))
        self._streams[kind].append(state)

    def restart(self, kind: str) -> None:
        """Drop the states of one kind that were written so far."""
        if kind not in self._streams:
            return
        if self._resumable:  # the states so far are still what a training would go on with
            self._streams.pop(kind).discard()
        else:
            self._streams[kind].restart()

    def drop_last(self, kind: str) -> None:
        """Drop the last state of one kind."""
        self._streams[kind].drop_last()

    def sync(self) -> Plain:
        """Bring the states written so far onto the disk."""
        for stream in self._streams.values():
            stream.sync()
        return {
            kind: {"file": stream.path.name, "layout": stream.layout, "length": stream.length}
            for kind, stream in self._streams.items()
        }

    def keep(self) -> None:
        """Spare the files of states, as they are now, when the rest is discarded."""
        now = {stream.path for stream in self._streams.values()}
        for path in self._kept - now:
            path.unlink(missing_ok=True)
        self._kept.clear()
        self._kept.update(now)

    def last(self, kind: str) -> dict[str, Tensor]:
        """Read back the last state of one kind."""
        stream = self._streams[kind]
        state: dict[str, Tensor] = StateFile(stream.path, stream.layout, stream.length)[-1]
        return state

    def clear(self, parts: Path) -> None:
        """Remove all files of this package but `parts` and those of states."""
        # they are what a kill left behind, and the trace of a training that an interrupt ended
        # early, which is now added to
        spared = {parts.name} | {stream.path.name for stream in self._streams.values()}
        (self.folder / _MANIFEST).unlink(missing_ok=True)
        for path in self.folder.iterdir():
            if _OWN_NAME.fullmatch(path.name) and path.name not in spared:
                path.unlink()

    def commit(self, meta: Plain, arrays: dict[str, np.ndarray]) -> None:
        """Write the arrays, then put the new trace in the place of the old one."""
        if not self._resumable:
            check_free(self.folder)
        old = files_of_trace(self.folder)
        if not self._resumable and record_in(self.folder) is not None:
            old += [*files_to_go_on_with(self.folder), RESUME_FILE]
        try:
            files = self._write(arrays)
            manifest = {"format": _FORMAT, "version": _VERSION, "files": files}
            part = self._path(_MANIFEST)
            with part.open("w", encoding="utf-8") as file:
                json.dump({**manifest, "meta": meta}, file)
                sync_file(file)
            part.replace(self.folder / _MANIFEST)
        except OSError as error:
            error.add_note(f"Could not complete the trace in {self.folder}; an old one is intact.")
            raise
        self._remove.detach()
        new = {entry["file"] for entry in files.values()}
        _unlink(self.folder, [name for name in old if name not in new])

    def discard(self) -> None:
        """Remove what was written and neither committed nor kept."""
        self._remove()

    def _write(self, arrays: dict[str, np.ndarray]) -> Plain:
        files: Plain = {}
        for kind, stream in self._streams.items():
            stream.close()
            files[kind] = {
                "file": self._final(stream.path),
                "layout": stream.layout,
                "shape": [stream.length, record_bytes(stream.layout)],
                "dtype": "uint8",
            }
        for name, array in arrays.items():
            path = self._path(name)
            with path.open("wb") as file:
                file.write(np.ascontiguousarray(array).tobytes())
                sync_file(file)
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

    def _stream_path(self, kind: str) -> Path:
        if not self._resumable:
            return self._path(kind)
        path = self.folder / f"{kind}-{uuid.uuid4().hex[:12]}.bin"
        self._made.append(path)
        return path

    def _final(self, path: Path) -> str:
        final = path.with_suffix(".bin")
        if path == final:
            return path.name
        self._made.append(final)
        return path.replace(final).name


def read_folder(
    folder: Path,
) -> tuple[Plain, dict[str, StateFile], dict[str, np.ndarray]]:
    """Open what `TraceWriter.commit` wrote."""
    manifest = _manifest(folder)
    try:
        states, arrays = _open_files(folder, manifest["files"])
        return dict(manifest["meta"]), states, arrays
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder / _MANIFEST} lacks what belongs to a trace ({error!r}); it is damaged."
        ) from error


def _open_files(folder: Path, files: Plain) -> tuple[dict[str, StateFile], dict[str, np.ndarray]]:
    states: dict[str, StateFile] = {}
    arrays: dict[str, np.ndarray] = {}
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


def _manifest(folder: Path) -> Plain:
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


def files_of_trace(folder: Path) -> list[str]:
    """Name the data files of the trace in a folder, if there is one that can be read."""
    try:
        files = _manifest(folder)["files"].values()
        return [name for name in (entry["file"] for entry in files) if Path(name).name == name]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def files_to_go_on_with(folder: Path) -> list[str]:
    """Name the files that a training may go on with, if the folder says so."""
    record = record_in(folder)
    if record is None:
        return []
    try:
        names = [entry["file"] for entry in record["streams"].values()] + record["parts"]["files"]
    except (KeyError, TypeError, AttributeError):
        return []
    return [name for name in names if Path(name).name == name]


def record_in(folder: Path) -> Plain | None:
    """Read the record of a training that may go on, if a folder holds one."""
    path = folder / RESUME_FILE
    try:
        record = unpacked(path.read_bytes(), path)
    except (FileNotFoundError, IsADirectoryError, ValueError):
        return None
    own = isinstance(record, dict) and record.get("format") == RESUME_FORMAT
    return record if own else None


def has_manifest(folder: Path) -> bool:
    """Tell whether a folder holds a complete trace, or what calls itself one."""
    return (folder / _MANIFEST).is_file()


def _unlink(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)


def _remove(streams: dict[str, Stream], paths: list[Path], kept: set[Path]) -> None:
    for stream in streams.values():
        stream.discard()
    for path in paths:
        if path not in kept:
            path.unlink(missing_ok=True)
