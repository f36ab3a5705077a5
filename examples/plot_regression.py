"""
Corrupted targets of a regression
=================================

In a tenth of the training rows of scikit-learn's diabetes set the target is tripled, as if it
were recorded in another unit. `CleanedRegressor` trains on what a net's gradients keep. It is held
against random removal of as many rows, and against a robust loss on all rows, which needs no
cleaning.
"""

# %%
# Cleaning, its control, and its rival
# ------------------------------------

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import t
from sklearn.datasets import load_diabetes
from sklearn.linear_model import HuberRegressor, Ridge
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skinfluence import CleanedRegressor, OutlierGradientDetector, RandomScore

RATE, N_SEEDS = 0.1, 5


def corrupted(seed):
    X, y = load_diabetes(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, random_state=seed)
    rows = np.random.default_rng(seed).permutation(len(y))[: round(RATE * len(y))]
    is_wrong = np.isin(np.arange(len(y)), rows)
    return X, y, np.where(is_wrong, 3 * y, y), is_wrong, X_test, y_test


def models_of(seed):
    methods = RandomScore(random_state=seed), OutlierGradientDetector(random_state=seed)
    randomly, cleaned = (CleanedRegressor(Ridge(), m, contamination=RATE) for m in methods)
    models = {"all rows": Ridge(), "random removal": randomly, "cleaned": cleaned}
    return models | {"all rows, robust loss": HuberRegressor(max_iter=1000)}


def draw(y_wrong, predicted, removed, is_wrong):
    figure, axis = plt.subplots(figsize=(5.6, 4.2), layout="constrained")
    colors = np.where(is_wrong, "tab:red", "tab:blue")
    axis.scatter(predicted, y_wrong, s=16, c=colors, label="training rows (red: tripled)")
    circle = {"facecolors": "none", "edgecolors": "black", "linewidths": 0.8}
    axis.scatter(predicted[removed], y_wrong[removed], s=70, **circle, label="removed")
    axis.set_xlabel("prediction of the cleaned model")
    axis.set_ylabel("target given")
    axis.legend()
    return figure


def main(output):
    scores = {}
    for seed in range(N_SEEDS):
        X, y, y_wrong, is_wrong, X_test, y_test = corrupted(seed)
        models = models_of(seed)
        for name, model in models.items():
            scores.setdefault(name, []).append(model.fit(X, y_wrong).score(X_test, y_test))
        best = Ridge().fit(X, y).score(X_test, y_test)
        scores.setdefault("targets never corrupted", []).append(best)
        removed = models["cleaned"].removed_indices_
        if seed == 0:
            figure = draw(y_wrong, models["cleaned"].predict(X), removed, is_wrong)
        print(f"seed {seed}: {is_wrong[removed].sum()} of {is_wrong.sum()} tripled targets removed")

    print(f"\nR2 on right targets, mean of {N_SEEDS} seeds")
    for name, values in scores.items():
        print(f"  {name:<28}{np.mean(values):>8.3f}")
    for other in ("all rows", "random removal", "all rows, robust loss"):
        gains = np.subtract(scores["cleaned"], scores[other])
        half = t.ppf(0.975, N_SEEDS - 1) * gains.std(ddof=1) / np.sqrt(N_SEEDS)
        clear = "" if abs(gains.mean()) > half else ": no clear difference"
        print(f"cleaned against {other}: {gains.mean():+.3f} +- {half:.3f}{clear}")

    output.mkdir(exist_ok=True)
    path = output / "regression.png"
    figure.savefig(path, dpi=120)
    print(f"\nWhich targets were removed: {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("output"))
    main(parser.parse_args().output)
