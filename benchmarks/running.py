"""Cells x seeds x methods, each done once and written when it is done."""

import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.data import SETS, SetUnavailable, load
from benchmarks.measuring import measure_alone
from benchmarks.results_file import commit


def run(
    cells,
    seeds,
    methods,
    results,
    *,
    folder=None,
    scores_folder=None,
    measure=measure_alone,
    show=print,
):
    """Do what the results lack: all `cells`, pairs of a set and a noise, seed after seed."""
    todo = [
        (name, noise, seed, missing)
        for seed in seeds
        for name, noise in cells
        if (missing := _missing(name, noise, seed, methods, results))
    ]
    total, number, start = sum(len(missing) for *_, missing in todo), 0, time.perf_counter()
    version = commit()
    for name, noise, seed, missing in todo:
        try:
            problem = load(name, noise, seed, folder)
        except SetUnavailable as error:
            number += len(missing)
            show(f"[{number}/{total}] {name} left out: {error}")
            continue
        cell = {"set": name, "noise": noise, "seed": seed, "commit": version}
        cell |= {"n_rows": len(problem.y), "n_scored": len(problem.scored)}
        cell["n_errors"] = int(problem.is_error[problem.scored].sum())
        for method in missing:
            number += 1
            found = measure(method.name, problem, seed)
            spent = time.perf_counter() - start
            show(f"[{number}/{total}, {spent:.0f} s] {name}, {noise}, seed {seed}")
            if scores_folder and not isinstance(found, str):
                _keep_scores(Path(scores_folder), f"{name}, {noise}, {seed}, {method.name}", found)
            for line in _lines(method, found):
                key = (name, noise, seed, line["method"])
                if key not in results.done:
                    results.append(cell | line)
                    show(f"    {_said(line)}")


def _missing(name, noise, seed, methods, results):
    """List the methods that take the set and have a line that is not done."""
    return [
        method
        for method in methods
        if method.takes(SETS[name])
        and any((name, noise, seed, line) not in results.done for line in method.lines)
    ]


def _keep_scores(folder, name, found):
    """Write the scores of all rows, for mixes of methods that are tried later."""
    folder.mkdir(parents=True, exist_ok=True)
    scores = {line: values["scores"].astype(np.float32) for line, values in found.items()}
    np.savez(folder / f"{name}.npz", **scores)


def _lines(method, found):
    if isinstance(found, str):
        return [{"method": line, "failure": found} for line in method.lines]
    return [{"method": line, **values} for line, values in found.items()]


def _said(line):
    if "failure" in line:
        return f"{line['method']}: failed, {line['failure']}"
    return (
        f"{line['method']}: {line['auroc']:.3f} / {line['average_precision']:.3f}, "
        f"{line['seconds']:.1f} s"
    )


def show_now(text):
    print(text, file=sys.stderr, flush=True)
