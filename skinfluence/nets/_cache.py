"""Trainings in a `joblib.Memory`: a net is trained once for the same net, rows, targets and seed.

Neither key nor value holds the net object. Hashing one changes after `predict`, and a class of
`__main__` cannot be pickled in a worker; so the key describes classes by code and source, and
the value is the state and the trace. What follows from a training alone is kept by the same key.
"""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from sklearn.utils.validation import check_memory
from torch import Tensor, nn

from skinfluence.nets._training import prepare_net
from skinfluence.rows._seeds import seeded
from skinfluence.rows._turns import TURNS
from skinfluence.storage._files import Plain
from skinfluence.storage._fingerprint import fingerprint, versions
from skinfluence.trace._callbacks import own_recorders
from skinfluence.trace._recorder import TraceRecorder
from skinfluence.trace._training_trace import TrainingTrace
from skinfluence.trace.folder._net_snapshot import load_module_snapshot, module_snapshot

# Module and criterion as they are after it; the trace; the history.
Outcome = tuple[dict[str, Plain], TrainingTrace | None, list[Any]]
Found = TypeVar("Found")
_DTYPES_OF_NUMPY = {torch.float64, torch.float32, torch.float16, torch.int64, torch.bool}


def train_once(
    memory: Any,
    net: Any,
    X: Any,
    y: Any,
    *,
    seed: int,
    recorder: TraceRecorder | None,
    weights: NDArray[np.float64] | None = None,
    train: Callable[[], TrainingTrace | None],
) -> tuple[TrainingTrace | None, str | None]:
    """Train a net, or give it the state that an equal training left in the cache."""
    # Out of the cache it comes without its optimiser's state; the key is for `computed_once`.
    memory = check_memory(memory)
    if memory.location is None or _writes_trace(net, recorder):
        return train(), None
    with seeded(seed):  # leaves no trace in the global generators
        weighted = [] if weights is None else [weights]
        key = fingerprint([net, X, y, seed, recorder, *versions(), *weighted])
    trained_here = False

    def outcome() -> Outcome:
        nonlocal trained_here
        trace = train()
        trained_here = True
        return _snapshots(net), trace, list(net.history)

    snapshots, trace, history = _remembered(memory, key, outcome)
    if not trained_here:
        with seeded(seed):
            prepare_net(net)
            net.initialize()
            net.check_data(X, y)  # a classifier learns its classes here
        for name, snapshot in snapshots.items():
            load_module_snapshot(getattr(net, name), snapshot)
        net.history.extend(history)
        if recorder is None and trace is not None:  # that of the first recorder of its own
            own = next(c for _, c in net.callbacks_ if isinstance(c, TraceRecorder))
            own.trace_ = trace
    return trace, key


def key_of(memory: Any, parts: list[Any]) -> str | None:
    """Name what follows from some parts, for `computed_once`; None where nothing is kept."""
    if check_memory(memory).location is None:
        return None
    return fingerprint([*parts, *versions()])


def computed_once(
    memory: Any, key: str | None, parameters: list[Any], compute: Callable[[], Found]
) -> Found:
    """Compute what follows from a training and `parameters` alone, or read what was computed."""
    if key is None:
        return compute()
    found: Found = _remembered(check_memory(memory), fingerprint([key, parameters]), compute)
    return found


def _remembered(memory: Any, key: str, compute: Callable[[], Any]) -> Any:
    def outcome() -> NDArray[np.uint8]:
        # joblib reads and writes all but arrays by Python's slow pickler
        file = io.BytesIO()
        found = compute()
        try:
            _TensorPickler(file, protocol=5).dump(found)
        except (AttributeError, pickle.PicklingError, TypeError) as error:
            raise ValueError(
                f"What was trained cannot be kept in memory={folder}: {error}. Define the classes "
                "that it uses at the top of a module, or set memory=None."
            ) from error
        return np.frombuffer(file.getbuffer(), dtype=np.uint8)

    folder = Path(memory.location)
    folder.mkdir(parents=True, exist_ok=True)
    # Others, of this process or another, that want the same wait for it; always for their turn
    # first, or two threads could wait for one another.
    with TURNS.taken(), FileLock(folder / f"{key}.lock", fallback_to_soft=False):
        found = memory.cache(_outcome, ignore=["outcome"])(key, outcome)
    return pickle.loads(found)


def _outcome(key: str, outcome: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Be what joblib caches, by `key` alone."""
    return outcome()


class _TensorPickler(pickle.Pickler):
    """Pickles tensors as arrays: torch takes a tenth of a millisecond to read one."""

    def reducer_override(self, obj: Any) -> Any:
        plain = type(obj) is Tensor and obj.device.type == "cpu" and not obj.requires_grad
        if plain and obj.layout == torch.strided and obj.dtype in _DTYPES_OF_NUMPY:
            return torch.from_numpy, (obj.numpy(),)
        return NotImplemented


def _snapshots(net: Any) -> dict[str, Plain]:
    parts = {name: part for name, part in vars(net).items() if isinstance(part, nn.Module)}
    return {name: _on_cpu(module_snapshot(part)) for name, part in parts.items()}


def _on_cpu(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _on_cpu(item) for name, item in value.items()}
    return value.detach().cpu() if isinstance(value, Tensor) else value


def _writes_trace(net: Any, recorder: TraceRecorder | None) -> bool:
    """Tell whether states are in a folder, to which a cached trace would only refer."""
    recorders = [*own_recorders(net), *([] if recorder is None else [recorder])]
    return any(one.storage != "memory" for one in recorders)
