"""Time and memory of the default from ten thousand to a million rows of a memory-mapped table.

    python -m benchmarks.costs.many_rows [--rows 10000 100000 1000000] [--columns 100]
        [--threads 2] [--folder DIR]

Rows are normal numbers in single precision, classes those of a random net of them, and one label
in twenty is another class. Every line is a process of its own that maps the file and fits
`OutlierGradientDetector()`: its seconds, the largest memory it took beyond the pages of the file
(RssAnon, read every 20 ms), and how well the wrong labels are found. Linux only. The files are
removed afterwards.
"""

import argparse
import multiprocessing
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from skinfluence import OutlierGradientDetector
from skinfluence.datasets import make_noisy_labels

N_CLASSES = 5
BLOCK = 50_000
GIB = 2**30


def write(folder, n_rows, n_columns):
    """Write a table and its labels in blocks."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(n_columns, 16)) / n_columns**0.5
    output = rng.normal(size=(16, N_CLASSES))
    table = np.lib.format.open_memmap(
        folder / "X.npy", mode="w+", dtype=np.float32, shape=(n_rows, n_columns)
    )
    y = np.empty(n_rows, dtype=np.int64)
    for start in range(0, n_rows, BLOCK):
        X = rng.normal(size=(min(BLOCK, n_rows - start), n_columns))
        table[start : start + len(X)] = X
        y[start : start + len(X)] = (np.tanh(2 * X @ hidden) @ output).argmax(1)
    table.flush()
    y_given, is_error = make_noisy_labels(y, rate=0.05, random_state=0)
    np.savez(folder / "y.npz", y=y_given, is_error=is_error)


class Peak:
    """The largest anonymous memory of this process, watched from a thread."""

    def __enter__(self):
        """Begin to watch."""
        self.bytes, self._stop = anonymous_memory(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception):
        """Stop."""
        self._stop.set()
        self._thread.join()

    def _watch(self):
        while not self._stop.wait(0.02):
            self.bytes = max(self.bytes, anonymous_memory())


def anonymous_memory():
    """Bytes of this process that no file holds."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise KeyError("RssAnon")


def fit(folder, threads):
    """Fit the default on the mapped table; give what it took."""
    torch.set_num_threads(threads)
    X = np.load(folder / "X.npy", mmap_mode="r")
    with np.load(folder / "y.npz") as file:
        y, is_error = file["y"], file["is_error"]
    cpu, began = time.process_time(), time.perf_counter()
    with Peak() as peak:
        scores = OutlierGradientDetector(random_state=0).fit(X, y).detrimentality_
    return {
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
        "GiB": peak.bytes / GIB,
        "auroc": roc_auc_score(is_error, scores),
        "ap": average_precision_score(is_error, scores),
    }


def main(arguments):
    print(f"{arguments.columns} columns, {arguments.threads} thread(s)")
    print(f"{'rows':>10}{'seconds':>10}{'of CPU':>10}{'GiB':>8}{'AUROC':>8}{'AP':>8}")
    for n_rows in arguments.rows:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
            folder = Path(name)
            write(folder, n_rows, arguments.columns)
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                took = pool.submit(fit, folder, arguments.threads).result()
        print(
            f"{n_rows:>10}{took['seconds']:>10.1f}{took['cpu']:>10.1f}{took['GiB']:>8.2f}"
            f"{took['auroc']:>8.4f}{took['ap']:>8.4f}",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", help="where the files are written (default: temporary)")
    main(parser.parse_args())
