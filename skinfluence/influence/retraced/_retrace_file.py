"""A file from which a retracing that was stopped goes on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skinfluence.influence.retraced._walk import Walk
from skinfluence.rows._rows import Rows
from skinfluence.storage._files import packed, replace_file, unpacked
from skinfluence.storage._fingerprint import fingerprint, net_parameters, versions
from skinfluence.trace._training_trace import TrainingTrace

_NAME = "retrace.pt"
_FORMAT = "skinfluence retracing"
# A kill loses at most so much work; a file is as large as two copies of the parameters.
_SECONDS_BETWEEN_WRITES = 5.0


def retrace_key(
    net: Any, trace: TrainingTrace, rows: Rows, queries: Rows, settings: dict[str, Any]
) -> str:
    """Hash all that a retracing's result depends on.

    Parameters
    ----------
    net : NeuralNet
        Fitted.
    trace : TrainingTrace
    rows, queries : Rows
    settings : dict
        Of the method.

    Returns
    -------
    str

    Raises
    ------
    TypeError
        If something of it can be neither read nor pickled.
    """
    # the states between follow from the ends, the rows and the rates
    training = [trace.initial_state, trace.final_state, trace.learning_rates, trace.batch_indices]
    rule = [trace.parameter_groups, trace.weight_decay, trace.momentum, trace.dampening]
    said = [*training, *rule, trace.nesterov, trace.first_step, trace.epoch_starts]
    return fingerprint([net_parameters(net), *said, rows, queries, settings, versions()])


class RetraceFile:
    """Keeps how far a walk is, in a folder.

    Parameters
    ----------
    folder : Path
        Made if it does not exist; the folder it lies in must.
    key : str
        From `retrace_key`. A file with another key is of another fit and is replaced.
    keeps_end : bool, default=False
        Whether to write where the walk ends, too: as a part of a fit that other parts follow, it
        is not to be walked again if they are stopped.
    """

    def __init__(self, folder: Path, key: str, *, keeps_end: bool = False) -> None:
        folder.mkdir(exist_ok=True)
        self._path = folder / _NAME
        self._key = key
        self._keeps_end = keeps_end
        self._written = time.monotonic()

    def read(self) -> Walk | None:
        """Read where to go on from.

        Returns
        -------
        Walk or None
            None if nothing is done yet.

        Raises
        ------
        ValueError
            If there is a file that cannot be read, or another program's.
        """
        if not self._path.is_file():
            return None
        found = unpacked(self._path.read_bytes(), self._path)
        if not _is_own(found):
            raise ValueError(
                f"{self._path} is not a file of SGDInfluence, which keeps there how far it has "
                "come, and would be overwritten. It was probably written by another program, or "
                "by an older skinfluence. Move it away, or give a folder of its own as storage."
            )
        if found["key"] != self._key:
            return None
        return Walk(found["u"], found["w"], found["influence"], found["n_steps"])

    def watch(self, walk: Walk) -> None:
        """Write how far the walk is, if the last time is a while ago."""
        if time.monotonic() - self._written >= _SECONDS_BETWEEN_WRITES:
            self.write(walk)

    def write(self, walk: Walk) -> None:
        """Write how far the walk is.

        Parameters
        ----------
        walk : Walk

        Raises
        ------
        OSError
            If it cannot be written, as on a full disk; the old file stays.
        """
        position = {"u": walk.u, "w": walk.w, "influence": walk.influence, "n_steps": walk.n_steps}
        data = packed({"format": _FORMAT, "key": self._key, **position})
        replace_file(self._path, lambda file: file.write(data))
        self._written = time.monotonic()

    @contextmanager
    def keeping(self, walk: Walk) -> Iterator[None]:
        """Write where the walk stands if the block is left by an error or an interrupt.

        If it is left at its end, only where that is wanted.

        Parameters
        ----------
        walk : Walk

        Yields
        ------
        None
        """
        try:
            yield
        except BaseException as error:
            if walk.is_whole:
                try:
                    self.write(walk)
                except OSError as other:
                    error.add_note(f"{other}: where the walk stopped is not in {self._path}.")
            raise
        if self._keeps_end:
            self.write(walk)


def remove_walk(folder: Path) -> None:
    """Remove what a `RetraceFile` wrote into a folder, once the result is there.

    Parameters
    ----------
    folder : Path
    """
    path = folder / _NAME
    if path.is_file() and _is_own(unpacked(path.read_bytes(), path)):
        path.unlink()


def _is_own(found: Any) -> bool:
    return isinstance(found, dict) and found.get("format") == _FORMAT
