"""Removal curves against models trained one by one."""

import random
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix
from scipy.stats import ttest_1samp
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.helper import SliceDict
from torch import nn

from skinfluence.metrics import RemovalCurve, removal_curve
from skinfluence.metrics._removal import paired_difference
from skinfluence.rows._seeds import draw_seeds, seeded
from skinfluence.rows._worst_rows import AmountError
from tests._shared.problems import SmallMlp, blobs, classifier, noisy_blobs

X, Y, IS_NOISY = noisy_blobs(n=90, rate=0.2, spread=1.5)
X_TEST, Y_TEST = blobs(n=60, seed=1, spread=1.5)
SCORES = IS_NOISY + 0.1 * np.random.default_rng(0).random(90)
TEST = {"X_test": X_TEST, "y_test": Y_TEST}


def test_scores_are_those_of_models_trained_one_by_one():
    forest = make_pipeline(StandardScaler(), RandomForestClassifier(5, random_state=7))
    budgets = (0, 0.1, 0.2)
    curve = removal_curve(forest, X, Y, SCORES, **TEST, budgets=budgets, n_seeds=3, random_state=1)
    worst = np.argsort(-SCORES)
    seeds = draw_seeds(1, 6)
    for number in range(3):
        shuffled = np.random.RandomState(seeds[2 * number + 1]).permutation(90)
        for column, size in enumerate((0, 9, 18)):
            for order, scores in ((worst, curve.scores), (shuffled, curve.random_scores)):
                kept = np.sort(order[size:])
                model = clone(forest).set_params(
                    randomforestclassifier__random_state=seeds[2 * number]
                )
                expected = model.fit(X[kept], Y[kept]).score(X_TEST, Y_TEST)
                assert scores[number, column] == expected
    assert curve.n_removed.tolist() == [0, 9, 18]
    assert curve.budgets.tolist() == list(budgets)
    np.testing.assert_array_equal(curve.mean, curve.scores.mean(0))
    np.testing.assert_array_equal(curve.random_mean, curve.random_scores.mean(0))
    assert len(np.unique(curve.scores[:, 0])) > 1  # seeds matter, although random_state was set


def test_removing_the_noisy_rows_beats_all_rows_and_random_removal():
    curve = removal_curve(
        KNeighborsClassifier(1), X, Y, SCORES, **TEST, budgets=(0, 0.2), random_state=0
    )
    assert curve.against_all_rows().mean[1] > 0.1
    assert curve.against_random().low[1] > 0
    assert curve.against_all_rows().mean[0] == 0
    assert np.ptp(curve.scores, axis=0).max() == 0  # nothing random in it but the control
    assert np.ptp(curve.random_scores[:, 1]) > 0
    upside_down = removal_curve(
        KNeighborsClassifier(1), X, Y, -SCORES, **TEST, budgets=(0, 0.2), random_state=0
    )
    assert upside_down.mean[1] < upside_down.random_mean[1]
    np.testing.assert_array_equal(upside_down.random_scores, curve.random_scores)


class Counting(ClassifierMixin, BaseEstimator):
    """Notes every training on the class."""

    fits: ClassVar = []

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.fits.append(len(X))
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


def test_the_same_rows_are_trained_once():
    Counting.fits.clear()
    budgets = (0, 0.001, 0.1, 0.101)
    curve = removal_curve(Counting(), X, Y, SCORES, **TEST, budgets=budgets, n_seeds=2)
    assert curve.n_removed.tolist() == [0, 0, 9, 9]
    assert sorted(Counting.fits) == [81] * 4 + [90] * 2
    Counting.fits.clear()
    removal_curve(Counting(), X, Y, SCORES, **TEST, budgets=(0,), n_seeds=1, control=False)
    assert Counting.fits == [90]


def test_nets_are_seeded_and_generators_left_alone():
    net = classifier(SmallMlp, max_epochs=3)
    y = Y.astype(np.int64)
    settings = {"X_test": X_TEST, "y_test": Y_TEST, "budgets": (0, 0.1), "n_seeds": 2}
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    first = removal_curve(net, X, y, SCORES, **settings, random_state=0)
    assert random.getstate() == states[0]
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])
    assert torch.equal(torch.get_rng_state(), states[2])
    torch.manual_seed(5)
    again = removal_curve(net, X, y, SCORES, **settings, random_state=0)
    np.testing.assert_array_equal(first.scores, again.scores)
    np.testing.assert_array_equal(first.random_scores, again.random_scores)
    seed = draw_seeds(0, 1)[0]
    with seeded(seed):
        expected = clone(net).fit(X, y).score(X_TEST, Y_TEST)
    assert first.scores[0, 0] == expected
    assert not net.initialized_


def test_result_does_not_depend_on_n_jobs_and_progress_is_shown(capsys):
    forest = RandomForestClassifier(5)
    settings = {**TEST, "budgets": (0, 0.1), "n_seeds": 2, "random_state": 0}
    one = removal_curve(forest, X, Y, SCORES, **settings)
    assert capsys.readouterr() == ("", "")
    two = removal_curve(forest, X, Y, SCORES, **settings, n_jobs=2, verbose=1)
    np.testing.assert_array_equal(one.scores, two.scores)
    np.testing.assert_array_equal(one.random_scores, two.random_scores)
    shown = capsys.readouterr()
    assert (shown.out, "trainings:   0%" in shown.err) == ("", True)


def test_more_seeds_repeat_the_first_ones():
    settings = {**TEST, "budgets": (0, 0.1), "random_state": 3}
    few = removal_curve(RandomForestClassifier(3), X, Y, SCORES, **settings, n_seeds=2)
    more = removal_curve(RandomForestClassifier(3), X, Y, SCORES, **settings, n_seeds=3)
    np.testing.assert_array_equal(more.scores[:2], few.scores)
    np.testing.assert_array_equal(more.random_scores[:2], few.random_scores)


class OfDict(ClassifierMixin, BaseEstimator):
    """A nearest neighbor of a mapping of arrays."""

    def fit(self, X, y):
        assert isinstance(X, SliceDict)
        self.model_ = KNeighborsClassifier(1).fit(np.hstack(list(X.values())), y)
        self.classes_ = self.model_.classes_
        return self

    def predict(self, X):
        return self.model_.predict(np.hstack(list(X.values())))


def test_containers():
    settings = {"budgets": (0, 0.2), "n_seeds": 2, "random_state": 0}
    nearest = KNeighborsClassifier(1)
    expected = removal_curve(nearest, X, Y, SCORES, **TEST, **settings)
    names = np.array(["a", "b", "c"])
    frame = pd.DataFrame(X, index=np.arange(90)[::-1]).rename(columns=str)
    test_frame = pd.DataFrame(X_TEST).rename(columns=str)
    found = removal_curve(
        nearest,
        frame,
        pd.Series(names[Y], index=frame.index),
        pd.Series(SCORES),
        X_test=test_frame,
        y_test=names[Y_TEST],
        **settings,
    )
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.random_scores, expected.random_scores)
    halves = SliceDict(a=X[:, :2], b=X[:, 2:])
    test_halves = SliceDict(a=X_TEST[:, :2], b=X_TEST[:, 2:])
    found = removal_curve(
        OfDict(), halves, Y, SCORES, X_test=test_halves, y_test=Y_TEST, **settings
    )
    np.testing.assert_array_equal(found.scores, expected.scores)
    lists = removal_curve(
        nearest,
        X.tolist(),
        Y.tolist(),
        SCORES.tolist(),
        X_test=X_TEST.tolist(),
        y_test=Y_TEST.tolist(),
        **settings,
    )
    np.testing.assert_array_equal(lists.scores, expected.scores)


def test_regression_and_scorers():
    rng = np.random.default_rng(0)
    y = X @ [1.0, -1.0, 2.0, 0.5] + 0.1 * rng.normal(size=90)
    y[::10] += 20
    scores = np.zeros(90)
    scores[::10] = 1
    settings = {
        "X_test": X_TEST,
        "y_test": X_TEST @ [1.0, -1.0, 2.0, 0.5],
        "budgets": (0, 0.1),
        "n_seeds": 2,
    }
    plain = removal_curve(LinearRegression(), X, y, scores, **settings, control=False)
    assert plain.random_scores is None
    assert plain.against_all_rows().low[1] > 0.1
    with pytest.raises(ValueError, match="control=True"):
        plain.against_random()
    errors = removal_curve(
        LinearRegression(), X, y, scores, **settings, scoring="neg_mean_absolute_error"
    )
    assert errors.mean[1] == pytest.approx(0, abs=0.1)
    assert errors.mean[0] < -1
    two_columns = {**settings, "y_test": np.stack([settings["y_test"]] * 2, 1)}
    both = removal_curve(LinearRegression(), X, np.stack([y, y], 1), scores, **two_columns)
    np.testing.assert_allclose(both.scores, plain.scores, rtol=1e-6)


def test_a_class_that_would_be_emptied_is_named():
    y = np.array(["a", "b"])[(np.arange(90) >= 88).astype(int)]
    scores = np.arange(90.0)
    settings = {**TEST, "budgets": (0, 0.01, 0.02, 0.1)}
    with pytest.raises(AmountError, match=r"Budget 0.02 would remove all 2 rows of class .*'b'"):
        removal_curve(KNeighborsClassifier(1), X, y, scores, **settings)
    # random removal never empties the class
    settings = {"X_test": X, "y_test": y, "budgets": (0, 0.9), "n_seeds": 4, "random_state": 0}
    curve = removal_curve(LogisticRegression(), X, y, -scores, **settings)
    assert np.isfinite(curve.random_scores).all()
    numbers = np.arange(90.0)
    with pytest.raises(AmountError, match=r"Budget 0.999 would remove all 90 rows: "):
        removal_curve(LinearRegression(), X, numbers, scores, **TEST, budgets=(0, 0.999))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budgets": (0.1, 0.2)}, r"budgets=\(0.1, 0.2\), but expected shares ascending from 0"),
        ({"budgets": ()}, r"budgets=\(\)"),
        ({"budgets": (0, 0.2, 0.1)}, "sort them"),
        ({"budgets": (0, 1.0)}, r"budget=1.0, but expected a share"),
        ({"budgets": (0, 5)}, r"budget=5, .* Divide a number of rows"),
        ({"budgets": (False, 0.1)}, "budget=False"),
        ({"budgets": (0, "1")}, "budget='1'"),
        ({"n_seeds": 0}, "n_seeds=0"),
        ({"detrimentality": SCORES[:-1]}, r"shape \(89,\) for 90 rows of X"),
        ({"detrimentality": np.full(90, np.nan)}, "detrimentality holds NaN"),
        ({"y": Y[:-1]}, "inconsistent numbers of samples"),
        ({"estimator": FrozenEstimator(KNeighborsClassifier())}, "frozen estimator"),
        ({"scoring": lambda *_: np.nan}, "score of the model trained without 0 rows is nan"),
        ({"scoring": lambda *_: {"a": 1.0}}, "with a single one"),
    ],
)
def test_bad_input_is_refused(change, message):
    arguments = {
        "estimator": KNeighborsClassifier(1),
        "X": X,
        "y": Y,
        "detrimentality": SCORES,
        "budgets": (0, 0.1),
        "n_seeds": 1,
        **TEST,
    }
    with pytest.raises(ValueError, match=message):
        removal_curve(**{**arguments, **change})


def test_interval_is_students():
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(2, 7, 3))
    found = paired_difference(one, two)
    expected = ttest_1samp(one - two, 0).confidence_interval(0.95)
    np.testing.assert_allclose(found.low, expected.low)
    np.testing.assert_allclose(found.high, expected.high)
    np.testing.assert_allclose(found.mean, (one - two).mean(0))
    wider = paired_difference(one, two, level=0.99)
    assert (wider.low < found.low).all()
    assert (wider.high > found.high).all()
    # what both have in common by seed drops out
    shift = 100 * rng.normal(size=(7, 1))
    np.testing.assert_allclose(np.stack(paired_difference(one + shift, two + shift)), found)
    with pytest.raises(ValueError, match="n_seeds=1"):
        paired_difference(one[:1], two[:1])
    with pytest.raises(ValueError, match="level=95"):
        paired_difference(one, two, level=95)


def test_curve_of_one_seed_has_no_interval():
    curve = RemovalCurve(np.array([0.0]), np.array([0]), np.ones((1, 1)), None)
    with pytest.raises(ValueError, match="at least two"):
        curve.against_all_rows()


def test_modules_defined_in_the_test_are_left_as_they_were():
    module = nn.Linear(4, 3)
    before = module.weight.detach().clone()
    net = classifier(module, max_epochs=2)
    removal_curve(net, X, Y.astype(np.int64), SCORES, **TEST, budgets=(0, 0.1), n_seeds=1)
    assert torch.equal(module.weight, before)


def test_sparse_rows_give_what_dense_ones_do():
    few = np.where(np.abs(X) > 0.5, X, 0)
    test = {"X_test": few, "y_test": Y, "budgets": (0, 0.1), "n_seeds": 2, "random_state": 0}
    for model in (LogisticRegression(), classifier(max_epochs=2)):
        dense = removal_curve(model, few, Y, SCORES, **test)
        curve = removal_curve(model, csr_matrix(few), Y, SCORES, **{**test, "X_test": few})
        np.testing.assert_allclose(curve.scores, dense.scores)
