"""P-values among clean-looking rows, held against loops and what they promise."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import kstest, rankdata
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import PredefinedSplit, StratifiedKFold
from sklearn.neighbors import LocalOutlierFactor
from torch.func import functional_call

from skinfluence import (
    AreaUnderMargin,
    CalibratedDetrimentality,
    DetrimentalSampleCleaner,
    LossScore,
    OutlierGradientDetector,
    RandomScore,
    SelfConfidence,
    TracIn,
    estimate_label_errors,
)
from skinfluence.datasets import make_noisy_labels
from skinfluence.methods._p_values import (
    held_out_p_values,
    p_values,
    reference_of,
)
from tests._shared.problems import blobs, classifier, fitted_classifier, noisy_blobs, regressor

NET = classifier(max_epochs=8)


def calibrated(method=None, **kwargs):
    method = LossScore(NET, checkpoints=3) if method is None else method
    return CalibratedDetrimentality(method, **{"cv": 3, "random_state": 0, **kwargs})


def p_of_new_row_by_a_loop(score, others, looks_clean):
    clean = [s for s, c in zip(others, looks_clean) if c]
    at_least = sum(s >= score for s in clean)
    p = (1 + at_least) / (1 + len(clean))
    if at_least == 0:
        top = max(clean, default=-np.inf)
        beyond = [s for s, c in zip(others, looks_clean) if not c and s > top]
        p *= (1 + sum(s >= score for s in beyond)) / (1 + len(beyond))
    return p


def p_of_held_out_rows_by_a_loop(scores, looks_clean):
    p = []
    for i, score in enumerate(scores):
        others, theirs = np.delete(scores, i), np.delete(looks_clean, i)
        if looks_clean[i]:
            clean = others[theirs]
            p.append((1 + sum(clean >= score)) / (1 + len(clean)))
        else:
            p.append(p_of_new_row_by_a_loop(score, others, theirs))
    return np.array(p)


def scores_of_a_fold(seed, clean_share, *, tied):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 9, 40).astype(float) if tied else rng.normal(size=40)
    looks_clean = rng.random(40) < clean_share
    return np.where(looks_clean, scores, scores + 2.0), looks_clean


every_fold = pytest.mark.parametrize("clean_share", [0, 0.3, 0.8, 1])
tied_or_not = pytest.mark.parametrize("tied", [False, True])


@every_fold
@tied_or_not
@pytest.mark.parametrize("seed", range(5))
def test_p_values_are_those_of_a_loop(seed, clean_share, tied):
    scores, looks_clean = scores_of_a_fold(seed, clean_share, tied=tied)
    expected = p_of_held_out_rows_by_a_loop(scores, looks_clean)
    np.testing.assert_allclose(held_out_p_values(scores, looks_clean), expected, rtol=1e-12)
    new = np.concatenate([np.linspace(-3, 12, 31), scores])
    expected = [p_of_new_row_by_a_loop(score, scores, looks_clean) for score in new]
    found = p_values(new, reference_of(scores, looks_clean))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert (np.diff(found[:31]) <= 0).all()


@every_fold
@tied_or_not
def test_only_the_order_counts_and_not_the_place_of_a_row(clean_share, tied):
    scores, looks_clean = scores_of_a_fold(0, clean_share, tied=tied)
    p = held_out_p_values(scores, looks_clean)
    for increasing in (lambda s: rankdata(s, "dense"), np.exp, lambda s: 8 * s - 1e3):
        np.testing.assert_array_equal(held_out_p_values(increasing(scores), looks_clean), p)
    order = np.random.default_rng(1).permutation(len(scores))
    permuted = held_out_p_values(scores[order], looks_clean[order])
    np.testing.assert_array_equal(permuted, p[order])


def test_clean_rows_have_uniform_p_values():
    scores, looks_clean = scores_of_a_fold(0, 0.7, tied=False)
    n_clean = looks_clean.sum()
    p = np.sort(held_out_p_values(scores, looks_clean)[looks_clean])
    np.testing.assert_allclose(p, np.arange(1, n_clean + 1) / n_clean, rtol=1e-12)


@tied_or_not
def test_p_values_are_valid_for_exchangeable_rows(tied):
    rng = np.random.default_rng(0)
    n_clean, new, held = 19, [], []
    for _ in range(4000):
        scores = rng.normal(size=n_clean + 1)
        scores = np.round(scores) if tied else scores
        suspects = scores[:5] + rng.normal(1, 1, 5)
        looks_clean = np.arange(n_clean + 5) < n_clean
        fold = np.concatenate([scores[:n_clean], suspects])
        new.append(p_values(scores[n_clean:], reference_of(fold, looks_clean))[0])
        held.append(held_out_p_values(fold, looks_clean)[0])
    for found, least in ((new, 1 / (1 + n_clean)), (held, 1 / n_clean)):
        for t in (least, 2 * least, 0.25, 0.5, 0.9):
            error = np.sqrt(t * (1 - t) / len(found))
            assert np.mean(np.array(found) <= t + 1e-12) <= t + 4 * error
    if not tied:  # not by being far too large
        assert np.mean(np.array(new) <= 0.5) > 0.45


def test_rows_beyond_all_clean_ones_keep_their_order():
    looks_clean = np.array([True] * 4 + [False] * 3)
    scores = np.array([0.0, 1.0, 2.0, 3.0, 9.0, 7.0, 8.0])
    p = held_out_p_values(scores, looks_clean)
    np.testing.assert_allclose(p[4:] * 5, [1 / 3, 1, 2 / 3])


def test_estimator_is_a_loop_over_folds():
    X, y, is_noisy = noisy_blobs(n=90)
    names = np.array(["a", "b", "c"])[y]
    splitter = StratifiedKFold(3, shuffle=True, random_state=5)
    method = LossScore(NET, checkpoints=3, random_state=7)
    fitted = calibrated(method, cv=splitter).fit(X, names)
    new = [X[:7] + 0.5, names[:7]]
    places, held_out = [], np.empty((len(X), 3))
    for train, held in splitter.split(X, names):
        fold = clone(method).fit(X[train], names[train])
        scores = fold.score_detrimentality(X[held], names[held])
        probabilities = np.mean(
            [
                functional_call(fold.net_.module_, point.state, torch.tensor(X[held])).softmax(1)
                for point in fold.trace_.checkpoints
            ],
            axis=0,
        )
        looks_clean = np.array(["a", "b", "c"])[probabilities.argmax(1)] == names[held]
        np.testing.assert_array_equal(fitted.looks_clean_[held], looks_clean)
        expected = p_of_held_out_rows_by_a_loop(scores, looks_clean)
        np.testing.assert_allclose(fitted.p_values_[held], expected, rtol=1e-12)
        held_out[held] = probabilities
        places.append(
            [
                1 - p_of_new_row_by_a_loop(score, scores, looks_clean)
                for score in fold.score_detrimentality(*new)
            ]
        )
    np.testing.assert_array_equal(fitted.detrimentality_, 1 - fitted.p_values_)
    np.testing.assert_allclose(fitted.score_detrimentality(*new), np.mean(places, 0), rtol=1e-12)
    assert list(fitted.classes_) == ["a", "b", "c"]
    assert len(fitted.net_) == len(fitted.trace_) == len(fitted.folds_) == 3
    expected = estimate_label_errors(held_out, names).p_wrong
    np.testing.assert_allclose(fitted.label_errors_.p_wrong, expected, atol=1e-4)
    assert roc_auc_score(is_noisy, fitted.detrimentality_) > 0.95
    assert not hasattr(fitted, "transform")
    frame = pd.DataFrame(X, columns=list("pqrs"))
    from_frame = clone(fitted).fit(frame, pd.Series(names))
    np.testing.assert_array_equal(from_frame.p_values_, fitted.p_values_)
    assert list(from_frame.feature_names_in_) == list("pqrs")


class ScaledLoss(LossScore):
    def _score(self, rows):
        return 8 * super()._score(rows) - 64


def test_unit_of_the_method_does_not_count():
    X, y, _ = noisy_blobs(n=60)
    plain = calibrated(LossScore(NET)).fit(X, y)
    scaled = calibrated(ScaledLoss(NET)).fit(X, y)
    np.testing.assert_array_equal(scaled.p_values_, plain.p_values_)


def test_rows_may_come_in_any_order():
    X, y, _ = noisy_blobs(n=90)
    net = classifier(batch_size=-1, iterator_train__shuffle=False)
    order = np.random.default_rng(0).permutation(len(X))
    folds = np.arange(len(X)) % 7 % 3
    straight = calibrated(LossScore(net), cv=PredefinedSplit(folds)).fit(X, y)
    permuted = calibrated(LossScore(net), cv=PredefinedSplit(folds[order])).fit(X[order], y[order])
    # sums in another order round otherwise: rows that nearly tie may change places
    assert np.abs(permuted.p_values_ - straight.p_values_[order]).mean() < 0.01
    expected = straight.label_errors_.p_wrong[order]
    np.testing.assert_allclose(permuted.label_errors_.p_wrong, expected, atol=0.01)


def test_p_values_of_clean_looking_rows_are_uniform_over_all_folds():
    X, y, _ = noisy_blobs(n=240)
    fitted = calibrated(LossScore(NET)).fit(X, y)
    clean = fitted.p_values_[fitted.looks_clean_]
    assert kstest(clean, "uniform").pvalue > 0.5
    assert np.median(fitted.p_values_[~fitted.looks_clean_]) < 0.02


def test_seed_alone_decides_and_nothing_else_is_touched():
    X, y, _ = noisy_blobs(n=60)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = calibrated().fit(X, y)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    np.testing.assert_array_equal(calibrated().fit(X, y).p_values_, first.p_values_)
    assert not np.array_equal(calibrated(random_state=1).fit(X, y).p_values_, first.p_values_)
    assert first.method.random_state is None
    assert not getattr(NET, "initialized_", False)
    restored = pickle.loads(pickle.dumps(first))
    scores = first.score_detrimentality(X, y)
    np.testing.assert_array_equal(restored.score_detrimentality(X, y), scores)
    nested = clone(first).set_params(method__checkpoints=2, method__net__lr=0.02)
    assert nested.method.checkpoints == 2
    assert nested.net.lr == 0.02


def test_trusted_rows_go_to_methods_that_take_them():
    X, y, is_noisy = noisy_blobs(n=60)
    trusted = noisy_blobs(n=30, seed=3, rate=0.0)[:2]
    method = TracIn(NET, reference="validation")
    fitted = calibrated(method).fit(X, y, *trusted)
    assert roc_auc_score(is_noisy, fitted.detrimentality_) > 0.9
    with pytest.raises(ValueError, match="needs trusted rows to judge held-out rows"):
        calibrated(method).fit(X, y)
    with pytest.raises(ValueError, match="Got X_val, but LossScore does not use validation rows"):
        calibrated().fit(X, y, *trusted)


def test_cleaner_takes_it():
    X, y, is_noisy = noisy_blobs(n=90)
    method = calibrated(LossScore(classifier(), checkpoints=3))
    cleaner = DetrimentalSampleCleaner(method, contamination=9).fit(X, y)
    assert is_noisy[cleaner.removed_indices_].mean() > 0.8
    cleaner.set_params(contamination="auto", cv=2, per_class=True)  # models of the method's own net
    cleaner.fit(X, y)
    assert cleaner.n_trainings_ > 3


def frozen():
    X, y = blobs(30)
    return FrozenEstimator(fitted_classifier(X, y, max_epochs=1))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"method": AreaUnderMargin()}, "AreaUnderMargin, as it is set, cannot judge rows.*TracIn"),
        ({"method": RandomScore()}, "RandomScore.*cannot judge rows"),
        (
            {"method": OutlierGradientDetector(detector=LocalOutlierFactor())},
            "cannot judge rows.*with NormDetector",
        ),
        ({"method": LossScore(cv=3)}, "holds out rows itself"),
        ({"method": LossScore(frozen())}, "net is frozen"),
        ({"method": LossScore(regressor())}, "needs class probabilities"),
        ({"cv": None}, "need held-out rows"),
        ({"cv": 1}, "at least 2"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(settings, match):
    X, y, _ = noisy_blobs(n=30)
    with pytest.raises(ValueError, match=match):
        calibrated().set_params(**settings).fit(X, y)


def test_wrong_kinds_are_refused():
    X, y, _ = noisy_blobs(n=30)
    with pytest.raises(TypeError, match="expected one of this package's methods"):
        CalibratedDetrimentality(LocalOutlierFactor()).fit(X, y)
    with pytest.raises(ValueError, match=r"numeric target.*the method's own cv"):
        CalibratedDetrimentality(LossScore()).fit(X, X[:, 0])
    with pytest.raises(ValueError, match="needs 50 rows of every class"):
        calibrated(cv=50).fit(X, y)


def test_expected_errors_are_bounded_and_never_fall():
    X, y, _ = noisy_blobs(n=90, rate=0.3)
    fitted = calibrated().fit(X, y)
    expected = [fitted.expected_errors(budget) for budget in range(91)]
    steps = np.diff(expected)
    assert expected[0] == 0
    assert set(steps) <= {0, 1}
    assert expected[-1] == round(fitted.label_errors_.expected)
    assert fitted.expected_errors(0.3) == expected[27]
    assert fitted.expected_errors(np.int64(27)) == expected[27]
    assert fitted.expected_errors(1.0) == expected[90]


@pytest.mark.parametrize("budget", [-1, 91, 1.5, -0.1, True, "all", None, float("nan")])
def test_budgets_are_checked(budget):
    X, y, _ = noisy_blobs(n=90)
    with pytest.raises(ValueError, match="from 0 to 90 as an int"):
        calibrated().fit(X, y).expected_errors(budget)


@pytest.mark.slow
def test_expected_errors_agree_with_planted_ones_on_digits():
    X, y = load_digits(return_X_y=True)
    X, y = X[:1000], y[:1000]
    method = calibrated(SelfConfidence(checkpoints=10))
    assert method.fit(X, y).expected_errors(1.0) <= 15
    y_noisy, is_noisy = make_noisy_labels(y, rate=0.2, random_state=0)
    method.fit(X, y_noisy)
    for budget in (20, 50, 100, 200, 300):
        wrong = is_noisy[method.ranking_[:budget]].sum()
        assert abs(method.expected_errors(budget) - wrong) <= 25, budget
