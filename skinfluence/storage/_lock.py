"""One at a time in a folder: whoever trains there keeps other trainings out until it is done."""

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

# There while a training is in progress. What a kill leaves locks nothing, and is taken over.
LOCK_FILE = "resume.lock"
_FIX = "Wait until it has ended, or choose another folder."
_HELD: "weakref.WeakValueDictionary[Path, FolderLock]" = weakref.WeakValueDictionary()
_GUARD = threading.Lock()
if hasattr(os, "register_at_fork"):  # or a child might inherit it from a thread that it lacks
    os.register_at_fork(
        before=_GUARD.acquire, after_in_parent=_GUARD.release, after_in_child=_GUARD.release
    )


class FolderLock:
    """Keeps other trainings out of a folder, of this process and of others."""

    # The operating system forgets the lock when the process ends, however it does. An object that
    # was left behind before `hold`, as by an error in another callback, keeps nobody of this
    # process out.

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self._folder = folder.resolve()
        self._is_busy = False
        # a training may end in another thread than it began in
        self._lock = FileLock(
            self._folder / LOCK_FILE, blocking=False, thread_local=False, fallback_to_soft=False
        )
        with _GUARD:
            holder = _HELD.get(self._folder)
            if holder is not None and holder._lock.is_locked:  # by this process, not by its parent
                if holder._is_busy:
                    raise RuntimeError(
                        f"{folder} is in use by another training of this process. {_FIX}"
                    )
                holder._lock.release()
            self._acquire()
            _HELD[self._folder] = self

    def hold(self) -> None:
        """Insist on the folder from now on."""
        with _GUARD:
            if not self._lock.is_locked:
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
            if self._lock.is_locked:
                # Who has opened it meanwhile finds out and makes another. On Windows it cannot be
                # removed while it is open, but filelock removes it afterwards.
                with suppress(OSError):
                    (self._folder / LOCK_FILE).unlink(missing_ok=True)
                self._lock.release()

    def _acquire(self) -> None:
        try:
            self._lock.acquire()
        except Timeout as error:
            raise RuntimeError(f"{self._folder} is in use by another process. {_FIX}") from error
        except OSError as error:
            error.add_note(
                f"{self._lock.lock_file} could not be locked, which keeps two trainings apart. The "
                "disk probably knows no locks: choose a folder elsewhere, or record with "
                "resume=False."
            )
            raise


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep others out of a folder for the length of a block; see `FolderLock`."""
    lock = FolderLock(folder)
    lock.hold()
    try:
        yield
    finally:
        lock.release()


def check_free(folder: Path) -> None:
    """Refuse a folder, which exists, where a training is in progress."""
    # without the file nobody holds it, and none is made where the disk may know no locks
    if (folder / LOCK_FILE).exists():
        FolderLock(folder).release()


def make_folder(folder: Path) -> None:
    """Make a folder for a trace; the one that it lies in must exist."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        error.add_note(f"The trace is to be written to {folder}; its parent folder must exist.")
        raise
