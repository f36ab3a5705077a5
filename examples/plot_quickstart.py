"""
Which training samples hurt my model?
=====================================

A tenth of the labels of two real data sets is flipped, and the flips are looked for again: by
the loss gradients of the rows, beside three plain scores that every method must be held against.
The 24 worst digits are drawn with the label given and the label the net predicts.

Higher score = more detrimental, throughout.
"""

# %%
# Data with known errors
# ----------------------
# scikit-learn's handwritten digits and breast cancer set; in each, 10 % of the labels are changed
# to another class at random.

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinfluence import (
    LossScore,
    NormDetector,
    OutlierGradientDetector,
    RandomScore,
    SelfConfidence,
)
from skinfluence.datasets import make_noisy_labels

SEED = 0


def plant_flips(load):
    X, y = load(return_X_y=True)
    return X, *make_noisy_labels(y, rate=0.1, random_state=SEED)


# %%
# Scores
# ------
# The pipeline trains a net on the noisy labels, takes the gradient of every row's loss along the
# training and before it, and scores the row by it. The same trained net then serves the setting
# of the paper (the last gradient alone, and a detector on it) and the plain scores.


def scores_of(X, y):
    pipeline = make_pipeline(StandardScaler(), OutlierGradientDetector(random_state=SEED))
    scores = {"outlier gradients (default)": pipeline.fit_transform(X, y)[:, 0]}
    scaled = pipeline[0].transform(X).astype(np.float32)
    codes = np.searchsorted(pipeline[-1].classes_, y)  # a frozen net's labels are the encoded ones
    net = FrozenEstimator(pipeline[-1].net_)
    last = {"checkpoints": "last", "normalize": None, "n_neighbors": None, "random_state": SEED}
    methods = {
        "last gradient, isolation forest": OutlierGradientDetector(net, detector=IForest(), **last),
        "last gradient, KNN": OutlierGradientDetector(net, detector=KNN(), **last),
        "last gradient, L2 norm": OutlierGradientDetector(net, detector=NormDetector(2), **last),
        "last gradient, L1 norm": OutlierGradientDetector(net, detector=NormDetector(1), **last),
        "loss": LossScore(net),
        "1 - confidence in the given label": SelfConfidence(net),
        "random": RandomScore(random_state=SEED),
    }
    for name, method in methods.items():
        scores[name] = method.fit(scaled, codes).detrimentality_
    predicted = pipeline[-1].classes_[net.estimator.predict(scaled)]
    return scores, predicted


def print_table(name, scores, is_noisy):
    print(f"\n{name}: {is_noisy.sum()} of {len(is_noisy)} labels flipped")
    print(f"  {'score':<38}{'AUROC':>8}{'average precision':>20}")
    for label, score in scores.items():
        auroc = roc_auc_score(is_noisy, score)
        precision = average_precision_score(is_noisy, score)
        print(f"  {label:<38}{auroc:>8.3f}{precision:>20.3f}")


# %%
# The worst digits
# ----------------


def draw_worst(X, y, predicted, is_noisy, *, score):
    worst = np.argsort(-score, kind="stable")[:24]
    figure, axes = plt.subplots(4, 6, figsize=(8.4, 6.6), layout="constrained")
    for axis, row in zip(axes.flat, worst, strict=True):
        axis.imshow(X[row].reshape(8, 8), cmap="gray_r")
        axis.set_xticks([])
        axis.set_yticks([])
        color = "tab:red" if is_noisy[row] else "black"
        axis.set_title(f"given {y[row]}, net {predicted[row]}", fontsize=10, color=color)
    figure.suptitle(
        f"The 24 most detrimental digits: {is_noisy[worst].sum()} labels were flipped (red)"
    )
    return figure


def main(output):
    X, y, is_noisy = plant_flips(load_digits)
    scores, predicted = scores_of(X, y)
    print_table("digits", scores, is_noisy)
    figure = draw_worst(X, y, predicted, is_noisy, score=scores["outlier gradients (default)"])

    X, y, is_noisy = plant_flips(load_breast_cancer)
    print_table("breast cancer", scores_of(X, y)[0], is_noisy)

    output.mkdir(exist_ok=True)
    path = output / "worst_digits.png"
    figure.savefig(path, dpi=120)
    print(f"\nThe 24 worst digits: {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("output"))
    main(parser.parse_args().output)
