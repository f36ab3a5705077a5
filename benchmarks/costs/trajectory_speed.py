"""What methods along the training cost, as ratios to the training itself in the same run.

    python -m benchmarks.costs.trajectory_speed [--repeats 5]

An MLP 784-256-256-10 on 4,096 rows, batches of 64, one thread, processor time, medians:

* scores from 10 checkpoints of 40 epochs (last layer, the training's batch size) / the 40 epochs;
* SGD-influence over all steps of 5 epochs of SGD, retraced / these 5 epochs.
"""

import argparse
import time

import numpy as np
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from benchmarks.costs.nets import Mlp
from skinfluence import EL2N, OutlierGradientDetector, SGDInfluence, TraceRecorder, TracIn

N_ROWS, BATCH_SIZE = 4096, 64


def net(optimizer, lr, max_epochs, callbacks=None):
    return NeuralNetClassifier(
        Mlp,
        criterion=nn.CrossEntropyLoss,
        optimizer=optimizer,
        lr=lr,
        max_epochs=max_epochs,
        batch_size=BATCH_SIZE,
        iterator_train__shuffle=True,
        train_split=None,
        callbacks=callbacks,
        verbose=0,
    )


def seconds(run):
    start = time.process_time()
    run()
    return time.process_time() - start


def ratios(repeats, plain, recorded, methods, X, y, X_val, y_val):
    fitted = FrozenEstimator(clone(recorded).fit(X, y))
    found = {label: [] for label in ("training, recorded", *methods)}
    for _ in range(repeats):
        training = seconds(lambda: clone(plain).fit(X, y))
        found["training, recorded"].append(seconds(lambda: clone(recorded).fit(X, y)) / training)
        for label, method in methods.items():
            fresh = clone(method).set_params(net=fitted)
            rows = (X_val, y_val) if fresh._needs_validation() else ()
            taken = seconds(lambda fresh=fresh, rows=rows: fresh.fit(X, y, *rows))
            found[label].append(taken / training)
    for label, values in found.items():
        print(f"  {label:<44}{np.median(values):6.2f}  ({min(values):.2f}-{max(values):.2f})")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N_ROWS + 1024, 784)).astype(np.float32)
    y = (X[:, :10] + 0.5 * rng.normal(size=(len(X), 10))).argmax(1)
    data = X[:N_ROWS], y[:N_ROWS], X[N_ROWS:], y[N_ROWS:]
    at = {"checkpoints": 10, "batch_size": BATCH_SIZE}
    print("ratio to 40 epochs of Adam, 10 checkpoints, last layer")
    ratios(
        repeats,
        net(torch.optim.Adam, 1e-3, 40),
        net(torch.optim.Adam, 1e-3, 40, [TraceRecorder(checkpoints=10)]),
        {
            "EL2N, mean": EL2N(**at),
            "mean gradient, L2 norm": OutlierGradientDetector(n_neighbors=None, **at),
            "mean gradient and neighbor contrast": OutlierGradientDetector(**at),
            "TracIn, self-influence": TracIn(**at),
        },
        *data,
    )
    print("ratio to 5 epochs of SGD, retraced")
    ratios(
        repeats,
        net(torch.optim.SGD, 0.1, 5),
        net(
            torch.optim.SGD,
            0.1,
            5,
            [TraceRecorder(checkpoints="all", steps="all")],
        ),
        {
            "SGD-influence, trajectory": SGDInfluence(),
            "SGD-influence, one state an epoch": SGDInfluence(parameters="epoch"),
            "SGD-influence, final": SGDInfluence(parameters="final"),
        },
        *data,
    )


if __name__ == "__main__":
    main()
