"""Scores that a Pipeline makes another model's features of are warned of; other uses are not."""

import numpy as np
import pytest
from imblearn.pipeline import Pipeline as ImbalancedPipeline
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skinfluence import (
    CleanedClassifier,
    DetrimentalityUnion,
    GradientEmbedding,
    LossScore,
    OutlierGradientDetector,
    SelfConfidence,
)
from skinfluence.exceptions import LeakyFeaturesWarning
from tests._shared.problems import blobs, classifier

LOSS = LossScore(classifier(max_epochs=2), random_state=0)
CONFIDENCE = SelfConfidence(GaussianNB(), random_state=0)


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (LOSS, "LossScore"),
        (clone(LOSS).set_params(cv=2), "LossScore"),
        (CONFIDENCE, "SelfConfidence"),
        (make_union(FunctionTransformer(), CONFIDENCE), "SelfConfidence"),
        (make_column_transformer((CONFIDENCE, [0, 1, 2])), "SelfConfidence"),
        (DetrimentalityUnion([("loss", LossScore())], net=GaussianNB()), "DetrimentalityUnion"),
        (GradientEmbedding(classifier(max_epochs=2), random_state=0), "the gradients of Gradient"),
        (OutlierGradientDetector(committee=["forest"], random_state=0), "OutlierGradientDetector"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_scores_in_front_of_a_classifier_are_warned_of(step, name):
    X, y = blobs(60)
    with pytest.warns(LeakyFeaturesWarning, match=rf"LogisticRegression .*{name}.*labels given"):
        fitted = make_pipeline(StandardScaler(), clone(step), LogisticRegression()).fit(X, y)
    fitted.predict(X)  # says nothing more


def test_a_regressor_a_search_and_another_pipeline_are_seen():
    X, y = blobs(60)
    target = X[:, 0]
    loss = LossScore(Ridge(), random_state=0)
    with pytest.warns(LeakyFeaturesWarning, match="Ridge will be trained"):
        make_pipeline(loss, Ridge()).fit(X, target)
    search = GridSearchCV(make_pipeline(CONFIDENCE, LogisticRegression()), {}, cv=2)
    with pytest.warns(LeakyFeaturesWarning, match="LogisticRegression will be trained"):
        search.fit(X, y)
    steps = [("score", CONFIDENCE), ("model", LogisticRegression())]
    with pytest.warns(LeakyFeaturesWarning, match="LogisticRegression will be trained"):
        ImbalancedPipeline(steps).fit(X, y)


def test_other_uses_are_not_warned_of():
    # warnings are errors
    X, y = blobs(60)
    clone(CONFIDENCE).fit_transform(X, y)
    make_pipeline(StandardScaler(), clone(LOSS)).fit_transform(X, y)
    make_pipeline(StandardScaler(), clone(LOSS)).fit(X, y).transform(X)
    embedding = GradientEmbedding(classifier(max_epochs=2), random_state=0)
    make_pipeline(StandardScaler(), embedding, IsolationForest(random_state=0)).fit(X, y)
    make_pipeline(make_union(clone(CONFIDENCE), clone(CONFIDENCE))).fit_transform(X, y)
    model = CleanedClassifier(LogisticRegression(), clone(CONFIDENCE), contamination=0.1)
    make_pipeline(StandardScaler(), model).fit(X, y).predict(X)


def test_the_leak_is_real():
    # what the warning says: a class that new rows' scores say nothing of is read off training rows'
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(400, 5)), rng.integers(0, 2, size=400)
    method = clone(CONFIDENCE)
    disagrees = method.fit_transform(X, y)[:, 0] > -0.5
    predicted = method.oof_probabilities_.argmax(1)
    np.testing.assert_array_equal(np.where(disagrees, 1 - predicted, predicted), y)
    assert not (method.transform(X)[:, 0] > -0.5).any()
