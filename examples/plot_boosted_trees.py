"""
Boosted trees on what a net's gradients keep
============================================

Trees have no gradients with respect to parameters, but a small net has, and wrong labels are
wrong for both: rows that a net finds detrimental are taken out, and boosted trees are trained on
the rest. A fifth of the digits' training labels is wrong; the test labels are right.
"""

# %%
# The net chooses, the trees are trained
# --------------------------------------

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import train_test_split

from skinfluence import CleanedClassifier, OutlierGradientDetector
from skinfluence.datasets import make_noisy_labels
from skinfluence.metrics import recall_at_budget, removal_curve

SEED, RATE = 0, 0.2


def load():
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X / 16, y, test_size=0.4, stratify=y, random_state=SEED)
    return X, *make_noisy_labels(y, rate=RATE, random_state=SEED), X_test, y_test


# %%
# How much removal helps, and whether any removal would
# -----------------------------------------------------
# The curve trains the trees without the worst 10, 20, ... %, and without as many rows drawn at
# random. Both are paired by seed. The trees draw features, or seeds would make no difference; they
# take few and large steps to be quick.


def draw(curve):
    figure, axis = plt.subplots(figsize=(5.6, 3.8), layout="constrained")
    axis.plot(100 * curve.budgets, curve.mean, "o-", label="most detrimental rows")
    axis.plot(100 * curve.budgets, curve.random_mean, "s--", color="gray", label="random rows")
    for column in curve.scores:
        axis.plot(100 * curve.budgets, column, ".", color="tab:blue", alpha=0.4)
    axis.axvline(100 * RATE, color="tab:red", linewidth=0.8, label="share of wrong labels")
    axis.set_xlabel("training rows removed (%)")
    axis.set_ylabel("accuracy on clean test rows")
    axis.legend()
    return figure


def main(output):
    X, y, is_noisy, X_test, y_test = load()
    trees = HistGradientBoostingClassifier(
        learning_rate=0.3, max_iter=10, max_features=0.3, random_state=SEED
    )
    method = OutlierGradientDetector(random_state=SEED)
    model = CleanedClassifier(trees, method, contamination=RATE, random_state=SEED).fit(X, y)
    removed = model.removed_indices_
    print(f"removed {len(removed)} of {len(X)} rows, {is_noisy[removed].mean():.0%} of them wrong")
    print(f"accuracy: all rows {trees.fit(X, y).score(X_test, y_test):.3f}, ", end="")
    print(f"cleaned {model.score(X_test, y_test):.3f}\n")

    scores = model.method_.detrimentality_
    settings = {"budgets": (0, 0.1, 0.2, 0.4), "n_seeds": 4, "random_state": SEED}
    curve = removal_curve(trees, X, y, scores, X_test=X_test, y_test=y_test, **settings)
    gain, lead = curve.against_all_rows(), curve.against_random()
    print("removed  wrong rows found  accuracy  gain over all rows  lead over random removal")
    for i, share in enumerate(curve.budgets):
        found = recall_at_budget(is_noisy, scores, float(share)) if share else 0.0
        print(f"{share:>7.0%}{found:>18.0%}{curve.mean[i]:>10.3f}", end="")
        print(f"   {gain.mean[i]:+.3f} [{gain.low[i]:+.3f}, {gain.high[i]:+.3f}]", end="")
        print(f"   {lead.mean[i]:+.3f} [{lead.low[i]:+.3f}, {lead.high[i]:+.3f}]")

    output.mkdir(exist_ok=True)
    path = output / "boosted_trees.png"
    draw(curve).savefig(path, dpi=120)
    print(f"\nThe curves: {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("output"))
    main(parser.parse_args().output)
