"""Rows drawn over the whole set, on which it is tried out whether results follow their rows."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from skinfluence.exceptions import BatchLossWarning, RandomRowsWarning
from skinfluence.gradients._closeness import all_close
from skinfluence.gradients._net_loss import Batch, Nested, NetLoss, tensors_in
from skinfluence.gradients._numbered import is_row_of
from skinfluence.gradients._skorch import Net, collated, module_dtype, rows_at

# So many rows are drawn; either batch holds two thirds of them.
_ROWS = 24
# A set of so few rows is tried whole, in the order that a pass takes.
_FEW_ROWS = 16


@dataclass(frozen=True)
class Trial:
    """Two batches of the net's own loader, of other sizes or rows, that share some rows."""

    # The first in the order of the set, the second against it in two runs, so that one of the two
    # is out of order for whatever sorts rows.
    batches: tuple[Batch, Batch]
    rows: tuple[NDArray[np.intp], NDArray[np.intp]]  # the numbers of their rows in the set
    dtype: torch.dtype  # of the net, whose rounding results share
    is_steady: bool = True  # whether rows read a second time are the same

    @property
    def shared(self) -> tuple[list[int], list[int]]:
        """Find the places of the shared rows in either batch."""
        one, two = (rows.tolist() for rows in self.rows)
        both = [row for row in one if row in set(two)]
        return [one.index(row) for row in both], [two.index(row) for row in both]

    def agree(self, one: Tensor, two: Tensor, net_loss: NetLoss) -> bool:
        """Compare results of the same rows to what rounding in the net's precision may change."""
        if not one.is_floating_point():
            return all_close(one, two)
        if all_close(one.to(self.dtype), two.to(self.dtype)):
            return True
        dtype = precision_of(net_loss, self.batches[0][0])  # a pass only where it is needed
        return dtype != self.dtype and all_close(one.to(dtype), two.to(dtype))

    def with_targets(self, targets: Callable[[Nested, Tensor], Tensor]) -> "Trial":
        """Put other targets beside the same inputs."""
        one, two = ((X, targets(X, y)) for X, y in self.batches)
        return replace(self, batches=(one, two))


def draw_trial(net: Net, dataset: object) -> Trial:
    """Read rows drawn over a whole data set, in two batches."""
    one, two = _drawn(len(dataset))  # type: ignore[arg-type]
    is_steady = True
    found = rows_at(net, dataset, one)
    if found is not None:  # arrays: rows are what they are
        first, second = found, rows_at(net, dataset, two)
        assert second is not None
    else:
        samples = {int(i): dataset[int(i)] for i in {*one, *two}}  # type: ignore[index]
        first = collated(net, [samples[int(i)] for i in one])
        second = collated(net, [samples[int(i)] for i in two])
        again = collated(net, [dataset[int(i)] for i in one])  # type: ignore[index]
        is_steady = _is_steady(first, again, one)
    # a loader may make smaller batches than it is asked for
    rows = one[: len(first[1])], two[: len(second[1])]
    return Trial((first, second), rows, module_dtype(net.module_), is_steady)


def check_rows_are_independent(net_loss: NetLoss, trial: Trial) -> None:
    """Refuse nets for which a row's own output and gradient are not defined."""
    check_outputs_are_independent(net_loss, trial, _results)
    _check_loss_of_batch(net_loss, trial)


def check_outputs_are_independent(
    net_loss: NetLoss, trial: Trial, read: Callable[[NetLoss, Batch], list[Tensor]] | None = None
) -> None:
    """Refuse nets for which a row's own output is not defined; or what else is read off a batch."""
    read = _outputs if read is None else read
    for name, module in net_loss.module.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise ValueError(
                f"The net's output for a row depends on the other rows of its batch: {name}, a "
                f"{type(module).__name__} without running statistics, normalises by the batch in "
                "eval mode too, so a row has no gradient of its own. Use "
                "track_running_stats=True or a per-row normalisation such as LayerNorm."
            )
    first, second = trial.shared
    with torch.no_grad():
        one, two = (read(net_loss, batch) for batch in trial.batches)
    sizes = [len(rows) for rows in trial.rows]
    for here, there in zip(one, two, strict=True):
        # outputs without rows, or padded to the longest of them, cannot be compared
        has_rows = [len(here), len(there)] == sizes and here.shape[1:] == there.shape[1:]
        if has_rows and not trial.agree(here[first], there[second], net_loss):
            raise ValueError(_what_mixes_rows(net_loss, trial, read))


def _check_loss_of_batch(net_loss: NetLoss, trial: Trial) -> None:
    """Warn if a loss of the user's own does not come from the losses of the rows."""
    X, y = trial.batches[0]
    if net_loss.batch_loss is None or len(y) < 2:
        return
    with torch.no_grad():
        output = net_loss.forward(X)
        losses = net_loss.losses(output, y, X)
        whole = net_loss.batch_loss(output, y.clone(), X)
    if not any(
        trial.agree(whole, expected, net_loss) for expected in (losses.mean(), losses.sum())
    ):
        warnings.warn(
            f"The net's loss of {len(y)} rows is {float(whole):.4g}, neither the mean "
            f"({float(losses.mean()):.4g}) nor the sum ({float(losses.sum()):.4g}) of the losses "
            "of these rows alone, which scores are made of. A likely cause are class weights "
            "inside get_loss, which a mean over the weights divides away row by row; give them to "
            "the criterion (criterion__weight), or return a plain mean or sum of weighted rows.",
            BatchLossWarning,
            stacklevel=2,
        )


def check_results_follow_rows(
    trial: Trial, net_loss: NetLoss, values: NDArray[np.floating], found: NDArray[np.floating]
) -> None:
    """Hold the results of a pass against those of the trial's second batch, taken alone."""
    wrong = rows_that_differ(trial, net_loss, values, found)
    if wrong:
        raise ValueError(
            f"Rows {', '.join(map(str, wrong[:5]))} get another result in their batch of the whole "
            f"set than in a batch of {len(found)} rows, so a result would not be the row's own. "
            "Likely causes are a forward or a collate_fn that sorts, drops or averages rows when a "
            "batch is large, or a net that reads how far its batch is padded; make it treat each "
            "row alone."
        )


def rows_that_differ(
    trial: Trial, net_loss: NetLoss, values: NDArray[np.floating], found: NDArray[np.floating]
) -> list[int]:
    """List the tried rows whose result of a pass is not that of the trial's second batch."""
    rows: list[int] = trial.rows[1].tolist()
    one, two = torch.as_tensor(values[rows]), torch.as_tensor(found)
    if not trial.is_steady or trial.agree(one, two, net_loss):
        return []
    if one.shape != two.shape:
        return rows
    pairs = zip(rows, one, two, strict=True)
    return [i for i, a, b in pairs if not trial.agree(a, b, net_loss)] or rows


class _DtypesSeen(TorchDispatchMode):
    """Notes the floating dtypes that operations give, also those within a module."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: set[torch.dtype] = set()

    def __torch_dispatch__(
        self, func: Any, types: object, args: Any = (), kwargs: Any = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if isinstance(output, Tensor) and output.is_floating_point():
            self.found.add(output.dtype)
        return output


def precision_of(net_loss: NetLoss, X: Nested) -> torch.dtype:
    """Find the least precise dtype that a forward computes in, as under autocast."""
    with torch.no_grad(), _DtypesSeen() as seen:
        net_loss.forward(X)
    dtypes = {module_dtype(net_loss.module), *seen.found}
    coarsest: torch.dtype = max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)
    return coarsest


def _drawn(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Draw row numbers of two batches; the same for the same number of rows."""
    if n <= _FEW_ROWS:
        return np.arange(n), np.arange((n + 1) // 2)[::-1]
    size = min(n, _ROWS)
    edges = np.linspace(0, n, size + 1).astype(np.intp)  # one row of each of equal parts
    drawn = np.random.default_rng(0).integers(edges[:-1], edges[1:])
    place = np.arange(size) % 3
    low, high = np.array_split(drawn[place > 0], 2)
    return drawn[place < 2], np.concatenate([low[::-1], high[::-1]])


def _outputs(net_loss: NetLoss, batch: Batch) -> list[Tensor]:
    return [tensor for tensor in tensors_in(net_loss.forward(batch[0])) if tensor.dim()]


def _results(net_loss: NetLoss, batch: Batch) -> list[Tensor]:
    X, y = batch
    output = net_loss.forward(X)
    return [net_loss.losses(output, y, X), *(t for t in tensors_in(output) if t.dim())]


def _is_steady(read: Batch, again: Batch, rows: NDArray[np.intp]) -> bool:
    """Tell whether rows read twice are the same; refuse other targets, warn of other inputs."""
    (X, y), (X2, y2) = read, again
    if not _equal(y, y2):
        raise ValueError(
            f"The data set gives other targets for rows {', '.join(map(str, rows[:5]))} and others "
            "each time they are read, so scores could not be told apart. Make the target of row i "
            "depend on i alone."
        )
    pairs = list(zip(tensors_in(X), tensors_in(X2), strict=False))
    unequal = [
        row for i, row in enumerate(rows[: len(y)]) if any(not _equal(a[i], b[i]) for a, b in pairs)
    ]
    if unequal:
        warnings.warn(
            f"The data set gives other inputs for rows {', '.join(map(str, unequal[:5]))} each "
            "time they are read, as a random augmentation does, so each score is that of one "
            "draw. Score a data set without it, or one that draws by the row's number.",
            RandomRowsWarning,
            stacklevel=2,
        )
    return not unequal


def _equal(one: Tensor, two: Tensor) -> bool:
    both_nan = torch.isnan(one) & torch.isnan(two) if one.shape == two.shape else False
    return one.shape == two.shape and bool(((one == two) | both_nan).all())


def _what_mixes_rows(
    net_loss: NetLoss, trial: Trial, read: Callable[[NetLoss, Batch], list[Tensor]]
) -> str:
    """Say why rows have another result beside other rows."""
    (X, y), (X2, y2) = trial.batches
    pairs = list(zip(*trial.shared, strict=True))
    if not all(is_row_of((X2, y2), b, (X, y), a) for a, b in pairs):
        return (
            "The net's data loader gives a row other values beside other rows, so a row has no "
            "result of its own. A likely cause is a collate_fn that sorts, mixes or normalises "
            "the rows of a batch; make it treat each row alone."
        )
    with torch.no_grad():
        once, again = read(net_loss, (X, y)), read(net_loss, (X, y))
    if not all(trial.agree(one, two, net_loss) for one, two in zip(once, again, strict=True)):
        return (
            "The net gives different outputs for the same rows in eval mode, so its gradients "
            "would be random. A likely cause is dropout or noise that does not ask self.training; "
            "make it do so."
        )
    shapes = [[tensor.shape[1:] for tensor in tensors_in(inputs)] for inputs in (X, X2)]
    if shapes[0] != shapes[1]:
        return (
            "The net's output for a row depends on how far its batch is padded, so a row has no "
            "gradient of its own. Give the net a mask or the lengths, and let it read no padding, "
            "or pad every batch to one length."
        )
    return (
        "The net's output for a row depends on the other rows of its batch, so a row has no "
        "gradient of its own. Likely causes are a forward that averages over the first axis, or "
        "one that sorts the rows and does not put them back; use a per-row normalisation such as "
        "LayerNorm, or give the rows back in the order they came in."
    )
