"""Which rows every training batch held: read off the loader that the net itself makes."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset, Subset


class BatchOrder:
    """Notes the rows of each batch that a net's training loader draws, and changes none.

    A sampler given to the net as a parameter would be cloned with what it noted and would exclude
    shuffling; so the batch sampler of the finished loader is wrapped instead. Workers may draw
    ahead of training: `next_rows` gives the rows of the batches in the order they arrive.

    Parameters
    ----------
    n_samples : int
        Rows that were given to `fit`.
    """

    def __init__(self, n_samples: int) -> None:
        self._n_samples = n_samples
        self._drawn: deque[list[int]] = deque()
        self._rows: NDArray[np.int64] | None = None  # of the subset that is trained on

    def watch(self, loader: Any) -> None:
        """Wrap a loader's batch sampler.

        Parameters
        ----------
        loader : DataLoader

        Raises
        ------
        TypeError
            If it is no DataLoader that draws batches of row numbers, in order.
        ValueError
            If its rows are not those given to `fit`.
        """
        by_number = isinstance(loader, DataLoader) and loader.batch_sampler is not None
        if not by_number or isinstance(loader.dataset, IterableDataset):
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
        self._rows = _rows_of(loader.dataset, self._n_samples)
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

        Raises
        ------
        TypeError
            If the loader gives more batches than its batch sampler draws.
        """
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

    def __init__(self, net: Any, name: str) -> None:
        self._net, self._name = net, name
        self._earlier = vars(net).get(name)
        vars(net)[name] = self

    def remove(self) -> None:
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
    """How training goes on with an earlier one.

    Attributes
    ----------
    n_epochs : int
        Still to be trained.
    on_loader : callable
        ``on_loader(loader)``, called with the training loader before anything is drawn from it.
    on_end : callable
        Called without arguments when the net's part is over, however it ends.
    """

    n_epochs: int
    on_loader: Callable[[Any], None]
    on_end: Callable[[], None]


class WatchedFitLoop(_StandIn):
    """Shadows a net's `fit_loop` for one call, and its `get_iterator` till the loader is made.

    Parameters
    ----------
    net : NeuralNet
    order : BatchOrder or None
        What is to note the rows.
    on_error : callable
        Called without arguments if training ends by an error, of which skorch tells no callback.
    resumed : Resumed, optional
        If training goes on with an earlier one.
    """

    def __init__(
        self,
        net: Any,
        order: BatchOrder | None,
        on_error: Callable[[], None],
        resumed: Resumed | None = None,
    ) -> None:
        super().__init__(net, "fit_loop")
        self._order = order
        self._on_error = on_error
        self._resumed = resumed

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Train as the net does."""
        self.remove()
        watchers: list[Callable[[Any], None]] = []
        if self._resumed is not None:
            watchers.append(self._resumed.on_loader)
        if self._order is not None:
            watchers.append(self._order.watch)
        loader = _WatchedGetIterator(self._net, watchers) if watchers else None
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


class _WatchedGetIterator(_StandIn):
    def __init__(self, net: Any, watchers: list[Callable[[Any], None]]) -> None:
        super().__init__(net, "get_iterator")
        self._watchers = watchers

    def __call__(self, dataset: Any, training: bool = False) -> Any:
        if training:
            self.remove()
        loader = self._original(dataset, training=training)
        if training:
            for watch in self._watchers:
                watch(loader)
        return loader


def _check_no_fit_parameters(given: dict[str, Any]) -> None:
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
