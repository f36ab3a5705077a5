"""Rows that validate each other: the split, the merge, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import config_context
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, KFold, LeaveOneOut, TimeSeriesSplit

from skinfluence import (
    CalibratedDetrimentality,
    InfluenceFunction,
    LossScore,
    OutlierGradientDetector,
    SelfConfidence,
)
from skinfluence.methods._cross_fitting import out_of_fold_scores, swapped_scores
from skinfluence.rows._folds import check_cv, quantiles, split_rows
from tests._shared.problems import blobs, classifier, noisy_blobs


def record_calls(scores):
    """A score that notes which rows it was called with."""
    calls = []

    def score(train, held):
        calls.append((train, held))
        return scores[train]

    return score, calls


@given(st.integers(2, 60), st.integers(1, 5), st.integers(0, 2**31 - 1))
def test_each_row_is_scored_once_by_rows_it_is_not_among(n, n_classes, seed):
    strata = np.random.default_rng(seed).integers(0, n_classes, n)
    score, calls = record_calls(np.arange(n, dtype=float))
    merged = swapped_scores(score, strata, seed=seed)
    (train, held), (train_again, held_again) = calls
    np.testing.assert_array_equal(train, held_again)
    np.testing.assert_array_equal(held, train_again)
    assert sorted([*train, *held]) == list(range(n))
    assert ((merged > 0) & (merged < 1)).all()
    for fold in (train, held):
        assert (np.diff(merged[fold]) > 0).all()  # the order within a fold is the scores'


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=6),
    st.floats(0.05, 0.95),
    st.integers(0, 2**31 - 1),
)
def test_every_stratum_gives_its_share(sizes, share, seed):
    strata = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    try:
        held = split_rows(strata, share, seed)
    except ValueError:
        assert len(strata) * min(share, 1 - share) < 1
        return
    for stratum, size in enumerate(sizes):
        assert abs(held[strata == stratum].sum() - share * size) < 1
    assert abs(held.sum() - share * len(strata)) < 1


def test_names_of_strata_do_not_count():
    codes = np.random.default_rng(0).integers(0, 3, 50)
    expected = split_rows(codes, 0.5, 0)
    for names in (["z", "k", "a"], [7, -1, 100]):
        np.testing.assert_array_equal(split_rows(np.array(names)[codes], 0.5, 0), expected)
    assert not np.array_equal(split_rows(codes, 0.5, 1), expected)


def test_quantiles_by_hand():
    np.testing.assert_allclose(quantiles(np.array([5.0, -1.0, 5.0])), [2.5 / 4, 1 / 4, 2.5 / 4])


def test_folds_of_different_units_are_merged():
    scores = np.arange(40, dtype=float)
    first = []

    def score(train, held):
        unit = 1000.0 if first else 1.0
        first.append(train)
        return unit * scores[train]

    merged = swapped_scores(score, np.zeros(40), seed=0)
    np.testing.assert_allclose(np.sort(merged), np.repeat(np.arange(1, 21) / 21, 2))


def test_a_share_is_held_out_and_scored_too():
    score, calls = record_calls(np.arange(100.0))
    swapped_scores(score, np.arange(100) % 4, validation=0.2, seed=0)
    assert [len(held) for _, held in calls] == [20, 80]


@pytest.mark.parametrize("validation", [0, 1, -0.1, 1.5, "half", None, True, np.nan])
def test_other_rules_are_refused(validation):
    with pytest.raises(ValueError, match=r"validation=.*expected 'cross' or a float in \(0, 1\)"):
        swapped_scores(lambda train, held: train, np.arange(10), validation=validation, seed=0)


def test_an_empty_fold_is_refused():
    with pytest.raises(ValueError, match="hold out 0"):
        split_rows(np.zeros(2), 1e-9, 0)


@pytest.mark.parametrize("scores", [np.ones(3), np.full(5, np.nan)])
def test_wrong_scores_are_refused(scores):
    with pytest.raises(ValueError, match="5 finite scores"):
        swapped_scores(lambda train, held: scores, np.zeros(10), seed=0)


class GroupsBySplitter:
    """What a list of folds says, said by a splitter."""

    def __init__(self, folds):
        self.folds = folds

    def split(self, X, y):
        return iter(self.folds)


@pytest.mark.parametrize("method", [LossScore, OutlierGradientDetector])
def test_a_list_of_folds_keeps_groups_together(method):
    X, y, is_noisy = noisy_blobs(n=90)
    groups = np.arange(90) // 9
    folds = list(GroupKFold(3).split(X, y, groups))
    fitted = method(classifier(max_epochs=12), cv=folds, random_state=0)
    fitted = clone(fitted).fit(X, y)
    assert len(fitted.folds_) == 3
    for (train, held), rows in zip(folds, fitted._fold_rows):
        np.testing.assert_array_equal(train, rows)
        assert not set(groups[train]) & set(groups[held])
    again = method(classifier(max_epochs=12), cv=GroupsBySplitter(folds), random_state=0)
    np.testing.assert_array_equal(again.fit(X, y).detrimentality_, fitted.detrimentality_)
    assert np.median(fitted.detrimentality_[is_noisy]) > 0.8


def test_each_row_is_scored_by_the_fold_that_holds_it_out():
    folds = [(np.arange(4), np.arange(4, 8)), ([7, 6, 5, 4], [3, 2, 1, 0])]
    found = out_of_fold_scores(
        lambda train, held: np.asarray(held, float), np.zeros(8), cv=folds, seed=0
    )
    np.testing.assert_allclose(found, np.array([1, 2, 3, 4, 1, 2, 3, 4]) / 5)


def test_rows_of_small_folds_stand_at_their_places_among_all_rows():
    scores = np.random.default_rng(0).normal(size=60)

    def fold_sizes(*sizes):
        ends = np.cumsum(sizes)
        parts = [np.arange(end - size, end) for size, end in zip(sizes, ends, strict=True)]
        folds = [(np.setdiff1d(np.arange(60), part), part) for part in parts]
        return out_of_fold_scores(lambda train, held: scores[held], np.zeros(60), cv=folds, seed=0)

    among_all = (scores.argsort().argsort() + 1) / 61
    for size in (1, 2, 3):
        np.testing.assert_allclose(fold_sizes(*[size] * (60 // size)), among_all)
    found = fold_sizes(30, 28, 2)
    np.testing.assert_allclose(found[58:], among_all[58:])
    np.testing.assert_allclose(found[:30], (scores[:30].argsort().argsort() + 1) / 31)


def test_leaving_one_row_out_ranks_as_raw_confidence_does():
    X, y, is_noisy = noisy_blobs(n=40, n_classes=2)
    net = classifier(max_epochs=10, lr=0.05, module__n_outputs=2)
    fitted = SelfConfidence(net, cv=LeaveOneOut(), random_state=0).fit(X, y)
    assert roc_auc_score(is_noisy, fitted.detrimentality_) > 0.9
    new = fitted.score_detrimentality(X[:9], 1 - y[:9])
    assert (new > fitted.score_detrimentality(X[:9], y[:9]))[~is_noisy[:9]].all()


def test_folds_and_halves_that_lack_a_class_name_it():
    X, y, _ = noisy_blobs(n=60, n_classes=2)
    names = np.array(["ant", "bee"])[np.sort(y)]
    net = classifier(max_epochs=1, module__n_outputs=2)
    with pytest.raises(ValueError, match=r"Fold 0 of cv trains on no row of class 'ant'.*Stratif"):
        SelfConfidence(net, cv=KFold(2)).fit(X, names)
    names[-1] = "cow"
    with pytest.raises(ValueError, match=r"Class 'cow' has 1 of 60 rows \(59\)"):
        InfluenceFunction(net.set_params(module__n_outputs=3)).fit(X, names)


@pytest.mark.parametrize(
    ("cv", "message"),
    [
        (TimeSeriesSplit(2), "holds out row 0 0 times.*Folds in time"),
        ([([0, 1], [2, 3]), ([0, 1], [2, 3])], "^cv holds out row 0 0 times"),
        ([([0, 1], [1, 2, 3]), ([2, 3], [0])], "row 1 and trains on it, too"),
        ([([0, 1], [2, 9]), ([2, 3], [0, 1])], "row numbers from 0 to 3"),
        ([([0, 1], [2, -1]), ([2, 3], [0, 1])], "row numbers from 0 to 3"),
        ([(np.arange(4) < 2, np.arange(4) > 1), ([2, 3], [0, 1])], "np.flatnonzero"),
        ([([], [0, 1]), ([2, 3], [2, 3])], "at least one"),
    ],
)
def test_folds_that_do_not_score_every_row_once_are_refused(cv, message):
    check_cv(cv)
    with pytest.raises(ValueError, match=message):
        out_of_fold_scores(lambda train, held: np.ones(len(held)), np.zeros(4), cv=cv, seed=0)


@pytest.mark.parametrize("cv", [1, "three", True, [([0], [1])], [[0, 1, 2], [3]], iter([1])])
def test_other_cv_is_refused(cv):
    with pytest.raises(ValueError, match=r"Got cv=.*list of"):
        check_cv(cv)


def test_folds_do_not_depend_on_how_labels_are_stored():
    X, y, _ = noisy_blobs(n=60)
    method = LossScore(classifier(max_epochs=2), cv=2, random_state=0)
    expected = clone(method).fit(X, y).detrimentality_
    found = clone(method).fit(X, y.astype(object)).detrimentality_
    np.testing.assert_array_equal(found, expected)


def test_new_rows_are_scored_by_folds_whatever_transform_gives_out():
    X, y, _ = noisy_blobs(n=60)
    method = LossScore(classifier(max_epochs=2), cv=2, random_state=0).fit(X, y)
    expected = method.transform(X)
    with config_context(transform_output="pandas"):
        np.testing.assert_array_equal(method.transform(X).to_numpy(), expected)


@given(st.lists(st.integers(1, 12), min_size=2, max_size=8), st.booleans(), st.integers(0, 99))
def test_folds_without_a_scale_of_their_own_take_that_of_all(sizes, has_ties, seed):
    n_rows = sum(sizes)
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 3, n_rows).astype(float) if has_ties else rng.normal(size=n_rows)
    parts = np.split(rng.permutation(n_rows), np.cumsum(sizes)[:-1])
    cv = [(np.setdiff1d(np.arange(n_rows), held), held) for held in parts]
    merged = out_of_fold_scores(lambda train, held: raw[held], np.zeros(n_rows), cv=cv, seed=0)
    of_all = quantiles(raw)
    for held in parts:
        says_nothing = len(held) <= 3 or len(set(raw[held])) == 1
        expected = of_all[held] if says_nothing else quantiles(raw[held])
        np.testing.assert_allclose(merged[held], expected)


@pytest.mark.parametrize("validation", [0.02, 0.97, 1e-2 * 3])
def test_a_share_that_leaves_next_to_no_rows_is_refused(validation):
    with pytest.raises(ValueError, match=r"makes a part of [123] of 100 rows.*Use 'cross' or"):
        swapped_scores(lambda train, held: train, np.zeros(100), validation=validation, seed=0)


@pytest.mark.parametrize("cv", [LeaveOneOut(), KFold(20)])
def test_p_values_among_next_to_no_rows_are_refused(cv):
    X, y = blobs(n=40)
    method = CalibratedDetrimentality(LossScore(classifier(max_epochs=1)), cv=cv)
    with pytest.raises(ValueError, match=r"holds out [12] of 40 rows, but a row's p-value is"):
        method.fit(X, y)
