"""
Which training samples hurt my model?
=====================================

A tenth of the labels of two real data sets is flipped, and the flips are looked for again: by
outlier detectors on loss gradients, beside three plain scores that every method must be held
against. The 24 worst digits are drawn with the label given and the label the net predicts.

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
from pyod.models.knn import KNN
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinfluence import NormDetector, OutlierGradientDetector
from skinfluence.datasets import make_noisy_labels

SEED = 0


def plant_flips(load):
    X, y = load(return_X_y=True)
    return X, *make_noisy_labels(y, rate=0.1, random_state=SEED)


# %%
# Scores
# ------
# The pipeline trains a net on the noisy labels, takes the gradient of every row's loss and lets
# a detector judge it. The same trained net then serves the other detectors and the plain scores.


def scores_of(X, y):
    pipeline = make_pipeline(StandardScaler(), OutlierGradientDetector(random_state=SEED))
    scores = {"outlier gradients, isolation forest": pipeline.fit_transform(X, y)[:, 0]}
    scaled, net = pipeline[0].transform(X), pipeline[-1].net_

    detectors = {"KNN": KNN(), "L2 norm": NormDetector(), "L1 norm": NormDetector(ord=1)}
    for name, detector in detectors.items():
        # FrozenEstimator: the net is taken as it is; its labels are the encoded ones
        method = OutlierGradientDetector(FrozenEstimator(net), detector=detector)
        codes = np.searchsorted(pipeline[-1].classes_, y)
        scores[f"outlier gradients, {name}"] = method.fit(scaled, codes).detrimentality_

    logits = net.forward(scaled.astype(np.float32)).numpy()
    log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    given = log_p[np.arange(len(y)), codes]
    scores["loss"] = -given
    scores["1 - confidence in the given label"] = 1 - np.exp(given)
    scores["random"] = np.random.default_rng(SEED).random(len(y))
    predicted = pipeline[-1].classes_[logits.argmax(1)]
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
    figure = draw_worst(X, y, predicted, is_noisy, score=scores["outlier gradients, L2 norm"])

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
