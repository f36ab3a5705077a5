"""Speed and memory of the gradient core, as ratios to training in the same run.

    python -m benchmarks.costs.gradient_speed [--threads N] [--repeats 5]

Two yardsticks, both one forward and one backward pass over the same rows, no optimiser step:

* epoch: what an epoch of the skorch net costs (its own training loader, `infer`, `get_loss`,
  `backward`);
* bare loop: the least that PyTorch needs, module and criterion on batches made beforehand.

The measured functions include all they do: reading the rows, trying out the routes, collecting.
What a pass costs before its first batch, whatever the number of rows, shows in the norms of two
rows. Each round times everything once, so that a drift of the machine hits all alike; ratios are
medians over rounds of the ratio within a round, with the smallest and the largest. One thread is
timed by its processor time, which others on the machine hardly change; several by the clock.
"""

import argparse
import multiprocessing
import resource
import time

import numpy as np
import torch
from skorch import NeuralNetClassifier
from torch import nn

from skinfluence.gradients import gradient_norms, per_sample_gradients

BATCH_SIZE = 256
N_ROWS = 8192


class Mlp(nn.Sequential):
    """784-256-256-10."""

    def __init__(self):
        super().__init__(
            nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
        )


def problem(n_rows):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, 784)).astype(np.float32)
    y = rng.integers(0, 10, n_rows)
    net = NeuralNetClassifier(
        Mlp, criterion=nn.CrossEntropyLoss, batch_size=BATCH_SIZE, iterator_train__shuffle=True
    )
    return net.initialize(), X, y


def epoch(net, X, y):
    net.module_.train()
    for Xi, yi in net.get_iterator(net.get_dataset(X, y), training=True):
        net.module_.zero_grad()
        net.get_loss(net.infer(Xi), yi).backward()


def bare_loop(net, batches):
    net.module_.train()
    criterion = nn.CrossEntropyLoss()
    for Xi, yi in batches:
        net.module_.zero_grad()
        criterion(net.module_(Xi), yi).backward()


def speed(repeats):
    net, X, y = problem(N_ROWS)
    tensors = torch.as_tensor(X), torch.as_tensor(y)
    batches = list(zip(*(t.split(BATCH_SIZE) for t in tensors), strict=True))
    runs = {
        "epoch": lambda: epoch(net, X, y),
        "bare loop": lambda: bare_loop(net, batches),
        "all-layer L2 norms": lambda: gradient_norms(net, X, y, layers="all"),
        "of which start (2 rows)": lambda: gradient_norms(net, X[:2], y[:2], layers="all"),
        "all-layer L1 norms": lambda: gradient_norms(net, X, y, layers="all", ord=1),
        "last-layer L2 norms": lambda: gradient_norms(net, X, y),
        "last-layer gradients": lambda: per_sample_gradients(net, X, y),
    }
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds = {name: [] for name in runs}
    for round_number in range(repeats + 1):
        for name, run in runs.items():
            start = clock()
            run()
            if round_number:  # the first round warms up
                seconds[name].append(clock() - start)
    print(
        f"{N_ROWS} rows, batch {BATCH_SIZE}, {torch.get_num_threads()} thread(s), {repeats} rounds"
    )
    print(f"{'':<24}{'ms':>8}{'/ epoch':>20}{'/ bare loop':>20}")
    for name, values in seconds.items():
        ratios = [spread(np.divide(values, seconds[base])) for base in ("epoch", "bare loop")]
        print(f"{name:<24}{1e3 * np.median(values):>8.1f}{ratios[0]:>20}{ratios[1]:>20}")


def spread(ratios):
    return f"{np.median(ratios):.2f} ({np.min(ratios):.2f}-{np.max(ratios):.2f})"


def _peak_growth(n_rows, queue):
    """Peak memory beyond data and net, in MiB; a process of its own, because peaks never fall."""
    net, X, y = problem(n_rows)
    gradient_norms(net, X[: 4 * BATCH_SIZE], y[: 4 * BATCH_SIZE], layers="all")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gradient_norms(net, X, y, layers="all")
    queue.put((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def memory():
    print("\npeak memory of all-layer norms beyond that of 1,024 rows")
    context = multiprocessing.get_context("spawn")
    for n_rows in (8192, 65536):
        queue = context.Queue()
        process = context.Process(target=_peak_growth, args=(n_rows, queue))
        process.start()
        growth = queue.get()
        process.join()
        print(f"{n_rows:>8} rows: {growth:6.1f} MiB (the scores take {n_rows * 4 / 2**20:.2f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    speed(arguments.repeats)
    memory()
