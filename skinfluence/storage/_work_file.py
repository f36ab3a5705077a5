"""A file that keeps how far a long computation is, so that a stopped one goes on."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Self

from skinfluence.storage._files import Plain, packed, replace_file, unpacked

_DIGEST_BYTES = 32  # at the end of a file, so that a damaged one is never gone on with


class WorkFile:
    """Keeps the state of one computation; a file of another one is refused or replaced."""

    def __init__(
        self,
        path: Path,
        key: str,
        *,
        kind: str,
        seconds: float = 0.0,
        foreign: str,
        other: str | None = None,
    ) -> None:
        self.path = path
        self._signed = {"format": f"skinfluence state of {kind}", "key": key}
        self._seconds = seconds  # a kill loses at most so much work
        self._foreign = foreign  # the error if it is no such file
        self._other = other  # the error if it has another key; None replaces the file
        self._written = time.monotonic()

    @classmethod
    def of_parameter(
        cls, name: str, path: Path, key: str, *, kind: str, inputs: str, seconds: float = 0.0
    ) -> Self:
        """Take a path that a user gave, with the error texts for it; `inputs` make the key."""
        given = f"{name}={str(path)!r}"
        return cls(
            path,
            key,
            kind=kind,
            seconds=seconds,
            foreign=f"{given} is not a file this method wrote. Expected one, or a path where there "
            "is none yet; move it away, or choose another name.",
            other=f"{given} belongs to other data or parameters: {inputs} must be those it was "
            "begun with. Remove the file to begin anew, or choose another.",
        )

    def read(self) -> Plain | None:
        """Read the state to go on from; None if there is none."""
        if not self.path.exists():
            return None
        data = self.path.read_bytes()
        data, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
        if sha256(data).digest() != digest:
            raise ValueError(self._foreign)
        try:
            found = unpacked(data, self.path)
        except ValueError as error:
            raise ValueError(self._foreign) from error
        if not isinstance(found, dict) or found.get("format") != self._signed["format"]:
            raise ValueError(self._foreign)
        if found["key"] == self._signed["key"]:
            return dict(found["state"])
        if self._other is not None:
            raise ValueError(self._other)
        return None

    def write(self, state: Plain) -> None:
        """Write a state at once: a kill or a full disk meanwhile leaves the old file as it was."""
        data = packed({**self._signed, "state": state})
        replace_file(self.path, data + sha256(data).digest())
        self._written = time.monotonic()

    def watch(self, state: Callable[[], Plain | None]) -> None:
        """Write the state, if there is any, and if the last time is a while ago."""
        if time.monotonic() - self._written >= self._seconds:
            self._write_any(state())

    @contextmanager
    def keeping(self, state: Callable[[], Plain | None]) -> Iterator[None]:
        """Write the state whatever ends the block; None: there is none, or an interrupt tore it."""
        try:
            yield
        except BaseException as error:
            try:
                self._write_any(state())
            except OSError as other:
                error.add_note(f"{other}: where the run stopped is not in {self.path}.")
            raise
        self._write_any(state())

    def _write_any(self, state: Plain | None) -> None:
        if state is not None:
            self.write(state)
