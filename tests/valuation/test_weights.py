"""Weights of rows in data values: a whole number is as many copies, and zero is no row at all."""

import functools

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score, make_scorer, max_error
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

from skinfluence import ComplexityGap, DataShapley, KNNShapley, LeaveOneOut
from skinfluence.exceptions import ApproximationWarning
from skinfluence.rows._rows import ModelRows
from skinfluence.valuation._knn_shapley import knn_shapley_values
from skinfluence.valuation.shapley._utility import ModelUtility
from tests._shared.problems import SmallMlp, blobs
from tests._shared.valuation_references import (
    gaps_by_deletion,
    naive_ntk,
    shapley_over_all_subsets,
)

COUNTS = np.array([1, 2, 0, 3, 1, 1, 0, 2, 1, 4, 1, 1, 2, 1, 1, 3, 1, 0, 2, 1, 1, 1, 2, 1])
COPIES = np.repeat(np.arange(24), COUNTS)


def rows(n=24):
    X, y = blobs(60, spread=2.0)
    X = X.astype(np.float64)
    return X[:n], y[:n], X[24:], y[24:]


def spoilt(y):
    return np.where(COUNTS == 0, (y + 1) % 3, y)


class Double(SmallMlp):
    def __init__(self):
        super().__init__(n_hidden=5)
        self.double()


def full_batches(**kwargs):
    settings = {"criterion": nn.CrossEntropyLoss, "optimizer": torch.optim.SGD, "lr": 0.3}
    settings |= {"max_epochs": 6, "batch_size": -1, "iterator_train__shuffle": False}
    return NeuralNetClassifier(Double, train_split=None, verbose=0, **{**settings, **kwargs})


# Nearest neighbours.


def test_a_neighbour_of_weight_has_the_values_of_its_copies():
    X, y, X_val, y_val = rows()
    for k in (1, 3, 40):
        found = knn_shapley_values(X, y, X_val, y_val, k=k, weights=COUNTS.astype(float))
        copies = knn_shapley_values(X[COPIES], y[COPIES], X_val, y_val, k=k)
        expected = np.bincount(COPIES, copies, minlength=24)
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_neighbours_vote_until_their_weights_are_k():
    X, y, X_val, y_val = rows()
    mean = 33 / 24
    # a score knows ratios only: of k rows of mean weight
    found = KNNShapley(k=8).fit(X, y, X_val, y_val, sample_weight=COUNTS).detrimentality_
    copies = KNNShapley(k=11).fit(X[COPIES], y[COPIES], X_val, y_val).detrimentality_
    assert 8 * mean == 11
    np.testing.assert_allclose(found, np.bincount(COPIES, copies, minlength=24), atol=1e-12)
    assert (found[COUNTS == 0] == 0).all()


def test_weights_of_validation_rows_are_copies_of_them():
    X, y, X_val, y_val = rows()
    counts = np.arange(36) % 4
    copies = np.repeat(np.arange(36), counts)
    weights = counts / counts.mean()
    found = knn_shapley_values(X, y, X_val, y_val, k=3, judging_weights=weights)
    expected = knn_shapley_values(X, y, X_val[copies], y_val[copies], k=3)
    np.testing.assert_allclose(found, expected, atol=1e-12)


# By training again on subsets.


def of_model(model, weights, **kwargs):
    X, y, X_val, y_val = rows()
    return ModelUtility(
        model,
        ModelRows(X, y),
        ModelRows(X_val, y_val),
        np.arange(3),
        accuracy,
        0,
        weights,
        **kwargs,
    )


def accuracy(model, X, y, sample_weight=None):
    return accuracy_score(y, model.predict(X), sample_weight=sample_weight)


# without a penalty against the sum of the losses, which scales with weights
MODELS = [
    GaussianNB(),
    LogisticRegression(C=np.inf, tol=1e-8, max_iter=2000),
    make_pipeline(StandardScaler(), GaussianNB()),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: repr(model)[:30])
def test_a_subset_is_worth_what_its_copies_are_worth(model):
    X, y, X_val, y_val = rows()
    weighted = of_model(model, COUNTS / COUNTS.mean())
    rng = np.random.default_rng(0)
    for size in (0, 1, 2, 5, 12, 24):
        subset = np.sort(rng.choice(24, size, replace=False))
        copies = COPIES[np.isin(COPIES, subset)]
        if len(copies) == 0:
            shares = np.bincount(y[COPIES])
            expected = (y_val == shares.argmax()).mean()
        elif len(np.unique(y[copies])) == 1:
            expected = (y_val == y[copies[0]]).mean()
        else:
            expected = clone(model).fit(X[copies], y[copies]).score(X_val, y_val)
        assert weighted(subset) == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
def test_shapley_values_are_those_of_rows_with_their_weight():
    X, y, X_val, y_val = rows()
    X, y, weights = X[:6], y[:6] % 2, COUNTS[:6]
    method = DataShapley(
        GaussianNB(), truncation=None, tolerance=None, max_permutations=600, random_state=0
    )
    method.fit(X, y, X_val, y_val % 2, sample_weight=weights)

    @functools.cache
    def of_subset(subset):
        copies = np.repeat(np.array(subset, dtype=int), weights[list(subset)])
        if len(copies) == 0:
            return (y_val % 2 == np.bincount(y, weights).argmax()).mean()
        if len(np.unique(y[copies])) == 1:
            return (y_val % 2 == y[copies[0]]).mean()
        return GaussianNB().fit(X[copies], y[copies]).score(X_val, y_val % 2)

    expected = shapley_over_all_subsets(lambda subset: of_subset(tuple(sorted(subset))), 6)
    np.testing.assert_allclose(-method.detrimentality_, expected, atol=0.03)
    assert (method.detrimentality_[weights == 0] == 0).all()


NO_SAY = [
    DataShapley(max_permutations=10, random_state=0),
    KNNShapley(),
    LeaveOneOut(full_batches(), random_state=0),
]


@pytest.mark.parametrize("method", NO_SAY, ids=lambda method: type(method).__name__)
def test_rows_without_weight_have_no_say_in_values(method):
    X, y, X_val, y_val = rows()
    far = np.where(COUNTS[:, np.newaxis] == 0, np.arange(9, 33)[:, np.newaxis], X)
    first, *others = (
        clone(method).fit(*given, X_val, y_val, sample_weight=COUNTS).detrimentality_
        for given in ((X, y), (far, y), (X, spoilt(y)))
    )
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-9)
    if isinstance(method, KNNShapley):
        return  # whose values are often the same, so that rounding decides quantiles
    first, second = (
        clone(method).fit(given, y, sample_weight=COUNTS).detrimentality_ for given in (X, far)
    )
    np.testing.assert_allclose(second, first, atol=1e-9)


def test_numbers_are_valued_by_weights():
    X, _, X_val, _ = rows()
    y, y_val = X @ [1.0, 2, 0, 0], X_val @ [1.0, 2, 0, 0]
    y[COUNTS == 0] += 100
    method = DataShapley(LinearRegression(), max_permutations=10, random_state=0)
    clean = clone(method).fit(X, X @ [1.0, 2, 0, 0], X_val, y_val, sample_weight=COUNTS)
    found = method.fit(X, y, X_val, y_val, sample_weight=COUNTS).detrimentality_
    np.testing.assert_allclose(found, clean.detrimentality_, atol=1e-9)


def test_who_knows_no_weights_says_so():
    X, y, X_val, y_val = rows()
    with pytest.raises(ValueError, match="KNeighborsClassifier takes none in its fit"):
        DataShapley(KNeighborsClassifier(1)).fit(X, y, X_val, y_val, sample_weight=COUNTS)

    def scoring(model, X, y):
        return accuracy(model, X, y)

    for each in (scoring, make_scorer(max_error, greater_is_better=False)):
        method = DataShapley(GaussianNB(), scoring=each, max_permutations=2)
        with pytest.raises(ValueError, match=r"takes no sample_weight\. Give X_val and y_val"):
            clone(method).fit(X, y, sample_weight=COUNTS)
        clone(method).fit(X, y, X_val, y_val, sample_weight=COUNTS)


# By leaving out one after the other.


def loss_after(state, X, y, weights, X_val, y_val, n_steps=6):
    """The validation loss after gradient descent on the sum of weighted losses over 24."""
    net = Double()
    net.load_state_dict(state)
    X, y, w = torch.from_numpy(X), torch.from_numpy(y), torch.from_numpy(weights)
    for _ in range(n_steps):
        losses = nn.functional.cross_entropy(net(X), y, reduction="none")
        slopes = torch.autograd.grad((w * losses).sum() / 24, list(net.parameters()))
        with torch.no_grad():
            for parameter, slope in zip(net.parameters(), slopes, strict=True):
                parameter.sub_(0.3 * slope)
    with torch.no_grad():
        outputs = net(torch.from_numpy(X_val))
        return float(nn.functional.cross_entropy(outputs, torch.from_numpy(y_val)))


@pytest.mark.parametrize("stacked", [True, False])
def test_leaving_out_takes_a_row_with_all_its_weight(stacked, monkeypatch):
    from skinfluence.valuation.leave_one_out import _replay

    if not stacked:
        monkeypatch.setattr(_replay, "_can_stack", lambda replay: False)
    X, y, X_val, y_val = rows()
    method = LeaveOneOut(full_batches(), random_state=0)
    method.fit(X, y, X_val, y_val, sample_weight=COUNTS)
    assert method.strategy_ == ("stacked" if stacked else "one by one")
    weights, start = COUNTS / COUNTS.mean(), method.trace_.initial_state
    whole = loss_after(start, X, y, weights, X_val, y_val)
    expected = []
    for row in range(24):
        kept = np.where(np.arange(24) == row, 0, weights)
        expected.append(whole - loss_after(start, X, y, kept, X_val, y_val))
    np.testing.assert_allclose(method.detrimentality_, expected, atol=1e-10)
    assert method.loss_ == pytest.approx(whole, abs=1e-10)


def test_from_scratch_the_others_keep_their_weights():
    X, y, X_val, y_val = rows()
    method = LeaveOneOut(full_batches(), retrain="scratch", random_state=0)
    method.fit(X, y, X_val, y_val, sample_weight=COUNTS)
    for row in (1, 9, 12):
        copies = COPIES[row != COPIES]
        alone = LeaveOneOut(full_batches(), retrain="scratch", subset=[0], random_state=0)
        alone.fit(X[copies], y[copies], X_val, y_val)
        assert method.losses_without_[row] == pytest.approx(alone.loss_, abs=1e-9)


def test_the_other_half_judges_by_its_weights():
    X, y, _, _ = rows()
    for settings in ({}, {"retrain": "scratch"}):
        method = LeaveOneOut(full_batches(), random_state=0, **settings)
        method.fit(X, y, sample_weight=COUNTS)
        for fold, train in zip(method.folds_, method._fold_rows, strict=True):
            held = np.setdiff1d(np.arange(24), train)
            judging = held[np.repeat(np.arange(len(held)), COUNTS[held])]
            alone = clone(fold).fit(
                X[train], y[train], X[judging], y[judging], sample_weight=COUNTS[train]
            )
            assert fold.loss_ == pytest.approx(alone.loss_, abs=1e-9)
            np.testing.assert_allclose(fold.losses_without_, alone.losses_without_, atol=1e-9)


def test_a_file_of_losses_is_of_its_weights(tmp_path):
    X, y, X_val, y_val = rows()
    method = LeaveOneOut(full_batches(), path=tmp_path / "losses.npz", random_state=0)
    clone(method).fit(X, y, X_val, y_val, sample_weight=COUNTS)
    with pytest.raises(ValueError, match="sample_weight"):
        clone(method).fit(X, y, X_val, y_val)


# Complexity gaps.


def gap_among_copies(X, y, row, jitter, weights):
    """The gap of one row, of weight one, among as many copies of the others as they weigh."""
    others = COPIES[row != COPIES]
    kept = np.r_[row, others]
    H = naive_ntk(X)[np.ix_(kept, kept)]
    # a copy's jitter, where the mean weight has that of `jitter`
    H[np.arange(len(kept)), np.arange(len(kept))] += np.r_[jitter, [weights] * len(others)]
    return gaps_by_deletion(H, y[kept])[0]


@pytest.mark.parametrize("route", ["exact", "low rank"])
def test_a_gap_is_that_of_a_row_of_weight_one_among_copies(route):
    X, y, _, _ = rows()
    method = ComplexityGap(jitter=0.1)
    if route == "low rank":
        method.set_params(max_rows=5, n_landmarks=1000)
        with pytest.warns(ApproximationWarning):
            method.fit(X, y, sample_weight=COUNTS)
    else:
        method.fit(X, y, sample_weight=COUNTS)
    expected = [
        gap_among_copies(X, np.where(y == y[row], 1.0, -1.0), row, 0.1, 0.1 * COUNTS.mean())
        for row in range(24)
    ]
    where = COUNTS > 0 if route == "low rank" else COUNTS >= 0  # others are seen through these
    np.testing.assert_allclose(method.detrimentality_[where], np.array(expected)[where], rtol=1e-7)
    np.testing.assert_allclose(method.partial_terms_.sum(1), method.detrimentality_, rtol=1e-9)


@pytest.mark.parametrize("settings", [{}, {"mode": "subsample", "n_repeats": 2}])
def test_labels_without_weight_change_no_gap(settings):
    X, y, _, _ = rows()
    method = ComplexityGap(random_state=0, **settings)
    first, second = (
        clone(method).fit(X, labels, sample_weight=COUNTS).detrimentality_
        for labels in (y, spoilt(y))
    )
    if not settings:
        np.testing.assert_allclose(second[COUNTS > 0], first[COUNTS > 0], rtol=1e-9)
    assert (second[COUNTS == 0] > first[COUNTS == 0]).mean() > 0.5
    assert np.isfinite(second).all()


def test_gaps_of_numbers_are_on_the_scale_of_weighted_rows():
    X, _, _, _ = rows()
    y = X[:, 0] + 0.1 * X[:, 1]
    wrong = np.where(COUNTS == 0, y + 30, y)
    first, second = (
        ComplexityGap().fit(X, numbers, sample_weight=COUNTS).detrimentality_
        for numbers in (y, wrong)
    )
    np.testing.assert_allclose(second[COUNTS > 0], first[COUNTS > 0], rtol=1e-9)
    assert second[COUNTS == 0].min() > second[COUNTS > 0].max()


def test_hardly_any_weight_is_none():
    X, y, _, _ = rows()
    for little in (1e-300, 1e-12, 1e-8):
        weights = np.where(COUNTS == 0, little, COUNTS)
        found = ComplexityGap().fit(X, y, sample_weight=weights).detrimentality_
        none = ComplexityGap().fit(X, y, sample_weight=COUNTS).detrimentality_
        np.testing.assert_allclose(found, none, rtol=1e-4)
