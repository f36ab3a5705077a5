"""Complexity gaps: speed and memory against the published loop, and what they find.

    python -m benchmarks.costs.complexity_gap speed [--rows 5000] [--naive-rows 500 1000]
    python -m benchmarks.costs.complexity_gap low-rank [--rows 60000] [--landmarks 1000]
    python -m benchmarks.costs.complexity_gap detect --data DIR

speed: ten classes one against all, rows of 784 numbers, float64. The naive loop makes one kernel
matrix and one inverse a class, and for each row of the class copies the inverse without that row
and column, as the published code does. It is timed at a few small sizes and extrapolated by its
cubic law from the largest of them.

low-rank: time and peak memory beyond the data.

detect: AUROC of planted flips on mnist10k.npz in DIR (or in the folder that SKINFLUENCE_DATA
names), and how float32 and the low-rank route compare.
"""

import argparse
import multiprocessing
import os
import resource
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from skinfluence import ComplexityGap
from skinfluence.datasets import make_noisy_labels
from skinfluence.exceptions import ApproximationWarning

N_FEATURES, N_CLASSES = 784, 10


def problem(n_rows, dtype="float64"):
    rng = np.random.default_rng(0)
    X = np.abs(rng.standard_normal((n_rows, N_FEATURES), dtype=np.float32)).astype(dtype)
    return X, rng.permutation(np.arange(n_rows) % N_CLASSES)


def naive(X, y, jitter):
    """Score like the published loop, each class against all other rows."""
    X = X / np.linalg.norm(X, axis=1, keepdims=True)
    scores = np.empty(len(X))
    for label in np.unique(y):
        target = np.where(y == label, 1.0, -1.0)
        s = np.clip(X @ X.T, -1, 1)
        H = s * (np.pi - np.arccos(s)) / (2 * np.pi)
        np.fill_diagonal(H, 0.5 + jitter)
        inverse = np.linalg.inv(H)
        whole = target @ inverse @ target
        for i in np.flatnonzero(y == label):
            without_column = np.concatenate((inverse[:, :i], inverse[:, i + 1 :]), axis=1)
            A = np.concatenate((without_column[:i], without_column[i + 1 :]))
            B = without_column[i][np.newaxis]
            rest = np.delete(target, i)
            scores[i] = whole - rest @ ((A - (B.T @ B) / inverse[i, i]) @ rest)
    return scores


def timed(function, *arguments):
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def speed(n_rows, naive_sizes):
    # before anything large is made here: a process can start with the peak of its parent
    peak = growth(n_rows, {"max_bytes": 2**36, "max_rows": n_rows})
    print(f"{'rows':>8}{'naive s':>10}{'ours s':>10}{'largest difference':>21}")
    for n in naive_sizes:
        X, y = problem(n)
        seconds, expected = timed(naive, X, y, 1e-2)
        ours, fitted = timed(ComplexityGap().fit, X, y)
        difference = np.abs(fitted.detrimentality_ / expected - 1).max()
        print(f"{n:>8}{seconds:>10.2f}{ours:>10.2f}{difference:>21.1e}")
    extrapolated = seconds * (n_rows / n) ** 3
    X, y = problem(n_rows)
    ours, _ = timed(ComplexityGap(max_bytes=2**36, max_rows=n_rows).fit, X, y)
    print(
        f"{n_rows:>8}{extrapolated:>10.1f}{ours:>10.2f}  naive extrapolated by n**3 from {n} rows"
    )
    print(f"ratio ours / naive: {ours / extrapolated:.5f}")
    matrix = 8 * n_rows**2 / 2**20
    print(f"peak memory beyond the data: {peak:.0f} MiB, {peak / matrix:.2f} n x n matrices")


def _growth(n_rows, parameters, queue):
    X, y = problem(n_rows, "float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ApproximationWarning)
        ComplexityGap(**parameters).fit(X[:200], y[:200])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds, fitted = timed(ComplexityGap(**parameters).fit, X, y)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    queue.put(((after - before) / 1024, after / 1024, seconds, fitted.route_))


def in_own_process(n_rows, parameters):
    """Peaks never fall, so each measurement has a process of its own."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_growth, args=(n_rows, parameters, queue))
    process.start()
    result = queue.get()
    process.join()
    return result


def growth(n_rows, parameters):
    return in_own_process(n_rows, parameters)[0]


def low_rank(n_rows, n_landmarks):
    parameters = {"n_landmarks": n_landmarks, "max_bytes": 2**33, "random_state": 0}
    beyond, whole, seconds, route = in_own_process(n_rows, parameters)
    print(
        f"{n_rows} rows, {n_landmarks} landmarks, route {route}: {seconds:.1f} s, peak {whole:.0f} "
        f"MiB for the whole process, {beyond:.0f} MiB of it for the scores"
    )


def detect(folder, n_seeds):
    arrays = dict(np.load(Path(folder) / "mnist10k.npz"))
    X, y = arrays["X"].reshape(len(arrays["X"]), -1), arrays["y"]
    methods = {
        "float64": ComplexityGap(),
        "float32": ComplexityGap(dtype="float32"),
        "low rank, 1,000": ComplexityGap(max_rows=5000, random_state=0),
        "low rank, 3,000": ComplexityGap(max_rows=5000, n_landmarks=3000, random_state=0),
        "subsample": ComplexityGap(mode="subsample", random_state=0),
    }
    aurocs = {name: [] for name in methods}
    correlations = {name: [] for name in methods}
    for seed in range(n_seeds):
        y_noisy, is_noisy = make_noisy_labels(y, rate=0.1, random_state=seed)
        exact = None
        for name, method in methods.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ApproximationWarning)
                scores = method.fit(X, y_noisy).detrimentality_
            exact = scores if exact is None else exact
            aurocs[name].append(roc_auc_score(is_noisy, scores))
            correlations[name].append(np.corrcoef(scores, exact)[0, 1])
    print(f"mnist10k, 10 % symmetric flips, mean of {n_seeds} seeds")
    print(f"{'':<18}{'AUROC':>8}{'corr. with float64':>21}")
    for name, values in aurocs.items():
        print(f"{name:<18}{np.mean(values):>8.4f}{np.mean(correlations[name]):>21.6f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("speed")
    command.add_argument("--rows", type=int, default=5000)
    command.add_argument("--naive-rows", type=int, nargs="+", default=[500, 1000])
    command = commands.add_parser("low-rank")
    command.add_argument("--rows", type=int, default=60_000)
    command.add_argument("--landmarks", type=int, default=1000)
    command = commands.add_parser("detect")
    command.add_argument("--data", default=os.environ.get("SKINFLUENCE_DATA"))
    command.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.command == "speed":
        speed(arguments.rows, arguments.naive_rows)
    elif arguments.command == "low-rank":
        low_rank(arguments.rows, arguments.landmarks)
    elif arguments.data is None:
        parser.error("detect needs --data DIR or SKINFLUENCE_DATA: a folder with mnist10k.npz")
    else:
        detect(arguments.data, arguments.seeds)
