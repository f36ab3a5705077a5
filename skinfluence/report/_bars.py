"""Bars on a terminal: how far the training is."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from skinfluence.rows._progress import listening


class Bars:
    """One bar for each thing that is told of, each within those before it."""

    def __init__(self) -> None:
        self._open: dict[str, Any] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        """Draw how many are done."""
        from tqdm import tqdm

        if what not in self._open:
            if done >= total:
                return
            self._open[what] = tqdm(
                total=total,
                desc=what,
                position=len(self._open),
                leave=False,
                file=sys.stderr,
                dynamic_ncols=True,
            )
        bar = self._open[what]
        for inner in list(self._open)[list(self._open).index(what) + 1 :]:
            self._open.pop(inner).close()
        bar.update(done - bar.n)
        if done >= total:
            self._open.pop(what).close()

    def close(self) -> None:
        """Take away what is left."""
        for what in reversed(list(self._open)):
            self._open.pop(what).close()


@contextmanager
def bars_shown(*, wanted: bool) -> Iterator[None]:
    """Show bars for what is told of within the block, if they are wanted."""
    if not wanted:
        yield
        return
    bars = Bars()
    try:
        with listening(bars):
            yield
    finally:
        bars.close()
