"""Pipelines that end in a method, over a table of mixed types with gaps that only they can read."""

from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, SimpleImputer
from sklearn.linear_model import BayesianRidge, LogisticRegression, Ridge
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.utils.validation import check_is_fitted

from skinfluence import (
    CalibratedDetrimentality,
    CleanedClassifier,
    CleanedRegressor,
    DetrimentalityUnion,
    DetrimentalSampleCleaner,
    KNNShapley,
    LossScore,
    OutlierGradientDetector,
    RandomScore,
    score_detrimentality,
)
from skinfluence.datasets import make_noisy_labels
from skinfluence.exceptions import UnverifiedRowsWarning
from skinfluence.methods import _parts
from skinfluence.metrics import make_detection_scorer, removal_curve
from tests._shared.problems import SmallMlp, classifier, noisy_blobs, regressor


class Spying(TransformerMixin, BaseEstimator):
    """Hands rows on as they are, and keeps what it was given."""

    fits: ClassVar = []
    asked: ClassVar = []

    def fit(self, X, y=None):
        self.fits.append(X)
        self.is_fitted_ = True
        return self

    def transform(self, X):
        check_is_fitted(self)
        self.asked.append(X)
        return X


@pytest.fixture
def seen():
    Spying.fits.clear()
    Spying.asked.clear()
    return Spying.fits


def census(n=90, seed=0):
    """A table of numbers with gaps, categories and words, and labels that follow from it."""
    rng = np.random.default_rng(seed)
    job = rng.integers(3, size=n)
    table = pd.DataFrame(
        {
            "age": rng.normal(size=n) + 4 * job,
            "hours": rng.integers(20, 60, size=n),
            "job": pd.Categorical(np.array(["clerk", "cook", "guard"])[job]),
            "town": np.array(["Bonn", "Lyon", None], dtype=object)[rng.integers(3, size=n)],
        },
        index=np.arange(n) * 3 + 1000,
    )
    table.loc[table.index[::9], "age"] = np.nan
    y = np.array(["low", "mid", "high"])[job]
    y_noisy, is_noisy = make_noisy_labels(y, rate=0.1, random_state=0)
    return table, y_noisy, is_noisy


def encoder():
    return make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["age", "hours"]),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["job", "town"]),
    )


NET = classifier(SmallMlp, module__n_inputs=8, max_epochs=8)
LOSS = LossScore(NET, checkpoints=3, random_state=0)


def method(last=LOSS):
    return make_pipeline(Spying(), encoder(), clone(last))


def check_untouched(frames, table):
    for frame in frames:
        pd.testing.assert_frame_equal(frame, table.loc[frame.index])


def test_estimator_and_method_see_the_table_as_it_is_each_in_its_way(seen):
    table, y, is_noisy = census()
    trees = HistGradientBoostingClassifier(max_iter=3, categorical_features="from_dtype")
    own = make_pipeline(Spying(), FunctionTransformer(lambda rows: rows[["age", "job"]]), trees)
    model = CleanedClassifier(own, method(), contamination=9, random_state=0).fit(table, y)
    assert [len(frame) for frame in seen] == [90, 81]
    check_untouched(seen, table)
    alone = method().fit(table, y)[-1]
    np.testing.assert_array_equal(model.method_[-1].detrimentality_, alone.detrimentality_)
    np.testing.assert_array_equal(model.removed_indices_, alone.ranking_[:9])
    assert is_noisy[model.removed_indices_].mean() > 0.8
    assert list(model.feature_names_in_) == list(table)
    assert model.n_features_in_ == 4
    assert model.predict(table[:3]).shape == (3,)
    with pytest.raises(ValueError, match=r"X holds words in the columns \[.*TableVectorizer"):
        CleanedClassifier(own, LOSS, contamination=9).fit(table, y)  # it reads numbers alone


def test_auto_fits_the_steps_on_training_rows_alone(seen):
    table, y, _ = census()
    spy = make_pipeline(Spying(), encoder(), RandomScore())
    models = make_pipeline(encoder(), KNeighborsClassifier())
    CleanedClassifier(models, spy, cv=2, random_state=0).fit(table, y)
    assert [len(frame) for frame in seen] == [90, 45, 45]
    check_untouched(seen, table)


def test_a_cleaner_gives_rows_back_and_trains_its_net_after_the_steps(seen):
    table, y, is_noisy = census()
    cleaner = DetrimentalSampleCleaner(
        method(), contamination="disagreement", action="relabel", random_state=0
    )
    kept, labels = cleaner.fit_resample(table, y)
    pd.testing.assert_frame_equal(kept, table)
    check_untouched([*seen, *Spying.asked], table)
    assert len(seen) == 2  # for the method, and for the net that gives new labels
    assert len(seen[1]) < 90
    assert is_noisy[cleaner.relabelled_].mean() > 0.6
    assert (labels != y)[is_noisy].mean() > 0.8
    net = cleaner.set_params(contamination=5, estimator=classifier(max_epochs=2))
    with pytest.raises(ValueError, match="could not convert string to float"):
        net.fit(table, y)


def test_calibration_fits_the_steps_in_each_fold(seen):
    table, y, is_noisy = census()
    calibrated = CalibratedDetrimentality(method(), cv=3, random_state=0).fit(table, y)
    assert [len(frame) for frame in seen] == [60, 60, 60]
    check_untouched([*seen, *Spying.asked], table)
    assert roc_auc_score(is_noisy, calibrated.detrimentality_) > 0.9
    new, y_new, is_wrong = census(60, seed=1)
    scores = calibrated.score_detrimentality(new, y_new)
    assert roc_auc_score(is_wrong, scores) > 0.9
    # a method made of methods is one as well
    model = CleanedClassifier(
        make_pipeline(encoder(), LogisticRegression()), calibrated, contamination=9
    ).fit(table, y)
    np.testing.assert_array_equal(model.method_.p_values_, calibrated.p_values_)
    assert model.method_.n_features_in_ == 4


def test_a_union_takes_pipelines_beside_methods():
    X, y, _ = noisy_blobs(n=60)
    scaled = make_pipeline(StandardScaler(), LossScore(classifier(max_epochs=4)))
    net = classifier(max_epochs=4)
    union = DetrimentalityUnion([("scaled", scaled), ("plain", LossScore())], net, random_state=0)
    union.fit(X, y)
    seed = union.methods_["plain"].random_state
    alone = LossScore(net, random_state=0).fit(X, y).detrimentality_
    np.testing.assert_array_equal(union.scores_[:, 1], alone)
    by_hand = clone(scaled).set_params(lossscore__random_state=seed).fit(X, y)
    np.testing.assert_array_equal(union.scores_[:, 0], by_hand[-1].detrimentality_)
    np.testing.assert_allclose(union.transform(X)[:, 0], by_hand.transform(X)[:, 0], rtol=1e-6)
    assert union.get_params()["scaled__lossscore__checkpoints"] == "last"
    table, labels, _ = census()
    rows = DetrimentalityUnion([("a", method()), ("b", method(RandomScore()))]).fit(table, labels)
    assert rows.scores_.shape == (90, 2)
    assert list(rows.classes_) == ["high", "low", "mid"]


def test_validation_rows_go_through_the_fitted_steps(seen):
    table, y, _ = census()
    trusted, y_trusted, _ = census(30, seed=1)
    steps = make_pipeline(Spying(), encoder(), KNNShapley())
    cleaner = DetrimentalSampleCleaner(steps, contamination=9)
    cleaner.fit(table, y, X_val=trusted, y_val=y_trusted)
    head = encoder().fit(table)
    expected = KNNShapley().fit(head.transform(table), y, head.transform(trusted), y_trusted)
    np.testing.assert_array_equal(cleaner.removed_indices_, expected.ranking_[:9])
    assert [len(frame) for frame in seen] == [90]


def test_a_regression_cleans_through_a_pipeline():
    table, _, _ = census()
    y = table["hours"].to_numpy().astype(float)
    y[:5] += 500
    steps = make_pipeline(encoder(), LossScore(regressor(module__n_inputs=8, max_epochs=2)))
    ridge = make_pipeline(encoder(), Ridge())
    model = CleanedRegressor(ridge, steps, contamination=5, random_state=0).fit(table, y)
    assert set(model.removed_indices_) == set(range(5))


def test_models_that_steps_hold_say_nothing_of_the_targets():
    X, y, _ = noisy_blobs(n=60)
    loss = LossScore(classifier(max_epochs=2))
    imputes = make_pipeline(IterativeImputer(estimator=BayesianRidge()), loss)
    model = CleanedClassifier(LogisticRegression(), imputes, contamination=3, random_state=0)
    assert len(model.fit(X, y).removed_indices_) == 3


class Twice(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.concatenate([X, X])


class Resampling(BaseEstimator):
    def fit_resample(self, X, y):
        return X[:-1], y[:-1]


def test_steps_that_change_rows_and_what_is_no_method_are_refused():
    X, y, _ = noisy_blobs(n=30)
    with pytest.raises(ValueError, match="make 60 rows of 30"):
        DetrimentalSampleCleaner(make_pipeline(Twice(), LOSS), contamination=3).fit(X, y)
    resampling = make_pipeline(StandardScaler(), LOSS)
    resampling.steps.insert(0, ("fewer", Resampling()))
    with pytest.raises(ValueError, match="'fewer' before the method resamples"):
        _parts.fit_steps(resampling, None)
    no_method = make_pipeline(StandardScaler(), LogisticRegression())
    for owner in (
        DetrimentalSampleCleaner(no_method),
        CalibratedDetrimentality(no_method),
        DetrimentalityUnion([("a", no_method)]),
    ):
        with pytest.raises(TypeError, match="Pipeline that ends in one"):
            owner.fit(X, y)


def test_steps_draw_by_the_seed_and_leave_generators_alone():
    X, y, _ = noisy_blobs(n=60)
    jitter = FunctionTransformer(lambda X: X + np.random.normal(size=X.shape).astype(np.float32))
    steps = make_pipeline(jitter, LossScore(classifier(max_epochs=2)))
    state = np.random.get_state()[1].copy()
    DetrimentalSampleCleaner(steps, contamination=3, random_state=0).fit(X, y)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_a_pipeline_of_the_method_alone_is_the_method(tmp_path):
    X, y, _ = noisy_blobs(n=60)
    loss = LossScore(classifier(max_epochs=4), random_state=0)
    expected = DetrimentalSampleCleaner(loss, contamination=6)
    removed = clone(expected).fit(X, y).removed_indices_
    for steps in (
        make_pipeline(expected.method),
        make_pipeline(FunctionTransformer(), "passthrough", expected.method, memory=str(tmp_path)),
    ):
        found = clone(expected).set_params(method=steps).fit(X, y)
        np.testing.assert_array_equal(found.removed_indices_, removed)
        assert score_detrimentality(found.method_, X[:3], y[:3]).shape == (3,)


def test_new_labelled_rows_have_one_call_and_transform_is_not_it():
    table, y, _ = census(120)
    new, y_new, is_wrong = census(80, seed=1)
    pipeline = method().fit(table, y)
    scores = score_detrimentality(pipeline, new, y_new)
    expected = pipeline[-1].score_detrimentality(pipeline[:-1].transform(new), y_new)
    np.testing.assert_array_equal(scores, expected)
    assert roc_auc_score(is_wrong, scores) > 0.9
    assert roc_auc_score(is_wrong, pipeline.transform(new)[:, 0]) < 0.8
    X = pipeline[:-1].transform(new)
    np.testing.assert_array_equal(score_detrimentality(pipeline[-1], X, y_new), scores)
    with pytest.raises(TypeError, match="give its method_"):
        score_detrimentality(LogisticRegression(), X, y_new)
    with pytest.raises(AttributeError, match="score_detrimentality"):
        score_detrimentality(make_pipeline(RandomScore()).fit(X, y_new), X, y_new)


def test_a_removal_curve_of_a_pipeline():
    table, y, is_noisy = census()
    test, y_test, _ = census(60, seed=1)
    curve = removal_curve(
        make_pipeline(encoder(), LogisticRegression()),
        table,
        y,
        is_noisy.astype(float),
        X_test=test,
        y_test=y_test,
        budgets=(0, 0.1),
        n_seeds=2,
        random_state=0,
    )
    assert curve.scores.shape == (2, 2)
    assert np.isfinite(curve.scores).all()


def flags_of(is_noisy, every, kind=float):
    flags = pd.Series(is_noisy).astype(object)
    flags[~every] = None
    return flags.astype(kind)


@pytest.mark.parametrize("kind", [float, "boolean"])
def test_a_search_over_a_pipeline_skips_rows_that_nobody_verified(kind):
    X, y, is_noisy = noisy_blobs(n=120, rate=0.2)
    verified = np.arange(120) % 3 > 0
    flags = flags_of(is_noisy, verified, kind)
    steps = make_pipeline(StandardScaler(), LossScore(classifier(max_epochs=2), random_state=0))
    folds = list(StratifiedKFold(2).split(X, np.where(verified, is_noisy, 2)))
    with (
        sklearn.config_context(enable_metadata_routing=True),
        pytest.warns(UnverifiedRowsWarning, match=r"20 of 60 rows .* not verified"),
    ):
        search = GridSearchCV(
            steps,
            {"lossscore__batch_size": [64]},
            cv=folds,
            scoring=make_detection_scorer(),
            error_score="raise",
        ).fit(X, y, is_noisy=flags)
    train, test = folds[0]
    fitted = search.best_estimator_.fit(X[train], y[train])
    known = test[verified[test]]
    expected = average_precision_score(
        is_noisy[known], score_detrimentality(fitted, X[known], y[known])
    )
    found = search.cv_results_["split0_test_score"][search.best_index_]
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_fold_without_verified_rows_of_both_kinds_is_refused_with_what_to_do():
    X, y, is_noisy = noisy_blobs(n=60)
    fitted = make_pipeline(StandardScaler(), LossScore(classifier(max_epochs=2))).fit(X, y)
    flags = flags_of(is_noisy, ~is_noisy)
    with (
        pytest.warns(UnverifiedRowsWarning),
        pytest.raises(ValueError, match=r"0 of its 54 verified rows noisy.*stratify"),
    ):
        make_detection_scorer()(fitted, X, y, is_noisy=flags)
    assert 'error_score="raise"' in make_detection_scorer.__doc__


def test_the_default_works_as_the_last_step():
    table, y, is_noisy = census()
    model = CleanedClassifier(
        make_pipeline(encoder(), LogisticRegression()),
        make_pipeline(encoder(), OutlierGradientDetector(committee=["forest"], random_state=0)),
        contamination=9,
    ).fit(table, y)
    assert is_noisy[model.removed_indices_].mean() > 0.8
