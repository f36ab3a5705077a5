"""Which estimates rank rows as really leaving them out does, and what they need stored.

    python -m benchmarks.studies.leave_one_out --data DIR [--seeds 5]

The truth is training again without each row's loss, with the same initial parameters and the same
batches, and the change of the validation loss. Four small sets (200 training, 200 validation rows:
Adult, Adult and breast cancer with 10 % flipped labels, digits 1 against 7) and two nets: an 8-8
perceptron and logistic regression, both by plain SGD. Kendall's tau, and the share of the ten most
detrimental rows that an estimate finds; a linear datamodeling score over random halves. Clean
labels of other rows are never used: the flips are in the training rows only.
"""

import argparse
import csv
import gzip
from pathlib import Path

import numpy as np
import torch
from scipy.stats import kendalltau
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from benchmarks.data import add_data_argument
from skinfluence import (
    InfluenceFunction,
    InnerProductInfluence,
    RandomScore,
    SGDInfluence,
    TraceRecorder,
    TracIn,
)
from skinfluence.influence import (
    EKFAC,
    Arnoldi,
    ConjugateGradient,
    DataInf,
    Exact,
    Identity,
    LiSSA,
)
from skinfluence.metrics import linear_datamodeling_score

N_ROWS = 200
ADULT_COLUMNS = 15


class Perceptron(nn.Module):
    """Two hidden layers of eight, in float64."""

    def __init__(self, n_inputs):
        super().__init__()
        layers = [nn.Linear(n_inputs, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)]
        self.layers = nn.Sequential(*layers).double()

    def forward(self, X):
        return self.layers(X)


class Logistic(nn.Module):
    """One linear layer, in float64."""

    def __init__(self, n_inputs):
        super().__init__()
        self.layer = nn.Linear(n_inputs, 2).double()

    def forward(self, X):
        return self.layer(X)


def adult(folder):
    """One-hot categories and standardised numbers of the Adult training file."""
    with gzip.open(Path(folder) / "adult-train.csv.gz", "rt") as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file)]
    rows = [row for row in rows if len(row) == ADULT_COLUMNS]
    columns = list(zip(*rows, strict=True))
    parts = []
    for column in columns[:-1]:
        try:
            numbers = np.array(column, dtype=np.float64)
            parts.append(((numbers - numbers.mean()) / numbers.std())[:, None])
        except ValueError:  # names
            names = np.unique(column)
            parts.append((np.array(column)[:, None] == names).astype(np.float64))
    return np.hstack(parts), np.array([label.startswith(">") for label in columns[-1]]).astype(int)


def load(name, folder):
    if name == "adult":
        return adult(folder)
    if name == "digits 1 against 7":
        X, y = load_digits(return_X_y=True)
        kept = np.isin(y, (1, 7))
        return X[kept] / 16, (y[kept] == 7).astype(int)
    X, y = load_breast_cancer(return_X_y=True)
    return (X - X.mean(0)) / X.std(0), y


TASKS = {
    "adult": ("adult", 0.0),
    "adult, 10 % flips": ("adult", 0.1),
    "digits 1 against 7": ("digits 1 against 7", 0.0),
    "breast cancer, 10 % flips": ("breast cancer", 0.1),
}


def split(task, seed, folder, n_rows=N_ROWS):
    """Draw training and validation rows; flip labels of the former."""
    name, rate = TASKS[task]
    X, y = load(name, folder)
    rng = np.random.default_rng(seed)
    n_rows = min(n_rows, len(X) // 2)
    rows = rng.permutation(len(X))[: 2 * n_rows]
    train, val = rows[:n_rows], rows[n_rows:]
    y_train = y[train].copy()
    flipped = rng.permutation(n_rows)[: round(rate * n_rows)]
    y_train[flipped] = 1 - y_train[flipped]
    return X[train], y_train, X[val], y[val]


def train(module, X, y, seed, *, lr=0.1, max_epochs=10, batch_size=20):
    recorder = TraceRecorder(checkpoints="all", steps="all")
    net = NeuralNetClassifier(
        module,
        module__n_inputs=X.shape[1],
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__weight_decay=0.001,
        lr=lr,
        max_epochs=max_epochs,
        batch_size=batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        callbacks=[recorder],
        verbose=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net.fit(X, y)
    return net, recorder.trace_


def validation_losses(net, trace, X, y, X_val, y_val, weights):
    """Train many copies together, each with weights of its own on the rows, batch for batch.

    Weights (n_copies, n_rows); gives the mean validation loss of every copy.
    """
    module = net.module_
    X, X_val = torch.as_tensor(X), torch.as_tensor(X_val)
    y, y_val = torch.as_tensor(y), torch.as_tensor(y_val)
    weights = torch.as_tensor(weights, dtype=torch.float64)

    def loss(parameters, X, y, w):
        output = torch.func.functional_call(module, parameters, (X,))
        return (nn.functional.cross_entropy(output, y, reduction="none") * w).sum() / len(y)

    copies = {
        name: trace.initial_state[name].expand(len(weights), *p.shape).clone()
        for name, p in module.named_parameters()
    }
    step = torch.func.vmap(torch.func.grad(loss), in_dims=(0, None, None, 0))
    decay = trace.weight_decay[0]
    for rows, rate in zip(trace.batch_indices, trace.learning_rates[:, 0].tolist(), strict=True):
        gradients = step(copies, X[rows], y[rows], weights[:, rows])
        copies = {
            name: value - rate * (gradients[name] + decay * value) for name, value in copies.items()
        }
    ones = torch.ones(len(y_val), dtype=torch.float64)
    with torch.no_grad():
        return torch.func.vmap(loss, in_dims=(0, None, None, None))(copies, X_val, y_val, ones)


def detrimentality(net, trace, X, y, X_val, y_val):
    """Train again without each row, and say how much lower the validation loss is."""
    weights = np.vstack([np.ones(len(X)), 1 - np.eye(len(X))])
    losses = validation_losses(net, trace, X, y, X_val, y_val, weights).numpy()
    return losses[0] - losses[1:]


def sgd_methods(net):
    return {
        f"SGD-influence, {parameters}, {epochs}": SGDInfluence(
            net, parameters=parameters, epochs=epochs
        )
        for parameters in ("trajectory", "epoch", "final")
        for epochs in ("all", "last")
    } | {"SGD-influence without Hessian, trajectory": SGDInfluence(net, hessian=False)}


def methods(net):
    def function(solver):
        return InfluenceFunction(net, solver=solver, layers="all")

    return {
        **sgd_methods(net),
        "TracIn, validation, 10 checkpoints": TracIn(
            net, reference="validation", checkpoints=10, layers="all"
        ),
        "TracIn, self-influence": TracIn(net, checkpoints=10, layers="all"),
        "inner product": InnerProductInfluence(net),
        "influence function, exact": function(Exact()),
        "influence function, conjugate gradient": function(ConjugateGradient()),
        "influence function, LiSSA": function(LiSSA()),
        "influence function, Arnoldi": function(Arnoldi()),
        "influence function, EK-FAC": function(EKFAC()),
        "influence function, DataInf": function(DataInf()),
        "influence function, identity": function(Identity()),
        "random": RandomScore(random_state=0),
    }


def stored_bytes(label, trace):
    """Count what a method needs stored of the training: parameters, and order with rates."""
    parameters = sum(p.numel() * p.element_size() for p in trace.step_states[0].values())
    per_epoch = trace.epoch_starts[1] if len(trace.epoch_starts) > 1 else trace.n_steps
    n_epochs = len(trace.epoch_starts)
    epochs = 1 if label.endswith("last") else n_epochs
    order = epochs * (8 * trace.n_samples + 8 * per_epoch)
    if not label.startswith("SGD"):
        return parameters * (10 if "TracIn" in label else label != "random"), 0
    states = {"final": 1, "epoch": epochs + 1}.get(label.split(", ")[1].split()[0])
    return parameters * (states or epochs * per_epoch), order


def overlap(scores, truth, k=10):
    return len(set(np.argsort(-scores)[:k]) & set(np.argsort(-truth)[:k])) / k


def evaluate(module, task, seed, folder, choose=methods, **training):
    """Compare all methods with the truth on one set and seed."""
    X, y, X_val, y_val = split(task, seed, folder)
    net, trace = train(module, X, y, seed, **training)
    truth = detrimentality(net, trace, X, y, X_val, y_val)
    halves = np.random.default_rng(seed).random((100, len(X))) < 0.5
    losses = validation_losses(net, trace, X, y, X_val, y_val, halves).numpy()
    found = {}
    for label, method in choose(FrozenEstimator(net)).items():
        with_validation = method._needs_validation()
        rows = (X_val, y_val) if with_validation else ()
        scores = method.fit(X, y, *rows).detrimentality_
        found[label] = (
            kendalltau(scores, truth).statistic,
            overlap(scores, truth),
            linear_datamodeling_score(-scores[None], halves, losses[:, None]),
            *stored_bytes(label, trace),
        )
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_argument(parser)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tasks = [t for t in TASKS if arguments.data is not None or not t.startswith("adult")]
    for module in (Perceptron, Logistic):
        results = {
            task: [evaluate(module, task, seed, arguments.data) for seed in range(arguments.seeds)]
            for task in tasks
        }
        print(f"\n{module.__name__}, {arguments.seeds} seeds: Kendall tau / top-10 overlap")
        print(f"| estimate | {' | '.join(tasks)} | mean tau | LDS | parameter bytes | with order |")
        print("|---" * (len(tasks) + 5) + "|")
        for label in results[tasks[0]][0]:
            values = np.array([[run[label] for run in results[task]] for task in tasks])
            mean = values.mean(1)
            cells = " | ".join(f"{tau:.2f} / {top:.2f}" for tau, top, *_ in mean)
            parameters, order = (int(value) for value in mean[:, 3:].max(0))
            print(
                f"| {label} | {cells} | {mean[:, 0].mean():.3f} | {mean[:, 2].mean():.2f} | "
                f"{parameters:,} | {parameters + order:,} |"
            )
    rows, batch = 50_000, 32
    steps = -(-rows // batch)
    print(
        f"\nWith {rows:,} rows in batches of {batch}, (final, last) stores 1 state where "
        f"(trajectory, last) stores {steps:,}: 1/{steps:,} of the parameter bytes."
    )


if __name__ == "__main__":
    main()
