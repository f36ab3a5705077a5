"""Threads of the linear algebra: small products are slower on several."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from threadpoolctl import threadpool_limits


class _OneThread:
    """Counts the blocks that last: the numbers of threads are a process's, not a thread's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._n_threads = 1
        self._limits: Any = None

    def begin(self) -> None:
        """Set one thread, if no other block has."""
        with self._lock:
            if not self._depth:
                self._n_threads = torch.get_num_threads()
                self._limits = threadpool_limits(1, user_api="blas")
                torch.set_num_threads(1)
            self._depth += 1

    def end(self) -> None:
        """Set what the first block found, if this is the last."""
        with self._lock:
            self._depth -= 1
            if not self._depth:
                self._limits.restore_original_limits()
                torch.set_num_threads(self._n_threads)


_BLOCKS = _OneThread()


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread within the block: small nets on busy cores wait for one another."""
    _BLOCKS.begin()
    try:
        yield
    finally:
        _BLOCKS.end()
