"""Peak memory of the gradient core on a ResNet-18, beside that of one training step.

    python -m benchmarks.costs.gradient_memory [--rows 2000] [--batch-size 128]

Every line is a process of its own, because a process's peak never falls. Reported is the peak
beyond what data and net take; the training step is one forward and backward pass and one step of
plain SGD on one batch. Below, the peak of TracIn's self-influence by all layers of a small CNN over
five checkpoints, of some rows and of eight times as many.
"""

import argparse
import multiprocessing
import resource
import time

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from benchmarks.costs.nets import Cnn, ResNet18
from skinfluence import TraceRecorder, TracIn
from skinfluence.gradients import gradient_norms
from skinfluence.gradients._directional import inner_products, split_direction
from skinfluence.gradients._passes import start
from skinfluence.gradients._readings import InnerProduct


def problem(n_rows):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, 3, 32, 32)).astype(np.float32)
    y = rng.integers(0, 10, n_rows)
    torch.manual_seed(0)
    return NeuralNetClassifier(ResNet18, criterion=nn.CrossEntropyLoss).initialize(), X, y


def training_step(net, X, y, batch_size):
    """One step of SGD on the first batch."""
    module = net.module_.train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    inputs, targets = torch.as_tensor(X[:batch_size]), torch.as_tensor(y[:batch_size])
    nn.functional.cross_entropy(module(inputs), targets).backward()
    optimizer.step()


def norms(net, X, y, batch_size):
    """L2 norms of all rows, all layers."""
    gradient_norms(net, X, y, layers="all", batch_size=batch_size)


def last_layer_norms(net, X, y, batch_size):
    """L2 norms of all rows, last layer."""
    gradient_norms(net, X, y, batch_size=batch_size)


def factored_products(net, X, y, batch_size):
    """Inner products of all rows with one direction, from factors."""
    loop, batches, _ = start(net, X, y, layers="all", batch_size=batch_size)
    direction = torch.ones(loop.n_parameters)
    for _ in loop.batches(batches, InnerProduct(split_direction(direction, loop.layers))):
        pass


def forward_products(net, X, y, batch_size):
    """Inner products of all rows with one direction, by forward mode."""
    loop, batches, _ = start(net, X, y, layers="all", batch_size=batch_size)
    direction = torch.ones(loop.n_parameters)
    for Xi, yi in batches:
        inner_products(loop.net_loss, loop.layers, Xi, yi, direction)


def tracin_problem(n_rows):
    """Train a CNN with five checkpoints; most rows are others, since only memory counts."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, 1, 28, 28)).astype(np.float32)
    y = rng.integers(0, 10, n_rows)
    torch.manual_seed(0)
    net = NeuralNetClassifier(
        Cnn,
        criterion=nn.CrossEntropyLoss,
        max_epochs=5,
        train_split=None,
        verbose=0,
        callbacks=[TraceRecorder(checkpoints="all")],
    )
    return net.fit(X[:256], np.arange(256) % 10), X, y


def tracin(net, X, y, batch_size):
    """Self-influence of all rows, all layers."""
    TracIn(FrozenEstimator(net), layers="all", batch_size=batch_size).fit(X, y)


RUNS = (training_step, norms, factored_products, forward_products, last_layer_norms)


def _measure(make, run, n_rows, batch_size, threads, queue):
    torch.set_num_threads(threads)
    net, X, y = make(n_rows)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    run(net, X, y, batch_size)
    seconds = time.perf_counter() - start
    queue.put(((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, seconds))


def peak_of(make, run, n_rows, batch_size, threads):
    """MiB and seconds of a process of its own."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    arguments = (make, run, n_rows, batch_size, threads, queue)
    process = context.Process(target=_measure, args=arguments)
    process.start()
    found = queue.get()
    process.join()
    return found


def main(n_rows, batch_size, threads):
    """Print one line a run."""
    print(f"ResNet-18, {n_rows} rows of 3x32x32, batch {batch_size}, {threads} thread(s)")
    print(f"{'':<20}{'peak MiB':>10}{'/ training step':>17}{'seconds':>10}")
    reference = None
    for run in RUNS:
        peak, seconds = peak_of(problem, run, n_rows, batch_size, threads)
        reference = reference or peak
        print(f"{run.__name__:<20}{peak:>10.0f}{peak / reference:>17.2f}{seconds:>10.1f}")
    print(f"TracIn, a CNN on 1x28x28, batch {batch_size}")
    print(f"{'rows':<20}{'peak MiB':>10}{'seconds':>10}")
    for rows in (n_rows, 8 * n_rows):
        peak, seconds = peak_of(tracin_problem, tracin, rows, batch_size, threads)
        print(f"{rows:<20}{peak:>10.0f}{seconds:>10.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    main(arguments.rows, arguments.batch_size, arguments.threads)
