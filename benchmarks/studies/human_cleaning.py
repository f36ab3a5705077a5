"""Test accuracy after cleaning labels that people got wrong, or flipped ones, by a committee.

    python -m benchmarks.studies.human_cleaning --data DIR --draws 10

Music and LabelMe: one answer a row, drawn anew each time, and the test rows with their true labels.
`OutlierGradientDetector()` is fitted once; a logistic regression and a forest are trained on all
rows, on those that `contamination="auto"` keeps (chosen for that model), on those that
"disagreement" and ("fdr", 0.2) keep, without the worst 10 % of the ranking, without as many random
rows as disagree, or as "auto" removes, and without exactly the wrong ones. Gains over all rows in
points of accuracy, with 95 % intervals over paired draws; `--arms` chooses some of the columns.
Each draw is a line of `--out` when it is done, and is not run again. With `--sets letter
satellite`, rows as in the battery "eight" and `--noise`, or none.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.data import add_data_argument, clean_table, files, load
from benchmarks.data.noise import plant
from benchmarks.studies.cleaning import interval
from skinfluence import CleanedClassifier, OutlierGradientDetector

CROWDS = {"music": "music_crowd", "labelme": "labelme_crowd"}
OF_MODELS = ("auto", "as many as auto")
ARMS = (*OF_MODELS, "disagreement", "random", "fdr", "worst 10 %", "oracle")


def problem_of(name, noise, draw, folder):
    """Give training rows, labels, which are wrong, and test rows with true labels."""
    if name in CROWDS:
        problem, stored = load(name, "human", draw, folder), files.arrays(folder, CROWDS[name])
        return problem.X, problem.y, problem.is_error, stored["X_test"], stored["y_test"]
    X, y = clean_table(name, folder)
    rows = np.random.default_rng(draw).permutation(len(y))
    train, test = rows[:3000], rows[3000:7000]
    given, is_error = y[train], np.zeros(len(train), dtype=bool)
    if noise != "none":
        given, is_error = plant(noise, X[train], given, draw)
    return X[train], given, is_error, X[test], y[test]


def models(seed):
    return {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
        "forest": RandomForestClassifier(100, random_state=seed),
    }


def measure(name, noise, draw, folder, arms):
    with TemporaryDirectory() as memory:  # "auto" fits the same committees for each model
        return measured(name, noise, draw, folder, arms, memory)


def measured(name, noise, draw, folder, arms, memory):
    X, y, is_error, X_test, y_test = problem_of(name, noise, draw, folder)
    method = OutlierGradientDetector(random_state=draw, memory=memory).fit(X, y)
    everything, generator = np.arange(len(y)), np.random.default_rng(draw)
    disagrees = everything[method.committee_.judged_labels() != y]
    gone = {
        "all": everything[:0],
        "disagreement": disagrees,
        "random": generator.choice(len(y), len(disagrees), replace=False),
        "fdr": method.label_errors_.flagged(0.2, method.ranking_),
        "worst 10 %": method.ranking_[: len(y) // 10],
        "oracle": everything[is_error],
    }
    found = {arm: {} for arm in ("all", *arms)}
    for kind, model in models(draw).items():
        if "auto" in arms:
            cleaned = CleanedClassifier(model, method, random_state=draw).fit(X, y)
            gone["auto"] = cleaned.removed_indices_
            size = len(gone["auto"])
            gone["as many as auto"] = generator.choice(len(y), size, replace=False)
        for arm, by_model in found.items():
            kept = np.setdiff1d(everything, gone[arm])
            score = clone(model).fit(X[kept], y[kept]).score(X_test, y_test)
            by_model[kind] = score, 1 - len(kept) / len(y)
    return found


def runs_of(name, options):
    """Run the draws that the file lacks, and give all that were asked for."""
    done = {}
    if options.out.exists():
        for line in map(json.loads, options.out.read_text().splitlines()):
            if (line["set"], line["noise"]) == (name, options.noise):
                done[line["draw"]] = line["found"]
    for draw in range(options.first, options.first + options.draws):
        if draw not in done or not set(options.arms) <= set(done[draw]):
            done[draw] = measure(name, options.noise, draw, options.data, options.arms)
            cell = {"set": name, "noise": options.noise, "draw": draw, "found": done[draw]}
            with options.out.open("a") as file:
                file.write(json.dumps(cell) + "\n")
        yield done[draw]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_argument(parser)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the number of the first draw")
    parser.add_argument("--out", type=Path, default=Path("human_cleaning.jsonl"))
    parser.add_argument("--sets", nargs="+", default=list(CROWDS))
    parser.add_argument("--noise", default="none")
    parser.add_argument("--arms", nargs="+", default=ARMS, choices=ARMS)
    options = parser.parse_args()
    print("| set | model | draws | all rows | " + " | ".join(options.arms) + " |")
    print("|" + "---|" * (4 + len(options.arms)))
    for name in options.sets:
        runs = list(runs_of(name, options))
        title = name if name in CROWDS else f"{name}, {options.noise}"
        for kind in models(0):
            by_arm = {arm: np.array([run[arm][kind] for run in runs]) for arm in runs[0]}
            removed = [f"{by_arm[arm][:, 1].mean():.1%}" for arm in options.arms]
            gains = [interval(by_arm[arm][:, 0] - by_arm["all"][:, 0]) for arm in options.arms]
            mean = f"{by_arm['all'][:, 0].mean():.1%}"
            line = [title, f"{kind}, rows removed", str(len(runs)), "0.0%", *removed]
            print("| " + " | ".join(line) + " |")
            print("| " + " | ".join([title, kind, str(len(runs)), mean, *gains]) + " |", flush=True)


if __name__ == "__main__":
    main()
