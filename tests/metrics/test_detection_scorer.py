"""Searches over a method's own parameters, by how well it finds known noisy rows."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from pyod.models.knn import KNN
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from skinfluence import LossScore, NormDetector, OutlierGradientDetector
from skinfluence.exceptions import UnverifiedRowsWarning
from skinfluence.metrics import detection_curve, make_detection_scorer, recall_at_budget
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


class Scored:
    def score_detrimentality(self, X, y):
        return np.arange(6.0)


def readings(flags, scores):
    scorer = make_detection_scorer("roc_auc")
    return (
        lambda: scorer(Scored(), None, None, is_noisy=flags),
        lambda: detection_curve(flags, scores).found,
        lambda: recall_at_budget(flags, scores, 2),
    )


any_container = pytest.mark.parametrize(
    "kind", [list, lambda flags: np.array(flags, object), pd.Series]
)


@pytest.mark.parametrize("wrong", ["True", 2, -1, 0.5], ids=repr)
@any_container
def test_a_flag_that_is_none_is_named(wrong, kind):
    for read in readings(kind([True, False, True, wrong, False, True]), np.arange(6.0)):
        with pytest.raises(ValueError, match=r"is_noisy of dtype .* rows: [03]"):
            read()


@pytest.mark.parametrize("missing", [np.nan, None, pd.NA, pd.NaT], ids=repr)
@any_container
def test_a_row_that_nobody_verified_counts_neither_as_noisy_nor_as_clean(missing, kind):
    flags = kind([True, False, True, missing, False, True])
    scores = np.arange(6.0)
    others = np.array([0, 1, 2, 4, 5])
    known = np.array([True, False, True, False, True])
    expected = (
        roc_auc_score(known, others),
        *(read() for read in readings(known, scores[others])[1:]),
    )
    for read, value in zip(readings(flags, scores), expected):
        with pytest.warns(UnverifiedRowsWarning, match="1 of 6 rows have no is_noisy"):
            np.testing.assert_array_equal(read(), value)


def test_flags_of_any_kind_that_say_true_or_false_are_taken():
    flags, scores = [True, False, True, False], np.arange(4.0)
    expected = recall_at_budget(flags, scores, 0.5)
    for same in (
        np.array(flags, object),
        pd.Series(flags, dtype="boolean"),
        np.array(flags, float),
        [1, 0, 1, 0],
    ):
        assert recall_at_budget(same, scores, 0.5) == expected
