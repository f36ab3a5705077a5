"""Rows that carry their number through a data loader, and the names of those that mix them up."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from skinfluence.gradients._net_loss import Batch, Nested, tensors_in

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

    def __init__(self, collate: Collate) -> None:
        self.collate = collate

    def __call__(self, numbered: list[tuple[int, Any]]) -> tuple[list[int], Any]:
        """Make a batch of samples as the function does."""
        samples = [sample for _, sample in numbered]
        batch = self.collate(samples)
        if self.collate is not default_collate:
            check_collated(self.collate, samples, batch)
        return [number for number, _ in numbered], batch


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


class OrderedCollate:
    """A collate function of training that must keep the order, but may draw at random."""

    def __init__(self, collate: Collate) -> None:
        self.collate = collate

    def __call__(self, samples: list[Any]) -> Any:
        """Make a batch of samples as the function does."""
        batch = self.collate(samples)
        if self.collate is not default_collate:
            _check_order(self.collate, samples, batch)
        return batch


def check_collated(collate: Collate, samples: list[Any], batch: Any) -> None:
    """Refuse a batch whose rows are not those of the samples, in their order."""
    # Targets that say where their row is show an order of rows anywhere; whether inputs are still
    # beside their targets, a few rows show. All rows do where such targets are not taken.
    n = len(samples)
    kept = _order_is_kept(collate, samples)
    places = range(n) if kept is None else sorted({0, n // 2, n - 1})
    if (
        kept is False
        or len(batch[1]) != n
        or not all(is_row_of(collate([samples[i]]), 0, batch, i) for i in places)
    ):
        raise ValueError(
            f"The net's collate_fn, {_name(collate)}, changes the order of the rows in a batch, or "
            "a row by its neighbours or at random, so scores could not be told apart. Use one that "
            "keeps them."
        )


def _check_order(collate: Collate, samples: list[Any], batch: Any) -> None:
    kept = _order_is_kept(collate, samples)
    if kept is None:  # as far as the targets show
        kept = all(
            is_row_of(collate([sample])[1], 0, batch[1], i) for i, sample in enumerate(samples)
        )
    if not kept or len(batch[1]) != len(samples):
        raise ValueError(
            f"The collate_fn of the net's training loader, {_name(collate)}, changes the order of "
            "the rows in a batch or their number, so what is recorded of a batch would be noted "
            "for other rows. Use one that keeps them, or leave order, steps and logits out of the "
            "recorder."
        )


def _name(collate: Collate) -> str:
    return getattr(collate, "__name__", type(collate).__name__)


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


def _order_is_kept(collate: Collate, samples: list[Any]) -> bool | None:
    """Collate samples whose targets are their places; None if that does not tell."""
    try:
        tagged = [(sample[0], _tag(sample[1], i)) for i, sample in enumerate(samples)]
        tags = collate(tagged)[1]
        places = torch.as_tensor(tags).reshape(len(tags), -1).double()
    except Exception:  # a function that does not take other targets
        return None
    due = list(range(len(samples)))
    found = places[:, 0].tolist()
    if not bool((places == places[:, :1]).all()):
        return None
    if found == due:
        return True
    # distinct, or a function that makes classes of targets would be taken for one that sorts
    are_places = set(found) <= set(due) and len(set(found)) == len(found) > 2
    return False if are_places else None


def _tag(target: Any, place: int) -> Any:
    """Make a target that says where its row is, of the kind of a given one."""
    if isinstance(target, Tensor):
        tagged: Any = torch.full_like(target, place)
    elif isinstance(target, np.ndarray):
        tagged = np.full_like(target, place)
    elif isinstance(target, bool | np.bool_) or not isinstance(target, int | float | np.number):
        raise TypeError(f"A {type(target).__name__} has no room for a number.")
    else:
        tagged = type(target)(place)
    if not np.all(np.asarray(tagged) == place):
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
