"""Seconds of the default against those of an earlier commit, alternating, in one run.

    python -m benchmarks.costs.default_speed --data DIR [--commit a90832f] [--rounds 5]

One `fit` of `OutlierGradientDetector()` on digits, letter, Adult and mnist10k as the battery draws
them, labels flipped. Each fit has a process of its own on one thread, which has imported the
package and fitted 60 rows before. Every round fits by both, the first of one round second in the
next. The earlier commit is checked out by `git worktree` into a folder of its own. Medians over
rounds, of processor time and of the clock, and of the ratio within a round. Where the machine has
other work, only ratios mean something.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.data import add_data_argument, load

ROOT = Path(__file__).resolve().parents[2]
CELLS = {
    "digits": "pair 20 %",
    "letter": "pair 20 %",
    "adult": "symmetric 5 %",
    "mnist10k": "pair 20 %",
}
# Both commits run this; the earlier one has no benchmarks that could.
FIT = """
import json, sys, time, warnings
import numpy as np, torch
torch.set_num_threads(1)
warnings.simplefilter("ignore")
import skinfluence
rows = dict(np.load(sys.argv[1]))
X, y, seed = rows["X"], rows["y"], int(sys.argv[2])
skinfluence.OutlierGradientDetector(random_state=seed).fit(X[:60], y[:60] % 2)
cpu, clock = time.process_time(), time.perf_counter()
skinfluence.OutlierGradientDetector(random_state=seed).fit(X, y)
spent = time.process_time() - cpu, time.perf_counter() - clock
print(json.dumps({"spent": spent, "of": skinfluence.__file__}))
"""


def fit(source, rows, seed):
    """Fit once in a process that imports the package from a folder; processor and clock seconds."""
    environment = os.environ | {
        "PYTHONPATH": str(source),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", FIT, str(rows), str(seed)]
    run = subprocess.run(
        command, env=environment, cwd=source, check=True, stdout=subprocess.PIPE, text=True
    )
    found = json.loads(run.stdout.splitlines()[-1])
    if not Path(found["of"]).is_relative_to(source):
        raise RuntimeError(f"Got skinfluence from {found['of']}, but expected it from {source}.")
    return found["spent"]


def compare(sources, rows, rounds):
    """Fit by every source in every round: (n_rounds, n_sources, 2) seconds."""
    spent = np.empty((rounds, len(sources), 2))
    for number in range(rounds):
        order = range(len(sources))
        for i in order if number % 2 == 0 else reversed(order):
            spent[number, i] = fit(sources[i], rows, number)
    return spent


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_argument(parser)
    parser.add_argument("--commit", default="a90832f")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sets", nargs="+", choices=CELLS, default=list(CELLS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        earlier = Path(folder).resolve() / "earlier"
        add = ["git", "worktree", "add", "--quiet", "--detach", str(earlier), options.commit]
        subprocess.run(add, cwd=ROOT, check=True)
        try:
            heads = f"{'processor seconds: then':>24}{'now':>8}{'ratio':>8}"
            print(f"{'':<10}{heads}{'clock: then':>14}{'now':>8}{'ratio':>8}")
            for name in options.sets:
                problem = load(name, CELLS[name], 0, options.data)
                rows = Path(folder) / "rows.npz"
                np.savez(rows, X=problem.X, y=problem.y)
                spent = compare([earlier, ROOT], rows, options.rounds)
                cpu, clock = np.median(spent, axis=0).T
                cpu_ratio, clock_ratio = np.median(spent[:, 1] / spent[:, 0], axis=0)
                print(
                    f"{name:<10}{cpu[0]:>24.1f}{cpu[1]:>8.1f}{cpu_ratio:>8.2f}"
                    f"{clock[0]:>14.1f}{clock[1]:>8.1f}{clock_ratio:>8.2f}",
                    flush=True,
                )
        finally:
            remove = ["git", "worktree", "remove", "--force", str(earlier)]
            subprocess.run(remove, cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
