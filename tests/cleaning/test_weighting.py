"""A model trained with the probability that each label is right as the row's weight."""

import numpy as np
import pytest
import sklearn
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinfluence import (
    CalibratedDetrimentality,
    CleanedClassifier,
    CleanedRegressor,
    DetrimentalSampleCleaner,
    LossScore,
    OutlierGradientDetector,
    RandomScore,
    SelfConfidence,
    estimate_label_errors,
)
from skinfluence.exceptions import UnknownErrorsWarning
from tests._shared.problems import classifier, noisy_blobs

COMMITTEE = OutlierGradientDetector(committee=["forest", "neighbors"], random_state=0)


class Noting(LogisticRegression):
    """Notes the weights that it was fitted with."""

    def fit(self, X, y, sample_weight=None):
        self.seen_ = None if sample_weight is None else np.asarray(sample_weight)
        return super().fit(X, y, sample_weight)


def weighted(estimator=None, method=COMMITTEE, **settings):
    estimator = Noting() if estimator is None else estimator
    return CleanedClassifier(estimator, method, action="weight", random_state=0, **settings)


def test_weights_are_how_likely_each_label_is_right():
    X, y, is_noisy = noisy_blobs(n=300)
    model = weighted().fit(X, y)
    errors = model.method_.label_errors_
    assert errors.is_known
    np.testing.assert_array_equal(model.sample_weight_, 1 - errors.p_wrong)
    np.testing.assert_array_equal(model.estimator_.seen_, model.sample_weight_)
    assert model.sample_weight_[is_noisy].mean() < 0.2
    assert model.sample_weight_[~is_noisy].mean() > 0.9
    assert len(model.sample_indices_) == 300
    assert len(model.removed_indices_) == len(model.relabelled_) == 0
    assert model.n_trainings_ == 2
    assert not hasattr(
        model.set_params(action="remove", contamination=3).fit(X, y), "sample_weight_"
    )


def test_weights_given_are_multiplied():
    X, y, _ = noisy_blobs(n=300)
    own = np.random.default_rng(0).uniform(size=300)
    model = weighted().fit(X, y, sample_weight=own)
    np.testing.assert_allclose(model.estimator_.seen_, own * model.sample_weight_)
    with pytest.raises(ValueError, match="sample_weight for 7 rows"):
        weighted().fit(X, y, sample_weight=own[:7])


def test_weights_reach_the_last_step_of_a_pipeline():
    X, y, _ = noisy_blobs(n=300)
    model = weighted(make_pipeline(StandardScaler(), Noting())).fit(X, y)
    np.testing.assert_array_equal(model.estimator_[-1].seen_, model.sample_weight_)
    with sklearn.config_context(enable_metadata_routing=True):
        model = weighted(make_pipeline(StandardScaler(), Noting())).fit(X, y)
        np.testing.assert_array_equal(model.estimator_[-1].seen_, model.sample_weight_)


def test_routing_hands_weights_to_who_asks():
    X, y, _ = noisy_blobs(n=300)
    with sklearn.config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=True)
        asking = make_pipeline(scaler, Noting().set_fit_request(sample_weight=True))
        model = weighted(asking).fit(X, y)
        np.testing.assert_array_equal(model.estimator_[-1].seen_, model.sample_weight_)
        mean = np.average(X, axis=0, weights=model.sample_weight_)
        np.testing.assert_allclose(model.estimator_[0].mean_, mean, rtol=1e-5)
        asking = Noting().set_fit_request(sample_weight=True)
        asking.set_score_request(sample_weight=True)
        search = GridSearchCV(asking, {"C": [0.1, 1]}, cv=2)
        model = weighted(search).fit(X, y)
        np.testing.assert_array_equal(model.estimator_.best_estimator_.seen_, model.sample_weight_)
        own = np.random.default_rng(0).uniform(size=300)
        asking = Noting().set_fit_request(sample_weight=True)
        model = weighted(asking).fit(X, y, sample_weight=own)
        np.testing.assert_allclose(model.estimator_.seen_, own * model.sample_weight_)


def test_any_method_with_predictions_out_of_sample_gives_weights():
    X, y, is_noisy = noisy_blobs(n=200)
    names = np.array(["c", "a", "b"])[y]
    confidence = SelfConfidence(RandomForestClassifier(random_state=0))
    model = weighted(method=confidence).fit(X, names)
    codes = np.searchsorted(["a", "b", "c"], names)
    errors = estimate_label_errors(model.method_.oof_probabilities_, codes)
    np.testing.assert_array_equal(model.sample_weight_, 1 - errors.p_wrong)
    assert model.sample_weight_[is_noisy].mean() < 0.3
    for method in (
        LossScore(classifier(), cv=2),
        CalibratedDetrimentality(LossScore(classifier()), cv=2),
        make_pipeline(StandardScaler(), COMMITTEE),
    ):
        model = weighted(method=method).fit(X, names)
        assert model.sample_weight_[is_noisy].mean() < model.sample_weight_[~is_noisy].mean() - 0.3


def test_numbers_have_weights_too():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3))
    y = X[:, 0] + 0.1 * rng.normal(size=300)
    y[:20] += 8
    for method in (COMMITTEE, LossScore(Ridge())):
        model = CleanedRegressor(Ridge(), method, action="weight", random_state=0).fit(X, y)
        assert model.sample_weight_[:20].mean() < 0.2
        assert np.median(model.sample_weight_) > 0.9
        assert abs(model.estimator_.intercept_) < abs(Ridge().fit(X, y).intercept_)


def test_where_errors_cannot_be_known_rows_count_by_the_least_to_be_expected():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 3)), rng.integers(0, 2, size=200)
    with pytest.warns(UnknownErrorsWarning, match="low end of its interval"):
        model = weighted().fit(X, y)
    assert (model.sample_weight_ >= 1 - model.method_.label_errors_.p_wrong).all()


def test_wrong_calls_are_refused():
    X, y, _ = noisy_blobs(n=60)
    with pytest.raises(ValueError, match=r"contamination=0\.1 with action='weight'"):
        weighted(contamination=0.1).fit(X, y)
    with pytest.raises(ValueError, match="KNeighborsClassifier takes none"):
        weighted(KNeighborsClassifier()).fit(X, y)
    with pytest.raises(ValueError, match="NeuralNetClassifier takes none"):
        weighted(classifier()).fit(X, y)
    with pytest.raises(ValueError, match="RandomScore, as it is set, predicts no row"):
        weighted(method=RandomScore()).fit(X, y)
    with pytest.raises(ValueError, match="LossScore, as it is set, predicts no row"):
        weighted(method=LossScore(classifier(max_epochs=2))).fit(X, y)
    with pytest.raises(ValueError, match="action='weight'"):
        DetrimentalSampleCleaner(COMMITTEE, action="weight").fit_resample(X, y)
