"""Threads of the linear algebra: small products are slower on several."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from threadpoolctl import threadpool_limits


class _OneThread:
    """Counts the blocks that last: BLAS has one number for the process, torch one a thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._found = 1  # by the first block
        self._limits: Any = None
        self._here = threading.local()

    def begin(self) -> None:
        """Set one thread for whoever asks."""
        with self._lock:
            found = torch.get_num_threads()
            if not self._depth:
                self._found = found
                self._limits = threadpool_limits(1, user_api="blas")
            self._depth += 1
            depth = getattr(self._here, "depth", 0)
            if not depth:
                # a thread that is new to torch begins with what another one's block has set
                self._here.found = self._found if found == 1 else found
                torch.set_num_threads(1)
            self._here.depth = depth + 1

    def end(self) -> None:
        """Set what was found, where this is the last block."""
        with self._lock:
            self._depth -= 1
            if not self._depth:
                self._limits.restore_original_limits()
            self._here.depth -= 1
            if not self._here.depth:
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
