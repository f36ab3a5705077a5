"""Nearest-neighbour Shapley values against all subsets, their sum, and the folds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score

import skinfluence.valuation._knn_shapley as module
from skinfluence import KNNShapley
from skinfluence.gradients._outputs import penultimate_features
from skinfluence.rows._folds import quantiles, split_rows
from skinfluence.valuation._knn_shapley import _nearest_first, knn_shapley_values
from tests._shared.problems import SmallMlp, blobs, classifier, fitted_classifier, noisy_blobs
from tests._shared.valuation_references import shapley_over_all_subsets


def problem(n=30, n_val=11, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    X, X_val = rng.normal(size=(n, 3)), rng.normal(size=(n_val, 3))
    return X, rng.integers(0, n_classes, n), X_val, rng.integers(0, n_classes, n_val)


def utility(X, y, X_val, y_val, k):
    """The share of right votes among the nearest rows of a subset, as the paper defines it."""

    def of_subset(subset):
        subset = np.array(subset, dtype=int)
        total = 0.0
        for row, label in zip(X_val, y_val):
            nearest = np.argsort(((X[subset] - row) ** 2).sum(1), kind="stable")[:k]
            total += (y[subset[nearest]] == label).sum() / k
        return total / len(X_val)

    return of_subset


@pytest.mark.parametrize("k", [1, 3, 8, 20])
def test_values_are_shapley_s_over_all_subsets(k):
    X, y, X_val, y_val = problem(n=8, n_val=4, n_classes=2)
    expected = shapley_over_all_subsets(utility(X, y, X_val, y_val, k), 8)
    found = knn_shapley_values(X, y, X_val, y_val, k=k)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@given(st.integers(1, 50), st.integers(1, 20), st.integers(1, 60), st.integers(0, 10_000))
def test_values_sum_to_the_difference_of_utilities(n, n_val, k, seed):
    X, y, X_val, y_val = problem(n, n_val, seed=seed)
    of_subset = utility(X, y, X_val, y_val, k)
    values = knn_shapley_values(X, y, X_val, y_val, k=k)
    assert abs(values.sum() - (of_subset(range(n)) - of_subset([]))) < 1e-10


def test_scores_are_minus_the_values():
    X, y, X_val, y_val = problem()
    fitted = KNNShapley(k=3).fit(X, y, X_val, y_val)
    values = knn_shapley_values(X, y, X_val, y_val, k=3)
    np.testing.assert_allclose(fitted.detrimentality_, -values)


def test_blocks_and_float32_change_nothing(monkeypatch):
    X, y, X_val, y_val = problem(n=200, n_val=50)
    expected = knn_shapley_values(X, y, X_val, y_val, k=3)
    in_float32 = knn_shapley_values(X.astype("float32"), y, X_val.astype("float32"), y_val, k=3)
    np.testing.assert_allclose(in_float32, expected, atol=1e-12)
    monkeypatch.setattr(module, "_BLOCK_DISTANCES", 1)
    np.testing.assert_allclose(knn_shapley_values(X, y, X_val, y_val, k=3), expected, atol=1e-12)


def test_ties_are_taken_in_the_order_of_the_rows():
    distances = np.random.default_rng(0).integers(0, 5, (40, 30)).astype(float)
    distances[20:] += np.random.default_rng(1).normal(size=(20, 30))  # rows without ties
    np.testing.assert_array_equal(
        _nearest_first(distances), np.argsort(distances, axis=1, kind="stable")
    )
    # two equal rows at one place: the first is the nearer one, and alone counts for k = 1
    X, y, X_val, y_val = np.zeros((2, 1)), np.array([0, 1]), np.zeros((1, 1)), np.array([0])
    np.testing.assert_allclose(knn_shapley_values(X, y, X_val, y_val, k=1), [1, 0])


def test_features_far_from_the_origin_keep_their_order():
    X, y, X_val, y_val = problem()
    expected = knn_shapley_values(X, y, X_val, y_val, k=3)
    np.testing.assert_allclose(
        knn_shapley_values(X + 1e6, y, X_val + 1e6, y_val, k=3), expected, atol=1e-12
    )


def test_rows_may_come_in_any_order():
    X, y, X_val, y_val = problem()
    expected = KNNShapley().fit(X, y, X_val, y_val).detrimentality_
    order = np.random.default_rng(0).permutation(len(X))
    back = np.random.default_rng(1).permutation(len(X_val))
    found = KNNShapley().fit(X[order], y[order], X_val[back], y_val[back]).detrimentality_
    np.testing.assert_allclose(found, expected[order], atol=1e-12)


def test_without_validation_rows_two_folds_judge_each_other():
    X, y, is_noisy = noisy_blobs(n=120)
    fitted = KNNShapley(random_state=0).fit(X, y)
    held = split_rows(y, 0.5, fitted._seeds[1])
    for train in (held, ~held):
        expected = quantiles(-knn_shapley_values(X[train], y[train], X[~train], y[~train], k=5))
        np.testing.assert_allclose(fitted.detrimentality_[train], expected)
    assert roc_auc_score(is_noisy, fitted.detrimentality_) > 0.95
    share = KNNShapley(validation=0.2, random_state=0).fit(X, y).detrimentality_
    assert np.isfinite(share).all()
    assert not np.array_equal(share, fitted.detrimentality_)


def test_trusted_rows_find_flips():
    X, y, is_noisy = noisy_blobs(n=120)
    X_val, y_val = blobs(60, seed=1)
    named = np.array(["x", "y", "z"])
    fitted = KNNShapley().fit(X, named[y], X_val, named[y_val])
    assert roc_auc_score(is_noisy, fitted.detrimentality_) > 0.98
    np.testing.assert_array_equal(fitted.classes_, named)


def test_penultimate_features_of_a_frozen_net():
    X, y, _ = noisy_blobs(n=90)
    X_val, y_val = blobs(30, seed=1)
    net = fitted_classifier(X, y)
    hidden, hidden_val = (penultimate_features(net, rows, batch_size=64) for rows in (X, X_val))
    expected = KNNShapley().fit(hidden, y, hidden_val, y_val).detrimentality_
    found = KNNShapley(FrozenEstimator(net), features="penultimate").fit(X, y, X_val, y_val)
    np.testing.assert_allclose(found.detrimentality_, expected, atol=1e-12)
    assert found.net_ is net


def test_every_fold_trains_a_net_of_its_own():
    X, y, is_noisy = noisy_blobs(n=120)
    net = classifier(SmallMlp, max_epochs=10)
    fitted = KNNShapley(net, features="penultimate", random_state=0).fit(X, y)
    assert roc_auc_score(is_noisy, fitted.detrimentality_) > 0.9
    assert not getattr(net, "initialized_", False)
    # trained on the fold alone: half of the rows
    assert sum(batch["train_batch_size"] for batch in fitted.net_.history[-1]["batches"]) == 60
    np.testing.assert_array_equal(
        KNNShapley(net, features="penultimate", random_state=0).fit(X, y).detrimentality_,
        fitted.detrimentality_,
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"k": 0}, "k=0.*integer >= 1"),
        ({"k": 2.0}, "k=2.0"),
        ({"features": None}, "features=None"),
        ({"validation": 2.0}, "validation=2.0"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_parameters_are_checked_at_fit(parameters, message):
    X, y, X_val, y_val = problem()
    with pytest.raises(ValueError, match=message):
        KNNShapley(**parameters).fit(X, y, X_val, y_val)


def test_unsuited_data_are_refused():
    X, y, X_val, y_val = problem()
    with pytest.raises(ValueError, match=r"numeric target.*bin y"):
        KNNShapley().fit(X, X[:, 0])
    with pytest.raises(ValueError, match="never trained on"):
        KNNShapley().fit(X, y, X_val, y_val + 7)
    with pytest.raises(ValueError, match="y to be passed"):
        KNNShapley().fit(X, y, X_val)
    with pytest.raises(ValueError, match="features"):
        KNNShapley().fit(X, y, X_val[:, :2], y_val)
    with pytest.raises(ValueError, match="are training rows"):
        KNNShapley().fit(X, y, X[::-1], y[::-1])
    with pytest.raises(ValueError, match="features='raw' compares rows of an array"):
        KNNShapley().fit(RowByRow(X, y), y)


class RowByRow:
    """A minimal data set."""

    def __init__(self, X, y):
        self.X, self.y = X, y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i], self.y[i]
