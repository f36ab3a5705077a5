"""Leaving rows out one by one: the loop that many trainings run in, and a training from scratch."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.parallel import Parallel, delayed
from threadpoolctl import threadpool_limits

from skinfluence.exceptions import HeldOutRowsWarning, LeakyModuleWarning
from skinfluence.gradients._skorch import Net, iter_batches, net_loss_of
from skinfluence.nets._trained_net import TrainedNet, fitting_outputs
from skinfluence.nets._training import fit_net
from skinfluence.rows._containers import n_samples_of, select
from skinfluence.rows._progress import told
from skinfluence.rows._rows import ModelRows
from skinfluence.rows._weights import Weights, mean_one
from skinfluence.storage._files import Plain
from skinfluence.storage._work_file import WorkFile
from skinfluence.trace._callbacks import without_recorders
from skinfluence.valuation.leave_one_out._replay import mean_loss

# losses(rows): the validation loss of a training without each of these rows.
LossesWithout: TypeAlias = Callable[[NDArray[np.intp]], NDArray[np.float64]]

BATCH_SIZE = 256  # of passes over validation rows
# So often, in seconds, what is done is written to the file.
PERIOD = 1.0


@dataclass(frozen=True)
class Scratch:
    """Trainings from scratch on all rows but one."""

    net: Net  # unfitted
    rows: ModelRows
    validation: ModelRows
    seed: int  # of every training
    weights: Weights = None  # of the training rows, in the loss
    judging_weights: Weights = None  # of the validation rows, in their mean

    def losses_without(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Train without each of some rows; see `LossesWithout`."""
        return np.array([self._loss_without(row) for row in rows.tolist()])

    def _loss_without(self, row: int) -> float:
        X, y = self.rows
        kept = np.delete(np.arange(n_samples_of(X)), row)
        net = clone(self.net).set_params(verbose=0)
        with warnings.catch_warnings(), threadpool_limits(1):
            # the training with all rows has warned already
            warnings.simplefilter("ignore", HeldOutRowsWarning)
            warnings.simplefilter("ignore", LeakyModuleWarning)
            targets = None if y is None else y[kept]
            weights = None if self.weights is None else mean_one(self.weights[kept])
            fit_net(net, select(X, kept), targets, self.seed, weights=weights)
            return validation_loss(net, self.validation, self.judging_weights)


def scratch_of(
    net: Net,
    trained: TrainedNet,
    rows: ModelRows,
    validation: ModelRows,
    seed: int,
    *,
    weights: Weights,
    judging_weights: Weights,
) -> Scratch:
    """Get ready to train an unfitted net as it was trained on all rows."""
    targets = fitting_outputs(trained.net, trained.labels, rows.inputs, rows.targets)
    # these trainings would take the place of the one that is to be recorded
    given = ModelRows(rows.inputs, targets)
    return Scratch(without_recorders(net), given, validation, seed, weights, judging_weights)


def validation_loss(net: Net, rows: ModelRows, weights: Weights = None) -> float:
    """Average a trained net's losses of rows."""
    batches = list(iter_batches(net, *rows, BATCH_SIZE))
    return mean_loss(net_loss_of(net), batches, None if weights is None else torch.tensor(weights))


def leave_out(
    losses_without: LossesWithout,
    rows: NDArray[np.intp],
    losses: NDArray[np.float64],
    *,
    size: int,
    n_jobs: int | None,
    threads: bool,
    file: WorkFile | None,
) -> None:
    """Leave out rows, `size` in a call, in threads or in processes, and keep the losses."""
    # `losses` of all rows are filled in place, so that what is computed outlives an interruption;
    # rows that are not NaN are left alone
    todo = rows[np.isnan(losses[rows])]
    parts = [todo[start : start + size] for start in range(0, len(todo), size)]
    is_begun = False

    def state() -> Plain | None:
        return {"losses": losses} if is_begun else None

    with nullcontext() if file is None else file.keeping(state):
        computed = _computed(losses_without, parts, n_jobs, threads)
        pairs = zip(parts, computed, strict=True)
        for part, found in told("rows", pairs, len(todo), size=lambda pair: len(pair[0])):
            losses[part] = found
            is_begun = True
            if file is not None:
                file.watch(state)


def _computed(
    losses_without: LossesWithout,
    parts: Sequence[NDArray[np.intp]],
    n_jobs: int | None,
    threads: bool,
) -> Iterator[NDArray[np.float64]]:
    backend = {"require": "sharedmem"} if threads else {}
    parallel = Parallel(n_jobs=n_jobs, return_as="generator", **backend)
    found: Iterator[NDArray[np.float64]] = parallel(delayed(losses_without)(part) for part in parts)
    return found
