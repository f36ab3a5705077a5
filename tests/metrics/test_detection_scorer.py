"""Searches over a method's own parameters, by how well it finds known noisy rows."""

import numpy as np
import pytest
import sklearn
from pyod.models.knn import KNN
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from skinfluence import LossScore, NormDetector, OutlierGradientDetector
from skinfluence.metrics import make_detection_scorer
from tests._shared.problems import classifier, noisy_blobs


@pytest.mark.parametrize(
    ("metric", "measure"),
    [("average_precision", average_precision_score), ("roc_auc", roc_auc_score)],
)
def test_scorer_is_the_metric_of_the_scores(metric, measure):
    X, y, is_noisy = noisy_blobs(n=120)
    method = LossScore(classifier(max_epochs=5), random_state=0).fit(X, y)
    expected = measure(is_noisy, method.score_detrimentality(X, y))
    assert make_detection_scorer(metric)(method, X, y, is_noisy=is_noisy) == expected


def test_search_over_detectors_routes_the_noisy_rows():
    X, y, is_noisy = noisy_blobs(n=120, rate=0.2)
    folds = list(StratifiedKFold(2, shuffle=True, random_state=0).split(X, is_noisy))
    method = OutlierGradientDetector(classifier(max_epochs=8), checkpoints=2, random_state=0)
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(
            method,
            {"detector": [NormDetector(), KNN()]},
            cv=folds,
            scoring=make_detection_scorer(),
            error_score="raise",
        ).fit(X, y, is_noisy=is_noisy)
    train, test = folds[0]
    fitted = search.best_estimator_.fit(X[train], y[train])
    expected = average_precision_score(
        is_noisy[test], fitted.score_detrimentality(X[test], y[test])
    )
    assert search.cv_results_["split0_test_score"][search.best_index_] == expected
    assert search.best_score_ > 0.5


def test_bad_input_is_refused():
    X, y, _ = noisy_blobs(n=30)
    method = LossScore(classifier(max_epochs=2), random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="metric='f1'"):
        make_detection_scorer("f1")
    for flags in (np.zeros(30), np.ones(30), np.eye(2)):
        with pytest.raises(ValueError, match="both noisy and clean rows"):
            make_detection_scorer()(method, X, y, is_noisy=flags)
