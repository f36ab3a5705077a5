"""One at a time in a folder: whoever trains there keeps other trainings out until it is done."""

import os
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl

# There while a training is in progress. What a kill leaves locks nothing, and is taken over.
LOCK_FILE = "resume.lock"
_FIX = "Wait until it has ended, or choose another folder."
_HELD: "weakref.WeakValueDictionary[Path, FolderLock]" = weakref.WeakValueDictionary()
_GUARD = threading.Lock()


class FolderLock:
    """Keeps other trainings out of a folder, of this process and of others.

    The operating system forgets the lock when the process ends, however it does. An object that
    was left behind before `hold`, as by an error in another callback, keeps nobody of this process
    out. On Windows other processes are not kept out.

    Parameters
    ----------
    folder : Path
        Made if it does not exist; the folder it lies in must.

    Raises
    ------
    RuntimeError
        If the folder is in use.
    OSError
        If the folder cannot be made or its disk knows no locks.
    """

    _free: "weakref.finalize[..., FolderLock]"

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self._folder = folder.resolve()
        self._is_busy = False
        with _GUARD:
            holder = _HELD.get(self._folder)
            if holder is not None and holder._is_busy:
                raise RuntimeError(
                    f"{folder} is in use by another training of this process. {_FIX}"
                )
            if holder is not None:
                holder._free()
            self._descriptor = _locked(self._folder / LOCK_FILE)
            self._free = weakref.finalize(self, _unlock, self._folder / LOCK_FILE, self._descriptor)
            _HELD[self._folder] = self

    def hold(self) -> None:
        """Insist on the folder from now on.

        Raises
        ------
        RuntimeError
            If it was taken over meanwhile.
        """
        with _GUARD:
            if _HELD.get(self._folder) is not self:
                raise RuntimeError(
                    f"{self._folder} was taken over by another training of this process before "
                    f"this one began. {_FIX}"
                )
            self._is_busy = True

    def loosen(self) -> None:
        """Let others of this process take over, if they ask before the next `hold`."""
        self._is_busy = False

    def release(self) -> None:
        """Let everyone in."""
        with _GUARD:
            self._is_busy = False
            if _HELD.get(self._folder) is self:
                del _HELD[self._folder]
        self._free()

    def _forget(self) -> None:
        """Close a forked process's share of the lock, which would outlive a killed parent."""
        if self._free.detach() is not None and self._descriptor is not None:
            os.close(self._descriptor)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep others out of a folder for the length of a block; see `FolderLock`.

    Parameters
    ----------
    folder : Path

    Yields
    ------
    None
    """
    lock = FolderLock(folder)
    lock.hold()
    try:
        yield
    finally:
        lock.release()


def check_free(folder: Path) -> None:
    """Refuse a folder where a training is in progress.

    Parameters
    ----------
    folder : Path
        Exists.

    Raises
    ------
    RuntimeError
    """
    # without the file nobody holds it, and none is made where the disk may know no locks
    if (folder / LOCK_FILE).exists():
        FolderLock(folder).release()


def make_folder(folder: Path) -> None:
    """Make a folder for a trace.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    OSError
        If it cannot be made.
    """
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        error.add_note(f"The trace is to be written to {folder}; its parent folder must exist.")
        raise


def _locked(path: Path) -> int | None:
    if sys.platform == "win32":
        return None
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise RuntimeError(f"{path.parent} is in use by another process. {_FIX}") from error
        except OSError as error:
            os.close(descriptor)
            error.add_note(
                f"{path} could not be locked, which keeps two trainings apart. The disk probably "
                "knows no locks: choose a folder elsewhere, or record with resume=False."
            )
            raise
        if _is_at(path, descriptor):
            return descriptor
        os.close(descriptor)  # who held it has removed the file just now


def _unlock(path: Path, descriptor: int | None) -> None:
    if sys.platform == "win32" or descriptor is None:
        return
    if _is_at(path, descriptor):
        path.unlink(missing_ok=True)
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _after_fork() -> None:
    global _GUARD  # noqa: PLW0603
    _GUARD = threading.Lock()  # the parent's may be held by a thread that is not here
    for lock in list(_HELD.values()):
        lock._forget()
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
