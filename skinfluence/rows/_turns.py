"""The global generators are one to a process: threads that seed them take turns."""

import os
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

# So often, in seconds, a thread looks whether the one whose turn it is waits for it.
_PERIOD = 0.05
# Modules in which a thread that waits for other threads stands still.
_WAITING = frozenset(
    {"concurrent.futures._base", "joblib.parallel", "multiprocessing.pool", "queue", "threading"}
)

# The thread that began another one, of those begun while a turn lasted.
_BEGUN_BY: weakref.WeakKeyDictionary[threading.Thread, threading.Thread]
_BEGUN_BY = weakref.WeakKeyDictionary()


class _Turns:
    """A lock that a thread may take again, and lend to the threads it begins and waits for."""

    # A model that is fitted in a seeded block may itself fit models in threads, and wait for them:
    # they belong to its turn, and to wait for its end would be to wait forever.
    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._holder: threading.Thread | None = None
        self._depth = 0
        self._lent: _Turns  # of the threads that the turn is lent to

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for this thread's turn, which lasts as long as the block."""
        patience = 0.0
        while not self._lock.acquire(timeout=patience):
            if self._is_waited_for():
                lent = self._lent
                with lent.taken():  # they take turns among themselves
                    if lent is self._lent and self._is_waited_for():
                        yield
                        return
            patience = _PERIOD
        if not self._depth:
            self._holder, self._lent = threading.current_thread(), _Turns()
        self._depth += 1
        try:
            with _beginnings_noted():
                yield
        finally:
            self._depth -= 1
            if not self._depth:
                self._holder = None
            self._lock.release()

    def end_loans(self) -> None:
        """Wait for threads that this thread's turn is lent to, before generators are restored."""
        if self._holder is threading.current_thread():
            with self._lent._lock:
                pass

    def _is_waited_for(self) -> bool:
        holder, thread = self._holder, threading.current_thread()
        while thread is not holder:  # threads that it did not begin wait for the turn's end
            if thread not in _BEGUN_BY:
                return False
            thread = _BEGUN_BY[thread]
        frame = sys._current_frames().get(holder.ident or 0)
        return frame is not None and frame.f_globals.get("__name__") in _WAITING

    def forget(self) -> None:
        """Begin anew in a forked process, where the thread whose turn it was may be no more."""
        if self._holder is not threading.current_thread():
            self.__init__()  # type: ignore[misc]


@contextmanager
def _beginnings_noted() -> Iterator[None]:
    """Note which thread begins which while a turn lasts: threads themselves do not know."""
    begin = threading.Thread.start
    if hasattr(begin, "notes"):  # an outer block does
        yield
        return

    def start(thread: threading.Thread) -> None:
        _BEGUN_BY[thread] = threading.current_thread()
        begin(thread)

    start.notes = True  # type: ignore[attr-defined]
    threading.Thread.start = start  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        if threading.Thread.start is start:
            threading.Thread.start = begin  # type: ignore[method-assign]


TURNS = _Turns()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=TURNS.forget)
