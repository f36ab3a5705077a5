"""Threads of the linear algebra: small products are slower on several."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from threadpoolctl import threadpool_limits


class _OneThread:
    """Keeps what blocks of several threads found: BLAS has one number for all, torch one each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._here = threading.local()
        self._owner: int | None = None  # the thread that limits BLAS, which it alone can undo
        self._limits: Any = None
        self._found = 1

    def begin(self) -> None:
        """Set one thread for whoever asks."""
        with self._lock:
            depth = getattr(self._here, "depth", 0)
            if not depth:
                found = torch.get_num_threads()
                if self._owner is None:
                    self._owner, self._found = threading.get_ident(), found
                    self._limits = threadpool_limits(1, user_api="blas")
                # a thread that is new to torch begins with what another one's block has set
                self._here.found = self._found if found == 1 else found
                torch.set_num_threads(1)
            self._here.depth = depth + 1

    def end(self) -> None:
        """Set what was found, if this is the thread's last block."""
        with self._lock:
            self._here.depth -= 1
            if self._here.depth:
                return
            if self._owner == threading.get_ident():
                self._owner = None
                self._limits.restore_original_limits()
            torch.set_num_threads(self._here.found)


_BLOCKS = _OneThread()


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread within the block: small nets on busy cores wait for one another."""
    _BLOCKS.begin()
    try:
        yield
    finally:
        _BLOCKS.end()
