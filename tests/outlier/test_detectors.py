"""PyOD's, scikit-learn's and our own detectors are interchangeable."""

import numpy as np
import pytest
from pyod.models.abod import ABOD
from pyod.models.cblof import CBLOF
from pyod.models.copod import COPOD
from pyod.models.ecod import ECOD
from pyod.models.gmm import GMM
from pyod.models.hbos import HBOS
from pyod.models.iforest import IForest
from pyod.models.inne import INNE
from pyod.models.kde import KDE
from pyod.models.knn import KNN
from pyod.models.lof import LOF
from pyod.models.ocsvm import OCSVM
from pyod.models.pca import PCA
from sklearn.base import clone
from sklearn.covariance import EllipticEnvelope
from sklearn.decomposition import PCA as Components
from sklearn.ensemble import IsolationForest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.svm import OneClassSVM

from skinfluence import GradientEmbedding, NormDetector
from skinfluence.outlier._detectors import FittedDetector
from tests._shared.problems import classifier, fitted_classifier, noisy_blobs, paper_method

DETECTORS = [
    ABOD(),
    CBLOF(n_clusters=3),
    COPOD(),
    ECOD(),
    GMM(),
    HBOS(),
    IForest(),
    INNE(),
    KDE(),
    KNN(),
    LOF(),
    OCSVM(),
    PCA(),
    IsolationForest(),
    EllipticEnvelope(support_fraction=0.9),
    OneClassSVM(gamma="scale"),
    LocalOutlierFactor(n_neighbors=30),
    LocalOutlierFactor(n_neighbors=30, novelty=True),
    NormDetector(),
    NormDetector(ord=1),
    make_pipeline(Components(3), KNN()),
    make_pipeline(Components(3), IsolationForest()),
]
every_detector = pytest.mark.parametrize("detector", DETECTORS, ids=repr)


def cloud_with_outliers(n=200, n_features=5, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, n_features)).astype(np.float32)
    is_outlier = np.arange(n) < 10
    X[is_outlier] += 6 * np.sign(X[is_outlier])
    return X, is_outlier


@every_detector
def test_higher_means_more_outlying_for_every_detector(detector):
    X, is_outlier = cloud_with_outliers()
    fitted = FittedDetector(detector, seed=0)
    scores = fitted.fit(X)
    assert scores.shape == (len(X),)
    assert scores.dtype == np.float64
    assert roc_auc_score(is_outlier, scores) > 0.95
    if hasattr(detector, "decision_function"):
        new, is_new_outlier = cloud_with_outliers(seed=1)
        assert roc_auc_score(is_new_outlier, fitted.score(new)) > 0.95


@every_detector
def test_score_of_a_row_does_not_depend_on_its_batch(detector):
    X, _ = cloud_with_outliers()
    new, _ = cloud_with_outliers(n=12, seed=1)
    fitted = FittedDetector(detector, seed=0)
    fitted.fit(X)
    if not hasattr(fitted.detector, "decision_function"):
        pytest.skip("this detector does not score new rows, and says so")
    together = fitted.score(new)
    alone = np.concatenate([fitted.score(new[i : i + 1]) for i in range(len(new))])
    np.testing.assert_allclose(alone, together, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("detector", [KNN(), LOF()], ids=repr)
def test_training_scores_are_not_taken_by_scoring_again(detector):
    X, _ = cloud_with_outliers()
    fitted = FittedDetector(detector, seed=0)
    scores = fitted.fit(X)
    np.testing.assert_array_equal(scores, fitted.detector.decision_scores_.astype(np.float64))
    assert not np.allclose(scores, fitted.detector.decision_function(X))


def test_sklearn_training_scores_flip_the_sign():
    X, _ = cloud_with_outliers()
    forest, factor = IsolationForest(random_state=3), LocalOutlierFactor()
    fitted = FittedDetector(forest, 0)
    np.testing.assert_array_equal(fitted.fit(X), -fitted.detector.score_samples(X))
    fitted = FittedDetector(factor, 0)
    np.testing.assert_array_equal(fitted.fit(X), -fitted.detector.negative_outlier_factor_)


def test_unset_random_state_is_set_and_a_set_one_kept():
    X, _ = cloud_with_outliers()
    unset, kept = IForest(), IForest(random_state=7)
    unset, kept = (FittedDetector(detector, seed=5).detector for detector in (unset, kept))
    assert (unset.random_state, kept.random_state) == (5, 7)
    nested = FittedDetector(make_pipeline(Components(2), IForest()), seed=5)
    nested.fit(X)
    assert nested.detector[-1].random_state == nested.detector[0].random_state == 5


@pytest.mark.parametrize("detector", [IForest(), INNE(), CBLOF(3), IsolationForest()], ids=repr)
def test_same_seed_same_scores(detector):
    X, y, _ = noisy_blobs()
    method = paper_method(classifier(), detector=detector, random_state=0)
    first = clone(method).fit(X, y).detrimentality_
    np.testing.assert_array_equal(clone(method).fit(X, y).detrimentality_, first)


@every_detector
@pytest.mark.filterwarnings("ignore::UserWarning")  # detectors complain of such data; that is why
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("share", [0.8, 1.0])
def test_zero_gradients_give_finite_scores_or_name_another_detector(detector, share):
    X, _ = cloud_with_outliers(n=100)
    X[: int(share * len(X))] = 0
    try:
        scores = FittedDetector(detector, seed=0).fit(X)
    except Exception as error:
        text = str(error) + "".join(getattr(error, "__notes__", []))
        assert "IForest, KNN" in text, text
        return
    assert np.isfinite(scores).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_detectors_that_take_zero_gradients():
    X = np.zeros((60, 4), np.float32)
    for detector in (IForest(), KNN(), NormDetector(), HBOS()):
        assert np.isfinite(FittedDetector(detector, seed=0).fit(X)).all()
    fitted = FittedDetector(PCA(), seed=0)
    with pytest.raises(
        ValueError, match=r"PCA gave .*not finite.*use IForest, KNN or NormDetector"
    ):
        fitted.fit(X)


@pytest.mark.parametrize("ord", [1, 2])
@pytest.mark.parametrize("layers", ["last", "all"])
def test_norms_from_factors_are_norms_of_the_embedding(ord, layers):
    X, y, _ = noisy_blobs()
    frozen = FrozenEstimator(fitted_classifier(X, y))
    embedding = GradientEmbedding(frozen, layers=layers).fit_transform(X, y)
    on_matrix = NormDetector(ord).fit(embedding)
    method = paper_method(frozen, detector=NormDetector(ord), layers=layers).fit(X, y)
    np.testing.assert_allclose(method.detrimentality_, on_matrix.decision_scores_, rtol=1e-5)
    np.testing.assert_allclose(method.detector_.threshold_, on_matrix.threshold_, rtol=1e-5)
    np.testing.assert_allclose(
        method.score_detrimentality(X[:9], y[:9]), on_matrix.decision_scores_[:9], rtol=1e-5
    )


def test_norm_detector_builds_no_matrix():
    X, y, _ = noisy_blobs()
    method = paper_method(detector=NormDetector(), layers="all", max_bytes=1)
    assert method.fit(X, y).detrimentality_.shape == (len(X),)
    with pytest.raises(ValueError, match=r"max_bytes=1.*NormDetector as the detector"):
        method.set_params(detector=KNN()).fit(X, y)


def test_norm_detector_predicts_as_pyod_does():
    detector = NormDetector(contamination=0.2).fit(np.diag([1.0, 2, 3, 4, 5]))
    np.testing.assert_array_equal(detector.labels_, [0, 0, 0, 0, 1])
    np.testing.assert_array_equal(detector.predict(np.diag([9.0, 1, 1, 1, 4.1])), [1, 0, 0, 0, 0])


@pytest.mark.parametrize("ord", [0, 3, "l2"])
def test_norm_detector_checks_its_order(ord):
    with pytest.raises(ValueError, match=r"ord=.*expected 1 or 2"):
        NormDetector(ord).fit([[1.0, 2.0], [3.0, 4.0]])


def test_local_outlier_factor_without_novelty_scores_no_new_rows():
    X, y, _ = noisy_blobs()
    method = paper_method(detector=LocalOutlierFactor(n_neighbors=30), random_state=0)
    assert not hasattr(method.fit(X, y), "transform")
    assert not hasattr(method, "score_detrimentality")
    assert np.isfinite(method.fit_transform(X, y)).all()


@pytest.mark.parametrize("detector", [IForest, "iforest", 3, LogisticRegression])
def test_what_is_no_detector_is_refused(detector):
    X, y, _ = noisy_blobs()
    with pytest.raises(TypeError, match="expected an instance of a PyOD or scikit-learn outlier"):
        paper_method(detector=detector).fit(X, y)


def test_estimator_without_scores_is_refused():
    X, y, _ = noisy_blobs()
    with pytest.raises(TypeError, match="StandIn has neither decision_scores_"):
        paper_method(detector=make_pipeline(Components(2), StandIn())).fit(X, y)


class StandIn(Components):
    """Fits and does nothing else that a detector does."""

    score_samples = property()


def test_contamination_of_the_detector_is_checked_too():
    X, y, _ = noisy_blobs()
    detector = IForest().set_params(contamination=0.9)
    with pytest.raises(ValueError, match=r"contamination=0\.9"):
        paper_method(detector=detector).fit(X, y)


def test_error_inside_a_detector_names_it():
    X, y, _ = noisy_blobs()
    with pytest.raises(ValueError, match="n_neighbors") as caught:
        paper_method(detector=LocalOutlierFactor(n_neighbors="x")).fit(X, y)
    assert any("Raised by LocalOutlierFactor" in note for note in caught.value.__notes__)
