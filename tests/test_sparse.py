"""Sparse tables: every method scores them as it scores the same rows dense, a batch at most."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import rbf_kernel
from torch import nn

from skinfluence import (
    AnnotatorConsensus,
    CalibratedDetrimentality,
    CleanedClassifier,
    CleanedRegressor,
    ComplexityGap,
    DataShapley,
    DetrimentalityUnion,
    DetrimentalSampleCleaner,
    InnerProductInfluence,
    KNNShapley,
    LeaveOneOut,
    LossScore,
    NormDetector,
    OutlierGradientDetector,
    SelfConfidence,
    SGDInfluence,
    TracIn,
)
from skinfluence.datasets import make_noisy_labels
from skinfluence.exceptions import ValidationOverlapWarning
from skinfluence.gradients import _skorch
from skinfluence.nets import default_net
from skinfluence.rows._containers import check_inputs
from skinfluence.rows._words import holds_words, rows_of_length_one
from skinfluence.storage._fingerprint import fingerprint
from skinfluence.trace._training_trace import fingerprint_of
from tests._shared.instances import SMALLEST
from tests._shared.problems import classifier


class FirstColumns(nn.Module):
    """A linear classifier on the first five columns."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 2)

    def forward(self, X):
        return self.layer(X[:, :5])


NET = classifier(FirstColumns, max_epochs=2)
KINDS = [
    getattr(sparse, f"{layout}_{kind}")
    for layout in ("csr", "csc", "coo", "dok", "lil", "bsr", "dia")
    for kind in ("array", "matrix")
]
WORDS, NUMBERS = "words", "numbers"


def table(kind, n=60, n_words=300):
    """Rows of two classes with zeros in them, of words or of numbers; dense."""
    generator = np.random.default_rng(0)
    y = np.arange(n) % 2
    if kind == NUMBERS:
        X = generator.normal(size=(n, 5)) + y[:, np.newaxis]
        return np.where(generator.random(X.shape) < 0.5, X, 0), y
    X = np.where(generator.random((n, n_words)) < 0.02, generator.random((n, n_words)), 0)
    X[:, :6] += (generator.random((n, 6)) < 0.3) * y[:, np.newaxis]
    return X, y


METHODS = [
    method
    for cls, method in SMALLEST.items()
    if cls not in {AnnotatorConsensus, NormDetector} and not hasattr(method, "method")
]
OTHERS = [
    OutlierGradientDetector(committee=None),
    ComplexityGap(kernel=rbf_kernel),
    LossScore(NET),
]
SLOW = [
    LeaveOneOut(NET, retrain="scratch"),
    SGDInfluence(),
    SelfConfidence(cv=2),
    TracIn(reference="validation", layers="all"),
    ComplexityGap(features="penultimate"),
    KNNShapley(features="penultimate"),
    DataShapley(LogisticRegression(), max_permutations=1),
]


def values_of(method, X, y):
    fitted = clone(method).set_params(random_state=0).fit(X, y)
    return fitted.embedding_ if hasattr(fitted, "embedding_") else fitted.detrimentality_


CASES = [
    *((method, WORDS) for method in METHODS),
    *((method, NUMBERS) for method in OTHERS),
    *(pytest.param(method, NUMBERS, marks=pytest.mark.slow) for method in [*METHODS, *SLOW]),
    *(pytest.param(method, WORDS, marks=pytest.mark.slow) for method in [*OTHERS, *SLOW]),
]


@pytest.mark.usefixtures("brief_nets")
@pytest.mark.parametrize(
    ("method", "kind"),
    CASES,
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_container_of_the_rows_changes_no_score(method, kind):
    X, y = table(kind, n=40)
    few = sparse.coo_array(X) if kind == WORDS else sparse.csc_matrix(X)
    found = values_of(method, few, y)
    has_committee = getattr(method, "committee", None) is not None
    if has_committee or method.get_params().get("estimator", 0) is None:
        # trees meet other columns first; a linear model's solver stops elsewhere if uncentred
        assert np.isfinite(found).all()
        return
    np.testing.assert_allclose(found, values_of(method, X, y), rtol=1e-6, atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(2, 12), wide=st.integers(2, 12))
def test_the_same_numbers_are_the_same_arrays_whatever_held_them(seed, n, wide):
    rng = np.random.default_rng(seed)
    X = np.where(rng.random((n, wide)) < 0.4, rng.normal(size=(n, wide)), 0)
    expected = check_inputs(BaseEstimator(), sparse.csr_matrix(X), reset=True)
    np.testing.assert_array_equal(expected.toarray(), X)
    long = sparse.csr_array(X)
    long.indices, long.indptr = long.indices.astype(np.int64), long.indptr.astype(np.int64)
    rows, columns = np.indices(X.shape).reshape(2, -1)
    halves = np.r_[X.ravel(), X.ravel()] / 2  # zeros that are stored, and two entries a place
    twice = sparse.coo_array((halves, (np.r_[rows, rows], np.r_[columns, columns])), X.shape)
    backwards = sparse.csr_array(X[:, ::-1])[:, ::-1]
    for few in [*(make(X) for make in KINDS), long, twice, twice.tocsr(), backwards]:
        before = few.copy()
        found = check_inputs(BaseEstimator(), few, reset=True)
        assert type(found) is type(expected)
        for name in ("data", "indices", "indptr"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
            assert getattr(found, name).dtype == getattr(expected, name).dtype
        assert fingerprint(found) == fingerprint(expected)
        assert fingerprint_of(few) == fingerprint_of(expected)
        assert (few != before).nnz == 0
        assert few.nnz == before.nnz


def test_rows_that_are_not_finite_are_named():
    X, y = table(NUMBERS)
    X[[3, 7], 2] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"X holds NaN or infinity in 2 of 60 rows: 3, 7\."):
        LossScore().fit(sparse.coo_array(X), y)


@pytest.mark.parametrize("kind", [WORDS, NUMBERS])
def test_nothing_but_a_batch_is_made_dense(kind, monkeypatch, brief_nets):
    shapes = set()

    def watch(cls, toarray):
        def watched(self, *args, **kwargs):
            shapes.add(self.shape)
            return toarray(self, *args, **kwargs)

        monkeypatch.setattr(cls, "toarray", watched)

    for cls in (sparse.csr_array, sparse.csr_matrix):
        watch(cls, cls.toarray)
    X, y = table(kind, n=300)
    few = sparse.csr_array(X)
    monkeypatch.setattr(_skorch, "_MADE_DENSE_BYTES", 4 * X.shape[1] * 100)
    InnerProductInfluence(random_state=0).fit(few, y)
    for method in (TracIn(), LossScore(NET)):
        method.fit(few, y).score_detrimentality(few, y)
    assert shapes
    assert max(n for n, width in shapes if width == X.shape[1]) <= 256


@pytest.mark.filterwarnings("ignore::skinfluence.exceptions.ApproximationWarning")
@pytest.mark.parametrize(
    ("n", "n_columns", "bound"),
    [
        (1_500, 20_000, 2**26),
        pytest.param(20_000, 50_000, 2**28, marks=pytest.mark.slow),
    ],
)
def test_memory_does_not_grow_with_rows_times_columns(n, n_columns, bound, brief_nets):
    generator = np.random.default_rng(0)
    few = sparse.random_array((n, n_columns), density=20 / n_columns, format="csr", rng=generator)
    y = generator.integers(2, size=n)
    methods = [LossScore()]
    if n > 10_000:
        methods += [OutlierGradientDetector(committee=None, n_components=8)]
        methods += [ComplexityGap(n_landmarks=100), KNNShapley(validation=0.02)]
    for method in methods:
        tracemalloc.start()
        try:
            method.fit(few, y)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < bound < n * n_columns * 4, method


@pytest.mark.slow
def test_wrong_labels_of_texts_are_found():
    generator = np.random.default_rng(0)
    y = np.arange(300) % 2
    rates = np.full((2, 3000), 0.004)
    rates[0, :40], rates[1, 40:80] = 0.1, 0.1
    counts = sparse.csr_array(generator.poisson(rates[y]))
    y_noisy, is_noisy = make_noisy_labels(y, rate=0.1, random_state=0)
    method = SelfConfidence(checkpoints=10, random_state=0).fit(counts, y_noisy)
    assert roc_auc_score(is_noisy, method.detrimentality_) > 0.85
    assert method.n_features_in_ == 3000


def test_a_net_takes_rows_of_words_itself():
    X, y = table(WORDS)
    net = default_net(sparse.csr_array(X), y, random_state=0).set_params(max_epochs=2)
    of_dense = default_net(X, y, random_state=0)
    np.testing.assert_array_equal(net.dataset__components, of_dense.dataset__components)
    fitted = clone(net).fit(sparse.csr_matrix(X), y)
    assert fitted.module_.hidden[0].in_features < X.shape[1]
    expected = fitted.predict_proba(X)
    for make in (sparse.csr_array, sparse.csc_matrix, sparse.dok_array):
        np.testing.assert_allclose(fitted.predict_proba(make(X)), expected, rtol=1e-5)


def test_lengths_of_rows_of_words_do_not_count():
    X, _ = table(WORDS)
    X[5] = 0
    scaled = X * np.logspace(-200, 200, len(X))[:, np.newaxis]
    rows = rows_of_length_one(sparse.csr_array(scaled))
    np.testing.assert_allclose(rows.toarray(), rows_of_length_one(X).toarray(), rtol=1e-12)
    lengths = np.sqrt(rows.multiply(rows).sum(1))
    np.testing.assert_allclose(lengths, np.arange(len(X)) != 5, rtol=1e-12)
    assert holds_words(X)
    assert holds_words(sparse.csr_array(X))


@pytest.mark.usefixtures("brief_nets")
@pytest.mark.parametrize("kind", [sparse.dok_matrix])
def test_what_is_made_of_methods_hands_sparse_rows_on(kind):
    X, y = table(WORDS)
    few, judge = kind(X), LossScore(random_state=0)
    union = DetrimentalityUnion([("loss", judge), ("gap", ComplexityGap())], random_state=0)
    calibrated = CalibratedDetrimentality(judge, cv=2, random_state=0)
    for method in (union, calibrated):
        expected = clone(method).fit(X, y).detrimentality_
        np.testing.assert_allclose(method.fit(few, y).detrimentality_, expected, rtol=1e-6)
    for amount, model in ((0.1, LogisticRegression()), (0.1, NET)):
        how = {"contamination": amount, "action": "relabel", "random_state": 0}
        dense = CleanedClassifier(model, judge, **how).fit(X, y)
        cleaned = CleanedClassifier(model, judge, **how).fit(few, y)
        np.testing.assert_array_equal(cleaned.relabelled_, dense.relabelled_)
        np.testing.assert_allclose(cleaned.predict_proba(few), dense.predict_proba(X), rtol=1e-4)
    regressor = CleanedRegressor(Ridge(), judge, contamination=3, random_state=0)
    assert regressor.fit(few, X[:, 0] + y).predict(few).shape == y.shape
    cleaner = DetrimentalSampleCleaner(judge, contamination=5, random_state=0)
    kept, labels = cleaner.fit_resample(few, y)
    np.testing.assert_array_equal(kept.toarray(), X[cleaner.sample_indices_])
    np.testing.assert_array_equal(labels, y[cleaner.sample_indices_])


@pytest.mark.usefixtures("brief_nets")
@pytest.mark.parametrize("make", [sparse.csc_array, np.array])
def test_trusted_rows_may_be_in_another_container_but_must_be_other_rows(make):
    X, y = table(WORDS, n=80)
    few, rest, labels, others = sparse.csr_array(X[:40]), make(X[40:]), y[:40], y[40:]
    method = TracIn(reference="validation", random_state=0)
    expected = clone(method).fit(X[:40], labels, X[40:], others).detrimentality_
    found = clone(method).fit(few, labels, rest, others).detrimentality_
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    for judge in (KNNShapley(), method):
        with pytest.raises(ValueError, match="All 10 rows of X_val are training rows"):
            judge.fit(few, labels, make(X[:10]), y[:10])
    with pytest.warns(ValidationOverlapWarning, match="10 of the 50 rows"):
        KNNShapley().fit(few, labels, make(X[30:]), y[30:])


def test_a_trained_net_of_your_own_and_a_cache_take_sparse_rows(tmp_path):
    X, y = table(NUMBERS)
    torch.manual_seed(0)
    net = clone(NET).fit(X.astype(np.float32), y)
    method = LossScore(FrozenEstimator(net))
    expected = clone(method).fit(X, y).detrimentality_
    found = clone(method).fit(sparse.dia_array(X), y).detrimentality_
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    cached = LossScore(NET, memory=str(tmp_path), random_state=0)
    first = clone(cached).fit(sparse.csr_array(X), y).detrimentality_
    n_files = len(list(tmp_path.rglob("*.pkl")))
    again = clone(cached).fit(sparse.coo_matrix(X), y).detrimentality_
    np.testing.assert_array_equal(again, first)
    assert len(list(tmp_path.rglob("*.pkl"))) == n_files > 0
