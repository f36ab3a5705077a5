"""The global generators are one to a process: threads that seed them take turns."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# So often, in seconds, a thread looks whether the one whose turn it is waits for it.
_PERIOD = 0.05
# Modules in which a thread that waits for other threads stands still.
_WAITING = frozenset(
    {"concurrent.futures._base", "joblib.parallel", "multiprocessing.pool", "queue", "threading"}
)


class _Turns:
    """A lock that a thread may take again, and lend to the threads it begins and waits for."""

    # A model that is fitted in a seeded block may itself fit models in threads, and wait for them:
    # they belong to its turn, and to wait for its end would be to wait forever.
    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._holder: int | None = None
        self._depth = 0
        self._others: set[int] = set()  # threads that were there when the turn began
        self._lent: _Turns  # of the threads that the turn is lent to

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for this thread's turn, which lasts as long as the block."""
        patience = 0.0
        while not self._lock.acquire(timeout=patience):
            if self._is_waited_for():
                with self._lent.taken():  # they take turns among themselves
                    yield
                return
            patience = _PERIOD
        if not self._depth:
            self._holder, self._lent = threading.get_ident(), _Turns()
            self._others = {thread.ident or 0 for thread in threading.enumerate()}
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth:
                self._holder = None
            self._lock.release()

    def _is_waited_for(self) -> bool:
        frame = sys._current_frames().get(self._holder or 0)
        is_younger = threading.get_ident() not in self._others
        return is_younger and frame is not None and frame.f_globals.get("__name__") in _WAITING

    def forget(self) -> None:
        """Begin anew in a forked process, where the thread whose turn it was may be no more."""
        if self._holder != threading.get_ident():
            self.__init__()  # type: ignore[misc]


TURNS = _Turns()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=TURNS.forget)
