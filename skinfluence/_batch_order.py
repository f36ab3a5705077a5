"""Which rows every training batch held: read off the loader that the net itself makes."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Subset


class BatchOrder:
    """Notes the rows of each batch that a net's training loader draws, and changes none.

    A sampler given to the net as a parameter would be cloned with what it noted and would exclude
    shuffling; so the batch sampler of the finished loader is wrapped instead. Workers may draw
    ahead of training: `next_rows` gives the rows of the batches in the order they arrive.
    """

    def __init__(self) -> None:
        self.steps_per_epoch = 0
        self._drawn: deque[list[int]] = deque()
        self._rows: NDArray[np.int64] | None = None  # of the subset that is trained on

    def attach(self, net: Any) -> None:
        """Shadow the net's `get_iterator` until it has made the training loader.

        Parameters
        ----------
        net : NeuralNet
        """
        self.detach(net)
        vars(net)["get_iterator"] = _ShadowedGetIterator(net, self)

    @staticmethod
    def detach(net: Any) -> None:
        """Take the shadow away.

        Parameters
        ----------
        net : NeuralNet
        """
        if isinstance(vars(net).get("get_iterator"), _ShadowedGetIterator):
            del vars(net)["get_iterator"]

    def watch(self, loader: Any) -> None:
        """Wrap a loader's batch sampler.

        Parameters
        ----------
        loader : DataLoader

        Raises
        ------
        TypeError
            If it is no DataLoader that draws batches of row numbers.
        """
        if not isinstance(loader, DataLoader) or loader.batch_sampler is None:
            raise TypeError(
                f"The net's training loader is {type(loader).__name__} without a batch sampler, so "
                "the order of the rows cannot be recorded. Use torch's DataLoader with a "
                "batch_size and a data set that has a length, or leave order, steps and logits "
                "out of the recorder."
            )
        self.steps_per_epoch = len(loader)
        self._rows = _rows_of(loader.dataset)
        # DataLoader refuses a plain assignment after its making
        object.__setattr__(loader, "batch_sampler", _Noting(loader.batch_sampler, self._drawn))

    def new_epoch(self) -> None:
        """Forget what was drawn ahead and never trained on."""
        self._drawn.clear()

    def next_rows(self) -> NDArray[np.int64]:
        """Give the rows of the batch that has just arrived.

        Returns
        -------
        ndarray of shape (batch_size,)
            Numbers of the rows that were given to `fit`.
        """
        index = np.asarray(self._drawn.popleft(), dtype=np.int64)
        return index if self._rows is None else self._rows[index]


class _ShadowedGetIterator:
    """Stands in front of a net's `get_iterator` for one training loader."""

    def __init__(self, net: Any, order: BatchOrder) -> None:
        self._net = net
        self._order = order

    def __call__(self, dataset: Any, training: bool = False) -> Any:
        if training:
            self._order.detach(self._net)
        loader = type(self._net).get_iterator(self._net, dataset, training=training)
        if training:
            self._order.watch(loader)
        return loader


class _Noting:
    """A batch sampler that notes what another one draws."""

    def __init__(self, sampler: Any, drawn: deque[list[int]]) -> None:
        self._sampler = sampler
        self._drawn = drawn

    def __iter__(self) -> Iterator[list[int]]:
        # made at once, not with the first batch: it may draw from the global generator
        return self._noted(iter(self._sampler))

    def _noted(self, batches: Iterator[list[int]]) -> Iterator[list[int]]:
        for batch in batches:
            self._drawn.append([int(row) for row in batch])
            yield batch

    def __len__(self) -> int:
        return len(self._sampler)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_sampler":  # before __init__, as when unpickled
            raise AttributeError(name)
        return getattr(self._sampler, name)


def _rows_of(dataset: Any) -> NDArray[np.int64] | None:
    """Count the rows of a subset as in the whole data set; None for the whole."""
    if not isinstance(dataset, Subset):
        return None
    index = np.asarray(dataset.indices, dtype=np.int64)
    outer = _rows_of(dataset.dataset)
    return index if outer is None else outer[index]
