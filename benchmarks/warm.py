"""Pays for imports and first calls, once, before anything is timed."""

import numpy as np
import torch
from sklearn.datasets import load_iris

import benchmarks.measuring  # noqa: F401
from benchmarks.data import Problem
from benchmarks.methods import METHODS

torch.set_num_threads(1)
X, y = load_iris(return_X_y=True)
problem = Problem(X[50:].astype(np.float32), y[50:], np.zeros(100, dtype=bool))
for name in ("default", "logistic out of fold", "forest out of bag"):
    METHODS[name].score(problem, 0)
