"""How far a long computation is: told to whoever listens, and shown as bars."""

import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from joblib.parallel import get_active_backend
from sklearn.utils.parallel import Parallel

# Which loop, of what, how many are done, of how many.
Listener = Callable[[object, str, int, int], None]
T = TypeVar("T")

_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)
# Bars at once: a loop, and one within it.
_MOST = 2
# Seconds that an inner loop lasts before its bar is drawn, so that brief ones do not flicker.
_PATIENCE = 0.2


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Have a listener hear what is done within the block."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def is_listened_to() -> bool:
    """Tell whether anyone listens."""
    return _LISTENER.get() is not None


def tell(loop: object, what: str, done: int, total: int) -> None:
    """Say how many are done, if anyone listens; a loop whose total they are is over."""
    listener = _LISTENER.get()
    if listener is not None:
        listener(loop, what, done, total)


def told(
    what: str, items: Iterable[T], total: int | None = None, size: Callable[[T], int] | None = None
) -> Iterator[T]:
    """Give the items one by one, each counting for its size, and say how many are done."""
    loop = object()
    n = len(items) if total is None else total  # type: ignore[arg-type]
    done = 0
    tell(loop, what, 0, n)
    try:
        for item in items:
            yield item
            done += 1 if size is None else size(item)
            if done < n:
                tell(loop, what, done, n)
    finally:  # also where it is left early, with no more to come
        tell(loop, what, done, done)


def told_results(
    what: str, tasks: Iterable[Any], total: int, n_jobs: int | None = None
) -> Iterator[Any]:
    """Run joblib's tasks as it is told to, and give their results in order as they come."""
    backend, _ = get_active_backend()
    # a stream that is left early ends the workers when it is thrown away, whoever uses them then
    streams = is_listened_to() and getattr(backend, "supports_return_generator", False)
    results = Parallel(n_jobs, return_as="generator" if streams else "list")(tasks)
    try:
        yield from told(what, results, total)
    finally:
        if streams:
            results.close()


class Bars:
    """A bar for the outermost loop that is told of, and one for the loop within it."""

    def __init__(self) -> None:
        self._open: list[tuple[object, Any]] = []
        self._is_read = True

    def __call__(self, loop: object, what: str, done: int, total: int) -> None:
        """Draw how many are done."""
        try:
            if self._is_read:
                self._draw(loop, what, done, total)
        except OSError:  # a pipe that nobody reads any more, say: it must not cost the fit
            self._is_read = False
            for _, bar in self._open:
                bar.disable = True

    def close(self) -> None:
        """Take away what is left."""
        while self._open:
            self._open.pop()[1].close()

    def _draw(self, loop: object, what: str, done: int, total: int) -> None:
        bar = next((bar for one, bar in self._open if one is loop), None)
        if bar is None:
            if done >= total or total == 1 or len(self._open) == _MOST:
                return
            bar = _bar(what, total, done, delay=_PATIENCE if self._open else 0)
            self._open.append((loop, bar))
        while self._open[-1][0] is not loop:  # what was within it is over
            self._open.pop()[1].close()
        bar.set_description(what, refresh=False)
        bar.update(done - bar.n)
        if done >= total:
            self._open.pop()[1].close()


def _bar(what: str, total: int, done: int, delay: float) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a notebook without ipywidgets, which gets text
        from tqdm.auto import tqdm

    class Bar(tqdm):
        """A bar of tqdm without its watching thread, and without a lock that processes share.

        A process that is forked and ended while it holds that lock would keep it for ever.
        """

        monitor_interval = 0

    Bar.set_lock(threading.RLock())
    return Bar(
        total=total,
        desc=what,
        initial=done,
        leave=False,
        file=sys.stderr,
        dynamic_ncols=True,
        delay=delay,
    )


@contextmanager
def bars_shown(*, wanted: bool) -> Iterator[None]:
    """Show bars for what is told of within the block, if they are wanted and nobody listens yet."""
    if not wanted or is_listened_to() or getattr(sys.stderr, "closed", True):
        yield
        return
    bars = Bars()
    try:
        with listening(bars):
            yield
    finally:
        bars.close()
