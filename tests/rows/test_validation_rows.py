"""Validation rows arrive whole, whatever a search does with the training rows."""

import pickle

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import _check_method_params

from skinfluence import (
    CleanedClassifier,
    DetrimentalityUnion,
    DetrimentalSampleCleaner,
    InnerProductInfluence,
    KNNShapley,
    LossScore,
    TracIn,
    ValidationRows,
)
from skinfluence.influence import DemographicParity
from tests._shared.problems import classifier, noisy_blobs

X, Y, _ = noisy_blobs(n=60)
X_VAL, Y_VAL, _ = noisy_blobs(n=60, seed=1, rate=0.0)
TRUSTED = ValidationRows(X_VAL, Y_VAL)
NET = classifier(max_epochs=3)


class Spying(KNNShapley):
    """Notes the validation rows that arrive."""

    seen = []  # noqa: RUF012 - shared by clones on purpose

    def _fit_scores(self, rows, validation):
        self.seen.append(len(validation.inputs))
        return super()._fit_scores(rows, validation)


def search_of(method):
    model = CleanedClassifier(LogisticRegression(), method)
    return GridSearchCV(model, {"contamination": [0.0, 0.1]}, cv=3, error_score="raise")


@pytest.mark.parametrize("routing", [True, False])
def test_a_search_hands_them_on_whole_and_cuts_plain_arrays(routing):
    with sklearn.config_context(enable_metadata_routing=routing):
        search = search_of(Spying())
        if routing:
            search.estimator.set_fit_request(X_val=True, y_val=True)
        Spying.seen.clear()
        search.fit(X, Y, X_val=TRUSTED)
        assert Spying.seen == [60] * 7
        Spying.seen.clear()
        search.fit(X, Y, X_val=X_VAL, y_val=Y_VAL)  # the trap, in scikit-learn as it is
        assert Spying.seen == [40] * 6 + [60]


@pytest.mark.usefixtures("brief_nets")
@pytest.mark.parametrize(
    "method", [InnerProductInfluence(random_state=0), TracIn(NET, reference="validation")]
)
def test_a_search_over_influence(method):
    search = search_of(method)
    with sklearn.config_context(enable_metadata_routing=True):
        search.estimator.set_fit_request(X_val=True)
        search.fit(X, Y, X_val=TRUSTED)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_score_ > 0.5


def test_scikit_learn_takes_them_for_one_value():
    passed = _check_method_params(X, {"X_val": TRUSTED, "cut": X_VAL}, indices=np.arange(5))
    assert passed["X_val"] is TRUSTED
    assert len(passed["cut"]) == 5
    for name in ("__len__", "shape", "__getitem__", "__iter__", "__array__"):
        assert not hasattr(TRUSTED, name)


@pytest.mark.usefixtures("brief_nets")
@pytest.mark.parametrize(
    "estimator",
    [
        TracIn(NET, reference="validation", random_state=0),
        InnerProductInfluence(random_state=0),
        KNNShapley(),
        DetrimentalityUnion(
            [("tracin", TracIn(NET, reference="validation")), ("loss", LossScore())],
            random_state=0,
        ),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_every_fit_takes_them(estimator):
    expected = clone(estimator).fit(X, Y, X_VAL, Y_VAL).detrimentality_
    found = clone(estimator).fit(X, Y, X_val=TRUSTED).detrimentality_
    np.testing.assert_array_equal(found, expected)
    columns = clone(estimator).fit_transform(X, Y, TRUSTED)
    np.testing.assert_array_equal(columns, clone(estimator).fit_transform(X, Y, X_VAL, Y_VAL))


def test_cleaners_take_them():
    cleaner = DetrimentalSampleCleaner(KNNShapley(), contamination=6)
    expected = clone(cleaner).fit_resample(X, Y, X_VAL, Y_VAL)[0]
    np.testing.assert_array_equal(cleaner.fit_resample(X, Y, X_val=TRUSTED)[0], expected)
    model = CleanedClassifier(LogisticRegression(), KNNShapley(), cv=2, random_state=0)
    losses = clone(model).fit(X, Y, X_VAL, Y_VAL).losses_
    assert model.fit(X, Y, X_val=TRUSTED).losses_ == losses


@pytest.mark.usefixtures("brief_nets")
def test_groups_to_compare_stay_with_their_rows():
    method = InnerProductInfluence(objective=DemographicParity(), random_state=0)
    groups = np.arange(60) % 2
    expected = clone(method).fit(X, Y > 0, X_VAL, Y_VAL > 0, groups).detrimentality_
    beside = ValidationRows(X_VAL, Y_VAL > 0)
    wrapped = ValidationRows(X_VAL, Y_VAL > 0, groups)
    for rows, given in ((beside, groups), (wrapped, None)):
        found = clone(method).fit(X, Y > 0, rows, sensitive_val=given).detrimentality_
        np.testing.assert_array_equal(found, expected)
    model = CleanedClassifier(LogisticRegression(), method, contamination=6).fit(
        X, Y > 0, X_val=wrapped
    )
    np.testing.assert_array_equal(model.removed_indices_, np.argsort(-expected, kind="stable")[:6])
    search = search_of(method).fit(X, Y > 0, X_val=wrapped)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_groups_come_once_and_only_where_they_are_compared():
    groups = np.arange(60) % 2
    wrapped = ValidationRows(X_VAL, Y_VAL > 0, groups)
    method = InnerProductInfluence(objective=DemographicParity(), random_state=0)
    with pytest.raises(ValueError, match="Got sensitive_val besides the groups in X_val"):
        method.fit(X, Y > 0, wrapped, sensitive_val=groups)
    with pytest.raises(ValueError, match="KNNShapley compares no groups"):
        KNNShapley().fit(X, Y > 0, wrapped)
    with pytest.raises(ValueError, match=r"ValidationLoss\(\) compares no groups"):
        InnerProductInfluence(random_state=0).fit(X, Y > 0, wrapped)
    with pytest.raises(ValueError, match="DetrimentalityUnion compares no groups"):
        DetrimentalityUnion([("fair", method)]).fit(X, Y > 0, wrapped)


def test_labels_come_once():
    for estimator in (KNNShapley(), CleanedClassifier(LogisticRegression(), KNNShapley())):
        with pytest.raises(ValueError, match="Got y_val besides X_val=<ValidationRows: 60 rows>"):
            estimator.fit(X, Y, X_val=TRUSTED, y_val=Y_VAL)
    with pytest.raises(ValueError, match=r"Got y_val=<ValidationRows.*go to X_val"):
        KNNShapley().fit(X, Y, X_VAL, TRUSTED)
    with pytest.raises(ValueError, match="does not use validation rows"):
        LossScore().fit(X, Y, TRUSTED)


def test_pickle_and_repr():
    again = pickle.loads(pickle.dumps(TRUSTED))
    np.testing.assert_array_equal(again.X, X_VAL)
    np.testing.assert_array_equal(again.y, Y_VAL)
    assert repr(again) == "<ValidationRows: 60 rows>"
    assert cross_val_score(
        CleanedClassifier(LogisticRegression(), KNNShapley(), contamination=3),
        X,
        Y,
        params={"X_val": again},
        n_jobs=2,
    ).shape == (5,)


def test_in_a_pipeline_they_pass_beside_the_steps_and_are_not_transformed():
    with sklearn.config_context(enable_metadata_routing=True):
        method = KNNShapley().set_fit_request(X_val=True, y_val=True)
        scaler = StandardScaler().fit(X)
        wrapped = ValidationRows(scaler.transform(X_VAL), Y_VAL)
        beside = make_pipeline(StandardScaler(), method).fit(X, Y, X_val=wrapped)
        through = make_pipeline(StandardScaler(), clone(method), transform_input=["X_val"])
        expected = through.fit(X, Y, X_val=X_VAL, y_val=Y_VAL)[-1].detrimentality_
        np.testing.assert_array_equal(beside[-1].detrimentality_, expected)
        with pytest.raises(TypeError, match="leave X_val out of transform_input"):
            through.fit(X, Y, X_val=TRUSTED)
