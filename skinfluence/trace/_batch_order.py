"""Which rows every training batch held: read off the loader that the net itself makes."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from skorch import NeuralNet
from torch.utils.data import DataLoader, IterableDataset, Subset

from skinfluence.gradients._numbered import OrderedCollate, is_plain

# Is shown the training loader, whatever the net makes, before anything is drawn from it.
Watcher: TypeAlias = Callable[[object], None]


class BatchOrder:
    """Notes the rows of each batch that a net's training loader draws, and changes none."""

    # A sampler given to the net as a parameter would be cloned with what it noted and would exclude
    # shuffling; so the batch sampler of the finished loader is wrapped instead. Workers may draw
    # ahead of training: `next_rows` gives the rows of the batches in the order they arrive.

    def __init__(self, n_samples: int) -> None:
        self._n_samples = n_samples
        self._drawn: deque[list[int]] = deque()
        self._rows: NDArray[np.int64] | None = None  # of the subset that is trained on

    def watch(self, loader: object) -> None:
        """Wrap a loader's batch sampler, or refuse a loader whose rows cannot be known."""
        if (
            not isinstance(loader, DataLoader)
            or loader.batch_sampler is None
            or isinstance(loader.dataset, IterableDataset)
        ):
            raise TypeError(
                f"The net's training loader is {type(loader).__name__} without a batch sampler, so "
                "the order of the rows cannot be recorded. Use torch's DataLoader with a "
                "batch_size and a data set that has a length, or leave order, steps and logits "
                "out of the recorder."
            )
        if loader.num_workers and not getattr(loader, "in_order", True):
            raise TypeError(
                "The net's training loader has in_order=False, so its batches arrive in another "
                "order than they are drawn in. Use in_order=True, or leave order, steps and logits "
                "out of the recorder."
            )
        if not is_plain(loader):
            raise TypeError(
                f"The net's training loader, {type(loader).__name__}, iterates in a way of its "
                "own, so the order of the rows cannot be recorded. Use torch's DataLoader, or "
                "leave order, steps and logits out of the recorder."
            )
        self._rows = _rows_of(loader.dataset, self._n_samples)
        # DataLoader refuses a plain assignment after its making
        object.__setattr__(loader, "collate_fn", OrderedCollate(loader.collate_fn))
        object.__setattr__(loader, "batch_sampler", _Noting(loader.batch_sampler, self._drawn))

    def new_epoch(self) -> None:
        """Forget what was drawn ahead and never trained on."""
        self._drawn.clear()

    def next_rows(self) -> NDArray[np.int64]:
        """Give the numbers of the rows, among those given to `fit`, of the batch that has come."""
        if not self._drawn:
            raise TypeError(
                "The net's training loader gave a batch that its batch sampler did not draw, so "
                "the order of the rows cannot be recorded. Likely causes are a loader that repeats "
                "batches, or a fit_loop of the net's own that does not use get_iterator."
            )
        index = np.asarray(self._drawn.popleft(), dtype=np.int64)
        return index if self._rows is None else self._rows[index]


class _StandIn:
    """Stands in front of a net's method until it is removed; several may, one before another."""

    def __init__(self, net: NeuralNet, name: str) -> None:
        self._net, self._name = net, name
        self._earlier = vars(net).get(name)
        vars(net)[name] = self

    def remove(self) -> None:
        """Give the net its own method back."""
        if vars(self._net).get(self._name) is not self:
            return
        if self._earlier is None:
            del vars(self._net)[self._name]
        else:
            vars(self._net)[self._name] = self._earlier

    def _original(self, *args: Any, **kwargs: Any) -> Any:
        if self._earlier is not None:
            return self._earlier(*args, **kwargs)
        return getattr(type(self._net), self._name)(self._net, *args, **kwargs)


class Resumed(NamedTuple):
    """How training goes on with an earlier one."""

    n_epochs: int  # still to be trained
    on_loader: Watcher
    on_end: Callable[[], None]  # called when the net's part is over, however it ends


class WatchedFitLoop(_StandIn):
    """Shadows a net's `fit_loop` for one call, and its `get_iterator` till the loader is made."""

    def __init__(
        self,
        net: NeuralNet,
        order: BatchOrder | None,
        on_error: Callable[[], None],  # skorch tells no callback of an error
        resumed: Resumed | None = None,
    ) -> None:
        super().__init__(net, "fit_loop")
        self._order = order
        self._on_error = on_error
        self._resumed = resumed

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Train as the net does."""
        self.remove()
        watchers: list[Watcher] = []
        if self._resumed is not None:
            watchers.append(self._resumed.on_loader)
        if self._order is not None:
            watchers.append(self._order.watch)
        loader = WatchedGetIterator(self._net, watchers) if watchers else None
        try:
            if self._resumed is not None:
                _check_no_fit_parameters(kwargs)
                kwargs["epochs"] = self._resumed.n_epochs
            return self._original(*args, **kwargs)
        except KeyboardInterrupt:  # an end of training like any other
            raise
        except BaseException:
            self._on_error()
            raise
        finally:
            if loader is not None:
                loader.remove()
            if self._resumed is not None:
                self._resumed.on_end()


class WatchedGetIterator(_StandIn):
    """Shadows a net's `get_iterator` till it makes a training loader, and shows it to watchers."""

    def __init__(self, net: NeuralNet, watchers: list[Watcher]) -> None:
        super().__init__(net, "get_iterator")
        self._watchers = watchers

    def __call__(self, dataset: object, training: bool = False) -> object:
        """Make a loader as the net does."""
        if training:
            self.remove()
        loader: object = self._original(dataset, training=training)
        if training:
            for watch in self._watchers:
                watch(loader)
        return loader


def _check_no_fit_parameters(given: dict[str, object]) -> None:
    """Refuse what a later call could not be held against."""
    names = sorted(given.keys() - {"epochs", "_routing_method"})
    if given.get("epochs") is not None:
        names = sorted([*names, "epochs"])
    if names:
        raise TypeError(
            f"fit got {', '.join(names)}, but a training with resume=True takes nothing besides X "
            "and y, because it would not be known whether a later call passes the same. Put it "
            "into the data set or the net (epochs as max_epochs), or record with resume=False."
        )


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


def _rows_of(dataset: Any, n_samples: int) -> NDArray[np.int64] | None:
    """Find the rows of a subset among those of the whole data set; None for the whole."""
    if isinstance(dataset, Subset):
        index = np.asarray(dataset.indices, dtype=np.int64)
        outer = _rows_of(dataset.dataset, n_samples)
        return index if outer is None else outer[index]
    if len(dataset) != n_samples:
        raise ValueError(
            f"The net trains on a {type(dataset).__name__} of {len(dataset)} rows that is no "
            f"torch.utils.data.Subset of the {n_samples} rows given to fit, so it is not known "
            "which rows are which. Let train_split return a Subset, or leave order, steps and "
            "logits out of the recorder."
        )
    return None
