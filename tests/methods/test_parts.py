"""Methods that others fit and ask: a subclass's public methods are called, tiny parts refused."""

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from skinfluence import (
    CalibratedDetrimentality,
    ComplexityGap,
    DataShapley,
    DetrimentalityUnion,
    DetrimentalSampleCleaner,
    KNNShapley,
    LossScore,
    RandomScore,
)
from tests._shared.problems import blobs, classifier, regressor

NET = classifier(max_epochs=2)


class FarFromTheMean(RandomScore):
    """With a `fit` of its own, which makes the scores."""

    def fit(self, X, y=None, X_val=None, y_val=None):
        super().fit(X, y, X_val, y_val)
        self._rank(np.linalg.norm(np.asarray(X) - np.mean(X, axis=0), axis=1))
        return self


class Reversed(LossScore):
    """With scores of new rows of its own."""

    def score_detrimentality(self, X, y=None):
        return -super().score_detrimentality(X, y)

    def transform(self, X):
        return -super().transform(X)


def test_a_fit_of_its_own_is_called_by_whatever_holds_it():
    X, y = blobs(n=40)
    expected = FarFromTheMean().fit(X, y)
    cleaner = DetrimentalSampleCleaner(FarFromTheMean(random_state=0), contamination=4).fit(X, y)
    np.testing.assert_array_equal(cleaner.removed_indices_, expected.ranking_[:4])
    union = DetrimentalityUnion([("far", FarFromTheMean())], random_state=0).fit(X, y)
    np.testing.assert_array_equal(union.scores_[:, 0], expected.detrimentality_)


def test_scores_of_its_own_are_asked_for():
    X, y = blobs(n=40)
    plain = LossScore(NET, cv=2, random_state=0).fit(X, y)
    turned = Reversed(NET, cv=2, random_state=0).fit(X, y)
    np.testing.assert_allclose(turned.detrimentality_, 1 - plain.detrimentality_)
    np.testing.assert_allclose(
        np.argsort(turned.transform(X)[:, 0]), np.argsort(plain.transform(X)[:, 0])
    )  # turned in each fold and once more by the whole
    calibrated = CalibratedDetrimentality(LossScore(NET), cv=2, random_state=0).fit(X, y)
    other = CalibratedDetrimentality(Reversed(NET), cv=2, random_state=0).fit(X, y)
    correlation = np.corrcoef(calibrated.detrimentality_, other.detrimentality_)
    assert correlation[0, 1] < -0.5


def test_a_part_of_one_row_is_refused():
    X = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    with pytest.raises(ValueError, match="minimum of 2 is required by LossScore"):
        LossScore(regressor(), cv=2).fit(X, X[:, 0])


@pytest.mark.parametrize("method", [KNNShapley(), ComplexityGap(), DataShapley()])
def test_a_data_set_without_targets_is_asked_for_them(method):
    X, y = blobs(n=20)
    with pytest.raises(ValueError, match="requires y to be passed"):
        method.fit(TensorDataset(torch.tensor(X), torch.tensor(y)))


def test_labels_in_a_column_are_flattened_once():
    X, y = blobs(n=40)
    expected = CalibratedDetrimentality(LossScore(NET), cv=2, random_state=0).fit(X, y)
    method = CalibratedDetrimentality(LossScore(NET), cv=2, random_state=0)
    with pytest.warns(UserWarning, match="column-vector y was passed") as caught:
        method.fit(X, y[:, np.newaxis])
    assert len(caught) == 1
    np.testing.assert_array_equal(method.p_values_, expected.p_values_)


def test_a_union_leaves_calibration_to_train_its_own_nets():
    X, y = blobs(n=40)
    calibrated = CalibratedDetrimentality(LossScore(NET), cv=2, random_state=0)
    bare = CalibratedDetrimentality(LossScore(), cv=2, random_state=0)
    methods = [("given", calibrated), ("default", bare), ("loss", LossScore())]
    union = DetrimentalityUnion(methods, NET, random_state=0).fit(X, y)
    np.testing.assert_array_equal(union.scores_[:, 0], calibrated.fit(X, y).detrimentality_)
    assert np.isfinite(union.scores_).all()
