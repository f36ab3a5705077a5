"""Slow, obviously right: complexity by deletion, the paper's loop, Shapley over all subsets."""

from itertools import combinations
from math import comb

import numpy as np


def naive_ntk(X):
    """The kernel matrix, entry by entry as the paper writes it."""
    X = X / np.linalg.norm(X, axis=1, keepdims=True)
    H = np.empty((len(X), len(X)))
    for i in range(len(X)):
        for j in range(len(X)):
            s = min(max(float(X[i] @ X[j]), -1), 1)
            H[i, j] = 0.5 if i == j else s * (np.pi - np.arccos(s)) / (2 * np.pi)
    return H


def gaps_by_deletion(H, y):
    """What the complexity loses when a row is deleted."""
    whole = y @ np.linalg.solve(H, y)
    gaps = []
    for i in range(len(y)):
        rest = np.delete(np.arange(len(y)), i)
        gaps.append(whole - y[rest] @ np.linalg.solve(H[np.ix_(rest, rest)], y[rest]))
    return np.array(gaps)


def loop_of_the_paper(H, y, n_scored):
    """One inverse, then a block inverse without row and column i for each of the first rows."""
    inverse = np.linalg.inv(H)
    whole = y @ inverse @ y
    gaps, terms = [], []
    for i in range(n_scored):
        A = np.delete(np.delete(inverse, i, 0), i, 1)
        B = np.delete(inverse[i], i)[np.newaxis]
        D = inverse[i, i]
        rest = np.delete(y, i)
        gaps.append(whole - rest @ (A - B.T @ B / D) @ rest)
        projected = (B @ rest).item()
        terms.append([projected**2 / D, y[i] ** 2 * D, 2 * y[i] * projected])
    return np.array(gaps), np.array(terms)


def shapley_over_all_subsets(utility, n, weight=None):
    """The semivalue of every player; Shapley's unless weights by subset size are given."""
    weight = weight or (lambda size: 1 / (n * comb(n - 1, size)))
    values = np.zeros(n)
    for i in range(n):
        others = [j for j in range(n) if j != i]
        for size in range(n):
            for subset in combinations(others, size):
                gain = utility([*subset, i]) - utility(list(subset))
                values[i] += weight(size) * gain
    return values
