"""Which rows a cleaner takes, how many, in which containers, and what is trained on the rest."""

from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, LeaveOneGroupOut, TimeSeriesSplit
from sklearn.neighbors import KNeighborsClassifier
from skorch import NeuralNet, NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from skinfluence import (
    CleanedClassifier,
    CleanedRegressor,
    ComplexityGap,
    DataShapley,
    DetrimentalityUnion,
    DetrimentalSampleCleaner,
    LossScore,
    OutlierGradientDetector,
    RandomScore,
    SelfConfidence,
)
from skinfluence.cleaning._auto import SHARES, _same, fewest_within_one_error
from skinfluence.cleaning._clean_rows import Cleaned, trajectory_labels
from skinfluence.exceptions import AmountError
from skinfluence.nets._labels import Labels
from skinfluence.rows._worst_rows import places_in_class, worst_rows
from tests._shared.problems import SmallMlp, blobs, classifier, noisy_blobs, regressor

METHOD = SelfConfidence(classifier(max_epochs=12), checkpoints=4, random_state=0)


@given(
    st.lists(st.integers(0, 3), min_size=4, max_size=40),
    st.integers(0, 40),
    st.integers(1, 3),
    st.integers(0, 5),
)
def test_worst_rows_takes_the_worst_that_classes_can_spare(labels, amount, keep_minimum, seed):
    groups = np.unique(labels, return_inverse=True)[1]
    ranking = np.random.default_rng(seed).permutation(len(groups))
    expected, left = [], np.bincount(groups)
    for row in ranking:
        if len(expected) < amount and left[groups[row]] > keep_minimum:
            expected.append(row)
            left[groups[row]] -= 1
    if len(expected) < amount:
        with pytest.raises(AmountError, match="no class may be emptied"):
            worst_rows(ranking, groups, amount, keep_minimum=keep_minimum)
        return
    found = worst_rows(ranking, groups, amount, keep_minimum=keep_minimum)
    assert found.tolist() == expected


def test_worst_rows_per_class_takes_the_same_share_of_each():
    groups = np.repeat([0, 1], [10, 30])
    found = worst_rows(np.arange(40), groups, 0.2, per_class=True)
    assert found.tolist() == [0, 1, 10, 11, 12, 13, 14, 15]
    with pytest.raises(AmountError, match="9 of the 10 rows"):
        worst_rows(np.arange(40), groups, 9, per_class=True, keep_minimum=2)


def test_places_in_class_counts_the_rows_before():
    assert places_in_class(np.array([1, 0, 1, 1, 0])).tolist() == [0, 0, 1, 2, 1]


def test_one_standard_error_prefers_fewer():
    rng = np.random.default_rng(0)
    wrong = rng.random(400) < 0.3
    one_better = wrong.copy()
    one_better[np.flatnonzero(wrong)[0]] = False
    assert fewest_within_one_error(np.array([wrong, one_better], float)) == 0
    many_better = wrong & (rng.random(400) < 0.5)
    assert fewest_within_one_error(np.array([wrong, many_better], float)) == 1
    assert fewest_within_one_error(np.array([wrong, wrong], float)) == 0


def test_cleaner_says_which_rows_went():
    X, y, is_noisy = noisy_blobs(n=120)
    cleaner = DetrimentalSampleCleaner(METHOD, contamination=12)
    X_kept, y_kept = cleaner.fit_resample(X, y)
    np.testing.assert_array_equal(cleaner.removed_indices_, cleaner.method_.ranking_[:12])
    np.testing.assert_array_equal(X_kept, X[cleaner.sample_indices_])
    np.testing.assert_array_equal(y_kept, y[cleaner.sample_indices_])
    both = np.concatenate([cleaner.sample_indices_, cleaner.removed_indices_])
    np.testing.assert_array_equal(np.sort(both), np.arange(120))
    assert is_noisy[cleaner.removed_indices_].mean() > 0.8
    assert len(cleaner.relabelled_) == 0
    share = clone(cleaner).set_params(contamination=0.1).fit(X, y)
    np.testing.assert_array_equal(share.removed_indices_, cleaner.removed_indices_)


@pytest.mark.parametrize("contamination", ["auto", "disagreement"])
def test_amount_found_is_near_the_noise(contamination):
    X, y, is_noisy = noisy_blobs(n=180, rate=0.2)
    cleaner = DetrimentalSampleCleaner(
        METHOD, contamination=contamination, estimator=KNeighborsClassifier(1), random_state=0
    ).fit(X, y)
    assert 0.1 <= len(cleaner.removed_indices_) / len(X) <= 0.3
    assert is_noisy[cleaner.removed_indices_].mean() > 0.6


def test_auto_takes_nothing_from_clean_rows_and_counts_its_trainings():
    X, y, _ = noisy_blobs(n=120, rate=0.0)
    cleaner = DetrimentalSampleCleaner(
        METHOD, estimator=KNeighborsClassifier(1), cv=2, random_state=0
    ).fit(X, y)
    assert len(cleaner.removed_indices_) == 0
    assert cleaner.contamination_ == 0
    assert cleaner.n_trainings_ == 1 + 2 * (1 + 7)  # of 60 rows, 1 % and 2 % are one row
    assert list(cleaner.losses_) == list(SHARES)


def test_auto_trains_the_method_net_by_default():
    X, y, _ = noisy_blobs(n=60, rate=0.2)
    cleaner = DetrimentalSampleCleaner(METHOD, cv=2, random_state=0)
    again = clone(cleaner)
    kept = cleaner.fit_resample(pd.DataFrame(X), y)[0]
    assert isinstance(kept, pd.DataFrame)
    np.testing.assert_array_equal(again.fit(X, y).sample_indices_, cleaner.sample_indices_)


@pytest.mark.parametrize("amount", [{}, {"contamination": 3, "action": "relabel"}])
def test_a_frozen_net_is_not_trained_in_place_of_an_estimator(amount):
    X, y, _ = noisy_blobs()
    method = LossScore(FrozenEstimator(classifier(max_epochs=2).fit(X, y.astype(np.int64))))
    with pytest.raises(ValueError, match="Give an unfitted model as estimator"):
        DetrimentalSampleCleaner(method, **amount).fit(X, y)


@pytest.mark.parametrize("splitter", [TimeSeriesSplit(2), "groups"])
def test_auto_takes_splitters(splitter):
    X, y, _ = noisy_blobs(n=90)
    if splitter == "groups":
        splitter = list(GroupKFold(2).split(X, y, np.arange(90) // 9))
    model = CleanedClassifier(LogisticRegression(), METHOD, cv=splitter, random_state=0)
    assert set(model.fit(X, y).losses_) <= set(SHARES)


class Spying(ClassifierMixin, BaseEstimator):
    """Says always the same, and notes which rows it was trained on and asked for."""

    fits: ClassVar = []
    asked: ClassVar = []

    def fit(self, X, y):
        self.fits.append(np.asarray(X)[:, 0].astype(int))
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        self.asked.append(np.asarray(X)[:, 0].astype(int))
        return np.full(len(X), self.classes_[0])


def auto_splits(**fit_params):
    """Which rows "auto" trained on and held out, for rows that bear their number."""
    cv = fit_params.pop("cv", 3)
    X, y, _ = noisy_blobs(n=60)
    X[:, 0] = np.arange(60)
    Spying.fits.clear()
    Spying.asked.clear()
    model = CleanedClassifier(Spying(), RandomScore(), cv=cv, random_state=0)
    model.fit(X, y, **fit_params)
    return list(zip(Spying.fits, Spying.asked)), model


@pytest.mark.parametrize("n_classes", ["enough", "too few rows of one"])
def test_groups_stay_together_in_the_folds_of_auto(n_classes):
    groups = np.array([f"patient {i}" for i in np.arange(60) // 4])
    X, y, _ = noisy_blobs(n=60)
    if n_classes != "enough":
        y[0] = 7
    X[:, 0] = np.arange(60)
    for fit in (
        lambda: CleanedClassifier(Spying(), RandomScore(), random_state=0).fit(X, y, groups=groups),
        lambda: DetrimentalSampleCleaner(
            RandomScore(), estimator=Spying(), random_state=0
        ).fit_resample(X, y, groups=groups.tolist()),
    ):
        Spying.fits.clear()
        Spying.asked.clear()
        fit()
        assert len(Spying.asked) >= 3
        for train, held in zip(Spying.fits, Spying.asked):
            assert not set(groups[train]) & set(groups[held])
        assert {*np.concatenate(Spying.asked).tolist()} == set(range(60))
    pairs, _ = auto_splits()
    assert any(set(groups[train]) & set(groups[held]) for train, held in pairs)


def test_groups_reach_a_splitter_and_others_are_refused():
    groups = np.arange(60) // 20
    pairs, _ = auto_splits(cv=LeaveOneGroupOut(), groups=groups)
    assert {len(set(groups[held])) for _, held in pairs} == {1}
    with pytest.raises(ValueError, match="cv=4 needs at least 4 groups, but there are 3"):
        auto_splits(cv=4, groups=groups)
    with pytest.raises(ValueError, match=r"groups of shape \(59,\) for 60 rows"):
        auto_splits(groups=groups[:-1])


def test_folds_in_time_hold_out_later_rows_only():
    pairs, model = auto_splits(cv=TimeSeriesSplit(3))
    assert all(train.max() < held.min() for train, held in pairs)
    assert sorted({held.min() for _, held in pairs}) == [15, 30, 45]
    assert set(model.losses_) == set(SHARES)


def test_a_search_routes_groups_to_its_splitter_and_to_the_cleaner():
    groups = np.arange(60) // 4
    X, y, _ = noisy_blobs(n=60)
    X[:, 0] = np.arange(60)
    Spying.fits.clear()
    Spying.asked.clear()
    with sklearn.config_context(enable_metadata_routing=True):
        model = CleanedClassifier(Spying(), RandomScore(), cv=2, random_state=0)
        search = GridSearchCV(
            model.set_fit_request(groups=True),
            {"keep_minimum": [1, 2]},
            cv=GroupKFold(2),
            error_score="raise",
            refit=False,
        ).fit(X, y, groups=groups)
    assert search.n_splits_ == 2
    assert len(Spying.asked) > 8
    halves = [train for train in Spying.fits if len(train) <= 16]  # of the cleaner's own folds
    assert halves
    for train in Spying.fits:
        outer = next(test for test in Spying.asked if not set(test) & set(train))
        assert not set(groups[train]) & set(groups[outer])


def test_containers_come_back_as_they_were():
    X, y, _ = noisy_blobs(n=60)
    names = np.array(["a", "b", "c"])[y]
    frame = pd.DataFrame(X, columns=list("pqrs"), index=np.arange(60) + 100)
    series = pd.Series(names, index=frame.index, name="label", dtype="category")
    cleaner = DetrimentalSampleCleaner(METHOD, contamination=6)
    X_kept, y_kept = cleaner.fit_resample(frame, series)
    pd.testing.assert_frame_equal(X_kept, frame.iloc[cleaner.sample_indices_])
    pd.testing.assert_series_equal(y_kept, series.iloc[cleaner.sample_indices_])
    assert list(cleaner.feature_names_in_) == list("pqrs")
    X_list, y_list = clone(cleaner).fit_resample(X.tolist(), names.tolist())
    assert isinstance(X_list, list)
    assert y_list == y_kept.tolist()


@pytest.mark.parametrize("container", [np.asarray, pd.Series, list])
def test_relabelled_rows_get_the_predicted_label(container):
    X, y, is_noisy = noisy_blobs(n=120)
    names = np.array(["a", "b", "c"])
    clean = names[np.arange(120) % 3]
    given = container(names[y].tolist())
    cleaner = DetrimentalSampleCleaner(METHOD, contamination="disagreement", action="relabel")
    X_kept, y_new = cleaner.fit_resample(X, given)
    assert type(y_new) is type(given)
    assert len(X_kept) == 120
    assert len(cleaner.removed_indices_) == 0
    changed = np.asarray(y_new) != names[y]
    np.testing.assert_array_equal(np.flatnonzero(changed), cleaner.relabelled_)
    assert (np.asarray(y_new) == clean).mean() > 0.97
    assert is_noisy[cleaner.relabelled_].mean() > 0.9
    np.testing.assert_array_equal(np.asarray(given), names[y])  # the user's own stay


def test_no_class_is_emptied():
    X, y, _ = noisy_blobs(n=60)
    y = np.where(y == 2, 1, y)
    y[[5, 20]] = 2  # two lone rows among others' blobs: the worst of all
    cleaner = DetrimentalSampleCleaner(METHOD, contamination=20).fit(X, y)
    assert set(y[cleaner.sample_indices_]) == {0, 1, 2}
    assert len(cleaner.removed_indices_) == 20
    kept = clone(cleaner).set_params(contamination="disagreement", keep_minimum=2).fit(X, y)
    assert (y[kept.sample_indices_] == 2).sum() == 2
    with pytest.raises(ValueError, match="no class may be emptied"):
        clone(cleaner).set_params(contamination=58).fit(X, y)
    with pytest.raises(ValueError, match="rows of class 2, but"):
        clone(cleaner).set_params(contamination=0.9, per_class=True).fit(X, y)


@pytest.mark.parametrize("contamination", [-0.1, 1.0, -1, True, "half", None, np.nan])
def test_contamination_is_checked(contamination):
    X, y, _ = noisy_blobs(n=30)
    with pytest.raises(ValueError, match=f"contamination={contamination!r}"):
        DetrimentalSampleCleaner(METHOD, contamination=contamination).fit(X, y)


def test_other_parameters_are_checked():
    X, y, _ = noisy_blobs(n=30)
    with pytest.raises(ValueError, match="action='drop'"):
        DetrimentalSampleCleaner(METHOD, action="drop").fit(X, y)
    with pytest.raises(ValueError, match="keep_minimum=0"):
        DetrimentalSampleCleaner(METHOD, keep_minimum=0).fit(X, y)
    with pytest.raises(TypeError, match="one of this package's methods"):
        DetrimentalSampleCleaner(KNeighborsClassifier()).fit(X, y)


def test_disagreement_is_asked_only_of_methods_that_predict():
    X, y, _ = noisy_blobs(n=30)
    with pytest.raises(ValueError, match="no single trained classifier"):
        DetrimentalSampleCleaner(ComplexityGap(), contamination="disagreement").fit(X, y)
    method = LossScore(classifier(max_epochs=2), random_state=0)
    with pytest.raises(ValueError, match="records no checkpoints"):
        DetrimentalSampleCleaner(method, contamination="disagreement").fit(X, y)


def test_new_labels_are_those_of_a_model_that_never_saw_the_old():
    X, y, is_noisy = noisy_blobs(n=120, rate=0.2)
    names = np.array(["a", "b", "c"])[y]
    by_heart = KNeighborsClassifier(1)  # repeats the label of every row it was trained on
    amount = {"contamination": 30, "action": "relabel"}
    cleaner = DetrimentalSampleCleaner(ComplexityGap(), estimator=by_heart, **amount)
    _, y_new = cleaner.fit_resample(X, names)
    worst = cleaner.method_.ranking_[:30]
    others = np.setdiff1d(np.arange(120), worst)
    expected = names.copy()
    expected[worst] = clone(by_heart).fit(X[others], names[others]).predict(X[worst])
    np.testing.assert_array_equal(y_new, expected)
    assert (expected != names)[is_noisy].mean() > 0.8
    assert cleaner.n_trainings_ == 2
    model = CleanedClassifier(by_heart, ComplexityGap(), **amount).fit(X, names)
    np.testing.assert_array_equal(model.predict(X), expected)
    np.testing.assert_array_equal(model.relabelled_, cleaner.relabelled_)


def test_relabelling_none_trains_nothing_more():
    X, y, _ = noisy_blobs(n=30)
    cleaner = DetrimentalSampleCleaner(METHOD, contamination=0, action="relabel").fit(X, y)
    assert len(cleaner.relabelled_) == 0
    assert cleaner.n_trainings_ == 1


def test_auto_with_relabelling_counts_its_trainings():
    X, y, is_noisy = noisy_blobs(n=120, rate=0.2)
    cleaner = DetrimentalSampleCleaner(
        METHOD, action="relabel", estimator=KNeighborsClassifier(1), cv=2, random_state=0
    ).fit(X, y)
    assert cleaner.n_trainings_ <= 1 + 2 * (1 + 8 + 7) + 1
    assert is_noisy[cleaner.relabelled_].mean() > 0.8
    assert len(cleaner.relabelled_) > 8


def test_classifier_is_the_estimator_on_the_rows_kept():
    X, y, _ = noisy_blobs(n=90)
    frame, names = pd.DataFrame(X, columns=list("pqrs")), np.array(["a", "b", "c"])[y]
    model = CleanedClassifier(LogisticRegression(), METHOD, contamination=9).fit(frame, names)
    rows = model.sample_indices_
    expected = LogisticRegression().fit(frame.iloc[rows], names[rows])
    np.testing.assert_array_equal(model.predict_proba(frame), expected.predict_proba(frame))
    np.testing.assert_array_equal(model.decision_function(frame), expected.decision_function(frame))
    assert list(model.classes_) == ["a", "b", "c"]
    assert model.score(frame, names) == expected.score(frame, names)
    assert not hasattr(CleanedClassifier(KNeighborsClassifier(), METHOD), "decision_function")


def test_weights_are_cut_to_the_rows_kept():
    X, y, _ = noisy_blobs(n=90)
    weights = np.linspace(0.1, 2, 90)
    model = CleanedClassifier(LogisticRegression(), METHOD, contamination=9)
    model.fit(X, y, sample_weight=weights)
    rows = model.sample_indices_
    expected = LogisticRegression().fit(X[rows], y[rows], sample_weight=weights[rows])
    np.testing.assert_array_equal(model.predict_proba(X), expected.predict_proba(X))
    with sklearn.config_context(enable_metadata_routing=True):
        asked = LogisticRegression().set_fit_request(sample_weight=True)
        routed = CleanedClassifier(asked, METHOD, contamination=9).fit(X, y, sample_weight=weights)
        np.testing.assert_array_equal(routed.predict_proba(X), expected.predict_proba(X))
        with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError):
            clone(model).fit(X, y, sample_weight=weights)


def test_trusted_rows_reach_the_method():
    X, y, _ = noisy_blobs(n=90)
    X_val, y_val, _ = noisy_blobs(n=30, seed=3, rate=0.0)
    method = OutlierGradientDetector(
        classifier(max_epochs=5), semi_supervised=True, checkpoints=2, random_state=0
    )
    model = CleanedClassifier(LogisticRegression(), method, contamination=9)
    model.fit(X, y, X_val=X_val, y_val=y_val)
    expected = clone(method).fit(X, y, X_val=X_val, y_val=y_val)
    np.testing.assert_array_equal(model.method_.detrimentality_, expected.detrimentality_)


def test_skorch_net_may_be_the_estimator():
    X, y, _ = noisy_blobs(n=60)
    model = CleanedClassifier(
        classifier(SmallMlp, max_epochs=5), METHOD, contamination=6, random_state=0
    )
    first = model.fit(X, y.astype(np.int64)).predict_proba(X)
    np.testing.assert_array_equal(clone(model).fit(X, y.astype(np.int64)).predict_proba(X), first)


def test_regressor_drops_corrupted_targets():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 3)).astype(np.float32)
    y = X @ [1.0, 2.0, -1.0] + 0.05 * rng.normal(size=90)
    y[::15] += 8
    method = LossScore(random_state=0)
    model = CleanedRegressor(LinearRegression(), method, cv=2, random_state=0).fit(X, y)
    assert len(set(range(0, 90, 15)) & set(model.removed_indices_.tolist())) >= 5
    errors = [
        np.abs(fit.predict(X) - X @ [1.0, 2.0, -1.0]).mean()
        for fit in (model, LinearRegression().fit(X, y))
    ]
    assert errors[0] < errors[1] / 2
    with pytest.raises(ValueError, match="action='relabel' gives rows the class"):
        clone(model).set_params(action="relabel", contamination=3).fit(X, y)


@pytest.mark.parametrize("targets", ["integers", "few whole floats"])
def test_a_regressor_takes_whole_numbers_as_numbers(targets):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 3)).astype(np.float32)
    y = np.round(5 * X[:, 0] + 8)
    y[::15] += 20
    y = y.astype(int) if targets == "integers" else np.where(y < 20, np.clip(y, 3, 13), 28.0)
    method = LossScore(random_state=0)
    model = CleanedRegressor(LinearRegression(), method, cv=2, random_state=0).fit(X, y)
    assert isinstance(model.method_.net_, NeuralNetRegressor)
    assert not hasattr(model.method_, "classes_")
    assert model.losses_[0.0] > 1  # an absolute error, not a share of wrong predictions
    assert len(set(range(0, 90, 15)) & set(model.removed_indices_.tolist())) >= 2
    few = clone(model).set_params(contamination=6, method=ComplexityGap()).fit(X, y)
    assert not hasattr(few.method_, "classes_")


def test_a_classifier_takes_many_whole_floats_as_classes():
    y = np.repeat(np.arange(26.0), 10)
    X = (np.eye(26)[y.astype(int)] + 0.1).astype(np.float32)
    model = CleanedClassifier(
        KNeighborsClassifier(1), LossScore(random_state=0), cv=2, random_state=0
    ).fit(X, y)
    assert isinstance(model.method_.net_, NeuralNetClassifier)
    assert model.losses_[0.0] == 0
    kept = clone(model).set_params(contamination=60, method=ComplexityGap()).fit(X, y)
    assert len(kept.classes_) == 26


WITHOUT_CLASSES = {
    "plain net": LossScore(
        NeuralNet(
            SmallMlp, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, max_epochs=3
        ),
        random_state=0,
    ),
    "random": RandomScore(random_state=0),
    "union": DetrimentalityUnion(
        [("loss", LossScore()), ("random", RandomScore())],
        classifier(max_epochs=3),
        random_state=0,
    ),
}


@pytest.mark.parametrize("method", WITHOUT_CLASSES.values(), ids=WITHOUT_CLASSES)
def test_methods_that_know_no_classes_empty_none_either(method):
    X, y, _ = noisy_blobs(n=60)
    y = np.where(y == 2, 1, y)
    y[30] = 2
    estimator = KNeighborsClassifier(1)
    cleaner = DetrimentalSampleCleaner(method, contamination=57, estimator=estimator)
    assert set(y[cleaner.fit(X, y).sample_indices_]) == {0, 1, 2}
    model = CleanedClassifier(estimator, method, contamination=57).fit(X, y)
    assert len(model.classes_) == 3
    relabel = {"action": "relabel", "contamination": 10}
    assert len(clone(model).set_params(**relabel).fit(X, y).relabelled_) > 0
    for auto in (clone(cleaner), clone(model)):
        losses = auto.set_params(contamination="auto", cv=2, random_state=0).fit(X, y).losses_
        assert all(0 <= loss <= 1 for loss in losses.values())
    if not isinstance(method, LossScore):  # a plain net does not encode labels
        names = np.array(["a", "b", "c"])[y]
        CleanedClassifier(estimator, method, cv=2, random_state=0).fit(X, names)


def test_outputs_that_no_label_belongs_to_are_never_predicted():
    X, y = blobs(n=60)
    names = np.array(["a", "b", "c"])[y]

    class Biased(SmallMlp):  # prefers an output that no label belongs to
        def forward(self, X):
            preference = torch.tensor([0.0, 0.0, 0.0, 0.0, 20.0])
            return super().forward(X) + (preference if not self.training else 0)

    net = classifier(Biased, module__n_outputs=5)
    method = LossScore(net, checkpoints=3, random_state=0).fit(X, names)
    assert (trajectory_labels(method, X) == names).mean() > 0.9
    assert (method._trained.predict(X) == names).mean() > 0.9
    cleaner = DetrimentalSampleCleaner(clone(method), cv=2, random_state=0).fit(X, names)
    assert cleaner.losses_[0.0] < 0.2
    values = DataShapley(net.set_params(max_epochs=2), max_permutations=1, random_state=0)
    assert len(values.fit(X[:9], names[:9]).ranking_) == 9


def test_a_code_that_is_no_class_has_no_label():
    labels = Labels(np.array(["x", "y"]), np.array([2, 0]))
    assert labels.decode(np.array([[0], [2]])).tolist() == ["y", "x"]
    with pytest.raises(ValueError, match=r"predicts the classes \[1, 3\].*are \[2, 0\] to it"):
        labels.decode(np.array([0, 1, 3]))


def test_auto_scales_keep_minimum_to_the_parts():
    X, y, _ = noisy_blobs(n=60)  # 20 rows of each class, 10 in each part
    model = CleanedClassifier(
        KNeighborsClassifier(1), METHOD, keep_minimum=11, cv=2, random_state=0
    ).fit(X, y)
    assert list(model.losses_) == list(SHARES)  # 24 of 60 may go, 12 of 30
    kept = clone(model).set_params(keep_minimum=18).fit(X, y)  # 6 of 60, 3 of 30
    assert list(kept.losses_) == [share for share in SHARES if share <= 0.1]
    with pytest.raises(AmountError, match=r"keep_minimum=40.*none can go. Lower keep_minimum"):
        clone(model).set_params(keep_minimum=40).fit(X, y)
    twins = np.repeat(np.arange(6), 2)
    with pytest.raises(AmountError, match=r"In fold 0 of cv, of 6 training rows, none can go"):
        clone(model).set_params(keep_minimum=1, method=RandomScore()).fit(X[:12], twins)


def test_shares_are_the_same_only_if_the_same_rows_get_the_same_labels():
    first = Cleaned(np.arange(4), np.arange(0), np.array([1, 2]), np.array([0, 1, 1, 0]))
    assert _same(first, first)
    assert not _same(first, first._replace(relabelled=np.array([1, 3])))
    assert not _same(first, first._replace(y=np.array([0, 1, 2, 0])))
    assert not _same(first, first._replace(kept=np.arange(3)))


def test_a_fold_of_one_class_is_named():
    X, y, _ = noisy_blobs(n=60)
    names = np.full(60, "b")
    names[7] = "a"
    model = CleanedClassifier(KNeighborsClassifier(1), METHOD, random_state=0)
    with pytest.raises(ValueError, match=r"trains on rows of class 'b' only: class 'a' has 1 of"):
        clone(model).fit(X, names)
    with pytest.raises(ValueError, match=r"Fold 0 of cv trains on rows of class 0 only: class 1"):
        clone(model).set_params(cv=TimeSeriesSplit(3)).fit(X, np.sort(y))


@pytest.mark.parametrize(
    ("cv", "message"),
    [
        ([(np.arange(60) < 30, np.arange(60) >= 30)], "turn a mask into numbers"),
        ([(np.arange(1, 60), [0])], "hold out 1 row in all"),
        ([(np.arange(60), np.arange(60))], "and trains on it, too"),
        (None, "Got cv=None, but contamination='auto'"),
        ("a", "Got cv='a'|Expected `cv`"),
    ],
)
def test_folds_of_auto_are_checked(cv, message):
    X, y, _ = noisy_blobs(n=60)
    with pytest.raises(ValueError, match=message):
        CleanedClassifier(KNeighborsClassifier(1), METHOD, cv=cv, random_state=0).fit(X, y)


def test_the_final_training_counts():
    X, y, _ = noisy_blobs(n=30)
    model = CleanedClassifier(KNeighborsClassifier(1), RandomScore(), contamination=3)
    assert model.fit(X, y).n_trainings_ == 2


def test_a_frozen_estimator_is_refused_by_name():
    X, y, _ = noisy_blobs(n=30)
    frozen = FrozenEstimator(KNeighborsClassifier(1).fit(X, y))
    with pytest.raises(ValueError, match=r"frozen estimator FrozenEstimator.*rows kept"):
        CleanedClassifier(frozen, RandomScore(), contamination=3).fit(X, y)
    with pytest.raises(ValueError, match=r"frozen estimator FrozenEstimator.*rows kept"):
        DetrimentalSampleCleaner(RandomScore(), estimator=frozen).fit(X, y)


class Weighted(LogisticRegression):
    """Notes what it was fitted with."""

    def fit(self, X, y, sample_weight=None, scale=None):
        self.weights_, self.scale_ = sample_weight, scale
        return super().fit(X, y, sample_weight)


def test_fit_parameters_may_be_scalars_and_tuples():
    X, y, _ = noisy_blobs(n=60)
    weights = tuple(np.linspace(0.1, 2, 60).tolist())
    model = CleanedClassifier(Weighted(), RandomScore(), contamination=9)
    model.fit(X, y, sample_weight=weights, scale=np.int64(2))
    assert model.estimator_.weights_ == tuple(weights[i] for i in model.sample_indices_)
    assert model.estimator_.scale_ == 2


@pytest.mark.filterwarnings("ignore:A column-vector y")
@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("container", ["list", "tensor"])
def test_relabelled_columns_and_tensors_keep_their_container(container, column):
    X, y, _ = noisy_blobs(n=60)
    given = y[:, np.newaxis] if column else y
    given = given.tolist() if container == "list" else torch.tensor(given)
    cleaner = DetrimentalSampleCleaner(
        ComplexityGap(), contamination=9, action="relabel", estimator=KNeighborsClassifier(1)
    )
    new = cleaner.fit_resample(X, given)[1]
    assert type(new) is type(given)
    assert np.shape(new) == np.shape(given)
    changed = np.flatnonzero(np.asarray(new).reshape(-1) != y)
    np.testing.assert_array_equal(changed, cleaner.relabelled_)
    assert len(changed) > 0
    np.testing.assert_array_equal(np.asarray(given).reshape(-1), y)


def test_errors_name_the_class_and_the_union():
    X, y, _ = noisy_blobs(n=60)
    names = np.array(["ant", "bee", "cat"])[y]
    cleaner = DetrimentalSampleCleaner(RandomScore(), contamination=0.99, per_class=True)
    with pytest.raises(AmountError, match="rows of class 'ant', but"):
        cleaner.fit(X, names)
    union = clone(WITHOUT_CLASSES["union"])
    with pytest.raises(ValueError, match=r"DetrimentalityUnion has 2 methods. Pass one of them"):
        DetrimentalSampleCleaner(union, contamination="disagreement").fit(X, names)


def test_a_union_has_the_classes_of_its_methods():
    X, y, _ = noisy_blobs(n=30)
    names = np.array(["a", "b", "c"])[y]
    union = clone(WITHOUT_CLASSES["union"]).fit(X, names)
    assert union.classes_.tolist() == ["a", "b", "c"]


def test_a_regressor_within_the_method_makes_targets_numbers():
    X = np.random.default_rng(0).normal(size=(40, 2))
    y = np.arange(40)  # as classes, each would have to stay
    method = DataShapley(LinearRegression(), max_permutations=1, random_state=0)
    cleaner = DetrimentalSampleCleaner(method, contamination=5).fit(X, y)
    assert len(cleaner.removed_indices_) == 5


def test_a_method_for_the_other_kind_of_targets_is_refused():
    X, y, _ = noisy_blobs(n=30)
    with pytest.raises(ValueError, match=r"targets that are classes.*net=NeuralNetRegressor"):
        CleanedClassifier(LogisticRegression(), LossScore(regressor())).fit(X, y)
    union = DetrimentalityUnion([("one", DataShapley(LogisticRegression()))])
    with pytest.raises(ValueError, match=r"one__estimator=LogisticRegression.*CleanedClassifier"):
        CleanedRegressor(LinearRegression(), union).fit(X, y)
    with pytest.raises(ValueError, match="numbers with a fraction"):
        CleanedClassifier(LogisticRegression(), LossScore()).fit(X, y + 0.5)


def test_a_method_without_a_seed_gets_the_cleaners():
    X, y, _ = noisy_blobs(n=30)
    model = CleanedClassifier(LogisticRegression(), RandomScore(), contamination=5, random_state=1)
    first = model.fit(X, y).removed_indices_
    np.testing.assert_array_equal(clone(model).fit(X, y).removed_indices_, first)


def test_cleaner_in_an_imbalanced_learn_pipeline():
    over_sampling = pytest.importorskip("imblearn.over_sampling")
    imblearn_pipeline = pytest.importorskip("imblearn.pipeline")
    X, y, _ = noisy_blobs(n=120)
    keep = np.flatnonzero((y != 2) | (np.arange(120) < 40))
    pipeline = imblearn_pipeline.make_pipeline(
        DetrimentalSampleCleaner(METHOD, contamination=8),
        over_sampling.RandomOverSampler(random_state=0),
        LogisticRegression(),
    ).fit(X[keep], y[keep])
    assert len(pipeline[0].removed_indices_) == 8
    assert pipeline.predict(X).shape == (120,)
