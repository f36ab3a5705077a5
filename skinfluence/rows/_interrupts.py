"""Interrupts from the keyboard reach the caller, whatever a model's own fit does with them."""

import dis
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any


class _Interrupted(BaseException):
    """Carries an interrupt past a fit that would take it for a regular end of training."""

    def __init__(self, interrupt: KeyboardInterrupt) -> None:
        super().__init__(interrupt)
        self.interrupt = interrupt


@contextmanager
def raised_interrupts(model: Any) -> Iterator[None]:
    """Raise KeyboardInterrupt for any that a model's fit, within the block, would swallow."""
    # A skorch net ends its training at an interrupt as if it were whole. A callback's own stop
    # comes the same way, and is left to the net. What other models swallow shows in the signal.
    net = _net_of(model)  # of one that is cloned first, the signal alone shows
    watched = None if net is None else _WatchedFitLoop(net)
    try:
        with _signals_noted() as noted:
            yield
    except _Interrupted as error:
        raise error.interrupt.with_traceback(error.interrupt.__traceback__) from None
    finally:
        if watched is not None:
            watched.remove()
    if noted:
        raise KeyboardInterrupt


def fit_whole(model: Any, X: object, y: object, **fit_params: object) -> Any:
    """Fit a model of any kind; an interrupt is raised, never taken for the end of its training."""
    with raised_interrupts(model):
        return model.fit(X, y, **fit_params)


class _WatchedFitLoop:
    """Stands in front of a net's `fit_loop` until it is called."""

    def __init__(self, net: Any) -> None:
        self._net, self._fit_loop = net, net.fit_loop
        self._earlier = vars(net).get("fit_loop")
        vars(net)["fit_loop"] = self  # not setattr, which skorch takes for a parameter

    def remove(self) -> None:
        """Give the net its own method back."""
        if vars(self._net).get("fit_loop") is self:
            del vars(self._net)["fit_loop"]
            if self._earlier is not None:
                vars(self._net)["fit_loop"] = self._earlier

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Train as the net does."""
        self.remove()  # a callback may pickle the net
        try:
            return self._fit_loop(*args, **kwargs)
        except KeyboardInterrupt as interrupt:
            if _is_stop_of_callback(self._net, interrupt.__traceback__):
                raise
            raise _Interrupted(interrupt) from None


def _is_stop_of_callback(net: Any, traceback: TracebackType | None) -> bool:
    """Tell an epoch's end at which a callback raised, as early stopping does, from a cut epoch."""
    names = []
    while traceback is not None:
        last = traceback
        names.append(last.tb_frame.f_code.co_name)
        traceback = last.tb_next
    code = last.tb_frame.f_code
    raises = dis.opname[code.co_code[last.tb_lasti]] == "RAISE_VARARGS"  # a signal needs no raise
    own = last.tb_frame.f_locals.get("self")
    is_callback = any(callback is own for _, callback in getattr(net, "callbacks_", []))
    return raises and is_callback and "on_epoch_end" in names


def _net_of(model: Any) -> Any:
    """Find the net that a model's fit trains as it is: itself, or a pipeline's last step."""
    while hasattr(model, "steps"):
        model = model.steps[-1][1]
    return model if hasattr(model, "fit_loop") else None


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
