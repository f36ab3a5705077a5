"""Rows are parsed once: what a part, another estimator and a fold are told of them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.base import BaseEstimator
from skorch import NeuralNetClassifier, NeuralNetRegressor
from skorch.helper import SliceDict

from skinfluence import CalibratedDetrimentality, DetrimentalSampleCleaner, LossScore
from skinfluence.rows._containers import select
from skinfluence.rows._rows import Rows
from skinfluence.rows._targets import classes_and_codes, is_regression_target
from tests._shared.problems import blobs


class Anything(BaseEstimator):
    pass


whole = arrays(np.float64, st.integers(2, 60), elements=st.integers(0, 40).map(float))


@given(whole, st.data())
def test_a_part_is_what_the_whole_is(y, data):
    rows = Rows.parse(Anything(), np.zeros((len(y), 2)), y)
    assert rows.is_numeric == is_regression_target(y)
    chosen = np.array(data.draw(st.lists(st.integers(0, len(y) - 1), min_size=1)))
    part = rows.part(chosen)
    assert part.is_numeric == rows.is_numeric
    assert len(part) == len(chosen)
    np.testing.assert_array_equal(part.targets, y[chosen])


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_who_knows_the_kind_is_believed(task):
    rows = Rows.parse(Anything(), np.zeros((30, 2)), np.arange(30) % 3, task=task)
    assert rows.is_numeric is (task == "regression")
    assert rows.task == task


def test_names_are_handed_on_to_whom_the_rows_are_introduced():
    first, second, third = Anything(), Anything(), Anything()
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [0.0, 1.0, 0.0]})
    rows = Rows.parse(first, frame, [0, 1, 0])
    rows.introduce(second)
    assert first.n_features_in_ == second.n_features_in_ == 2
    assert list(second.feature_names_in_) == ["a", "b"]
    rows.part(np.array([0, 1])).introduce(third)  # arrays, which have no names
    assert not hasattr(third, "feature_names_in_")


def test_a_mapping_and_its_parts():
    X = SliceDict(x=np.arange(6.0).reshape(3, 2))
    part = Rows.parse(Anything(), X, np.array([0, 1, 0])).part(np.array([2, 0]))
    assert isinstance(part.inputs, SliceDict)
    np.testing.assert_array_equal(part.inputs["x"], [[4, 5], [0, 1]])
    assert not part.has_arrays


def test_groups_are_numbered():
    rows = Rows.parse(Anything(), np.zeros((4, 1)), [0, 1, 0, 1], groups=["b", "a", "b", "c"])
    np.testing.assert_array_equal(rows.groups, [1, 0, 1, 2])


CONTAINERS = {
    "array": np.arange(4) * 10,
    "list": [0, 10, 20, 30],
    "tuple": (0, 10, 20, 30),
    "series": pd.Series([0, 10, 20, 30], index=list("wxyz")),
}


@pytest.mark.parametrize("X", CONTAINERS.values(), ids=CONTAINERS)
def test_select_keeps_the_container(X):
    chosen = select(X, np.array([3, 1, 1]))
    assert type(chosen) is type(X)
    np.testing.assert_array_equal(np.asarray(chosen), [30, 10, 10])


@given(st.lists(st.sampled_from(["b", "a", "c"]), min_size=1))
def test_codes_give_the_labels_back(labels):
    classes, codes = classes_and_codes(np.array(labels))
    assert list(classes) == sorted(set(labels))
    assert list(classes[codes]) == labels


# More than 20 whole numbers are a numeric target; a third of the rows holds fewer.
NUMBERS = np.r_[np.arange(24.0), np.arange(6.0)]


def test_folds_of_a_numeric_target_train_regressors():
    X = np.random.default_rng(0).normal(size=(30, 3))
    method = LossScore(cv=3, random_state=0).fit(X, NUMBERS)
    assert max(len(np.unique(NUMBERS[rows])) for rows in method._fold_rows) <= 20
    assert all(isinstance(net, NeuralNetRegressor) for net in method.net_)


@pytest.mark.slow
def test_models_of_a_cleaner_are_for_the_kind_of_all_rows(monkeypatch):
    trained = []
    original = NeuralNetRegressor.fit
    monkeypatch.setattr(
        NeuralNetRegressor,
        "fit",
        lambda net, X, y: (trained.append(len(y)), original(net, X, y))[1],
    )
    monkeypatch.setattr(NeuralNetClassifier, "fit", lambda *_: pytest.fail("classes were seen"))
    X = np.random.default_rng(0).normal(size=(30, 3))
    DetrimentalSampleCleaner(LossScore(), cv=2, random_state=0).fit(X, NUMBERS)
    assert min(trained) == 9  # half of the rows, less the largest share


def test_calibration_refuses_numbers_before_a_net_is_trained(monkeypatch):
    monkeypatch.setattr(NeuralNetRegressor, "fit", lambda *_: pytest.fail("a net was trained"))
    X, _ = blobs(n=30)
    with pytest.raises(ValueError, match="Unknown label type: y is a numeric target"):
        CalibratedDetrimentality(LossScore(), cv=2).fit(X, NUMBERS)
