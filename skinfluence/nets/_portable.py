"""Nets on their way to other processes, of modules that only the user's script defines."""

import io
import pickle
from typing import Any

import cloudpickle
from skorch import NeuralNet


class Portable:
    """Carries an object to another process; classes of `__main__` in its nets go along by value."""

    # A skorch net pickles its module by the name of its class, which other processes look for in
    # a `__main__` of their own.
    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        stream = io.BytesIO()
        _Pickler(stream).dump(self.value)
        return _arrived, (stream.getvalue(),)


def _arrived(stream: bytes) -> Portable:
    return Portable(pickle.loads(stream))


class _Pickler(cloudpickle.Pickler):
    """Pickles by value what has no importable name, within nets, too."""

    def reducer_override(self, obj: Any) -> Any:
        """See `pickle.Pickler`."""
        if not isinstance(obj, NeuralNet):
            return super().reducer_override(obj)
        prefixes = tuple(obj.cuda_dependent_attributes_)
        state = dict(vars(obj))
        on_device = {key: state.pop(key) for key in list(state) if key.startswith(prefixes)}
        # as skorch has it, which reads this with what is on a device put on one that there is
        state["__cuda_dependent_attributes__"] = cloudpickle.dumps(on_device)
        return _net_of, (type(obj), state)


def _net_of(kind: type[NeuralNet], state: dict[str, Any]) -> NeuralNet:
    net = object.__new__(kind)
    net.__setstate__(state)
    return net
