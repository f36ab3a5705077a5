"""Groups, such as the rows of a patient, which no fold may split."""

from typing import ClassVar

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    LeaveOneGroupOut,
    StratifiedGroupKFold,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinfluence import (
    BaseDetrimentality,
    CalibratedDetrimentality,
    CleanedClassifier,
    DetrimentalityUnion,
    DetrimentalSampleCleaner,
    InnerProductInfluence,
    LeaveOneOut,
    LossScore,
    OutlierGradientDetector,
    RandomScore,
    SelfConfidence,
    TracIn,
)
from skinfluence.metrics import make_detection_scorer
from skinfluence.rows._folds import folds_of
from tests._shared.problems import blobs, classifier, noisy_blobs

BRIEF = classifier(max_epochs=1)
CONFIDENCE = SelfConfidence(BRIEF, random_state=0)


def patients(n=60, size=4):
    """Rows that bear their number, and the patient of each."""
    X, y, is_noisy = noisy_blobs(n=n)
    X[:, 0] = np.arange(n)
    return X, y, is_noisy, np.array([f"patient {i:02}" for i in np.arange(n) // size])


class Spying(SelfConfidence):
    """Notes which rows its folds are fitted on, and which they judge."""

    fits: ClassVar = []
    asked: ClassVar = []

    def _prepare(self, rows, validation):
        self.fits.append(np.asarray(rows.inputs)[:, 0].astype(int))
        return super()._prepare(rows, validation)

    def _scores_of(self, rows):
        if not hasattr(self, "folds_"):
            self.asked.append(np.asarray(rows.inputs)[:, 0].astype(int))
        return super()._scores_of(rows)


@pytest.fixture
def splits():
    Spying.fits.clear()
    Spying.asked.clear()

    def check(groups, n_folds):
        assert len(Spying.fits) == len(Spying.asked) == n_folds
        for train, held in zip(Spying.fits, Spying.asked):
            assert not set(groups[train]) & set(groups[held])
        assert sorted(np.concatenate(Spying.asked)) == list(range(len(groups)))

    return check


@pytest.mark.parametrize(
    "cv", [3, GroupKFold(3), StratifiedGroupKFold(3)], ids=lambda cv: type(cv).__name__
)
def test_a_method_holds_out_whole_groups(splits, cv):
    X, y, _, groups = patients()
    method = Spying(BRIEF, cv=cv, random_state=0).fit(X, y, groups=groups)
    splits(groups, 3)
    again = clone(method).fit(X, y, groups=(np.arange(60) // 4).tolist())
    np.testing.assert_array_equal(again.detrimentality_, method.detrimentality_)
    transformed = clone(method).fit_transform(X, y, groups=groups)
    np.testing.assert_array_equal(transformed[:, 0], method.detrimentality_)


def test_numbers_have_folds_of_whole_groups_too(splits):
    X, _, _, groups = patients()
    method = OutlierGradientDetector(committee=["neighbors"], cv=3, random_state=0)
    method.fit(X, X[:, 1] * 1.5, groups=groups)
    assert len(method._fold_rows) == 3
    for train in method._fold_rows:
        assert not set(groups[train]) & set(groups[np.setdiff1d(np.arange(60), train)])


def test_folds_of_groups_keep_the_shares_of_classes():
    labels = np.repeat([0, 1], 60)
    groups = np.arange(120) % 60 // 3 + 100 * labels
    folds = folds_of(labels, cv=4, seed=0, groups=groups)
    assert all(np.bincount(labels[held]).tolist() == [15, 15] for _, held in folds)
    other = folds_of(labels, cv=4, seed=1, groups=groups)
    assert any(not np.array_equal(a[1], b[1]) for a, b in zip(folds, other))


def test_calibration_and_unions_and_cleaners_hand_groups_on(splits):
    X, y, _, groups = patients()
    CalibratedDetrimentality(Spying(BRIEF), cv=3, random_state=0).fit(X, y, groups=groups)
    splits(groups, 3)
    method = Spying(BRIEF, cv=GroupKFold(3), random_state=0)
    union = DetrimentalityUnion([("plain", LossScore(BRIEF)), ("grouped", method)])
    scaled = DetrimentalityUnion([("grouped", make_pipeline(StandardScaler(), method))])
    for owner in (
        union,
        DetrimentalSampleCleaner(method, contamination=3),
        CleanedClassifier(KNeighborsClassifier(), method, contamination=3),
    ):
        Spying.fits.clear()
        Spying.asked.clear()
        owner.fit(X, y, groups=groups)
        splits(groups, 3)
    scores = scaled.fit(X, y, groups=groups).scores_
    X = StandardScaler().fit_transform(X)
    expected = clone(method).fit(X, y, groups=groups).detrimentality_
    np.testing.assert_array_equal(scores[:, 0], expected)


def test_metadata_routing_brings_groups_through_pipelines_and_searches(splits):
    X, y, is_noisy, groups = patients()
    method = Spying(BRIEF, cv=GroupKFold(2), random_state=0)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = method.set_fit_request(groups=True)
        make_pipeline(StandardScaler(with_mean=False, with_std=False), routed).fit(
            X, y, groups=groups
        )
        splits(groups, 2)
        Spying.fits.clear()
        Spying.asked.clear()
        GridSearchCV(
            routed,
            {"batch_size": [64]},
            cv=GroupKFold(2),
            scoring=make_detection_scorer(),
            error_score="raise",
            refit=False,
        ).fit(X, y, groups=groups, is_noisy=is_noisy)
    assert len(Spying.fits) == 4  # two folds of the search, two of the method in each
    for train in Spying.fits:
        assert len(train) <= 16
        assert len(set(groups[train]) & set(groups[np.setdiff1d(np.arange(60), train)])) == 0


def test_group_splitters_without_groups_say_what_to_do():
    X, y, _, _ = patients()
    for cv in (GroupKFold(3), LeaveOneGroupOut()):
        with pytest.raises(ValueError, match=r"fit got no groups.*set_fit_request"):
            clone(CONFIDENCE).set_params(cv=cv).fit(X, y)
        with pytest.raises(ValueError, match="fit got no groups"):
            CalibratedDetrimentality(CONFIDENCE, cv=cv).fit(X, y)


@pytest.mark.parametrize(
    "method",
    [
        CONFIDENCE,
        RandomScore(),
        TracIn(BRIEF, reference="self"),
        InnerProductInfluence(BRIEF),
        LeaveOneOut(),
        DetrimentalityUnion([("loss", LossScore(BRIEF))]),
    ],
    ids=lambda method: type(method).__name__,
)
def test_groups_that_no_folds_would_keep_together_are_refused(method):
    X, y, _, groups = patients()
    with pytest.raises(ValueError, match=r"has no folds of cv\. Set cv=5"):
        clone(method).fit(X, y, groups=groups)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda groups: groups[:-1], r"groups of shape \(59,\) for 60 rows"),
        (lambda groups: groups[:, np.newaxis], r"groups of shape \(60, 1\) for 60 rows"),
        (lambda groups: np.arange(60) // 30, "cv=3 needs at least 3 groups, but there are 2"),
        (lambda groups: [None, *groups[1:]], r"groups holds NaN, NaT or None in 1 of 60 rows: 0\."),
        (lambda groups: np.where(np.arange(60) == 5, np.nan, 1.0), "None in 1 of 60 rows: 5"),
    ],
)
def test_bad_groups_are_named(change, message):
    X, y, _, groups = patients()
    with pytest.raises(ValueError, match=message):
        clone(CONFIDENCE).set_params(cv=3).fit(X, y, groups=change(groups))


def test_a_class_in_one_group_is_named():
    X, y = blobs(60)
    with pytest.raises(ValueError, match=r"no row of class 2.* in one group alone"):
        clone(CONFIDENCE).set_params(cv=3).fit(X, y, groups=np.where(y == 2, 99, np.arange(60)))


class OwnFit(SelfConfidence):
    def fit(self, X, y=None, X_val=None, y_val=None):
        return super().fit(X, y, X_val, y_val)


class OwnFitWithGroups(SelfConfidence):
    got: ClassVar = []

    def fit(self, X, y=None, X_val=None, y_val=None, *, groups=None):
        self.got.append(groups)
        return super().fit(X, y, X_val, y_val, groups=groups)


def test_a_fit_of_ones_own_gets_groups_where_it_has_folds():
    X, y, _, groups = patients()
    assert issubclass(OwnFit, BaseDetrimentality)
    assert OwnFit(BRIEF).fit_transform(X, y).shape == (60, 1)
    cleaner = DetrimentalSampleCleaner(OwnFit(BRIEF), contamination=3)
    assert len(cleaner.fit(X, y, groups=groups).removed_indices_) == 3
    DetrimentalSampleCleaner(OwnFitWithGroups(BRIEF, cv=3), contamination=3).fit(
        X, y, groups=groups
    )
    assert len(np.unique(OwnFitWithGroups.got[0])) == 15
