"""Trainings in a `joblib.Memory`: a net is trained once for the same net, rows, targets and seed.

Neither key nor value holds the net object. Hashing one changes after `predict`, and a class of
`__main__` cannot be pickled in a worker; so the key describes classes by name and code, and the
value is the state and the trace. What follows from a training alone is kept by the same key.
"""

import hashlib
import pickle
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import skorch
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_memory
from torch import Tensor, nn

from skinfluence._random import seeded
from skinfluence.nets import prepare_net
from skinfluence.trace import TraceRecorder, TrainingTrace

if sys.platform != "win32":
    import fcntl

# Parameters and buffers of module and criterion; the trace; the history.
Outcome = tuple[dict[str, dict[str, Tensor]], TrainingTrace | None, list[Any]]
Found = TypeVar("Found")
_PLAIN = (str, bytes, int, float, complex, bool, type(None), type(Ellipsis), np.generic, Path)


def train_once(
    memory: Any,
    net: Any,
    X: Any,
    y: Any,
    *,
    seed: int,
    recorder: TraceRecorder | None,
    train: Callable[[], TrainingTrace | None],
) -> tuple[TrainingTrace | None, str | None]:
    """Train a net, or give it the state that an equal training left in the cache.

    Parameters
    ----------
    memory : joblib.Memory, str or None
        As for a Pipeline. None always trains.
    net : NeuralNet
        Unfitted; fitted on return. Out of the cache it comes without the optimiser's state; a
        recorder among its callbacks has the trace.
    X, y : what skorch takes
    seed : int
    recorder : TraceRecorder or None
    train : callable
        Trains `net` and returns its trace.

    Returns
    -------
    trace : TrainingTrace or None
    key : str or None
        Names the training for `computed_once`; None if it is not cached.
    """
    memory = check_memory(memory)
    if memory.location is None or _writes_trace(net, recorder):
        return train(), None
    with seeded(seed):  # leaves no trace in the global generators
        key = fingerprint([net, X, y, seed, recorder, torch.__version__, skorch.__version__])
    trained_here = False

    def outcome() -> Outcome:
        nonlocal trained_here
        trace = train()
        trained_here = True
        return _states(net), trace, list(net.history)

    states, trace, history = _remembered(memory, key, outcome)
    if not trained_here:
        with seeded(seed):
            prepare_net(net)
            net.initialize()
            net.check_data(X, y)  # a classifier learns its classes here
        for name, state in states.items():
            getattr(net, name).load_state_dict(state)
        net.history.extend(history)
        if recorder is None and trace is not None:  # that of the first recorder of its own
            own = next(c for _, c in net.callbacks_ if isinstance(c, TraceRecorder))
            own.trace_ = trace
    return trace, key


def computed_once(
    memory: Any, key: str | None, parameters: list[Any], compute: Callable[[], Found]
) -> Found:
    """Compute what follows from a training, or read what was computed before.

    Parameters
    ----------
    memory : joblib.Memory, str or None
    key : str or None
        The training, as `train_once` names it; None always computes.
    parameters : list
        All else that the outcome depends on.
    compute : callable
        Its outcome can be pickled.

    Returns
    -------
    object
        What `compute` returns.
    """
    if key is None:
        return compute()
    found: Found = _remembered(check_memory(memory), fingerprint([key, parameters]), compute)
    return found


def _remembered(memory: Any, key: str, compute: Callable[[], Any]) -> Any:
    def outcome() -> NDArray[np.uint8]:
        # joblib reads and writes all but arrays by Python's slow pickler
        return np.frombuffer(pickle.dumps(compute(), protocol=5), dtype=np.uint8)

    with _one_at_a_time(memory.location, key):
        found = memory.cache(_outcome, ignore=["outcome"])(key, outcome)
    return pickle.loads(found)


def _outcome(key: str, outcome: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Be what joblib caches, by `key` alone."""
    return outcome()


def _states(net: Any) -> dict[str, dict[str, Tensor]]:
    parts = {name: part for name, part in vars(net).items() if isinstance(part, nn.Module)}
    return {
        name: {key: value.detach().cpu().clone() for key, value in part.state_dict().items()}
        for name, part in parts.items()
    }


def _writes_trace(net: Any, recorder: TraceRecorder | None) -> bool:
    """Tell whether states are in a folder, to which a cached trace would only refer."""
    callbacks = net.callbacks if isinstance(net.callbacks, list | tuple) else []
    own = [entry[1] if isinstance(entry, tuple) else entry for entry in callbacks]
    return any(isinstance(r, TraceRecorder) and r.storage != "memory" for r in [*own, recorder])


@contextmanager
def _one_at_a_time(location: str, key: str) -> Iterator[None]:
    """Make other processes that want the same training wait for it."""
    if sys.platform == "win32":  # no flock: two processes may train the same net
        yield
        return
    folder = Path(location)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{key}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released when the process ends, however it does
        yield


def fingerprint(value: Any) -> str:
    """Hash anything by what it says rather than where it lies in memory.

    Parameters
    ----------
    value : object
        Classes and functions count by name and code, objects by what pickle takes them apart
        into, nets by class and parameters. Functions that a function calls do not count.

    Returns
    -------
    str
        The same in every process.

    Raises
    ------
    TypeError
        If something can be neither read nor pickled.
    """
    stream = _Hash()
    stream.add(value)
    return stream.digest()


class _Hash:
    """Feeds a hash function; objects met before count by their number."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []  # so that no id is used twice

    def digest(self) -> str:
        return self._hash.hexdigest()

    def add(self, value: Any) -> None:
        self._text(f"{type(value).__module__}.{type(value).__qualname__}")
        if isinstance(value, _PLAIN):
            self._text(repr(value))
        elif isinstance(value, list | tuple):
            self._all(value)
        elif isinstance(value, set | frozenset):
            self._all(sorted(fingerprint(item) for item in value))
        elif isinstance(value, np.ndarray) and value.dtype != object:
            self._all([str(value.dtype), value.shape])
            self._hash.update(np.ascontiguousarray(value).tobytes())
        elif isinstance(value, Tensor):
            self.add(value.detach().cpu().numpy())
        elif id(value) in self._seen:
            self._text(str(self._seen[id(value)]))
        else:
            self._seen[id(value)] = len(self._seen)
            self._alive.append(value)
            self._object(value)

    def _object(self, value: Any) -> None:
        if isinstance(value, Mapping):
            self._all([part for pair in value.items() for part in pair])
        elif isinstance(value, np.ndarray):
            self._all([value.shape, value.ravel().tolist()])
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, types.FunctionType):
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            defaults = [value.__defaults__, value.__kwdefaults__]
            self._all([value.__qualname__, value.__code__, defaults, cells])
        elif isinstance(value, types.ModuleType):
            self._text(value.__name__)
        elif isinstance(value, types.CodeType):
            self._all([value.co_code, value.co_names, value.co_consts])
        elif isinstance(value, skorch.NeuralNet):
            self._all([type(value), value.get_params(deep=False)])
        else:
            self._parts(value)

    def _class(self, cls: type) -> None:
        self._text(f"{cls.__module__}.{cls.__qualname__}")
        root = cls.__module__.partition(".")[0]
        if root in {"builtins", "torch", "skorch", "sklearn", "numpy"}:  # versions are in the key
            return
        members = {name: member for name, member in vars(cls).items() if not _is_slot(name)}
        self._all([cls.__bases__, {name: _unwrapped(m) for name, m in sorted(members.items())}])

    def _parts(self, value: Any) -> None:
        """Add what pickle would take an object apart into."""
        try:
            parts = value.__reduce_ex__(4)
        except Exception as error:
            raise TypeError(
                f"memory= needs to know whether a training is the same as an earlier one, but "
                f"{value!r} in the net or the data cannot be read. Take it out, or set memory=None."
            ) from error
        if isinstance(parts, str):  # the name of something global
            self._text(parts)
            return
        made_of, iterators = list(parts[:3]), list(parts[3:5])
        self._all([*made_of, *(list(items or ()) for items in iterators)])

    def _all(self, values: Any) -> None:
        self._text(str(len(values)))
        for value in values:
            self.add(value)

    def _text(self, text: str) -> None:
        data = text.encode()
        self._hash.update(len(data).to_bytes(8, "little") + data)


def _is_slot(name: str) -> bool:
    """Tell what Python and pickling libraries add to a class from what its author wrote."""
    written = name in {"__init__", "__call__", "__len__", "__getitem__", "__iter__"}
    return name.startswith("__") and name.endswith("__") and not written


def _unwrapped(member: Any) -> Any:
    if isinstance(member, staticmethod | classmethod):
        return member.__func__
    return [member.fget, member.fset] if isinstance(member, property) else member
