"""How well planted label errors are found: floors for the mean of five seeds."""

import numpy as np
import pytest
from pyod.models.iforest import IForest
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from torch import nn

from skinfluence import NormDetector
from skinfluence.datasets import make_noisy_labels, make_noisy_moons
from tests._shared.problems import classifier, paper_method

pytestmark = pytest.mark.slow
SEEDS = range(5)
DETECTORS = {"iforest": IForest(), "l1": NormDetector(ord=1), "l2": NormDetector(ord=2)}


def scores_of_all_detectors(net, X, y, seed):
    """Train once, judge the same gradients by every detector."""
    trained = paper_method(net, detector=NormDetector(), random_state=seed).fit(X, y)
    frozen = FrozenEstimator(trained.net_)
    return trained.net_, {
        name: paper_method(frozen, detector=detector, random_state=seed).fit(X, y).detrimentality_
        for name, detector in DETECTORS.items()
    }


def test_flipped_digits_are_found():
    X, y = load_digits(return_X_y=True)
    aurocs = {name: [] for name in DETECTORS}
    for seed in SEEDS:
        y_noisy, is_noisy = make_noisy_labels(y, rate=0.1, random_state=seed)
        for name, scores in scores_of_all_detectors(None, X, y_noisy, seed)[1].items():
            aurocs[name].append(roc_auc_score(is_noisy, scores))
    means = {name: float(np.mean(values)) for name, values in aurocs.items()}
    print(f"\ndigits, 10 % symmetric flips, AUROC, mean of {len(SEEDS)} seeds: {means}")
    assert min(means.values()) >= 0.97, means


class MoonsMlp(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2)
        )


def test_flipped_half_moons_are_found():
    # the paper's setting: Adam, full batches, thousands of steps, standardised inputs
    net = classifier(
        MoonsMlp, lr=1e-3, optimizer__weight_decay=1e-4, max_epochs=2000, batch_size=-1
    )
    hits = {name: [] for name in [*DETECTORS, "self_confidence"]}
    for seed in range(10):
        data = make_noisy_moons(noise=0.1, random_state=seed)
        X = StandardScaler().fit_transform(data.X).astype(np.float32)
        trained, scores = scores_of_all_detectors(net, X, data.y, seed)
        probabilities = trained.predict_proba(X)
        scores["self_confidence"] = 1 - probabilities[np.arange(len(X)), data.y]
        for name, score in scores.items():
            top = np.argsort(-score, kind="stable")[:25]
            hits[name].append(data.is_noisy[top].sum())
    means = {name: float(np.mean(values)) for name, values in hits.items()}
    print(f"\nhalf moons, flips of 20 in the top 25, mean of 10 seeds: {means}")
    for name in DETECTORS:
        assert means[name] >= 16, means
        # Over 20 seeds, plain self-confidence finds 19.2, the forest 18.2, L1 17.6, L2 18.2, with
        # standard errors of .3 to .4: thousands of steps differ from processor to processor.
        assert means[name] >= means["self_confidence"] - 2, means
