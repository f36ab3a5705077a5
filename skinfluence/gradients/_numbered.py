"""Rows that carry their number through a data loader, and the names of those that mix them up."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from skinfluence.gradients._net_loss import Batch, Nested, tensors_in
from skinfluence.rows._seeds import preserved_random_state

Collate: TypeAlias = Callable[[list[Any]], Any]


class _View(torch.utils.data.Dataset[Any]):
    """A data set seen row by row."""

    # `__getitems__`, by which some data sets give a whole batch, is passed over: what it gives has
    # no numbers. Other attributes are the data set's, which a loader may ask for.
    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> Any:
        return self.dataset[i]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "dataset":  # before __init__, as when unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)


class Relabelled(_View):
    """A data set's inputs with other targets."""

    def __init__(self, dataset: Any, y: Any) -> None:
        super().__init__(dataset)
        self.targets_given = y

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        return self.dataset[i][0], self.targets_given[i]


class Numbered(_View):
    """A data set whose samples come with their number."""

    def __getitem__(self, i: int) -> tuple[int, Any]:
        return int(i), self.dataset[i]


class NumberedCollate:
    """A collate function that keeps the rows' numbers beside the batch, and is watched."""

    # A function of the user's own makes the first batch twice: of the samples, and of samples whose
    # targets are their places, which show the order. Where it only stacks targets, later batches
    # are made of the latter alone, and the targets stacked beside them.
    def __init__(self, collate: Collate) -> None:
        self.collate = collate
        self._stacks_as: torch.dtype | None = None

    def __call__(self, numbered: list[tuple[int, Any]]) -> tuple[list[int], Any]:
        """Make a batch of samples as the function does."""
        samples = [sample for _, sample in numbered]
        return [number for number, _ in numbered], self._batch(samples)

    def _batch(self, samples: list[Any]) -> Any:
        if self.collate is default_collate:
            return self.collate(samples)
        n = len(samples)
        tagged = _tagged(self.collate, samples)
        kept = _order_is_kept(tagged, n)
        if kept and self._stacks_as is not None:
            batch = (tagged[0], _stacked(samples, self._stacks_as))
        else:
            batch = self.collate(samples)
            if kept and _is_stacked(batch[1], samples):
                self._stacks_as = batch[1].dtype
        if kept is False or len(batch[1]) != n or not self._rows_are_own(batch, samples, kept):
            raise ValueError(
                f"The net's collate_fn, {_name(self.collate)}, changes the order of the rows in a "
                "batch, or a row by its neighbours or at random, so scores could not be told "
                "apart. Use one that keeps them."
            )
        return batch

    def _rows_are_own(self, batch: Any, samples: list[Any], kept: bool | None) -> bool:
        """Tell whether rows are the same among fewer, and inputs still beside their targets."""
        n = len(samples)
        if kept is None or n <= 3:  # each alone, where places are not taken for targets
            return all(is_row_of(self.collate([samples[i]]), 0, batch, i) for i in range(n))
        some = (0, n // 2, n - 1)
        few = self.collate([samples[i] for i in some])
        return all(is_row_of(few, place, batch, i) for place, i in enumerate(some))


class OrderedCollate:
    """A collate function of training that must keep the order, but may draw at random."""

    def __init__(self, collate: Collate) -> None:
        self.collate = collate

    def __call__(self, samples: list[Any]) -> Any:
        """Make a batch of samples as the function does."""
        batch = self.collate(samples)
        if self.collate is default_collate:
            return batch
        with preserved_random_state():  # training goes on as if nothing else had been drawn
            kept = _order_is_kept(_tagged(self.collate, samples), len(samples))
            if kept is None:  # as far as the targets show
                kept = all(
                    is_row_of(self.collate([sample])[1], 0, batch[1], i)
                    for i, sample in enumerate(samples)
                )
        if not kept or len(batch[1]) != len(samples):
            raise ValueError(
                f"The collate_fn of the net's training loader, {_name(self.collate)}, changes the "
                "order of the rows in a batch or their number, so what is recorded of a batch "
                "would be noted for other rows. Use one that keeps them, or leave order, steps and "
                "logits out of the recorder."
            )
        return batch


def batches_in_order(
    make_loader: Callable[[Any], Iterable[Any]], dataset: Any
) -> Iterator[tuple[Nested, Tensor]]:
    """Yield what a loader makes of a data set; the rows must come one after the other."""
    if hasattr(dataset, "__getitems__"):
        dataset = _View(dataset)
    loader = make_loader(dataset)
    if is_plain(loader):
        numbered = _with_numbers(loader)
    else:  # what it does with its batches is its own: they are read a second time
        numbered = _read_twice(loader, dataset, make_loader)
    start = 0
    for numbers_found, batch in numbered:
        Xi, yi = batch
        due = list(range(start, start + len(numbers_found)))
        if numbers_found != due or len(yi) != len(due):
            raise ValueError(
                f"The net's validation loader, {_name_of(loader)}, may change the order of the "
                f"rows: it gave {len(yi)} rows, {_shown(numbers_found)}, where "
                f"{_shown(due)} were due, so scores could not be told apart. Use a plain "
                "DataLoader as iterator_valid."
            )
        start += len(due)
        yield Xi, yi
    if start != len(dataset):
        raise ValueError(
            f"The net's validation loader, {_name_of(loader)}, gave {start} rows of "
            f"{len(dataset)}. Expected each row once; check iterator_valid and its parameters."
        )


def is_row_of(one: Nested, i: int, other: Nested, j: int) -> bool:
    """Tell whether row i of a batch is row j of another, but for what pads them."""
    pairs = list(zip(tensors_in(one), tensors_in(other), strict=False))
    return len(tensors_in(one)) == len(tensors_in(other)) and all(
        _is_padded(left[i], right[j])
        for left, right in pairs
        if left.dim() and right.dim() and i < len(left) and j < len(right)
    )


def _is_padded(short: Tensor, long: Tensor) -> bool:
    """Tell whether a row is the beginning or the end of a longer or shorter form of itself."""
    if short.dim() != long.dim():
        return False
    shared = [min(sizes) for sizes in zip(short.shape, long.shape, strict=True)]
    starts = tuple(slice(0, size) for size in shared)
    ends = tuple(
        slice(length - size, length) for size, length in zip(shared, long.shape, strict=True)
    )
    own_ends = tuple(
        slice(length - size, length) for size, length in zip(shared, short.shape, strict=True)
    )
    pairs = ((short[starts], long[starts]), (short[own_ends], long[ends]))
    return any(_same(one, two) for one, two in pairs)


def _same(one: Tensor, two: Tensor) -> bool:
    if one.is_floating_point() and two.is_floating_point():
        return torch.allclose(one, two.to(one), equal_nan=True)
    return bool(torch.equal(one, two))


def _name(collate: Collate) -> str:
    return getattr(collate, "__name__", type(collate).__name__)


def _tagged(collate: Collate, samples: list[Any]) -> Any:
    """Collate samples whose targets are their places; None if it does not take them."""
    try:
        tags = _tags([sample[1] for sample in samples])
        return collate([(sample[0], tag) for sample, tag in zip(samples, tags, strict=True)])
    except Exception:  # whatever a function of the user's raises at other targets
        return None


def _order_is_kept(tagged: Any, n: int) -> bool | None:
    """Read the order off a batch of places; None if it does not tell."""
    try:
        places = torch.as_tensor(tagged[1]).double()
        rows = places.reshape(len(places), -1)
    except (TypeError, ValueError, RuntimeError):
        return None
    if not bool((rows == rows[:, :1]).all()):
        return None
    found, due = rows[:, 0].tolist(), list(range(n))
    if found == due:
        return True
    # distinct, or a function that makes classes of targets would be taken for one that sorts
    are_places = set(found) <= set(due) and len(set(found)) == len(found) > 2
    return False if are_places else None


def _stacked(samples: list[Any], dtype: torch.dtype) -> Tensor:
    given = [sample[1] for sample in samples]
    if isinstance(given[0], int | float | np.number):  # a tensor of each would take long
        return torch.as_tensor(np.asarray(given)).to(dtype)
    targets: Tensor = default_collate(given)
    return targets.to(dtype)


def _is_stacked(targets: Any, samples: list[Any]) -> bool:
    """Tell whether a batch's targets are those of its samples, one beside the other."""
    if not isinstance(targets, Tensor):
        return False
    try:
        return torch.equal(_stacked(samples, targets.dtype), targets)
    except (TypeError, ValueError, AttributeError, RuntimeError):  # no numbers, or several shapes
        return False


def _tags(targets: list[Any]) -> list[Any]:
    """Make targets that are their places, of the kind of given ones."""
    kinds: set[type] = {type(target) for target in targets}
    if len(kinds) == 1 and isinstance(targets[0], int | float | np.number):
        return _numbers_of(kinds.pop(), len(targets))
    return [_tag(target, place) for place, target in enumerate(targets)]


@lru_cache(maxsize=8)
def _numbers_of(kind: type, n: int) -> list[Any]:
    return [_tag(kind(0), place) for place in range(n)]


def _tag(target: Any, place: int) -> Any:
    """Make a target that says where its row is, of the kind of a given one."""
    if isinstance(target, bool | np.bool_):
        raise TypeError("Two truth values have no room for places.")
    if isinstance(target, int | float | np.number):
        tagged = type(target)(place)
        holds = tagged == place
    else:
        tagged = (torch if isinstance(target, Tensor) else np).full_like(target, place)
        holds = bool((tagged == place).all())
    if not holds:
        raise TypeError(f"A {type(target).__name__} cannot hold {place}.")
    return tagged


def is_plain(loader: object) -> bool:
    """Tell a loader that iterates as torch's does, whose samples may be numbered."""
    return (
        isinstance(loader, DataLoader)
        and type(loader).__iter__ is DataLoader.__iter__
        and type(loader)._get_iterator is DataLoader._get_iterator
    )


def _with_numbers(loader: Any) -> Iterator[tuple[list[int], Batch]]:
    own = copy.copy(loader)
    # DataLoader refuses a plain assignment after its making
    object.__setattr__(own, "dataset", Numbered(loader.dataset))
    object.__setattr__(own, "collate_fn", NumberedCollate(loader.collate_fn))
    yield from own


def _read_twice(
    loader: Iterable[Any], dataset: Any, make_loader: Callable[[Any], Iterable[Any]]
) -> Iterator[tuple[list[int], Batch]]:
    """Yield batches with their rows' numbers, which the loader gives when they are the targets."""
    numbers = _targets_of(make_loader, Relabelled(dataset, np.arange(len(dataset))))
    start = 0
    for batch in loader:
        found = next(numbers, None)
        if found is None:  # its targets tell no numbers: the rows themselves must
            found = _numbers_by_rows(loader, dataset, batch, start)
        start += len(found)
        yield found, batch


def _targets_of(make_loader: Callable[[Any], Iterable[Any]], dataset: Any) -> Iterator[list[int]]:
    try:
        for _, y in make_loader(dataset):
            yield np.asarray(y).reshape(len(y), -1)[:, 0].astype(int).tolist()
    except Exception:  # a loader that does not take other targets
        return


def _numbers_by_rows(loader: Any, dataset: Any, batch: Any, start: int) -> list[int]:
    collate = getattr(loader, "collate_fn", default_collate)
    due = list(range(start, min(start + len(batch[1]), len(dataset))))
    return [
        i if is_row_of(collate([dataset[i]]), 0, batch, place) else -1
        for place, i in enumerate(due)
    ]


def _name_of(loader: object) -> str:
    """Name a loader, and the sampler that may be the cause."""
    parts = [loader, getattr(loader, "batch_sampler", None), getattr(loader, "sampler", None)]
    names = [type(part).__name__ for part in parts if part is not None]
    plain = {"BatchSampler", "SequentialSampler"}
    extra = [name for name in names[1:] if name not in plain]
    return names[0] + (f" with {', '.join(extra)}" if extra else "")


def _shown(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
