"""`cv` with what it cannot serve is refused before training; with validation rows it is served."""

import inspect

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import LocalOutlierFactor
from skorch import NeuralNet

import skinfluence
from skinfluence import CleanedClassifier, DetrimentalityUnion, OutlierGradientDetector, TracIn
from skinfluence.methods._base import BaseDetrimentality
from skinfluence.rows._folds import quantiles
from tests._shared.problems import blobs, classifier, noisy_blobs

# Every method that has `cv` and may need validation rows, set so that it does.
METHODS = [
    TracIn(reference="validation", checkpoints=2),
    OutlierGradientDetector(semi_supervised=True, checkpoints=2),
]
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
CV = {"number": 3, "splitter": StratifiedKFold(2), "folds": [([0, 1], [2, 3]), ([2, 3], [0, 1])]}


@pytest.fixture
def no_training(monkeypatch):
    def fit_loop(self, *args, **kwargs):
        pytest.fail("a net was trained")

    monkeypatch.setattr(NeuralNet, "fit_loop", fit_loop)


def test_no_method_of_this_kind_is_missing():
    methods = [getattr(skinfluence, name) for name in skinfluence.__all__]
    found = {
        method
        for method in methods
        if inspect.isclass(method)
        and issubclass(method, BaseDetrimentality)
        and "cv" in inspect.signature(method).parameters
        and method._needs_validation is not BaseDetrimentality._needs_validation
    }
    assert found == {type(method) for method in METHODS}


@every_method
@pytest.mark.parametrize("cv", CV.values(), ids=CV.keys())
def test_without_validation_rows_cv_is_refused_before_training(method, cv, no_training):
    X, y = blobs(n=30)
    method = clone(method).set_params(net=classifier(), cv=cv, random_state=0)
    with pytest.raises(ValueError, match=r"X_val is None.*X_val.*y_val") as error:
        method.fit(X, y)
    if hasattr(method, "validation"):  # without, a net that is not cross-fitted needs them, too
        assert "set cv=None" in str(error.value)
        assert "reference='self'" in str(error.value)


def test_a_detector_that_scores_no_new_rows_is_refused_before_training(no_training):
    X, y = blobs(n=30)
    method = OutlierGradientDetector(detector=LocalOutlierFactor(), cv=3, random_state=0)
    with pytest.raises(ValueError, match=r"would have no score. Set cv=None.*novelty=True"):
        method.fit(X, y)


@pytest.mark.parametrize("net", [None, classifier()], ids=["default", "given"])
def test_what_holds_a_method_refuses_it_too(net, no_training):
    X, y = blobs(n=30)
    method = TracIn(net, reference="validation", cv=3)
    holders = [CleanedClassifier(LogisticRegression(), method, contamination=0.1)]
    holders.append(DetrimentalityUnion([("tracin", method)]))
    for holder in holders:
        with pytest.raises(ValueError, match="set cv=None"):
            holder.fit(X, y)


@every_method
def test_with_validation_rows_each_fold_scores_what_it_holds_out(method):
    X, y, is_noisy = noisy_blobs(n=60)
    X_val, y_val = blobs(n=24, seed=3)
    rows = np.arange(60)
    folds = [(rows[rows % 2 == k], rows[rows % 2 != k]) for k in (0, 1)]
    method = clone(method).set_params(net=classifier(), random_state=0)
    fitted = clone(method).set_params(cv=folds).fit(X, y, X_val, y_val)
    for (_, held), fold in zip(folds, fitted.folds_, strict=True):
        expected = quantiles(fold.score_detrimentality(X[held], y[held]))
        np.testing.assert_array_equal(fitted.detrimentality_[held], expected)
    scores = fitted.detrimentality_
    assert scores[is_noisy].mean() > scores[~is_noisy].mean() + 0.2
    assert fitted.score_detrimentality(X_val, y_val).shape == (24,)
    if hasattr(fitted, "influence"):
        assert fitted.influence(X_val, y_val).shape == (24, 60)
