"""Interrupts from the keyboard reach the caller, whatever a model's own fit does with them."""

import dis
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, MethodType
from typing import Any

from skorch import NeuralNet
from skorch.callbacks import Callback

from skinfluence.rows._turns import TURNS


class _Interrupted(BaseException):
    """Carries an interrupt past a fit that would take it for a regular end of training."""

    def __init__(self, interrupt: KeyboardInterrupt) -> None:
        super().__init__(interrupt)
        self.interrupt = interrupt


@contextmanager
def raised_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt for any that a fit within the block would swallow."""
    # A skorch net ends its training at an interrupt as if it were whole. A callback's own stop
    # comes the same way, and is left to the net. What other models swallow shows in the signal.
    try:
        with TURNS.taken(), _signals_noted() as noted, _fit_loops_watched():
            yield
    except _Interrupted as error:
        raise error.interrupt from None
    if noted:
        raise KeyboardInterrupt


def fit_whole(model: Any, X: object, y: object, **fit_params: object) -> Any:
    """Fit a model of any kind; an interrupt is raised, never taken for the end of its training."""
    with raised_interrupts():
        return model.fit(X, y, **fit_params)


@contextmanager
def _fit_loops_watched() -> Iterator[None]:
    """Stand in front of the `fit_loop` of every net, also of those that models make of others."""
    # Of classes: on a net, it would be a parameter to skorch, and a search would clone it along.
    others = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}
    earlier: list[tuple[type[NeuralNet], Any]] = []
    try:
        for kind in _kinds_of_nets(NeuralNet):
            fit_loop = vars(kind).get("fit_loop")
            if fit_loop is not None and not isinstance(fit_loop, _WatchedFitLoop):
                earlier.append((kind, fit_loop))
                kind.fit_loop = _WatchedFitLoop(fit_loop, others)
        yield
    finally:
        for kind, fit_loop in earlier:
            kind.fit_loop = fit_loop


class _WatchedFitLoop:
    """Trains as a net does; an interrupt leaves it as what the net does not catch."""

    def __init__(self, fit_loop: Any, others: set[int | None]) -> None:
        self._fit_loop = fit_loop
        self._others = others  # threads of which nobody said to watch them

    def __get__(self, net: Any, kind: type | None = None) -> Any:
        return self if net is None else MethodType(self, net)

    def __call__(self, net: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return self._fit_loop(net, *args, **kwargs)
        except KeyboardInterrupt as interrupt:
            stops = is_stop_of_callback(net, interrupt)
            if stops or threading.get_ident() in self._others:
                raise
            raise _Interrupted(interrupt) from None


def _kinds_of_nets(kind: type[NeuralNet]) -> set[type[NeuralNet]]:
    """Find a class and all that are derived of it."""
    return {kind}.union(*map(_kinds_of_nets, kind.__subclasses__()))


def is_stop_of_callback(net: Any, interrupt: KeyboardInterrupt) -> bool:
    """Tell an epoch's end at which a callback raised, as early stopping does, from a cut epoch."""
    told: list[object] = [net, *(callback for _, callback in getattr(net, "callbacks_", []))]
    stopping, step = None, interrupt.__traceback__
    while step is not None:
        code, last = step.tb_frame.f_code, step
        own = step.tb_frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
        if code.co_name == "on_epoch_end" and any(own is each for each in told):
            stopping = own
        step = step.tb_next
    # what it calls may be interrupted as anything else, but for a callback that it asks
    is_theirs = own is stopping or isinstance(own, Callback)
    raises = dis.opname[code.co_code[last.tb_lasti]] == "RAISE_VARARGS"  # a signal needs no raise
    return stopping is not None and is_theirs and raises


@contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """Note interrupts that arrive, besides what becomes of them; in the main thread alone."""
    noted: list[int] = []
    earlier = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(earlier):
        yield noted
        return

    def note(number: int, frame: FrameType | None) -> None:
        try:
            earlier(number, frame)  # one of the user's own may let the training go on
        except KeyboardInterrupt:
            noted.append(number)
            raise

    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        if signal.getsignal(signal.SIGINT) is note:
            signal.signal(signal.SIGINT, earlier)
