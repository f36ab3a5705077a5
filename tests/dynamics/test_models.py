"""Scikit-learn's models in place of a net: judged out of bag or out of fold."""

import pickle
import warnings
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from scipy.special import xlogy
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_predict
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import SVC, LinearSVC

from skinfluence import (
    EL2N,
    AreaUnderMargin,
    CalibratedDetrimentality,
    CleanedClassifier,
    ConfidenceWeightedEntropy,
    DetrimentalityUnion,
    DetrimentalSampleCleaner,
    GradientEmbedding,
    GraNd,
    LossScore,
    NormalizedMargin,
    OutlierGradientDetector,
    SelfConfidence,
    TracIn,
)
from tests._shared.problems import noisy_blobs

NAMES = np.array(["bee", "ant", "cow"])
FOREST = RandomForestClassifier(30, random_state=0)
SCORES = [SelfConfidence, NormalizedMargin, ConfidenceWeightedEntropy, EL2N, LossScore]
every_score = pytest.mark.parametrize("cls", SCORES, ids=lambda cls: cls.__name__)


def problem(n=90):
    X, y, is_noisy = noisy_blobs(n=n)
    return X, NAMES[y], is_noisy


def expected_scores(cls, p, y):
    """The scores as their papers have them; p of shape (n, classes in their order)."""
    codes = np.searchsorted(np.sort(NAMES), y)
    given = p[np.arange(len(y)), codes]
    others = np.where(np.arange(3) == codes[:, np.newaxis], -np.inf, p).max(1)
    if cls is SelfConfidence:
        return -given
    if cls is NormalizedMargin:
        return others - given
    if cls is EL2N:
        return np.linalg.norm(p - np.eye(3)[codes], axis=1)
    if cls is LossScore:
        return -np.log(np.maximum(given, np.finfo(float).eps))
    # a model that is sure of another class has no entropy either: what is left of both counts
    p = np.maximum(p, np.finfo(float).tiny)
    x = -xlogy(p, p).sum(1) / np.log(3) / np.maximum(given, np.finfo(float).tiny)
    return -np.log1p(x) / x


@every_score
def test_a_forest_judges_rows_out_of_bag(cls):
    X, y, is_noisy = problem()
    fitted = cls(FOREST, random_state=0).fit(X, y)
    p = clone(FOREST).set_params(oob_score=True).fit(X, y).oob_decision_function_
    assert (p == 0).any()  # of a class that no tree named: no score may be NaN or infinite
    np.testing.assert_allclose(fitted.detrimentality_, expected_scores(cls, p, y), atol=1e-9)
    assert roc_auc_score(is_noisy, fitted.detrimentality_) > 0.95
    # new rows are judged by all trees
    whole = clone(FOREST).fit(X, y).predict_proba(X[:9])
    np.testing.assert_allclose(
        fitted.score_detrimentality(X[:9], y[:9]), expected_scores(cls, whole, y[:9]), atol=1e-9
    )
    likeliest = np.sort(NAMES)[whole.argmax(1)]
    np.testing.assert_allclose(
        fitted.transform(X[:9])[:, 0], expected_scores(cls, whole, likeliest), atol=1e-9
    )
    assert list(fitted.classes_) == sorted(NAMES)
    np.testing.assert_allclose(fitted.oof_probabilities_, p)
    assert list(fitted.net_.classes_) == sorted(NAMES)
    assert not hasattr(FOREST, "classes_")


@every_score
@pytest.mark.parametrize("cv", [None, 4, StratifiedKFold(3)], ids=["five", "four", "splitter"])
def test_other_models_judge_rows_out_of_fold_in_their_own_unit(cls, cv):
    X, y, is_noisy = problem()
    fitted = cls(GaussianNB(), cv=cv, random_state=0).fit(X, y)
    seed = fitted._seeds[0]
    folds = StratifiedKFold(cv or 5, shuffle=True, random_state=seed) if cv in {None, 4} else cv
    p = cross_val_predict(GaussianNB(), X, y, cv=folds, method="predict_proba")
    np.testing.assert_allclose(fitted.detrimentality_, expected_scores(cls, p, y), atol=1e-9)
    assert roc_auc_score(is_noisy, fitted.detrimentality_) > 0.95
    in_sample = GaussianNB().fit(X, y).predict_proba(X)
    assert not np.allclose(p, in_sample)


def test_a_model_that_learns_by_heart_still_finds_errors():
    X, y, is_noisy = problem()
    fitted = SelfConfidence(KNeighborsClassifier(1), random_state=0).fit(X, y)
    by_heart = KNeighborsClassifier(1).fit(X, y)
    assert (by_heart.predict(X) == y).all()
    assert roc_auc_score(is_noisy, fitted.detrimentality_) > 0.9


@pytest.mark.parametrize(
    ("model", "out_of_bag"),
    [
        (ExtraTreesClassifier(10), False),
        (ExtraTreesClassifier(40, bootstrap=True, random_state=0), True),
        (BaggingClassifier(GaussianNB(), 40, random_state=0), True),
        (BaggingClassifier(GaussianNB(), 10, bootstrap=False), False),
    ],
    ids=lambda value: str(value)[:24],
)
def test_only_what_leaves_rows_out_judges_out_of_bag(model, out_of_bag):
    X, y, _ = problem()
    fitted = SelfConfidence(model, random_state=0).fit(X, y)
    assert hasattr(fitted.net_, "oob_score_") == out_of_bag
    folds = SelfConfidence(model, cv=2, random_state=0).fit(X, y)
    assert not hasattr(folds.net_, "oob_score_")


def test_rows_that_every_tree_drew_are_refused():
    X, y, _ = problem()
    with pytest.raises(ValueError, match=r"every one of the 3 parts.*Raise n_estimators"):
        SelfConfidence(RandomForestClassifier(3, random_state=0)).fit(X, y)
    X[:, 0] = np.arange(90)
    with pytest.raises(ValueError, match="every one of the 3 parts"):
        LossScore(RandomForestRegressor(3, random_state=0)).fit(X, X[:, 1] * 1.5)


def test_a_regressor_scores_by_its_squared_error():
    X = noisy_blobs(n=60)[0].astype(np.float64)
    y = X.sum(1)
    y[:3] += 9
    fitted = LossScore(Ridge(), cv=3, random_state=0).fit(X, y)
    assert set(fitted.ranking_[:3]) == {0, 1, 2}
    found = fitted.score_detrimentality(X[5:8], y[5:8] + 2)
    np.testing.assert_allclose(found, (Ridge().fit(X, y).predict(X[5:8]) - y[5:8] - 2) ** 2)
    spread = np.sqrt(fitted.detrimentality_.mean())  # the root mean squared error out of fold
    np.testing.assert_allclose(fitted.transform(X[:4])[:, 0], spread**2)
    columns = np.stack([y, -y], axis=1)
    both = LossScore(Ridge(), cv=3, random_state=0).fit(X, columns).detrimentality_
    np.testing.assert_allclose(both, 2 * fitted.detrimentality_, rtol=1e-6)
    forest = RandomForestRegressor(50, random_state=0)
    bags = LossScore(forest).fit(X, y)
    expected = clone(forest).set_params(oob_score=True).fit(X, y).oob_prediction_
    np.testing.assert_allclose(bags.detrimentality_, (expected - y) ** 2)
    whole = LossScore(Ridge()).fit(X, np.arange(60) % 30)  # a regressor says that these are numbers
    assert not hasattr(whole, "classes_")


def test_a_frozen_model_is_asked_as_it_is():
    X, y, _ = problem()
    other = GaussianNB().fit(X[::2], y[::2])
    before = pickle.dumps(other)
    fitted = SelfConfidence(FrozenEstimator(other)).fit(X, y)
    expected = expected_scores(SelfConfidence, other.predict_proba(X), y)
    np.testing.assert_allclose(fitted.detrimentality_, expected)
    assert fitted.net_ is other
    assert not hasattr(fitted, "oof_probabilities_")  # it has seen half of the rows
    assert pickle.dumps(other) == before
    line = LinearRegression().fit(X, X[:, 0])
    numbers = LossScore(FrozenEstimator(line)).fit(X, X[:, 0] + 1.5)
    np.testing.assert_allclose(numbers.detrimentality_, 2.25, rtol=1e-5)
    with pytest.raises(ValueError, match="is frozen, and not trained"):
        SelfConfidence(FrozenEstimator(other), cv=3).fit(X, y)
    with pytest.raises(NotFittedError, match="frozen GaussianNB is not fitted"):
        SelfConfidence(FrozenEstimator(GaussianNB())).fit(X, y)
    with pytest.raises(ValueError, match="labels the net was never trained on"):
        SelfConfidence(FrozenEstimator(other)).fit(X, np.where(y == "ant", "dog", y))


def test_a_table_reaches_the_model_as_it_is():
    X, y, is_noisy = problem()
    table = pd.DataFrame(X, columns=list("abcd"), index=np.arange(90) + 7)
    table["kind"] = pd.Categorical(np.where(X[:, 0] > 2, "big", "small"))
    table.loc[table.index[::7], "a"] = np.nan
    trees = HistGradientBoostingClassifier(max_iter=8, categorical_features="from_dtype")
    fitted = SelfConfidence(trees, cv=3, random_state=0).fit(table, y)
    assert list(fitted.net_.feature_names_in_) == list(fitted.feature_names_in_) == list(table)
    assert roc_auc_score(is_noisy, fitted.detrimentality_) > 0.8
    assert fitted.score_detrimentality(table[:4], y[:4]).shape == (4,)
    columns = make_column_transformer((OneHotEncoder(), ["kind"]), remainder="drop")
    pipeline = make_pipeline(columns, KNeighborsClassifier())
    assert SelfConfidence(pipeline).fit(table, y).detrimentality_.shape == (90,)
    cleaned = CleanedClassifier(trees, SelfConfidence(trees, cv=3), contamination=9, random_state=0)
    assert len(cleaned.fit(table, y).removed_indices_) == 9
    with pytest.raises(ValueError, match="NaN"):
        SelfConfidence(KNeighborsClassifier()).fit(table[list("abcd")], y)  # says the model


def test_sparse_rows_reach_the_model_as_they_are():
    X, y, _ = problem()
    model = KNeighborsClassifier()
    dense = SelfConfidence(model, random_state=0).fit(X, y).detrimentality_
    sparse = SelfConfidence(model, random_state=0).fit(csr_array(X), y).detrimentality_
    np.testing.assert_allclose(sparse, dense)


def test_folds_hold_out_whole_groups():
    X, y, _ = problem()
    groups = np.arange(90) // 3
    fitted = SelfConfidence(GaussianNB(), cv=GroupKFold(3)).fit(X, y, groups=groups)
    folds = list(GroupKFold(3).split(X, y, groups))
    p = cross_val_predict(GaussianNB(), X, y, cv=folds, method="predict_proba")
    expected = expected_scores(SelfConfidence, p, y)
    np.testing.assert_allclose(fitted.detrimentality_, expected, atol=1e-9)
    with pytest.raises(ValueError, match="has no folds of cv"):
        SelfConfidence(FOREST).fit(X, y, groups=groups)


def test_a_union_shares_one_model():
    X, y, is_noisy = problem()
    committee = OutlierGradientDetector(committee=["neighbors"])
    methods = [("confidence", SelfConfidence()), ("margin", NormalizedMargin())]
    union = DetrimentalityUnion([*methods, ("default", committee)], net=Counting(), random_state=0)
    Counting.fits.clear()
    union.fit(X, y)
    assert Counting.fits == [90] + [72] * 5
    alone = SelfConfidence(Counting(), random_state=0).fit(X, y).detrimentality_
    np.testing.assert_array_equal(union.scores_[:, 0], alone)
    assert isinstance(union.net_, Counting)
    assert union.transform(X[:4]).shape == (4, 3)
    assert roc_auc_score(is_noisy, union.detrimentality_) > 0.95
    restored = pickle.loads(pickle.dumps(union))
    np.testing.assert_array_equal(restored.transform(X[:4]), union.transform(X[:4]))
    frozen = DetrimentalityUnion(methods, net=FrozenEstimator(GaussianNB().fit(X, y))).fit(X, y)
    assert frozen.scores_.shape == (90, 2)
    with pytest.raises(TypeError, match="Got net=Counting, but TracIn needs the parameters"):
        clone(union).set_params(margin=TracIn(reference="self")).fit(X, y)


class Counting(GaussianNB):
    """Counts the rows of its fits."""

    fits: ClassVar = []

    def fit(self, X, y):
        self.fits.append(len(X))
        return super().fit(X, y)


def test_calibration_and_cleaning_by_a_model():
    X, y, is_noisy = problem()
    method = SelfConfidence(GaussianNB())
    calibrated = CalibratedDetrimentality(method, cv=3, random_state=0).fit(X, y)
    assert roc_auc_score(is_noisy, calibrated.detrimentality_) > 0.95
    assert abs(calibrated.expected_errors(0.3) - is_noisy.sum()) <= 2
    cleaner = DetrimentalSampleCleaner(method, contamination="disagreement", action="relabel")
    _, labels = cleaner.fit_resample(X, y)
    assert is_noisy[cleaner.relabelled_].mean() > 0.8
    assert (labels == NAMES[np.arange(90) % 3]).mean() > 0.95
    Counting.fits.clear()
    DetrimentalSampleCleaner(SelfConfidence(Counting()), contamination="auto", cv=2).fit(X, y)
    assert len(Counting.fits) > 6 * 3  # the model, too, compares shares
    with pytest.raises(ValueError, match="numeric target"):
        CalibratedDetrimentality(LossScore(Ridge())).fit(X, X[:, 0])


class NoProbabilities(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        raise AssertionError


def test_what_a_model_cannot_do_is_said_before_it_is_trained():
    X, y, _ = problem()
    for model in (NoProbabilities(), LinearSVC(), SVC()):
        for cls in (SelfConfidence, LossScore):
            with pytest.raises(ValueError, match=r"no predict_proba\..*CalibratedClassifierCV"):
                cls(model).fit(X, y)
    with pytest.raises(ValueError, match=r"is a regressor\. Use LossScore"):
        SelfConfidence(Ridge()).fit(X, X[:, 0])
    with pytest.raises(ValueError, match="leaves none behind"):
        SelfConfidence(LogisticRegression(), checkpoints=5).fit(X, y)
    with pytest.raises(ValueError, match="one label a row"):
        SelfConfidence(KNeighborsClassifier()).fit(X, np.eye(3, dtype=int)[np.arange(90) % 3])
    with pytest.raises(ValueError, match="label"):
        SelfConfidence(GaussianNB()).fit(X, X[:, 0])


@pytest.mark.parametrize(
    "estimator",
    [
        TracIn(FOREST, reference="self"),
        TracIn(FrozenEstimator(FOREST), reference="self"),
        OutlierGradientDetector(FOREST),
        GradientEmbedding(FOREST),
        AreaUnderMargin(FOREST),
        GraNd(FOREST),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_what_needs_parameters_says_so_and_names_what_to_use(estimator):
    X, y, _ = problem()
    with pytest.raises(
        TypeError, match=r"needs the parameters of a net.*SelfConfidence.*committee="
    ):
        estimator.fit(X, y)


def test_seeds_decide_and_generators_are_left_alone():
    X, y, _ = problem()
    model = RandomForestClassifier(30)
    state = np.random.get_state()[1].copy()
    first = SelfConfidence(model, random_state=0).fit(X, y).detrimentality_
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    np.testing.assert_array_equal(
        SelfConfidence(model, random_state=0).fit(X, y).detrimentality_, first
    )
    assert not np.array_equal(
        SelfConfidence(model, random_state=1).fit(X, y).detrimentality_, first
    )


def test_scores_are_those_of_cleanlab_on_the_same_probabilities():
    rank = pytest.importorskip("cleanlab.rank", reason="cleanlab is not installed")
    X, y, _ = problem()
    p = clone(FOREST).set_params(oob_score=True).fit(X, y).oob_decision_function_
    codes = np.searchsorted(np.sort(NAMES), y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        confidence = rank.get_label_quality_scores(codes, p, method="self_confidence")
        margin = rank.get_label_quality_scores(codes, p, method="normalized_margin")
    found = SelfConfidence(FOREST).fit(X, y).detrimentality_
    np.testing.assert_allclose(found, -confidence, atol=1e-6)
    found = NormalizedMargin(FOREST).fit(X, y).detrimentality_
    np.testing.assert_allclose(found, 1 - 2 * margin, atol=1e-6)
