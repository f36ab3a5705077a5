"""Peak memory of SGD-influence's walk back through a training, which rows and steps must not grow.

    python -m benchmarks.costs.trace_memory [--gib 3] [--folder DIR]

Every line is a process of its own. The first table retraces as many steps of as many rows from
more and more rows; peaks are beyond what the process takes after two steps of the same walk, so
only the data (already there before) and the vector of influences could make them grow. The second
part writes a trajectory to disk and retraces it in a process that may not take more private memory
(RLIMIT_DATA) than a fraction of it; as a control, the same process then tries to hold all states.
Linux only. The folder is removed afterwards.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from skorch import NeuralNetClassifier
from torch import nn
from torch.utils.data import RandomSampler

from skinfluence import TraceRecorder, TrainingTrace
from skinfluence.influence.retraced._retracing import retraced_influence
from skinfluence.rows._rows import ModelRows

MIB = 2**20


class Perceptron(nn.Module):
    """One hidden layer."""

    def __init__(self, n_inputs, n_hidden):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_inputs, n_hidden), nn.ReLU(), nn.Linear(n_hidden, 10))

    def forward(self, X):
        """Give the logits."""
        return self.body(X)


class DrawnRows(torch.utils.data.DataLoader):
    """As many batches whatever the number of rows."""

    def __init__(self, dataset, batch_size, n_steps):
        sampler = RandomSampler(dataset, replacement=True, num_samples=n_steps * batch_size)
        super().__init__(dataset, batch_size=batch_size, sampler=sampler)


def status(name):
    """MiB of this process, from the kernel: VmHWM (peak), VmRSS, VmData."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(name)


def problem(n_rows, n_features):
    """Random rows and labels."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, n_features)).astype(np.float32)
    return ModelRows(X, rng.integers(0, 10, n_rows))


def unfitted(n_features, n_hidden, batch_size, n_steps, recorder):
    """Make a net that takes so many steps in its one epoch."""
    torch.manual_seed(0)
    return NeuralNetClassifier(
        Perceptron,
        criterion=nn.CrossEntropyLoss,
        module__n_inputs=n_features,
        module__n_hidden=n_hidden,
        optimizer=torch.optim.SGD,
        lr=0.01,
        max_epochs=1,
        batch_size=batch_size,
        iterator_train=DrawnRows,
        iterator_train__n_steps=n_steps,
        train_split=None,
        callbacks=[recorder],
        verbose=0,
    )


def retrace(net, trace, rows, first_step):
    """Walk back from the end to a step."""
    queries = ModelRows(rows.inputs[:100], rows.targets[:100])
    return retraced_influence(
        net,
        trace,
        rows,
        queries,
        parameters="trajectory",
        first_step=first_step,
        hessian=True,
        renormalize=False,
        batch_size=100,
        each=False,
    )


def peak_of(run):
    """Give what a call returns, the MiB by which it raised the peak, and seconds."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before, start = status("VmRSS"), time.perf_counter()
    result = run()
    return result, status("VmHWM") - before, time.perf_counter() - start


def more_rows(n_rows):
    """Retrace 300 batches of 64 among more or fewer rows."""
    torch.set_num_threads(1)
    rows = problem(n_rows, 64)
    recorder = TraceRecorder(steps="all", order=True)
    net = unfitted(64, 128, 64, 300, recorder).fit(*rows)
    retrace(net, recorder.trace_, rows, 298)
    influence, peak, seconds = peak_of(lambda: retrace(net, recorder.trace_, rows, 0))
    return rows.inputs.nbytes / MIB, influence.nbytes / MIB, peak, seconds


def write_trajectory(folder, n_steps, n_hidden):
    """Train with a folder for the states."""
    torch.set_num_threads(1)
    rows = problem(2000, 512)
    recorder = TraceRecorder(steps="all", order=True, storage=folder)
    net = unfitted(512, n_hidden, 16, n_steps, recorder)
    _, peak, seconds = peak_of(lambda: net.fit(*rows))
    return recorder.trace_.nbytes / MIB, peak, seconds


def read_trajectory(folder, n_steps, n_hidden, allowed):
    """Retrace from the folder with so many MiB of private memory to spare; then hold it all."""
    torch.set_num_threads(1)
    rows = problem(2000, 512)
    net = unfitted(512, n_hidden, 16, n_steps, TraceRecorder()).initialize()
    trace = TrainingTrace.load(folder)
    retrace(net, trace, rows, n_steps - 2)
    limit = int((status("VmData") + allowed) * MIB)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    _, peak, seconds = peak_of(lambda: retrace(net, trace, rows, 0))
    try:
        held = len([{k: v.clone() for k, v in state.items()} for state in trace.step_states])
        control = f"held all {held} states"
    except (MemoryError, OSError, RuntimeError) as error:
        control = f"refused ({type(error).__name__})"
    return peak, seconds, control


def measured(function, *arguments):
    """Call a function in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def main(gib, parent, allowed):
    """Print both parts."""
    print("300 steps of 64 rows retraced, 9,600 parameters; peak beyond two such steps")
    print(f"{'rows':>8}{'data MiB':>10}{'vector MiB':>12}{'peak MiB':>10}{'seconds':>9}")
    for n_rows in (1_000, 10_000, 50_000):
        data, vector, peak, seconds = measured(more_rows, n_rows)
        print(f"{n_rows:>8}{data:>10.1f}{vector:>12.2f}{peak:>10.1f}{seconds:>9.1f}", flush=True)
    n_hidden = 2000
    n_steps = int(gib * 2**30 / (4 * (512 * n_hidden + n_hidden * 11 + 10)))
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        size, peak, seconds = measured(write_trajectory, folder, n_steps, n_hidden)
        print(f"trajectory of {n_steps} steps on disk: {size:.0f} MiB")
        print(f"  training it: peak {peak:.0f} MiB beyond the data, {seconds:.0f} s", flush=True)
        peak, seconds, control = measured(read_trajectory, folder, n_steps, n_hidden, allowed)
        print(f"  retracing it with {allowed} MiB allowed: peak {peak:.0f} MiB, {seconds:.0f} s")
        print(f"  control, all its states in memory under the same limit: {control}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gib", type=float, default=3.0, help="size of the trajectory")
    parser.add_argument("--allowed", type=int, default=256, help="MiB for the retracing")
    parser.add_argument("--folder", default=None, help="where to make the temporary folder")
    arguments = parser.parse_args()
    main(arguments.gib, arguments.folder, arguments.allowed)
