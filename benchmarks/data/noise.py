"""Errors planted in clean targets, by a name such as "pair 20 %": a kind and the share of rows.

"symmetric": to another class, all alike. "pair": to the next class. "instance": to where a random
projection of the row says (Xia et al. 2020). "unsure": where a linear model hesitates, to its
second choice. For numbers, "shifted": one standard deviation up or down; "permuted": the targets
of the rows chosen change places.
"""

import numpy as np
from scipy.sparse import issparse
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinfluence.datasets import make_noisy_labels


def plant(noise, X, y, seed):
    """Give targets with errors, and which rows have one."""
    kind, percent, _ = noise.split()
    rate = float(percent) / 100
    if kind in OF_NUMBERS:
        given = OF_NUMBERS[kind](y, rate, np.random.default_rng(seed))
    elif kind == "unsure":
        given = _unsure(X.reshape(len(y), -1), y, rate, np.random.default_rng(seed))
    else:
        features = {"X": _dense(X).reshape(len(y), -1)} if kind == "instance" else {}
        given, _ = make_noisy_labels(y, rate=rate, kind=kind, random_state=seed, **features)
    return given, given != y


def _dense(X):
    return X.toarray() if issparse(X) else X


def _unsure(X, y, rate, rng):
    """Draw rows in proportion to what a linear model gives to the best wrong class."""
    classes, codes = np.unique(y, return_inverse=True)
    scaler = StandardScaler(with_mean=not issparse(X))
    model = make_pipeline(scaler, LogisticRegression(max_iter=1000))
    # out of fold: a model is sure of most rows that it was fitted on
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    wrong = cross_val_predict(model, X, codes, cv=folds, method="predict_proba")
    wrong[np.arange(len(y)), codes] = 0
    weights = wrong.max(1)
    rows = rng.choice(len(y), round(rate * len(y)), replace=False, p=weights / weights.sum())
    given = y.copy()
    given[rows] = classes[wrong[rows].argmax(1)]
    return given


def _shifted(y, rate, rng):
    rows = rng.choice(len(y), round(rate * len(y)), replace=False)
    given = y.copy()
    given[rows] += y.std() * rng.choice([-1, 1], len(rows))
    return given


def _permuted(y, rate, rng):
    rows = rng.choice(len(y), round(rate * len(y)), replace=False)
    given = y.copy()
    given[rows] = y[np.roll(rows, 1)]  # a cycle through all of them: none keeps its own
    return given


OF_NUMBERS = {"shifted": _shifted, "permuted": _permuted}
