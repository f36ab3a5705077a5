"""What the three methods share: scores, ranking, frames, pipelines, and what they leave alone."""

import pickle
import random

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinfluence import ComplexityGap, DataShapley, KNNShapley
from skinfluence.datasets import make_noisy_labels
from tests._shared.problems import Centroids, blobs

METHODS = [
    ComplexityGap(random_state=0),
    ComplexityGap(mode="subsample", random_state=0),
    KNNShapley(random_state=0),
    DataShapley(Centroids(), max_permutations=10, random_state=0),
]
every_method = pytest.mark.parametrize(
    "method", METHODS, ids=["gap", "subsampled gap", "knn", "shapley"]
)


def problem():
    X, y = blobs(40)
    y_noisy, is_noisy = make_noisy_labels(y, rate=0.1, random_state=0)
    return X, y_noisy, is_noisy


@every_method
def test_scores_ranking_and_sign(method):
    X, y, is_noisy = problem()
    fitted = clone(method).fit(X, y)
    scores = fitted.detrimentality_
    assert scores.shape == (40,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(fitted.ranking_, np.argsort(-scores, kind="stable"))
    assert np.median(scores[is_noisy]) > np.quantile(scores[~is_noisy], 0.75)
    np.testing.assert_array_equal(clone(method).fit_transform(X, y), scores[:, np.newaxis])
    assert not hasattr(fitted, "transform")
    assert not hasattr(fitted, "score_detrimentality")


@every_method
def test_frames_names_and_the_end_of_a_pipeline(method):
    X, y, _ = problem()
    expected = clone(method).fit(X, y)
    frame = pd.DataFrame(X, columns=list("abcd"))
    fitted = clone(method).fit(frame, pd.Series(np.array(["x", "y", "z"])[y]))
    np.testing.assert_array_equal(fitted.detrimentality_, expected.detrimentality_)
    assert list(fitted.feature_names_in_) == list("abcd")
    assert list(fitted.classes_) == ["x", "y", "z"]
    pipeline = make_pipeline(StandardScaler(), clone(method)).fit(X, y)
    scaled = clone(method).fit(StandardScaler().fit_transform(X), y)
    np.testing.assert_array_equal(pipeline[-1].detrimentality_, scaled.detrimentality_)


@every_method
def test_pickle_and_what_is_left_alone(method):
    X, y, _ = problem()
    given = X.copy(), y.copy()
    np.random.seed(1)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    fitted = clone(method).fit(X, y)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]
    np.testing.assert_array_equal(X, given[0])
    np.testing.assert_array_equal(y, given[1])
    restored = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(restored.detrimentality_, fitted.detrimentality_)
