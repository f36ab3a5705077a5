"""The table of answers: whose predictions they are, the user's labels, index and containers."""

import sys

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn.datasets import load_diabetes, load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinfluence import (
    CalibratedDetrimentality,
    DetrimentalityUnion,
    InnerProductInfluence,
    KNNShapley,
    LossScore,
    OutlierGradientDetector,
    RandomScore,
    SelfConfidence,
)
from skinfluence.datasets import make_noisy_labels
from skinfluence.display import issues_frame
from skinfluence.exceptions import UnknownErrorsWarning
from skinfluence.rows._folds import folds_of
from tests._shared.problems import classifier, fitted_classifier, noisy_blobs, regressor

X, Y, IS_NOISY = noisy_blobs(n=120)
NAMES = np.array(["ant", "bee", "cat"])
WORDS = NAMES[Y]
LOGISTIC = [("logistic", LogisticRegression())]


def brief(**settings):
    return OutlierGradientDetector(committee=["kernels"], random_state=0, **settings)


@pytest.fixture(scope="module")
def fitted():
    return brief().fit(X, WORDS)


def test_a_data_frame_comes_out_with_the_index_that_went_in(fitted):
    index = [f"row {i}" for i in range(120)]
    table = pd.DataFrame(X, index=index, columns=list("abcd"))
    words = pd.Series(WORDS, index=index)
    frame = issues_frame(brief().fit(table, words), table, words)
    assert frame.index.tolist() == index
    assert issues_frame(fitted, X, words).index.tolist() == index
    assert issues_frame(fitted, X.tolist(), WORDS.tolist()).index.tolist() == list(range(120))
    assert frame.columns.tolist() == [
        "detrimentality",
        "given_label",
        "predicted_label",
        "confidence",
        "suggested_label",
        "flag",
    ]


def test_labels_are_the_users(fitted):
    frame = issues_frame(fitted, X, WORDS, budget=int(IS_NOISY.sum()))
    np.testing.assert_array_equal(frame.given_label, WORDS)
    assert set(frame.predicted_label) <= set(NAMES)
    truth = NAMES[np.arange(120) % 3]
    assert (frame.predicted_label == truth)[IS_NOISY].mean() > 0.8
    assert (frame.suggested_label == truth).mean() > (frame.given_label == truth).mean()
    np.testing.assert_array_equal(frame.suggested_label[~frame.flag], WORDS[~frame.flag])
    numbers = issues_frame(brief().fit(X, Y + 5), X, Y + 5)
    for name in ("given_label", "predicted_label", "suggested_label"):
        assert numbers[name].dtype == np.int64
        assert set(numbers[name]) <= {5, 6, 7}


def test_predictions_are_those_of_models_that_did_not_see_the_row():
    method = OutlierGradientDetector(committee=LOGISTIC, random_state=0).fit(X, WORDS)
    codes = np.searchsorted(NAMES, WORDS)
    expected = np.empty((120, 3))
    seed = method._seeds[0]
    for train, held in folds_of(codes, cv=5, seed=seed):
        model = LogisticRegression(random_state=seed).fit(X[train], codes[train])
        expected[held] = model.predict_proba(X[held])
    # pooled with one weight, which makes probabilities sharper or flatter and keeps their order
    found = method.oof_probabilities_
    np.testing.assert_array_equal(found.argsort(1), expected.argsort(1))
    frame = issues_frame(method, X, WORDS)
    np.testing.assert_array_equal(frame.predicted_label, NAMES[expected.argmax(1)])
    np.testing.assert_allclose(frame.confidence, found.max(1))


@pytest.mark.parametrize(
    "method",
    [
        SelfConfidence(classifier(max_epochs=8), cv=3, random_state=0),
        InnerProductInfluence(classifier(max_epochs=8), random_state=0),
        CalibratedDetrimentality(LossScore(classifier(max_epochs=8)), cv=3, random_state=0),
    ],
    ids=lambda method: type(method).__name__,
)
def test_folds_keep_what_they_predict_of_rows_held_out(method):
    method.fit(X, WORDS)
    found = method.oof_probabilities_
    np.testing.assert_allclose(found.sum(1), 1)
    folds = method.folds_
    if hasattr(method, "_fold_rows"):
        trained_on = method._fold_rows
    else:
        trained_on = [train for train, _ in folds_of(WORDS, cv=3, seed=method._seeds[1])]
    for fold, train in zip(folds, trained_on, strict=True):
        held = np.setdiff1d(np.arange(120), train)
        expected = fold._trained.class_probabilities(X[held], getattr(fold, "trace_", None))
        np.testing.assert_allclose(found[held], expected, atol=1e-12)
    frame = issues_frame(method, X, WORDS, budget=0.1)
    np.testing.assert_array_equal(frame.predicted_label, NAMES[found.argmax(1)])
    assert frame.flag.sum() == 12


def test_calibrated_methods_add_p_values_and_their_own_flags():
    method = CalibratedDetrimentality(LossScore(classifier(max_epochs=8)), cv=2, random_state=0)
    frame = issues_frame(method.fit(X, WORDS), X, WORDS)
    np.testing.assert_array_equal(frame.p_value, method.p_values_)
    flagged = method.label_errors_.flagged(0.1, method.ranking_)
    np.testing.assert_array_equal(np.flatnonzero(frame.flag), np.sort(flagged))


def test_a_net_that_saw_the_labels_is_named_so():
    some, noisy = X[:30], np.random.default_rng(0).permutation(WORDS[:30])
    net = classifier(max_epochs=100, module__n_hidden=64, lr=0.03)
    method = SelfConfidence(net, random_state=0).fit(some, noisy)
    frame = issues_frame(method, some, noisy, budget=10)
    assert frame.columns.tolist() == [
        "detrimentality",
        "given_label",
        "in_sample_label",
        "in_sample_confidence",
        "flag",
    ]
    assert (frame.in_sample_label == noisy).mean() > 0.8  # which is why it is named so
    frozen = FrozenEstimator(fitted_classifier(X, Y))
    assert "in_sample_label" in issues_frame(LossScore(frozen).fit(X, Y), X, Y)


def test_what_predicts_nothing_leaves_the_columns_out():
    frame = issues_frame(RandomScore(random_state=0).fit(X, WORDS), X, WORDS)
    assert frame.columns.tolist() == ["detrimentality", "given_label"]
    assert "predicted_label" not in issues_frame(KNNShapley(random_state=0).fit(X, Y), X, Y)


def test_a_union_has_the_predictions_of_its_parts():
    parts = [("loss", LossScore(classifier(max_epochs=3))), ("committee", brief())]
    union = DetrimentalityUnion(parts, random_state=0).fit(X, WORDS)
    expected = union.methods_["committee"].oof_probabilities_
    np.testing.assert_array_equal(union.oof_probabilities_, expected)
    assert "predicted_label" in issues_frame(union, X, WORDS)
    apart = DetrimentalityUnion(parts, aggregate=None, random_state=0).fit(X, WORDS)
    with pytest.raises(ValueError, match="no one score a row"):
        issues_frame(apart, X, WORDS)


def test_images_are_not_judged_by_what_saw_them_in_part(brief_nets):
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    images = rng.normal(size=(60, 1, 6, 6)).astype(np.float32) + y[:, None, None, None]
    method = OutlierGradientDetector(committee=["perceptrons"], random_state=0).fit(images, y)
    committee = method.committee_
    np.testing.assert_array_equal(method.oof_probabilities_, committee.out_of_sample)
    assert not np.allclose(committee.judged, committee.out_of_sample)
    halves = committee._members[0].trained[:2]
    for trained in halves:  # a half's own rows are predicted by the other half's net
        own = trained.class_probabilities(images, trained.trace).argmax(1)
        assert (own != method.oof_probabilities_.argmax(1)).any()


def test_numbers_have_a_suggestion_and_a_residual():
    table, y = load_diabetes(return_X_y=True, as_frame=True)
    method = brief(contamination=0.05).fit(table, y)
    with pytest.warns(UnknownErrorsWarning, match="No row is flagged"):
        assert not issues_frame(method, table, y).flag.any()
    frame = issues_frame(method, table, y, budget=0.05)
    np.testing.assert_array_equal(frame.given_value, y)
    np.testing.assert_allclose(frame.residual, y - frame.predicted_value)
    np.testing.assert_array_equal(frame.predicted_value, method.oof_predictions_)
    expected = np.where(frame.flag, frame.predicted_value, y)
    np.testing.assert_array_equal(frame.suggested_value, expected)
    assert np.corrcoef(frame.predicted_value, y)[0, 1] > 0.6
    net = regressor(module__n_inputs=10, max_epochs=2)
    folded = LossScore(net, cv=2, random_state=0).fit(table, y)
    assert "predicted_value" in issues_frame(folded, table, y)
    once = LossScore(net, random_state=0).fit(table, y)
    assert {"in_sample_value", "in_sample_residual"} <= set(issues_frame(once, table, y))


def test_a_pipeline_is_asked_about_the_rows_that_it_got():
    data = load_iris(as_frame=True)
    words, _ = make_noisy_labels(data.target_names[data.target], rate=0.1, random_state=0)
    pipeline = make_pipeline(StandardScaler(), SelfConfidence(classifier(max_epochs=5)))
    pipeline.fit(data.data, words)
    frame = issues_frame(pipeline, data.data, words)
    alone = issues_frame(pipeline[-1], pipeline[0].transform(data.data), words)
    pd.testing.assert_frame_equal(frame, alone)


def test_sparse_rows_have_answers(brief_nets):
    table = csr_array(X.astype(np.float64))
    folded = SelfConfidence(cv=2, checkpoints=3, random_state=0).fit(table, WORDS)
    assert "predicted_label" in issues_frame(folded, table, WORDS)
    once = SelfConfidence(checkpoints=3, random_state=0).fit(table, WORDS)
    assert "in_sample_label" in issues_frame(once, table, WORDS)


def test_several_labels_a_row_are_refused_by_what_has_them():
    labels = np.stack([Y == 0, Y == 1], axis=1).astype(int)
    method = brief().fit(X, labels)
    assert method.oof_probabilities_.shape == (120, 2)
    with pytest.raises(ValueError, match="one label or number a row"):
        issues_frame(method, X, labels)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda m: issues_frame(m, X[:5], WORDS[:5]), ValueError, "fitted on 120"),
        (lambda m: issues_frame(m, X, np.full(120, "dog")), ValueError, "never trained on"),
        (lambda m: issues_frame(m, X, WORDS, budget=1.5), ValueError, "budget=1.5"),
        (lambda m: issues_frame(LogisticRegression(), X, WORDS), TypeError, "fitted method"),
        (lambda m: issues_frame(RandomScore(), X, WORDS), ValueError, "not fitted yet"),
    ],
)
def test_wrong_questions_are_refused(fitted, call, error, match):
    with pytest.raises(error, match=match):
        call(fitted)


def test_without_pandas_the_way_out_is_named(fitted, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install pandas or pip install 'skinfluence\[frame"):
        issues_frame(fitted, X, WORDS)
