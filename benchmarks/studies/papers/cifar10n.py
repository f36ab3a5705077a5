"""CIFAR-10N in miniature: test accuracy after trimming human labels, with random and oracle rows.

    python -m benchmarks.studies.papers.cifar10n --data DIR --out FILE [--seeds 3] [--labels worse]

3,000 training images, halved to 16 x 16, with the labels "worse" (41 % wrong) or "aggre" (9 %),
4,000 test images with clean ones. A convolutional net of three layers, Adam, 10 epochs, batches of
64, shuffled alike in every arm, no augmentation; the accuracy is that of the last epoch. The paper
has ResNet-34 from all 50,000 images, 100 epochs, the best epoch on the test rows. Scores are those
of the net trained on all rows, and for "loss, 3 folds" of nets that did not see the row. 5 % of the
rows are left out, as in the paper, and as many as are wrong. A seed draws rows, initial parameters
and the order; all arms of a seed share them. Every accuracy is written when it is there, and not
computed again.
"""

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
import torch
from pyod.models.iforest import IForest
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from benchmarks.data import add_data_argument, files
from benchmarks.studies.cleaning import interval
from skinfluence import LossScore, NormDetector, OutlierGradientDetector

N_TRAIN = 3000
ARMS = ("random", "isolation forest", "L1 norm", "L2 norm", "loss", "loss, 3 folds", "oracle")


class SmallConvNet(nn.Sequential):
    """Three strided convolutions and a linear layer."""

    def __init__(self, seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            layers = []
            for n_in, n_out in ((3, 24), (24, 48), (48, 64)):
                layers += [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1), nn.ReLU()]
            super().__init__(*layers, nn.Flatten(), nn.Linear(64 * 4, 10))


class Shuffled(torch.utils.data.DataLoader):
    """Batches in an order drawn by a seed."""

    def __init__(self, dataset, batch_size, seed):
        generator = torch.Generator().manual_seed(seed)
        super().__init__(dataset, batch_size=batch_size, shuffle=True, generator=generator)


def make_net(seed):
    return NeuralNetClassifier(
        SmallConvNet,
        module__seed=seed,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=0.001,
        max_epochs=10,
        batch_size=64,
        iterator_train=Shuffled,
        iterator_train__seed=seed,
        train_split=None,
        verbose=0,
    )


def rows_of(labels, seed, folder):
    stored = files.arrays(folder, "cifar10n_20k")
    rows = np.random.default_rng(seed).permutation(len(stored["clean_label"]))[:N_TRAIN]
    given = stored[f"{labels}_label"][rows].astype(np.int64)
    tests = {"train_jpeg": stored["test_jpeg"], "train_offsets": stored["test_offsets"]}
    y_test = stored["test_label"].astype(np.int64)
    X, X_test = files.jpegs(stored, rows), files.jpegs(tests, range(len(y_test)))
    return halved(X), given, given != stored["clean_label"][rows], halved(X_test), y_test


def halved(X):
    """Average squares of four pixels; roughly standardised."""
    n, channels, height, width = X.shape
    small = X.reshape(n, channels, height // 2, 2, width // 2, 2).mean((3, 5))
    return 4 * (small - np.float32(0.47))


def scores_of(net, X, y, is_wrong, seed):
    paper = {"checkpoints": "last", "normalize": None, "n_neighbors": None, "random_state": seed}
    draw = np.random.default_rng([seed, 1]).random(len(y))
    methods = {
        "isolation forest": OutlierGradientDetector(net, detector=IForest(), **paper),
        "L1 norm": OutlierGradientDetector(net, detector=NormDetector(1), **paper),
        "L2 norm": OutlierGradientDetector(net, detector=NormDetector(2), **paper),
        "loss": LossScore(net),
        "loss, 3 folds": LossScore(make_net(seed), cv=3, random_state=seed),
    }
    found = {name: method.fit(X, y).detrimentality_ for name, method in methods.items()}
    return found | {"random": draw, "oracle": is_wrong + 0.5 * draw}


def compute(labels, seed, folder, cell, save):
    """Fill the cell of a set of labels and a seed: {arm, budget: accuracy, share wrong}."""
    X, y, is_wrong, X_test, y_test = rows_of(labels, seed, folder)
    net = make_net(seed).fit(X, y)
    cell["all"] = [float(net.score(X_test, y_test)), float(is_wrong.mean())]
    scores = scores_of(FrozenEstimator(net), X, y, is_wrong, seed)
    for name, budget in ((a, b) for b in (0.05, float(is_wrong.mean())) for a in ARMS):
        key = f"{name}/{'5 %' if budget == 0.05 else 'as many as wrong'}"
        if key not in cell:
            order = np.argsort(-scores[name], kind="stable")
            gone, kept = np.split(order, [round(budget * len(y))])
            kept.sort()
            again = clone(net).fit(X[kept], y[kept])
            cell[key] = [float(again.score(X_test, y_test)), float(is_wrong[gone].mean())]
            save()


def table(cells):
    for labels in ("worse", "aggre"):
        runs = [run for key, run in cells.items() if key.startswith(labels)]
        if not runs:
            continue
        before, wrong = np.mean([run["all"] for run in runs], axis=0)
        print(f"\n{labels}: {wrong:.1%} wrong, {len(runs)} seeds; all rows {before:.1%}\n")
        columns = ("wrong among them", "points gained", "points over random")
        print("| left out | " + " | ".join(f"{column}, {labels}" for column in columns) + " |")
        print("|---|---|---|---|")
        for key in list(runs[0])[1:]:
            name, budget = key.split("/")
            done = [run for run in runs if key in run and f"random/{budget}" in run]
            after = [run[key][0] for run in done]
            gain = interval(np.subtract(after, [run["all"][0] for run in done]))
            over = interval(np.subtract(after, [run[f"random/{budget}"][0] for run in done]))
            purity = np.mean([run[key][1] for run in done])
            print(f"| {name}, {budget} | {purity:.1%} | {gain} | {over} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_argument(parser)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--labels", nargs="+", default=["worse", "aggre"])
    parser.add_argument("--table", action="store_true", help="only print what the file holds")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    cells = json.loads(options.out.read_text()) if options.out.exists() else {}

    def save():
        options.out.write_text(json.dumps(cells, indent=1))

    for seed in range(options.seeds if not options.table else 0):
        for labels in options.labels:
            cell = cells.setdefault(f"{labels}/{seed}", {})
            if len(cell) < 1 + 2 * len(ARMS):
                compute(labels, seed, options.data, cell, save)
    table(cells)


if __name__ == "__main__":
    main()
