"""`skinfluence audit` and tabaudit on the same files with planted errors.

    python -m benchmarks.studies.audit_peers run --data DIR --out audit_peers.jsonl
    python -m benchmarks.studies.audit_peers table audit_peers.jsonl

Each file is a line: a CSV with a header, read and judged by either as a person would have it done.
tabaudit names rows that are likely or perhaps mislabelled, the worst first; of each list's length,
it is counted how many of the first rows of either are planted errors. Seconds are of processors.
"""

import argparse
import json
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.data import add_data_argument, load
from benchmarks.data.files import whole_adult
from benchmarks.data.noise import plant
from benchmarks.studies.boosted_member import MIXED, mixed
from skinfluence.report import Settings, audit_table, read_table

WHOLE = "adult, whole"
NUMBERS = {"letter": "pair 20 %", "satellite": "symmetric 10 %"}
FILES = (*MIXED, *NUMBERS, WHOLE)


def table_of(name, seed, folder):
    """Give a frame with a target that has planted errors, and which rows they are in."""
    import pandas as pd

    if name in NUMBERS:
        problem = load(name, NUMBERS[name], seed, folder)
        frame = pd.DataFrame(problem.X, columns=[f"x{i}" for i in range(problem.X.shape[1])])
        given, is_error = problem.y, problem.is_error
    else:
        frame, y = whole_adult(folder) if name == WHOLE else mixed(*MIXED[name], seed)
        given, is_error = plant("symmetric 5 %", np.zeros((len(y), 1)), y, seed)
    return frame.assign(target=[f"class {code}" for code in given]), is_error


def measure(path, is_error, seed):
    import tabaudit.audit

    start = time.process_time()
    ours = audit_table(read_table(path), Settings(target="target", seed=seed), lambda _: None)
    seconds = {"ours": time.process_time() - start}
    start = time.process_time()
    found = tabaudit.audit.run_audit(path, target="target", random_state=seed)
    seconds["tabaudit"] = time.process_time() - start
    evidence = next(one.evidence for one in found.findings if one.check == "label_noise")
    line = {"rows": len(is_error), "errors": int(is_error.sum()), "seconds": seconds}
    for name, key in (("likely", "rows_likely"), ("suspected", "rows")):
        theirs = np.array(evidence[key], dtype=int)
        line[name] = {
            "flags": len(theirs),
            "tabaudit": int(is_error[theirs].sum()),
            "ours": int(is_error[ours.method.ranking_[: len(theirs)]].sum()),
        }
    return line | {"expected": ours.errors.expected, "version": version("tabaudit")}


def run(options):
    done = set()
    if options.out.exists():
        lines = map(json.loads, options.out.read_text().splitlines())
        done = {(line["file"], line["seed"]) for line in lines}
    for name in options.files:
        if (name, options.seed) in done:
            continue
        frame, is_error = table_of(name, options.seed, options.data)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "data.csv"
            frame.to_csv(path, index=False)
            line = {"file": name, "seed": options.seed, **measure(path, is_error, options.seed)}
        with options.out.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(line, flush=True)


def table(lines):
    print(
        "| file | seed | rows | errors | expected by ours | likely to tabaudit | of them errors "
        "| of as many of ours | suspected by tabaudit | of them errors | of as many of ours "
        "| seconds, tabaudit | ours |"
    )
    print("|" + "---|" * 13)
    for line in lines:
        cells = [line[key] for key in ("file", "seed", "rows", "errors")]
        cells.append(f"{line['expected']:.0f}")
        for name in ("likely", "suspected"):
            cells += [line[name][key] for key in ("flags", "tabaudit", "ours")]
        cells += [f"{line['seconds'][who]:.0f}" for who in ("tabaudit", "ours")]
        print("| " + " | ".join(map(str, cells)) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run")
    add_data_argument(runs)
    runs.add_argument("--out", type=Path, default=Path("audit_peers.jsonl"))
    runs.add_argument("--seed", type=int, default=0)
    runs.add_argument("--files", nargs="+", choices=FILES, default=FILES)
    commands.add_parser("table").add_argument("files", type=Path, nargs="+")
    options = parser.parse_args()
    if options.command == "run":
        run(options)
        return
    text = "".join(path.read_text() for path in options.files)
    table(list(map(json.loads, text.splitlines())))


if __name__ == "__main__":
    main()
