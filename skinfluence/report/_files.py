"""Files that come in place together, or not at all."""

import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from skinfluence.report._errors import AuditError


@contextmanager
def written_whole(*wanted: Path) -> Iterator[list[Path]]:
    """Give places to write to; what is there comes to the paths wanted when all went well."""
    folder = None
    try:
        wanted[0].parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{wanted[0].name}.", dir=wanted[0].parent))
        places = [folder / path.name for path in wanted]
        yield places
        with uninterrupted():
            put_in_place(dict(zip(places, wanted, strict=True)), folder)
    except OSError as error:
        raise AuditError(f"Cannot write {wanted[0]}: {error.strerror or error}.") from None
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def put_in_place(moves: dict[Path, Path], folder: Path) -> None:
    """Rename files, each in one step; if one cannot be, those before it are what they were."""
    before = folder / "before"
    before.mkdir()
    there = [end for end in moves.values() if end.exists()]
    for end in there:
        shutil.copy2(end, before / end.name)
    moved: list[Path] = []
    try:
        for start, end in moves.items():
            start.replace(end)
            moved.append(end)
    except OSError:
        for end in moved:
            if end in there:
                (before / end.name).replace(end)
            else:
                end.unlink()
        raise


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Take an interrupt within the block, which is short, as one that came too late."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, earlier)
