"""A small table with planted errors."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_wine

from skinfluence.datasets import make_noisy_labels
from skinfluence.report._cells import write_rows

RATE = 0.08


def write_demo(path: Path, seed: int) -> list[int]:
    """Write wines with some growers exchanged; give the numbers of these rows, from 1."""
    data = load_wine()
    growers = np.array(["Ada", "Bob", "Eve"])[data.target]
    given, is_noisy = make_noisy_labels(growers, rate=RATE, random_state=seed)
    rows = [[*x, label] for x, label in zip(data.data.tolist(), given.tolist(), strict=True)]
    write_rows(path, [*data.feature_names, "grower"], rows)
    return [int(row) + 1 for row in np.flatnonzero(is_noisy)]
