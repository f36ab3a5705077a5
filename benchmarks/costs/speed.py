"""Speed of gradients and scores, as ratios to bare PyTorch and to captum and dattri, in one run.

    python -m benchmarks.costs.speed [--threads N] [--rounds 5] [--parts gradients tracin default]

Gradients: norms of all layers against the least that a training epoch needs, module, criterion and
backward pass on batches made beforehand ("bare loop"), and those of the last layer against forward
passes. What we time includes all that we do: reading the rows, trying out the routes, collecting.

TracIn: self-influence over five checkpoints by us and by the peers that are installed, each in its
own fastest way (captum by batches, dattri without a projection), on the same states.

The default: rows a second that are scored once its members are trained and pooled, and new rows
that are judged by all members; and, of a CNN, scores from ten checkpoints against its forward
passes over them.

Each round times everything once, so that a drift of the machine hits all alike; ratios are medians
over rounds of the ratio within a round, with the smallest and the largest. One thread is timed by
its processor time, which others on the machine hardly change; several by the clock.
"""

import argparse
import time
import warnings
from contextlib import contextmanager
from importlib.util import find_spec
from unittest.mock import patch

import numpy as np
import torch
from sklearn.datasets import make_classification
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.costs.nets import Cnn, Mlp, ResNet18
from skinfluence import OutlierGradientDetector, TraceRecorder, TracIn
from skinfluence.gradients import gradient_norms
from skinfluence.outlier import _outlier_gradients

BATCH_SIZE = 256
IMAGE = (3, 32, 32)
N_CHECKPOINTS = 5


def problem(module, shape, n_rows, *, batch_size=BATCH_SIZE, **settings):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, *shape)).astype(np.float32)
    y = rng.integers(0, 10, n_rows)
    net = NeuralNetClassifier(
        module,
        criterion=nn.CrossEntropyLoss,
        batch_size=batch_size,
        train_split=None,
        verbose=0,
        **settings,
    )
    return net, X, y


def batches_of(X, y, batch_size=BATCH_SIZE):
    tensors = torch.as_tensor(X), torch.as_tensor(y)
    return list(zip(*(t.split(batch_size) for t in tensors), strict=True))


def bare_loop(module, batches):
    module.train()
    criterion = nn.CrossEntropyLoss()
    for Xi, yi in batches:
        module.zero_grad()
        criterion(module(Xi), yi).backward()


def forward_passes(module, batches, n=1):
    module.eval()
    with torch.no_grad():
        for _ in range(n):
            for Xi, _ in batches:
                module(Xi)


def clock():
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def seconds_of(runs, rounds):
    """Time all runs once a round; the first round warms up."""
    seconds = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            start = clock()
            run()
            if number:
                seconds[name].append(clock() - start)
    return seconds


def spread(values):
    return f"{np.median(values):.2f} ({np.min(values):.2f}-{np.max(values):.2f})"


def line(what, value, asked):
    print(f"| {what} | {value} | {asked} |", flush=True)


def gradients(rounds):
    of_images = {"module__n_channels": 3}
    gradients_of("Mlp", Mlp, (784,), 8192, rounds, "0.7")
    gradients_of("Cnn", Cnn, IMAGE, 8192, rounds, "1.0", **of_images)
    gradients_of("ResNet-18", ResNet18, IMAGE, 1024, rounds, "1.5", batch_size=64)


def gradients_of(name, module, shape, n_rows, rounds, asked, **settings):
    net, X, y = problem(module, shape, n_rows, **settings)
    net.initialize()
    batches = batches_of(X, y, net.batch_size)
    seconds = seconds_of(
        {
            "bare": lambda: bare_loop(net.module_, batches),
            "forward": lambda: forward_passes(net.module_, batches),
            "all": lambda: gradient_norms(net, X, y, layers="all"),
            "last": lambda: gradient_norms(net, X, y),
        },
        rounds,
    )
    of_all = np.divide(seconds["all"], seconds["bare"])
    line(f"{name}: norms of all layers / bare loop", spread(of_all), f"at most {asked}")
    of_last = np.divide(seconds["last"], seconds["forward"])
    line(f"{name}: norms of the last layer / forward passes", spread(of_last), "at most 1.2")


def trained(module, shape, n_rows, n_checkpoints, **settings):
    """Train for as many epochs as there are checkpoints, and give the net, its states and rows."""
    recorder = TraceRecorder(checkpoints=n_checkpoints)
    settings |= {"max_epochs": n_checkpoints, "lr": 0.01, "callbacks": [recorder]}
    net, X, y = problem(module, shape, n_rows, **settings)
    net.fit(X, y)
    states = [(point.state, float(point.learning_rate[0])) for point in recorder.trace_.checkpoints]
    return net, states, X, y


def captum_tracin(kind, module, states, loader, **settings):
    from captum import influence

    def load(module, i):
        module.load_state_dict(states[i][0])
        return states[i][1]

    method = getattr(influence, kind)(
        module,
        train_dataset=loader,
        checkpoints=range(len(states)),
        checkpoints_load_func=load,
        loss_fn=nn.CrossEntropyLoss(reduction="sum"),
        **settings,
    )
    return method.self_influence


def dattri_tracin(module, states, loader):
    from dattri.algorithm import TracInAttributor
    from dattri.task import AttributionTask

    def loss(parameters, data):
        X, y = data
        return nn.functional.cross_entropy(
            torch.func.functional_call(module, parameters, X[None]), y[None]
        )

    task = AttributionTask(loss, module, [state for state, _ in states])
    rates = torch.tensor([rate for _, rate in states])
    method = TracInAttributor(task, rates, normalized_grad=False)
    method.projector_kwargs = None  # there is no other way to leave the projection out
    return lambda: method.self_attribute(loader)


def tracin(rounds):
    of_images = {"module__n_channels": 3}
    tracin_of("Mlp", Mlp, (784,), 2048, rounds, {"captum": 40, "dattri": 10})
    tracin_of("Cnn", Cnn, IMAGE, 2048, rounds, {"captum": 2.5}, **of_images)


def tracin_of(name, module, shape, n_rows, rounds, asked, **settings):
    net, states, X, y = trained(module, shape, n_rows, N_CHECKPOINTS, **settings)
    data = TensorDataset(torch.as_tensor(X), torch.as_tensor(y))
    loader, fitted = DataLoader(data, BATCH_SIZE), FrozenEstimator(net)
    runs = {
        "all": lambda: TracIn(fitted, checkpoints=N_CHECKPOINTS, layers="all").fit(X, y),
        "last": lambda: TracIn(fitted, checkpoints=N_CHECKPOINTS).fit(X, y),
    }
    peers = [peer for peer in ("captum", "dattri") if find_spec(peer)]
    if "captum" in peers:
        of_all, of_last = {"sample_wise_grads_per_batch": True}, {"final_fc_layer": net.module_[-1]}
        runs["captum"] = captum_tracin("TracInCP", net.module_, states, loader, **of_all)
        runs["captum, fast"] = captum_tracin("TracInCPFast", net.module_, states, loader, **of_last)
    if "dattri" in peers:
        runs["dattri"] = dattri_tracin(net.module_, states, loader)
    seconds = seconds_of(runs, rounds)
    for peer in peers:
        times = np.divide(seconds[peer], seconds["all"])
        least = f"at least {asked[peer]}" if peer in asked else ""
        line(f"{name}, TracIn of all layers: {peer} / ours", spread(times), least)
    if "captum" in peers:
        times = np.divide(seconds["captum, fast"], seconds["last"])
        line(f"{name}, TracIn of the last layer: captum / ours", spread(times), "at least 1")


@contextmanager
def timed_committee():
    """Keep how long committees take to be trained and pooled."""
    took = []
    committee = _outlier_gradients.Committee

    def made(*args, **kwargs):
        start = clock()
        try:
            return committee(*args, **kwargs)
        finally:
            took.append(clock() - start)

    with patch.object(_outlier_gradients, "Committee", made):
        yield took


def default(rounds):
    for n_rows in (20_000, 200_000):
        X, y = make_classification(
            n_rows + 20_000, 50, n_informative=10, n_classes=4, random_state=0
        )
        X = X.astype(np.float32)
        method = OutlierGradientDetector(random_state=0)
        rates = []
        for _ in range(rounds if n_rows < 100_000 else 1):
            with timed_committee() as took:
                start = clock()
                method.fit(X[:n_rows], y[:n_rows])
                rates.append(n_rows / (clock() - start - sum(took)))
        line(f"default, {n_rows:,} x 50: rows a second", f"{np.median(rates):,.0f}", "10,000")
        start = clock()
        method.score_detrimentality(X[n_rows:], y[n_rows:])
        rate = 20_000 / (clock() - start)
        line(f"default, {n_rows:,} x 50: new rows a second", f"{rate:,.0f}", "")
    n_checkpoints = 10
    net, _, X, y = trained(Cnn, IMAGE, 4096, n_checkpoints, module__n_channels=3)
    batches = batches_of(X, y)
    fitted = FrozenEstimator(net)
    seconds = seconds_of(
        {
            "forward": lambda: forward_passes(net.module_, batches, n_checkpoints),
            "scores": lambda: OutlierGradientDetector(fitted).fit(X, y),
            "without neighbors": lambda: OutlierGradientDetector(fitted, n_neighbors=None).fit(
                X, y
            ),
        },
        rounds,
    )
    for name in ("scores", "without neighbors"):
        rates = np.divide(seconds["forward"], seconds[name])
        line(f"Cnn, ten checkpoints, {name}: rate / forward passes", spread(rates), "at least 0.8")


PARTS = {"gradients": gradients, "tracin": tracin, "default": default}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    print(f"{options.threads} thread(s), {options.rounds} rounds\n\n| what | measured | asked |")
    print("|---|---|---|")
    for part in options.parts:
        PARTS[part](options.rounds)
