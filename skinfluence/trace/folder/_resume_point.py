"""Where a training in a folder stands: written after every epoch, gone on from by the next."""

import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet

from skinfluence.gradients._states import module_state
from skinfluence.storage._files import Plain, packed, replace_file, unpacked
from skinfluence.storage._fingerprint import fingerprint, net_parameters, versions
from skinfluence.storage._lock import FolderLock
from skinfluence.trace.folder._net_snapshot import (
    generators_of,
    put_back,
    random_states,
    same_state,
    snapshot_of,
)
from skinfluence.trace.folder._state_streams import check_whole, sync_file
from skinfluence.trace.folder._trace_files import (
    RESUME_FILE,
    RESUME_FORMAT,
    files_of_trace,
    files_to_go_on_with,
    has_manifest,
    record_in,
)

_VERSION = 2


class ResumePoint:
    """The record in a folder of how far a training came, and the right to write there."""

    # Parts, one an epoch, are appended to a file of their own, so that an epoch costs the same
    # however many went before. The record that counts them is replaced in one step, last.
    # `identity` says what makes the training the one it is, in the words of the error: hashes.

    def __init__(self, folder: Path, identity: Mapping[str, str]) -> None:
        self.folder = folder
        self._identity = dict(identity)
        self._start = random_states()
        self._generators: list[torch.Generator] | None = None
        # what is complete is only read, by as many as like, maybe where nothing can be written
        self._lock = None if _is_finished(folder) else FolderLock(folder)
        try:
            self._found = self._read()
            if self._lock is None and not self.is_complete:  # replaced just now
                self._lock = FolderLock(folder)
                self._found = self._read()
            self._find_parts()
        except BaseException:
            self.release()
            raise

    def _find_parts(self) -> None:
        self.parts_path = self.folder / f"epochs-{uuid.uuid4().hex[:12]}.bin"
        self._parts_bytes = 0
        if self._found is not None and self._found["parts"]["files"]:
            self.parts_path = self.folder / self._found["parts"]["files"][0]
            self._parts_bytes = self._found["parts"]["bytes"]
            check_whole(self.parts_path, self._parts_bytes)

    def loosen(self) -> None:
        """Say that the net's own part of training is over; see `FolderLock`."""
        if self._lock is not None:
            self._lock.loosen()

    def release(self) -> None:
        """Let other trainings into the folder."""
        if self._lock is not None:
            self._lock.release()

    @property
    def n_epochs(self) -> int:
        """Count the epochs that need not be trained again."""
        return 0 if self._found is None else int(self._found["n_epochs"])

    @property
    def is_complete(self) -> bool:
        """Tell whether the folder holds the whole training and its trace."""
        return self._found is not None and bool(self._found["complete"])

    @property
    def streams(self) -> Plain | None:
        """Say which files of states are to be gone on with."""
        return None if self._found is None else self._found["streams"]

    def parts(self) -> Iterator[Plain]:
        """Read what was recorded of each epoch."""
        return (epoch["recorded"] for epoch in self._epochs())

    def enter(self, net: NeuralNet, loader: object) -> None:
        """Put a net whose training begins to where the training in the folder stands."""
        self._hold()
        self._generators = generators_of(loader)
        if self._found is None:
            return
        put_back(net, self._found["net"], self._generators, self._found["start"])
        history = self._found["history"]
        if history is None:
            history = [epoch["history"] for epoch in self._epochs()]
        net.history.extend(json.loads(row) for row in history)

    def check_entered(self) -> None:
        """Refuse a net that never asked for its training loader, or lost the folder."""
        if self._generators is None:
            raise TypeError(
                "The net has not called get_iterator for its training rows, so their order cannot "
                "be gone on with. The likely cause is a fit_loop of the net's own; let it call "
                "get_iterator, or record it with resume=False."
            )
        self._hold()

    def _hold(self) -> None:
        if self._lock is not None:
            self._lock.hold()

    def save(self, net: NeuralNet, streams: Plain, part: Plain | None) -> None:
        """Write how far the training is."""
        if part is not None:
            self._append({"recorded": part, "history": _as_json(net.history[-1])})
        parts = {"files": [self.parts_path.name] if self._parts_bytes else []}
        self._write(
            net,
            n_epochs=len(net.history),
            complete=False,
            streams=streams,
            parts={**parts, "bytes": self._parts_bytes},
        )

    def complete(self, net: NeuralNet) -> None:
        """Say that the trace is complete, and remove what only an unfinished one needs."""
        self._write(
            net,
            n_epochs=len(net.history),
            complete=True,
            streams={},
            parts={"files": [], "bytes": 0},
            history=[_as_json(row) for row in net.history],
            trace=sorted(files_of_trace(self.folder)),
        )
        self.parts_path.unlink(missing_ok=True)

    def _write(self, net: NeuralNet, *, history: list[str] | None = None, **position: Any) -> None:
        assert self._generators is not None
        record = {
            "format": RESUME_FORMAT,
            "version": _VERSION,
            "identity": self._identity,
            "start": self._start,
            "net": snapshot_of(net, self._generators),
            "history": history,
            **position,
        }
        replace_file(self.folder / RESUME_FILE, packed(record))

    def _append(self, part: Plain) -> None:
        data = packed(part)
        try:
            with self.parts_path.open("r+b" if self._parts_bytes else "wb") as file:
                file.seek(self._parts_bytes)  # over a part that no record counts
                file.write(len(data).to_bytes(8, "little") + data)
                sync_file(file)
        except OSError as error:
            error.add_note(
                f"Could not add an epoch to {self.parts_path}. All epochs before it are kept: "
                "free space there and train again with resume=True to go on."
            )
            raise
        self._parts_bytes += 8 + len(data)

    def _epochs(self) -> Iterator[Plain]:
        if not self._parts_bytes:
            return
        with self.parts_path.open("rb") as file:
            while file.tell() < self._parts_bytes:
                size = int.from_bytes(file.read(8), "little")
                yield unpacked(file.read(size), self.parts_path)

    def _read(self) -> Plain | None:
        path = self.folder / RESUME_FILE
        if not path.is_file():
            if has_manifest(self.folder):
                raise ValueError(
                    f"{self.folder} holds a trace that was written without resume=True, so it is "
                    "not known of which training, and it is not overwritten. Choose another "
                    "folder, remove this one, or record with resume=False to replace the trace."
                )
            return None
        record: Plain = unpacked(path.read_bytes(), path)
        if not isinstance(record, dict) or record.get("format") != RESUME_FORMAT:
            raise ValueError(f"{path} does not describe a skinfluence training. Check the folder.")
        if record.get("version") != _VERSION:
            raise ValueError(
                f"{path} has version {record.get('version')!r}, this skinfluence reads {_VERSION}. "
                "Use the version that wrote it, or remove the folder to begin anew."
            )
        self._check_same(record)
        if record["complete"] and record["trace"] != sorted(files_of_trace(self.folder)):
            raise ValueError(
                f"{self.folder} held a complete training, but its trace is gone or another one. "
                "Remove the folder to train again, or choose another one."
            )
        if record["n_epochs"]:
            return record
        for name in files_to_go_on_with(self.folder):  # nothing to go on with yet
            (self.folder / name).unlink(missing_ok=True)
        return None

    def _check_same(self, record: Plain) -> None:
        other = [
            name
            for name in {**self._identity, **record["identity"]}
            if self._identity.get(name) != record["identity"].get(name)
        ]
        # a generator that training never drew from may stand anywhere
        drawn, begun = record["net"]["random"], record["start"]
        other += [
            f"state of the global random numbers of {name} (seed)"
            for name, now in self._start.items()
            if not same_state(drawn[name], begun[name]) and not same_state(now, begun[name])
        ]
        if other:
            raise ValueError(
                f"{self.folder} holds another training than this one: it had another "
                f"{', another '.join(other)}. It is neither gone on with nor overwritten. Make "
                "net, rows, targets and seed what they were, remove the folder to begin anew, or "
                "choose another one. Objects that change while training count as changed, such as "
                "a data set that caches rows: give a new one."
            )


def training_identity(
    net: NeuralNet, callbacks: list[Any], recorded: Plain, X: object, y: object
) -> dict[str, str]:
    """Hash what the result of a training depends on."""
    # not the objects: they change while training goes on
    made_of = {
        f"callback {name}": (type(callback), callback.get_params(deep=False))
        for name, callback in callbacks
    }
    said = {
        "net or parameter of it": net_parameters(net),
        **made_of,
        "X": X,
        "y": y,
        "start of the parameters (seed)": module_state(net),
        "setting of the recorder": recorded,
        "version of skinfluence or of what it trains with": versions(),
    }
    return {name: fingerprint(value) for name, value in said.items()}


def _is_finished(folder: Path) -> bool:
    record = record_in(folder)
    return record is not None and bool(record.get("complete")) and bool(record.get("n_epochs"))


def _as_json(row: object) -> str:
    return json.dumps(row, default=_number)


def _number(value: object) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(
        f"Got {value!r} of type {type(value).__name__} in the net's history, which cannot be kept "
        "in a file as JSON. Record numbers and strings there, or record with resume=False."
    )
