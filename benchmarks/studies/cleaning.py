"""Test accuracy of nets trained on what a method keeps, beside an oracle and random removal.

    python -m benchmarks.studies.cleaning --data DIR --out cleaning.json [--seeds 10]

A seed draws up to 3,000 training rows and up to 4,000 others to test on. Twenty per cent of the
training labels are flipped (pair or instance noise, or none); test labels are clean. Every arm
trains the same net on other rows: all of them; all but those that
`CleanedClassifier(contamination="auto")` removes; with those relabelled instead; all but as many
random ones; all but exactly the flipped ones; and, if cleanlab is installed, what its CleanLearning
keeps, as it is set by default. Every set, noise and seed is a cell of the file, written when it is
done and not computed again; several processes with files of their own share the work, and
`--table FILE ...` prints what their files say together. Differences are from training on all rows,
in points of accuracy, with 95 % intervals over paired seeds. Scores are those of the net that is
trained on what is kept, or with `--committee` those of the default committee.
"""

import argparse
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy.stats import t
from sklearn.base import clone

from benchmarks.data import CLEAN, add_data_argument, clean_table
from skinfluence import CleanedClassifier, OutlierGradientDetector
from skinfluence.datasets import make_noisy_labels
from skinfluence.nets import default_net

NOISES = ("pair", "instance", "none")
ARMS = ("all", "auto", "relabel", "random", "oracle", "cleanlab")
N_TRAIN, N_TEST = 3000, 4000
# Points that an oracle must gain for a cell to count as one where cleaning can help.
WORTHWHILE = 2.0


def split(name, noise, seed, folder):
    X, y = clean_table(name, folder)
    rows = np.random.default_rng(seed).permutation(len(y))
    n_train = min(N_TRAIN, int(0.7 * len(y)))
    train, test = rows[:n_train], rows[n_train : n_train + N_TEST]
    given, is_noisy = y[train], np.zeros(n_train, dtype=bool)
    if noise != "none":
        inputs = {"X": X[train]} if noise == "instance" else {}
        given, is_noisy = make_noisy_labels(
            given, rate=0.2, kind=noise, random_state=seed, **inputs
        )
    return X[train], given, is_noisy, X[test], y[test]


def add_arms(found, wanted, name, noise, seed, folder, *, committee=False):
    """Compute the arms wanted of one set, noise and seed; "auto" says how many rows others take."""
    X, y, is_noisy, X_test, y_test = split(name, noise, seed, folder)
    net = default_net(X, y, random_state=seed)
    method = OutlierGradientDetector(None if committee else net, random_state=seed)
    model = CleanedClassifier(net, method, random_state=seed)
    everything = np.arange(len(y))

    def accuracy(rows):
        return float(clone(net).fit(X[rows], y[rows]).score(X_test, y_test))

    if "all" in wanted:
        found["all"] = accuracy(everything)
    if "oracle" in wanted:
        found["oracle"] = accuracy(everything[~is_noisy])
    if "auto" in wanted:
        model.fit(X, y)
        found["auto"] = float(model.score(X_test, y_test))
        found["share"] = len(model.removed_indices_) / len(y)
    n_removed = round(found["share"] * len(y))
    if "random" in wanted:
        gone = np.random.default_rng(seed).choice(len(y), n_removed, False)
        found["random"] = accuracy(np.setdiff1d(everything, gone))
    if "relabel" in wanted:
        model.set_params(contamination=n_removed, action="relabel")
        found["relabel"] = float(model.fit(X, y).score(X_test, y_test))
    if "cleanlab" in wanted:
        from cleanlab.classification import CleanLearning

        learner = CleanLearning(clone(net), seed=seed)
        found["cleanlab"] = float(np.mean(learner.fit(X, y).predict(X_test) == y_test))


def interval(differences):
    differences = 100 * np.asarray(differences)
    if len(differences) < 2:
        return f"{differences.mean():+.2f}"
    half = t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / len(differences) ** 0.5
    return f"{differences.mean():+.2f} ± {half:.2f}"


def gains_of(cells, name, noise, arm):
    runs = [cells[key] for key in cells if key.startswith(f"{name}/{noise}/")]
    return [run[arm] - run["all"] for run in runs if arm in run]


def table(cells):
    print("| set | noise | seeds | all rows | removed | " + " | ".join(ARMS[1:]) + " |")
    print("|" + "---|" * (5 + len(ARMS) - 1))
    for name, noise in kinds_of(cells):
        runs = [cells[key] for key in cells if key.startswith(f"{name}/{noise}/")]
        found = [gains_of(cells, name, noise, arm) for arm in ARMS[1:]]
        columns = [interval(gains) if gains else "not run" for gains in found]
        shares = [f"{np.mean([run[key] for run in runs]):.1%}" for key in ("all", "share")]
        print("| " + " | ".join([name, noise, str(len(runs)), *shares, *columns]) + " |")


def kinds_of(cells):
    return sorted({tuple(key.split("/")[:2]) for key in cells})


def summary(cells):
    """Say how the arms do where an oracle gains much, where it does not, and without noise."""
    oracle = {kind: 100 * np.mean(gains_of(cells, *kind, "oracle")) for kind in kinds_of(cells)}
    noisy = [kind for kind in oracle if kind[1] != "none"]
    groups = {
        f"noise, oracle gains {WORTHWHILE:g} points or more": [
            kind for kind in noisy if oracle[kind] >= WORTHWHILE
        ],
        "noise, oracle gains less": [kind for kind in noisy if oracle[kind] < WORTHWHILE],
        "no noise added": [kind for kind in oracle if kind[1] == "none"],
    }
    print("\n| cells | number | " + " | ".join(ARMS[1:]) + " | lowest auto |")
    print("|" + "---|" * (3 + len(ARMS) - 1))
    for title, kinds in groups.items():
        if kinds:
            means = {
                arm: [100 * np.mean(gains_of(cells, *kind, arm) or np.nan) for kind in kinds]
                for arm in ARMS[1:]
            }
            columns = [f"{np.mean(values):+.2f}" for values in means.values()]
            print(f"| {title} | {len(kinds)} | " + " | ".join(columns), end=" | ")
            print(f"{min(means['auto']):+.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_argument(parser)
    parser.add_argument("--out", type=Path, default=Path("cleaning.json"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--sets", nargs="+", choices=CLEAN, default=CLEAN)
    parser.add_argument("--committee", action="store_true", help="score by the default committee")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--noises", nargs="+", choices=NOISES, default=NOISES)
    parser.add_argument("--table", nargs="+", type=Path, help="print the table of these files")
    options = parser.parse_args()
    if options.table:
        cells = {}
        for path in options.table:
            cells |= json.loads(path.read_text())
        cells = {key: cell for key, cell in cells.items() if cell}
    else:
        cells = compute(options)
    table(cells)
    summary(cells)


def compute(options):
    arms = [arm for arm in options.arms if arm != "cleanlab" or find_spec("cleanlab")]
    cells = json.loads(options.out.read_text()) if options.out.exists() else {}
    for seed in range(options.seeds):
        for name in options.sets:
            for noise in options.noises:
                done = cells.setdefault(f"{name}/{noise}/{seed}", {})
                missing = [arm for arm in arms if arm not in done]
                if missing:
                    where = name, noise, seed, options.data
                    add_arms(done, missing, *where, committee=options.committee)
                    options.out.write_text(json.dumps(cells, indent=1))
    return cells


if __name__ == "__main__":
    main()
