"""Files of arrays from which a stopped run goes on."""

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from skinfluence.storage._files import replace_file


def write_archive(path: Path, fingerprint: str, **arrays: Any) -> None:
    """Write a file at once: a process killed meanwhile leaves the old one as it was.

    Parameters
    ----------
    path : Path
    fingerprint : str
        What data and parameters it belongs to.
    **arrays : array-like

    Raises
    ------
    OSError
        If it cannot be written, as on a full disk; the old file stays.
    """
    replace_file(path, lambda file: np.savez(file, fingerprint=np.array(fingerprint), **arrays))


def read_archive(
    path: Path, fingerprint: str, names: tuple[str, ...], *, parameter: str, inputs: str
) -> dict[str, Any]:
    """Read what `write_archive` wrote.

    Parameters
    ----------
    path : Path
    fingerprint : str
        What it must belong to.
    names : tuple of str
        The arrays in it.
    parameter : str
        What the error calls the path.
    inputs : str
        What the fingerprint is of, for the error.

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    ValueError
        If it is no such file, or belongs to other data or parameters.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            found = {name: archive[name] for name in ("fingerprint", *names)}
    except (BadZipFile, ValueError, KeyError, EOFError, TypeError) as error:
        raise ValueError(
            f"{parameter}={str(path)!r} is not a file this method wrote. Expected one, or a path "
            "where there is none yet; move it away, or choose another name."
        ) from error
    if str(found.pop("fingerprint")) != fingerprint:
        raise ValueError(
            f"{parameter}={str(path)!r} belongs to other data or parameters: {inputs} must be "
            "those it was begun with. Remove the file to begin anew, or choose another."
        )
    return found
