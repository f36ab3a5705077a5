"""Real data sets with planted label noise, for the benchmarks."""

import os
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from skinfluence.datasets import make_noisy_labels

NOISES = {
    "symmetric 10 %": ("symmetric", 0.1),
    "pair 20 %": ("pair", 0.2),
    "instance 20 %": ("instance", 0.2),
    "symmetric 40 %": ("symmetric", 0.4),
}
DATASETS = ("digits", "letter", "satellite", "mnist10k")


def add_data_argument(parser):
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("SKINFLUENCE_DATA"),
        help="folder of letter.npz, satellite.npz, mnist10k.npz (or SKINFLUENCE_DATA)",
    )


def load(name, folder):
    """Give float32 rows and labels coded from 0."""
    if name == "digits":
        X, y = load_digits(return_X_y=True)
    else:
        if folder is None:
            raise SystemExit(f"{name} is read from a folder: pass --data or set SKINFLUENCE_DATA.")
        stored = dict(np.load(Path(folder) / f"{name}.npz"))
        X, y = stored["X"], stored["y"]
    return X.reshape(len(X), -1).astype(np.float32), np.unique(y, return_inverse=True)[1]


def noisy_sample(name, noise, seed, folder, n_rows=4000):
    """Draw rows of a data set and flip labels; both by the seed."""
    X, y = load(name, folder)
    rows = np.random.default_rng(seed).permutation(len(X))[:n_rows]
    X, y = X[rows], y[rows]
    kind, rate = NOISES[noise]
    inputs = {"X": X} if kind == "instance" else {}
    y_noisy, is_noisy = make_noisy_labels(y, rate=rate, kind=kind, random_state=seed, **inputs)
    return X, y_noisy, is_noisy
