"""class_conditional, semi_supervised and n_components, over several detectors."""

import numpy as np
import pytest
from pyod.models.hbos import HBOS
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from pyod.models.lof import LOF
from pyod.models.ocsvm import OCSVM
from scipy.stats import rankdata
from sklearn import set_config
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skinfluence import GradientEmbedding, NormDetector, OutlierGradientDetector
from skinfluence.exceptions import SmallClassWarning
from skinfluence.outlier._detectors import ClassConditionalDetector, FittedDetector
from skinfluence.rows._rows import Rows
from tests._shared.problems import (
    SmallMlp,
    blobs,
    classifier,
    fitted_classifier,
    noisy_blobs,
    paper_method,
    regressor,
)

DETECTORS = [IForest(), KNN(), LOF(), OCSVM(), HBOS(), IsolationForest(), NormDetector()]
every_detector = pytest.mark.parametrize("detector", DETECTORS, ids=lambda d: type(d).__name__)


def frozen_problem(n=150):
    X, y, is_noisy = noisy_blobs(n=n)
    return FrozenEstimator(fitted_classifier(X, y)), X, y, is_noisy


@every_detector
def test_class_conditional_fits_one_detector_a_class(detector):
    frozen, X, y, is_noisy = frozen_problem()
    method = paper_method(frozen, detector=detector, class_conditional=True, random_state=0).fit(
        X, y
    )
    assert roc_auc_score(is_noisy, method.detrimentality_) > 0.9
    embedding = GradientEmbedding(frozen).fit_transform(X, y)
    if isinstance(detector, NormDetector):
        np.testing.assert_allclose(
            method.detrimentality_, np.linalg.norm(embedding, axis=1), rtol=1e-5
        )
        return
    assert sorted(method.detector_.by_class_) == [0, 1, 2]
    for label in range(3):
        own = FittedDetector(detector, method._seeds[1])
        expected = own.fit(embedding[y == label])
        np.testing.assert_allclose(
            method.detrimentality_[y == label], rankdata(expected) / (len(expected) + 1), rtol=1e-6
        )
        six = Rows(X[:6], np.full(6, label), is_numeric=False)
        scores = own.score(method._embed(method._trained.coded(six)))
        below = (expected < scores[:, np.newaxis]).sum(1)
        through = (expected <= scores[:, np.newaxis]).sum(1)
        np.testing.assert_allclose(
            method.score_detrimentality(X[:6], np.full(6, label)),
            (below + through + 1) / 2 / (len(expected) + 1),
            rtol=1e-6,
        )
    assert np.isfinite(method.transform(X)).all()


@every_detector
@pytest.mark.parametrize("class_conditional", [False, True])
def test_semi_supervised_fits_on_validation_rows(detector, class_conditional):
    frozen, X, y, is_noisy = frozen_problem()
    X_val, y_val = blobs(n=90, seed=7)
    method = paper_method(
        frozen,
        detector=detector,
        semi_supervised=True,
        class_conditional=class_conditional,
        random_state=0,
    ).fit(X, y, X_val=X_val, y_val=y_val)
    # OCSVM saturates far from all it has seen: ties cost it a little
    assert roc_auc_score(is_noisy, method.detrimentality_) > 0.8
    np.testing.assert_allclose(method.score_detrimentality(X, y), method.detrimentality_, rtol=1e-5)
    other = clone(method).fit(X, y, X_val=X_val[:60] + 1, y_val=y_val[:60])
    if not isinstance(detector, NormDetector):
        assert not np.allclose(other.detrimentality_, method.detrimentality_)


def test_classes_of_different_spread_are_ranked_on_one_scale():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 100)
    # of class 1 gradients lie a thousand times as far apart: none of its rows is unusual
    embedding = rng.normal(size=(200, 2))
    is_outlying = np.arange(200) % 100 < 5
    embedding[is_outlying] += rng.choice([-6, 6], size=(10, 2))
    embedding *= np.where(labels == 1, 1000.0, 1.0)[:, np.newaxis]
    detector = ClassConditionalDetector(KNN(), seed=0)
    scores = detector.fit(embedding, labels)
    assert average_precision_score(is_outlying, scores) > 0.95
    raw = [FittedDetector(KNN(), 0).fit(embedding[labels == label]) for label in (0, 1)]
    assert average_precision_score(is_outlying, np.concatenate(raw)) < 0.6
    assert detector.score(embedding[:1] * 100, labels[:1]) > 0.99


def test_small_class_is_judged_by_the_detector_of_all():
    X, y, _ = noisy_blobs(n=120)
    rows = np.flatnonzero(y != 2).tolist() + np.flatnonzero(y == 2)[:2].tolist()
    X, y = X[rows], y[rows]
    frozen = FrozenEstimator(fitted_classifier(X, y))
    method = paper_method(frozen, detector=KNN(), class_conditional=True)
    with pytest.warns(SmallClassWarning, match=r"2 \(2 rows\) have fewer than 10 rows"):
        method.fit(X, y)
    pooled = paper_method(frozen, detector=KNN()).fit(X, y)
    places = rankdata(pooled.detrimentality_) / (len(y) + 1)  # two rows have no scale of their own
    np.testing.assert_allclose(method.detrimentality_[y == 2], places[y == 2])
    by_class = method.detector_.by_class_
    assert by_class[0] is not by_class[1]
    assert len(by_class[0].decision_scores_) == (y == 0).sum()
    assert len(by_class[2].decision_scores_) == len(y)


def test_class_missing_from_validation_is_judged_by_the_detector_of_all():
    frozen, X, y, _ = frozen_problem()
    X_val, y_val = blobs(n=90, seed=7)
    kept = y_val != 1
    method = paper_method(frozen, detector=KNN(), class_conditional=True, semi_supervised=True)
    with pytest.warns(SmallClassWarning, match=r"1 \(0 rows\)"):
        method.fit(X, y, X_val=X_val[kept], y_val=y_val[kept])
    assert np.isfinite(method.detrimentality_).all()


def test_small_classes_are_named_as_the_user_names_them():
    X, y = blobs(n=60)
    kept = (y != 2) | (np.cumsum(y == 2) <= 4)
    names = np.array(["cat", "dog", "ox"])[y[kept]]
    method = paper_method(classifier(), detector=KNN(), class_conditional=True, random_state=0)
    with pytest.warns(SmallClassWarning, match=r"Classes 'ox' \(4 rows\) have fewer than 10 rows"):
        method.fit(X[kept], names)
    assert set(method.detector_.by_class_) == {"cat", "dog", "ox"}
    coded = clone(method)
    with pytest.warns(SmallClassWarning, match=r"Classes 2 \(4 rows\)"):
        coded.fit(X[kept], y[kept])
    np.testing.assert_array_equal(method.detrimentality_, coded.detrimentality_)


def test_what_class_conditional_and_semi_supervised_refuse():
    X, y = blobs()
    with pytest.raises(ValueError, match="class_conditional=True needs a classifier"):
        paper_method(regressor(), detector=KNN(), class_conditional=True).fit(X, X[:, 0])
    semi = paper_method(classifier(), semi_supervised=True)
    with pytest.raises(ValueError, match="needs trusted rows besides the training rows"):
        semi.fit(X, y)
    with pytest.raises(ValueError, match="does not use validation rows"):
        paper_method(classifier()).fit(X, y, X_val=X, y_val=y)
    with pytest.raises(ValueError, match=r"never trained on: \[9\]"):
        semi.fit(X, y, X_val=X[:3], y_val=[0, 1, 9])
    with pytest.raises(ValueError, match="requires y to be passed"):
        semi.fit(X, y, X_val=X[:3])
    with pytest.raises(ValueError, match="Use novelty=True"):
        clone(semi).set_params(detector=LocalOutlierFactor()).fit(X, y, X_val=X, y_val=y)
    with pytest.raises(ValueError, match="one class"):
        clone(semi).set_params(class_conditional=True).fit(X, y * 0, X_val=X, y_val=y)


def test_validation_rows_go_through_a_pipeline():
    X, y, _ = noisy_blobs()
    X_val, y_val = blobs(n=45, seed=7)
    scaler = StandardScaler().fit(X)
    method = paper_method(detector=KNN(), semi_supervised=True, random_state=0)
    expected = clone(method).fit(scaler.transform(X), y, X_val=scaler.transform(X_val), y_val=y_val)
    set_config(enable_metadata_routing=True)
    try:
        routed = clone(method).set_fit_request(X_val=True, y_val=True)
        pipeline = Pipeline(
            [("scale", StandardScaler()), ("score", routed)], transform_input=["X_val"]
        )
        pipeline.fit(X, y, X_val=X_val, y_val=y_val)
    finally:
        set_config(enable_metadata_routing=False)
    np.testing.assert_allclose(pipeline[-1].detrimentality_, expected.detrimentality_)


def wide_net():
    return classifier(SmallMlp, module__n_hidden=500, max_epochs=5)  # 1,503 parameters last


def test_auto_projects_beyond_1024_columns():
    X, y, _ = noisy_blobs()
    narrow = GradientEmbedding(classifier(), random_state=0).fit_transform(X, y)
    assert narrow.shape == (90, 51)
    wide = GradientEmbedding(wide_net(), random_state=0).fit(X, y)
    assert wide.embedding_.shape == (90, 1024)
    assert wide.get_feature_names_out().shape == (1024,)
    full = GradientEmbedding(wide_net(), n_components=None, random_state=0).fit(X, y).embedding_
    assert full.shape == (90, 1503)
    products, projected = full @ full.T, wide.embedding_ @ wide.embedding_.T
    norms = np.linalg.norm(full, axis=1)
    error = (projected - products) / np.outer(norms, norms)
    assert np.sqrt((error**2).mean()) < 3 * np.sqrt(2 / 1024)


def test_projected_rows_compare_across_calls_and_batches():
    X, y, _ = noisy_blobs()
    method = GradientEmbedding(wide_net(), n_components=32, random_state=0).fit(X, y)
    np.testing.assert_allclose(method.embed(X, y), method.embedding_, atol=1e-6)
    np.testing.assert_allclose(method.embed(X[40:], y[40:]), method.embedding_[40:], atol=1e-5)
    small = clone(method).set_params(batch_size=7).fit(X, y)
    np.testing.assert_allclose(small.embedding_, method.embedding_, atol=1e-5)
    other = clone(method).set_params(random_state=1).fit(X, y)
    assert other.projection_seed_ != method.projection_seed_


def test_detector_sees_the_projected_embedding():
    X, y, _ = noisy_blobs()
    embedding = GradientEmbedding(classifier(), n_components=8, random_state=0).fit_transform(X, y)
    method = paper_method(classifier(), detector=KNN(), n_components=8, random_state=0).fit(X, y)
    np.testing.assert_allclose(method.detrimentality_, KNN().fit(embedding).decision_scores_)
    norms = paper_method(classifier(), detector=NormDetector(), n_components=8, random_state=0).fit(
        X, y
    )
    full = GradientEmbedding(classifier(), random_state=0).fit_transform(X, y)
    np.testing.assert_allclose(norms.detrimentality_, np.linalg.norm(full, axis=1), rtol=1e-5)


@pytest.mark.parametrize("n_components", [0, -1, 1.5, "all", True])
def test_number_of_components_is_checked(n_components):
    X, y = blobs()
    for cls in (GradientEmbedding, OutlierGradientDetector):
        with pytest.raises(ValueError, match=r"n_components=.*expected an integer >= 1"):
            cls(n_components=n_components).fit(X, y)


def test_more_components_than_parameters_are_refused():
    X, y = blobs()
    with pytest.raises(ValueError, match=r"n_components=60, but expected at most 51"):
        GradientEmbedding(classifier(), n_components=60).fit(X, y)


def test_too_large_even_so_names_what_fits():
    X, y = blobs()
    method = GradientEmbedding(classifier(), n_components=40, max_bytes=90 * 4 * 12)
    with pytest.raises(ValueError, match="project to n_components=12 or fewer"):
        method.fit(X, y)
    assert method.set_params(n_components=12).fit_transform(X, y).shape == (90, 12)
