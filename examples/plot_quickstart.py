"""
Which training samples hurt my model?
=====================================

A tenth of the labels of two real data sets is flipped, and the flips are looked for again: by
the loss gradients of the rows, beside the plain scores that every method must be held against.

Higher score = more detrimental, throughout.
"""

# %%
# Data with known errors
# ----------------------
# scikit-learn's handwritten digits and breast cancer set; in each, 10 % of the labels are changed
# to another class at random.

import sys
from pathlib import Path

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
from skinfluence.display import SampleGalleryDisplay

SEED = 0


def plant_flips(load):
    X, y = load(return_X_y=True)
    return X, *make_noisy_labels(y, rate=0.1, random_state=SEED)


X, y, is_noisy = plant_flips(load_digits)

# %%
# The worst digits
# ----------------
# The pipeline trains a :doc:`committee </committee>` of small models on the noisy labels. Every row
# is judged by those that did not see it: its score is the length of the gradient of its loss at
# their outputs. Over each digit stand the label it was given and the one that is predicted by those
# that did not see it; the labels of framed digits were flipped.

pipeline = make_pipeline(StandardScaler(), OutlierGradientDetector(random_state=SEED)).fit(X, y)
gallery = SampleGalleryDisplay.from_estimator(
    pipeline, X, y, rows=24, n_contradicting=0, image_shape=(8, 8), is_noisy=is_noisy
)
plt.show()

# %%
# Beside plain scores
# -------------------
# ``committee=None`` trains one net, and reads its gradients along the training and the labels of
# similar rows. The same net serves the setting of the paper (the last gradient alone, and a
# detector on it), the loss and the confidence in the label.


def all_scores(X, y):
    scaled = StandardScaler().fit_transform(X).astype(np.float32)
    one_net = OutlierGradientDetector(committee=None, random_state=SEED).fit(scaled, y)
    net = FrozenEstimator(one_net.net_)
    codes = np.searchsorted(one_net.classes_, y)  # a frozen net's labels are the encoded ones
    scores = {
        "committee (default)": OutlierGradientDetector(random_state=SEED)
        .fit(scaled, y)
        .detrimentality_,
        "one net along its training": one_net.detrimentality_,
    }
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
    return scores


print(f"{'AUROC / average precision':<36}{'digits':>16}{'breast cancer':>18}")
cancer, given, is_wrong = plant_flips(load_breast_cancer)
rows = zip(all_scores(X, y).items(), all_scores(cancer, given).values(), strict=True)
for (name, of_digits), of_cancer in rows:
    print(f"{name:<36}", end="")
    for truth, score, width in [(is_noisy, of_digits, 8), (is_wrong, of_cancer, 10)]:
        area, precision = roc_auc_score(truth, score), average_precision_score(truth, score)
        print(f"{area:>{width}.3f} / {precision:.3f}", end="")
    print()

# %%
# Given a file name, the script keeps the picture; ``make demo`` does so.

if len(sys.argv) > 1:
    path = Path(sys.argv[1])
    path.parent.mkdir(exist_ok=True)
    gallery.figure_.savefig(path, dpi=100)
    print(f"\nThe 24 worst digits: {path}")
