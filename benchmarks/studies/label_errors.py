"""Flags at a stated rate of false alarms, and the number of wrong labels, held against the truth.

    python -m benchmarks.studies.label_errors run --data DIR --out label_errors.jsonl
    python -m benchmarks.studies.label_errors table label_errors.jsonl

Each set, noise and seed is a line of the file: one fit of `OutlierGradientDetector()`, what its
`label_errors_` expect, and what they flag of its ranking at 10 and 20 %. An oracle flags the
longest beginning of the same ranking that keeps the rate by the truth. Rivals count on the same
probabilities: the rows whose label is not the committee's likeliest, and, if it is installed,
cleanlab's `find_label_issues` with its default filter. "none" is a set with no error planted;
errors that it holds anyway count as right labels. With `--folds`, `CalibratedDetrimentality` of one
default net.
"""

import argparse
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks.batteries import BATTERIES
from benchmarks.data import SETS, SetUnavailable, add_data_argument, load
from benchmarks.data.problem import Problem
from skinfluence import CalibratedDetrimentality, OutlierGradientDetector

NONE = "none"
RATES = (0.1, 0.2)
# An oracle that may flag fewer says little of how many are found.
ENOUGH = 20
# What a set must hold for its number of errors to be asked for.
MANY = 0.03


def cells_of(batteries):
    """List the cells of batteries, and each of their sets without planted errors."""
    cells = [cell for name in batteries for cell in BATTERIES[name]]
    planted = [name for name, noise in cells if noise != "human"]
    return list(dict.fromkeys([*cells, *((name, NONE) for name in planted)]))


def problem_of(name, noise, seed, folder):
    if noise != NONE:
        return load(name, noise, seed, folder)
    X, y = SETS[name].draw(seed, folder)
    no_error = np.zeros(len(y), dtype=bool)
    return Problem(X, y, no_error, is_regression=SETS[name].is_regression)


def longest(ranking, is_error, rate):
    false_alarms = np.cumsum(~is_error[ranking]) / np.arange(1, len(ranking) + 1)
    allowed = np.flatnonzero(false_alarms <= rate)
    return ranking[: allowed[-1] + 1 if len(allowed) else 0]


def measure(problem, seed, *, folds):
    method = OutlierGradientDetector(random_state=seed)
    if folds:
        one_net = OutlierGradientDetector(committee=None)
        method = CalibratedDetrimentality(one_net, random_state=seed)
    method.fit(problem.X, problem.y)
    errors, is_error = method.label_errors_, problem.is_error
    found = {
        "rows": len(is_error),
        "errors": int(is_error.sum()),
        "expected": errors.expected,
        "interval": errors.interval,
        "known": errors.is_known,
        "rate": errors.noise_rate_interval,
        "certainty": errors.certainty,
    }
    if folds:
        found["disagree"] = int((~method.looks_clean_).sum())
    elif not problem.is_regression:
        probabilities = method.committee_.out_of_sample
        codes = np.unique(problem.y, return_inverse=True)[1]
        found["disagree"] = int((probabilities.argmax(1) != codes).sum())
        if find_spec("cleanlab"):
            from cleanlab.filter import find_label_issues

            found["cleanlab"] = int(find_label_issues(codes, probabilities, n_jobs=1).sum())
    for rate in RATES:
        flagged = errors.flagged(rate, method.ranking_)
        oracle = longest(method.ranking_, is_error, rate)
        found[f"flagged {rate}"] = len(flagged)
        found[f"right {rate}"] = int((~is_error[flagged]).sum())
        found[f"oracle {rate}"] = int(is_error[oracle].sum())
        found[f"oracle flags {rate}"] = len(oracle)
    return found


def run(options):
    done = set()
    if options.out.exists():
        lines = map(json.loads, options.out.read_text().splitlines())
        done = {(line["set"], line["noise"], line["seed"]) for line in lines}
    for seed in options.seeds:
        for name, noise in cells_of(options.batteries):
            if (name, noise, seed) in done or name not in (options.sets or SETS):
                continue
            try:
                problem = problem_of(name, noise, seed, options.data)
            except SetUnavailable as error:
                print(f"{name} left out: {error}")
                continue
            cell = {
                "set": name,
                "noise": noise,
                "seed": seed,
                **measure(problem, seed, folds=options.folds),
            }
            with options.out.open("a") as file:
                file.write(json.dumps(cell) + "\n")
            print(cell, flush=True)


def alarms(line, rate):
    return line[f"right {rate}"] / max(line[f"flagged {rate}"], 1)


def table(lines):
    kinds = sorted({(line["set"], line["noise"]) for line in lines})
    heads = ["errors", "expected", "90 % interval", "holds it", "known", "disagree", "cleanlab"]
    for rate in RATES:
        heads += [f"flagged at {rate:.0%}", "false alarms", "found of the oracle's"]
    print("| set | noise | seeds | rows | " + " | ".join(heads) + " |")
    print("|" + "---|" * (4 + len(heads)))
    rows = []
    for name, noise in kinds:
        of = [line for line in lines if (line["set"], line["noise"]) == (name, noise)]

        def mean(key, of=of):
            return float(np.mean([line.get(key, np.nan) for line in of]))

        low, high = np.mean([line["interval"] for line in of], axis=0)
        holds = sum(x["interval"][0] <= x["errors"] <= x["interval"][1] for x in of)
        known = sum(line["known"] for line in of)
        row = {"noise": noise, "share": mean("errors") / mean("rows"), "known": known / len(of)}
        row |= {"of": of, "ratio": mean("expected") / max(mean("errors"), 1), "set": name}
        texts = [f"{mean('errors'):.0f}", f"{mean('expected'):.0f}", f"{low:.0f} to {high:.0f}"]
        texts += [f"{holds} of {len(of)}", f"{known} of {len(of)}"]
        texts += [f"{mean(key):.0f}" for key in ("disagree", "cleanlab")]
        for rate in RATES:
            oracle = mean(f"oracle {rate}")
            hits = mean(f"flagged {rate}") - mean(f"right {rate}")
            row[rate] = {
                "alarms": float(np.mean([alarms(line, rate) for line in of])),
                "found": hits / oracle if mean(f"oracle flags {rate}") >= ENOUGH else np.nan,
                "share": mean(f"flagged {rate}") / mean("rows"),
            }
            texts += [f"{mean(f'flagged {rate}'):.0f}", f"{row[rate]['alarms']:.1%}"]
            texts += [f"{row[rate]['found']:.0%}".replace("nan%", "-")]
        rows.append(row)
        print("| " + " | ".join([name, noise, str(len(of)), f"{mean('rows'):.0f}", *texts]) + " |")
    summary(rows)


def summary(rows):
    noisy = [row for row in rows if row["noise"] != NONE]
    clean = [row for row in rows if row["noise"] == NONE]
    for rate in RATES:
        found = [row[rate]["found"] for row in noisy if not np.isnan(row[rate]["found"])]
        worst = max(noisy, key=lambda row: row[rate]["alarms"])
        mean = np.mean([row[rate]["alarms"] for row in noisy])
        print(
            f"\n- flags at {rate:.0%}: false alarms {mean:.1%} on the mean of {len(noisy)} cells "
            f"with errors, at most {worst[rate]['alarms']:.1%} ({worst['set']}, {worst['noise']}); "
            f"found {np.mean(found):.0%} of what the oracle finds, on the mean of {len(found)} "
            f"cells where it flags {ENOUGH} or more"
        )
        if clean:
            most = max(row[rate]["share"] for row in clean)
            print(
                f"- without errors at most {most:.2%} of the rows are flagged, of {len(clean)} sets"
            )
    many = [row for row in noisy if row["share"] >= MANY]
    known = [row for row in many if row["known"] >= 0.5]
    near = [row for row in known if abs(row["ratio"] - 1) <= 1 / 3]
    unknown = ", ".join(f"{r['set']}, {r['noise']}" for r in many if r not in known)
    off = ", ".join(f"{r['set']}, {r['noise']}: {r['ratio']:.2f}" for r in known if r not in near)
    print(
        f"- of {len(many)} cells with {MANY:.0%} errors or more, expected within a third in "
        f"{len(near)} of the {len(known)} that are known in most seeds; off: {off or 'none'}; "
        f"not known: {unknown or 'none'}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run")
    add_data_argument(runs)
    runs.add_argument("--out", type=Path, default=Path("label_errors.jsonl"))
    runs.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 4, 5, 6])
    runs.add_argument("--batteries", nargs="+", choices=BATTERIES, default=["eight"])
    runs.add_argument("--folds", action="store_true", help="one net on five folds, no committee")
    runs.add_argument("--sets", nargs="+", choices=SETS)
    tables = commands.add_parser("table")
    tables.add_argument("files", type=Path, nargs="+")
    tables.add_argument("--but", nargs="+", default=[], help="leave out these kinds of noise")
    options = parser.parse_args()
    if options.command == "run":
        run(options)
        return
    text = "".join(path.read_text() for path in options.files)
    table([line for line in map(json.loads, text.splitlines()) if line["noise"] not in options.but])


if __name__ == "__main__":
    main()
