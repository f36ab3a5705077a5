"""Test accuracy of nets trained on what a method keeps, beside an oracle and random removal.

    python benchmarks/cleaning.py --data DIR --out cleaning.json [--seeds 10] [--sets digits ...]

Twenty per cent of the training labels are flipped (pair or instance noise, or none), test labels
are clean. Every arm trains the same net on other rows: all of them; all but those that
`CleanedClassifier(contamination="auto")` removes; with those relabelled instead; all but as many
random ones; all but exactly the flipped ones; and, if cleanlab is installed, what its CleanLearning
keeps. Every set, noise and seed is a cell of the file, written when it is done and not computed
again. The table is of differences from training on all rows, in points, with 95 % intervals over
paired seeds.
"""

import argparse
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy.stats import t
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skinfluence import CleanedClassifier, OutlierGradientDetector
from skinfluence.datasets import make_noisy_labels
from skinfluence.nets import default_net

SETS = ("digits", "letter", "satellite", "mnist10k")
NOISES = ("pair", "instance", "none")
ARMS = ("all", "auto", "relabel", "random", "oracle", "cleanlab")


def load(name, folder):
    if name == "digits":
        X, y = load_digits(return_X_y=True)
    else:
        with np.load(folder / f"{name}.npz") as arrays:
            X, y = arrays["X"], arrays["y"]
    X = X.reshape(len(X), -1).astype(np.float32)
    return X, np.unique(y, return_inverse=True)[1]


def split(name, noise, seed, folder):
    X, y = load(name, folder)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, random_state=seed, stratify=y)
    if noise == "none":
        return X, y, np.zeros(len(y), dtype=bool), X_test, y_test
    inputs = {"X": X} if noise == "instance" else {}
    given, is_noisy = make_noisy_labels(y, rate=0.2, kind=noise, random_state=seed, **inputs)
    return X, given, is_noisy, X_test, y_test


def cells_of(name, noise, seed, folder, wanted):
    """Compute the arms wanted of one set, noise and seed; the random one follows the first."""
    X, y, is_noisy, X_test, y_test = split(name, noise, seed, folder)
    net = default_net(X, y, random_state=seed)

    def accuracy(rows, labels=y):
        return float(clone(net).fit(X[rows], labels[rows]).score(X_test, y_test))

    everything = np.arange(len(y))
    found = {}
    if "all" in wanted:
        found["all"] = accuracy(everything)
    if "oracle" in wanted:
        found["oracle"] = accuracy(everything[~is_noisy])
    if {"auto", "random", "relabel"} & set(wanted):
        method = OutlierGradientDetector(net, random_state=seed)
        model = CleanedClassifier(net, method, random_state=seed).fit(X, y)
        found["auto"] = float(model.score(X_test, y_test))
        found["share"] = len(model.removed_indices_) / len(y)
        gone = np.random.default_rng(seed).choice(len(y), len(model.removed_indices_), False)
        found["random"] = accuracy(np.setdiff1d(everything, gone))
        same = {"contamination": len(gone), "action": "relabel"}
        relabelled = clone(model).set_params(**same).fit(X, y)
        found["relabel"] = float(relabelled.score(X_test, y_test))
    if "cleanlab" in wanted:
        from cleanlab.classification import CleanLearning

        learner = CleanLearning(clone(net), seed=seed, cv_n_folds=3, verbose=False)
        found["cleanlab"] = float(np.mean(learner.fit(X, y).predict(X_test) == y_test))
    return found


def interval(differences):
    differences = 100 * np.asarray(differences)
    if len(differences) < 2:
        return f"{differences.mean():+.2f}"
    half = t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / len(differences) ** 0.5
    return f"{differences.mean():+.2f} ± {half:.2f}"


def table(cells):
    print("| set | noise | seeds | all rows | removed | " + " | ".join(ARMS[1:]) + " |")
    print("|" + "---|" * (5 + len(ARMS) - 1))
    for name, noise in sorted({tuple(key.split("/")[:2]) for key in cells}):
        runs = [cells[key] for key in cells if key.startswith(f"{name}/{noise}/")]
        columns = []
        for arm in ARMS[1:]:
            pairs = [run[arm] - run["all"] for run in runs if arm in run]
            columns.append(interval(pairs) if pairs else "not run")
        shares = [f"{np.mean([run[key] for run in runs]):.1%}" for key in ("all", "share")]
        print("| " + " | ".join([name, noise, str(len(runs)), *shares, *columns]) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path())
    parser.add_argument("--out", type=Path, default=Path("cleaning.json"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--noises", nargs="+", choices=NOISES, default=NOISES)
    options = parser.parse_args()
    arms = [arm for arm in ARMS if arm != "cleanlab" or find_spec("cleanlab")]
    cells = json.loads(options.out.read_text()) if options.out.exists() else {}
    for seed in range(options.seeds):
        for name in options.sets:
            for noise in options.noises:
                done = cells.setdefault(f"{name}/{noise}/{seed}", {})
                missing = [arm for arm in arms if arm not in done]
                if missing:
                    done.update(cells_of(name, noise, seed, options.data, missing))
                    options.out.write_text(json.dumps(cells, indent=1))
    table(cells)


if __name__ == "__main__":
    main()
