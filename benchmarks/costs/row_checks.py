"""What it costs to check that results follow their rows, against a pass over 10,000 rows.

    python -m benchmarks.costs.row_checks [--threads N] [--repeats 5]

The checks: reading the rows that are tried, their losses in two batches, every layer's route held
against a backward pass, and the results of a pass held against those of a batch alone. A pass: one
forward and one backward pass over all rows, no optimiser step; beside it the pass for the norms of
gradients, which is what is being checked. With 10 checkpoints of a training, as trajectories have
them, the routes are tried at the last, and a pass is 10 passes. For a data set with a collate
function of its own, what the numbers of its rows cost in every batch is measured by a loader with
and without them.

Each round times everything once; ratios are medians over rounds of the ratio within a round. One
thread is timed by its processor time, several by the clock.
"""

import argparse
import time

import numpy as np
import torch
from skorch import NeuralNetClassifier
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from benchmarks.costs.nets import Cnn, Mlp, SmallMlp
from skinfluence.gradients import gradient_norms
from skinfluence.gradients._numbered import batches_in_order
from skinfluence.gradients._passes import Trajectory, start
from skinfluence.gradients._readings import Norm
from skinfluence.gradients._skorch import as_dataset
from skinfluence.gradients._states import module_state
from skinfluence.gradients._trajectory import MeanOf
from skinfluence.gradients._trial import (
    check_results_follow_rows,
    check_rows_are_independent,
    draw_trial,
)
from skinfluence.gradients.routes._loop import GradientLoop

BATCH_SIZE = 256
N_ROWS = 10_000
N_STATES = 10


class Words(nn.Module):
    """A GRU over up to 30 tokens, read at their mean."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(1000, 32, padding_idx=0)
        self.recurrent = nn.GRU(32, 64, batch_first=True)
        self.head = nn.Linear(64, 10)

    def forward(self, X):
        mask = (X != 0)[..., None]
        return self.head((self.recurrent(self.embed(X))[0] * mask).sum(1) / mask.sum(1))


class Texts(Dataset):
    """Token rows of their own lengths."""

    def __init__(self, rows, y):
        self.rows, self.y = rows, y

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i], self.y[i]


def padded(samples):
    X = pad_sequence([torch.as_tensor(x) for x, _ in samples], batch_first=True)
    return X, torch.as_tensor([int(t) for _, t in samples])


def problems(rng):
    y = rng.integers(0, 10, N_ROWS)
    for module, shape in ((Mlp, (784,)), (Cnn, (1, 28, 28)), (SmallMlp, (20,))):
        yield module, rng.normal(size=(N_ROWS, *shape)).astype(np.float32), y, {}
    rows = [rng.integers(1, 1000, size) for size in rng.integers(5, 31, N_ROWS)]
    yield Words, Texts(rows, y), None, {"iterator_valid__collate_fn": padded}


def forward_backward(net, batches):
    net.module_.train()
    criterion = nn.CrossEntropyLoss()
    for Xi, yi in batches:
        net.module_.zero_grad()
        criterion(net.module_(Xi), yi).backward()


def checks(net, dataset, loop):
    """Do what `start` and `gather` do to find out whether results follow their rows."""
    trial = draw_trial(net, dataset)
    check_rows_are_independent(loop.net_loss, trial)
    last = loop if isinstance(loop, GradientLoop) else loop._loops[-1]
    last._kept = last._try_routes(*trial.batches[1])  # once, however many checkpoints there are
    (alone,) = loop.tried(trial, Norm())
    values = np.zeros(N_ROWS, np.float32)
    values[trial.rows[1]] = alone.numpy()
    check_results_follow_rows(trial, loop.net_loss, values, alone.numpy())


def read(make_loader, dataset, numbered):
    for _ in batches_in_order(make_loader, dataset) if numbered else make_loader(dataset):
        pass


def measure(repeats):
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    print(f"{N_ROWS} rows, batch {BATCH_SIZE}, {torch.get_num_threads()} thread(s)")
    heads = (
        f"{'checks, ms':>12}{'% of a pass':>14}{f'% of {N_STATES} passes':>16}{'% of norms':>16}"
    )
    print(f"{'':<18}{heads}")
    for module, X, y, settings in problems(np.random.default_rng(0)):
        torch.manual_seed(0)
        net = NeuralNetClassifier(module, criterion=nn.CrossEntropyLoss, **settings).initialize()
        dataset = as_dataset(net, X, y)

        def make_loader(data, net=net):
            return DataLoader(
                data, BATCH_SIZE, collate_fn=net.get_params_for("iterator_valid").get("collate_fn")
            )

        batches = list(make_loader(dataset))
        for layers in ("last", "all") if module is not Words else ("last",):
            loop, loops = (
                start(net, X, y, layers=layers, batch_size=BATCH_SIZE, trajectory=trajectory).loop
                for trajectory in (None, Trajectory([module_state(net)] * N_STATES, MeanOf(), None))
            )
            runs = {
                "checks": lambda: checks(net, dataset, loop),  # noqa: B023
                "of several": lambda: checks(net, dataset, loops),  # noqa: B023
                "pass": lambda: forward_backward(net, batches),  # noqa: B023
                "norms": lambda: gradient_norms(net, X, y, layers=layers),  # noqa: B023
            }
            if y is None:
                runs["numbered"] = lambda: read(make_loader, dataset, numbered=True)  # noqa: B023
                runs["plain"] = lambda: read(make_loader, dataset, numbered=False)  # noqa: B023
            seconds = {name: [] for name in runs}
            for round_number in range(repeats + 1):
                for name, run in runs.items():
                    began = clock()
                    run()
                    if round_number:  # the first round warms up
                        seconds[name].append(clock() - began)
            name = f"{module.__name__}, {layers}"
            shares = [
                100 * np.median(np.divide(seconds["checks"], seconds[base]))
                for base in ("pass", "norms")
            ]
            milliseconds = 1e3 * np.median(seconds["checks"])
            of_several = (
                100 * np.median(np.divide(seconds["of several"], seconds["pass"])) / N_STATES
            )
            print(
                f"{name:<18}{milliseconds:>12.1f}{shares[0]:>14.1f}{of_several:>16.1f}"
                f"{shares[1]:>16.1f}"
            )
            if y is None:
                extra = np.subtract(seconds["numbered"], seconds["plain"])
                share = 100 * np.median(extra / seconds["pass"])
                print(f"{'  its numbers':<18}{1e3 * np.median(extra):>12.1f}{share:>14.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    measure(arguments.repeats)
