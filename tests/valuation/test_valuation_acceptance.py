"""How well planted label errors are found without gradients, and that a killed run goes on."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits, make_classification
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import roc_auc_score

from skinfluence import ComplexityGap, DataShapley, KNNShapley
from skinfluence.datasets import make_noisy_labels
from tests._shared.processes import begin
from tests._shared.work_files import kept

pytestmark = pytest.mark.slow
SEEDS = range(5)
# Where the larger sets lie; they are not part of the package.
DATA = os.environ.get("SKINFLUENCE_DATA")


def mean_auroc(method, X, y):
    aurocs = []
    for seed in SEEDS:
        y_noisy, is_noisy = make_noisy_labels(y, rate=0.1, random_state=seed)
        scores = clone(method).set_params(random_state=seed).fit(X, y_noisy).detrimentality_
        aurocs.append(roc_auc_score(is_noisy, scores))
    return float(np.mean(aurocs))


def test_flipped_digits_are_found():
    X, y = load_digits(return_X_y=True)
    methods = {
        "one_vs_all": ComplexityGap(),
        "subsample": ComplexityGap(mode="subsample"),
        "knn": KNNShapley(),
    }
    means = {name: mean_auroc(method, X, y) for name, method in methods.items()}
    print(f"\ndigits, 10 % symmetric flips, AUROC, mean of {len(SEEDS)} seeds: {means}")
    assert means["one_vs_all"] >= 0.99, means
    assert min(means["subsample"], means["knn"]) >= 0.97, means


@pytest.mark.skipif(DATA is None, reason="SKINFLUENCE_DATA names no folder with mnist10k.npz")
def test_flipped_mnist_is_found():
    arrays = dict(np.load(Path(DATA) / "mnist10k.npz"))
    X, y = arrays["X"].reshape(10_000, -1), arrays["y"]
    mean = mean_auroc(ComplexityGap(dtype="float32"), X, y)
    print(f"\nmnist10k, 10 % symmetric flips, AUROC, mean of {len(SEEDS)} seeds: {mean}")
    assert mean >= 0.95


def problem():
    X, y = make_classification(
        700, 20, n_informative=8, n_redundant=0, class_sep=1.2, flip_y=0, random_state=0
    )
    y_noisy, is_noisy = make_noisy_labels(y[:300], rate=0.1, random_state=0)
    return X[:300], y_noisy, X[300:], y[300:], is_noisy


def method(n_jobs, max_permutations, checkpoint=None):
    return DataShapley(
        RidgeClassifier(),
        max_permutations=max_permutations,
        n_jobs=n_jobs,
        checkpoint=checkpoint,
        random_state=0,
    )


def test_tmc_shapley_ranks_flips_above_clean_rows():
    *data, is_noisy = problem()
    auroc = roc_auc_score(is_noisy, method(2, 40).fit(*data).detrimentality_)
    print(f"\nTMC-Shapley, 300 rows, 30 flips, 40 permutations: AUROC {auroc:.3f}")
    assert auroc >= 0.8


def fit(_, method, data):
    method.fit(*data)


def test_a_killed_run_goes_on_to_the_values_of_any_number_of_workers(tmp_path):
    path = str(tmp_path / "run.npz")
    *data, _ = problem()
    process, _ = begin(fit, method(1, 20, path), data)
    deadline = time.monotonic() + 300
    while not Path(path).exists() and time.monotonic() < deadline:
        assert process.is_alive()
        time.sleep(0.05)
    process.kill()
    process.join()
    assert 10 <= kept(path)["n_permutations"] < 20
    resumed = method(1, 20, path).fit(*data).detrimentality_
    for n_jobs in (1, 2):
        np.testing.assert_array_equal(method(n_jobs, 20).fit(*data).detrimentality_, resumed)
