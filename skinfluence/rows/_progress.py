"""How far a long computation is, told to whoever listens."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

# Of what, how many are done, of how many.
Listener = Callable[[str, int, int], None]
T = TypeVar("T")

_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


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


def tell(what: str, done: int, total: int) -> None:
    """Say how many are done, if anyone listens."""
    listener = _LISTENER.get()
    if listener is not None:
        listener(what, done, total)


def told(what: str, items: Sequence[T]) -> Iterator[T]:
    """Give the items one by one, and say how many are done."""
    for done, item in enumerate(items):
        tell(what, done, len(items))
        yield item
    tell(what, len(items), len(items))
