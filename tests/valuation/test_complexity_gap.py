"""Complexity gaps against deletion and the paper's loop, and what breaks published code."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import rbf_kernel

from skinfluence import ComplexityGap
from skinfluence.exceptions import ApproximationWarning
from skinfluence.gradients._outputs import penultimate_features
from skinfluence.valuation._kernel_gap import gaps, ntk, solve_exact, solve_low_rank, unit_rows
from tests._shared.problems import SmallMlp, blobs, classifier, fitted_classifier, noisy_blobs
from tests._shared.valuation_references import gaps_by_deletion, loop_of_the_paper, naive_ntk


def rows(n=60, n_features=7, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, n_features)), rng.permutation(np.arange(n) % n_classes)


def signs(y, label):
    return np.where(y == label, 1.0, -1.0)


def relative_error(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("jitter", [0.0, 1e-2])
def test_one_vs_all_is_the_definition_by_deletion(jitter):
    X, y = rows()
    H = naive_ntk(X) + jitter * np.eye(60)
    found = ComplexityGap(jitter=jitter).fit(X, y).detrimentality_
    for label in range(3):
        own = y == label
        expected = gaps_by_deletion(H, signs(y, label))[own]
        np.testing.assert_allclose(found[own], expected, rtol=1e-8)


@given(st.integers(0, 1000), st.integers(5, 40), st.integers(2, 10), st.integers(1, 3))
def test_closed_form_is_the_definition_for_any_targets(seed, n, n_features, n_targets):
    rng = np.random.default_rng(seed)
    Z, Y = rng.normal(size=(n, n_features)), rng.normal(size=(n, n_targets))
    found = gaps(solve_exact(unit_rows(Z, float), Y, ntk, 1e-2), Y)
    H = naive_ntk(Z) + 1e-2 * np.eye(n)
    expected = sum(gaps_by_deletion(H, y) for y in Y.T)
    np.testing.assert_allclose(found.total, expected, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found.terms.sum(1), found.total, rtol=1e-9, atol=1e-9)


def test_loop_of_the_paper_and_its_partial_terms():
    X, y = rows(n_features=12)
    fitted = ComplexityGap(jitter=0).fit(X, y)
    for label in range(3):
        own, others = np.flatnonzero(y == label), np.flatnonzero(y != label)
        order = np.r_[own, others]
        H = naive_ntk(X[order])
        total, terms = loop_of_the_paper(H, signs(y[order], label), len(own))
        assert relative_error(fitted.detrimentality_[own], total) < 1e-6
        assert relative_error(fitted.partial_terms_[own], terms) < 1e-6


def test_balanced_subsample_is_the_loop_of_the_paper():
    # two classes of one size: the sample of the other class is all of it
    X, y = rows(n_classes=2, n_features=12)
    found = ComplexityGap(mode="subsample", jitter=0, random_state=0).fit(X, y)
    for label in range(2):
        own, others = np.flatnonzero(y == label), np.flatnonzero(y != label)
        order = np.r_[own, others]
        total, _ = loop_of_the_paper(naive_ntk(X[order]), signs(y[order], label), len(own))
        assert relative_error(found.detrimentality_[own], total) < 1e-6


def test_subsample_that_takes_all_is_one_vs_all():
    X, y = rows()
    every = ComplexityGap(mode="subsample", ratio=100.0, n_repeats=2, random_state=0).fit(X, y)
    np.testing.assert_allclose(every.detrimentality_, ComplexityGap().fit(X, y).detrimentality_)


def test_subsample_draws_by_seed_and_repeats_steady_it():
    X, y = rows(n=90)
    draw = ComplexityGap(mode="subsample", random_state=0)
    first = clone(draw).fit_transform(X, y)
    np.testing.assert_array_equal(clone(draw).fit_transform(X, y), first)
    reference = clone(draw).set_params(n_repeats=60, random_state=9).fit_transform(X, y)
    repeated = clone(draw).set_params(n_repeats=10).fit_transform(X, y)
    assert np.abs(repeated - reference).mean() < 0.6 * np.abs(first - reference).mean()


def test_regression_is_the_definition_on_the_scaled_target():
    X, _ = rows()
    y = 5 + 3 * X[:, 0] + np.random.default_rng(1).normal(size=60)
    scaled = (y - y.mean()) / y.std()
    found = ComplexityGap().fit(X, y)
    expected = gaps_by_deletion(naive_ntk(X) + 1e-2 * np.eye(60), scaled)
    np.testing.assert_allclose(found.detrimentality_, expected, rtol=1e-8)
    assert not hasattr(found, "classes_")
    both = ComplexityGap().fit(X, np.c_[y, -2 * y]).detrimentality_
    np.testing.assert_allclose(both, 2 * expected)


def test_callable_kernel_sees_the_rows_as_given():
    X, y = rows(n_features=2)
    found = ComplexityGap(kernel=rbf_kernel).fit(X, y)
    H = rbf_kernel(X) + 1e-2 * np.eye(60)
    own = y == 1
    expected = gaps_by_deletion(H, signs(y, 1))[own]
    np.testing.assert_allclose(found.detrimentality_[own], expected, rtol=1e-6)


@pytest.mark.parametrize("kernel", [ntk, rbf_kernel], ids=["ntk", "rbf"])
def test_low_rank_through_all_rows_is_exact(kernel):
    X, y = rows(n=80)
    Z, Y = unit_rows(X, float), signs(y[:, np.newaxis], np.arange(3))
    exact = solve_exact(Z, Y, kernel, 1e-2)
    order = np.random.default_rng(0).permutation(80)
    low_rank = solve_low_rank(Z, Y, kernel, 1e-2, order)
    np.testing.assert_allclose(low_rank.weights, exact.weights, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(low_rank.precisions, exact.precisions, rtol=1e-6)


def test_low_rank_is_the_definition_on_its_own_matrix():
    X, y = rows(n=50)
    Z, target = unit_rows(X, float), signs(y, 0)[:, np.newaxis]
    landmarks = np.arange(0, 50, 4)
    K = ntk(Z, Z[landmarks])
    Q = K @ np.linalg.solve(ntk(Z[landmarks], Z[landmarks]), K.T)
    H = Q + np.diag(0.5 - np.diag(Q)) + 1e-2 * np.eye(50)
    found = gaps(solve_low_rank(Z, target, ntk, 1e-2, landmarks), target).total
    np.testing.assert_allclose(found, gaps_by_deletion(H, target[:, 0]), rtol=1e-7)


def test_more_landmarks_come_closer():
    X, y, _ = noisy_blobs(n=300, n_features=10, spread=1.5)
    exact = ComplexityGap().fit(X, y).detrimentality_
    errors = []
    for n_landmarks in (20, 80, 300):
        method = ComplexityGap(max_rows=100, n_landmarks=n_landmarks, random_state=0)
        with pytest.warns(ApproximationWarning, match="300 rows are more than max_rows=100"):
            method.fit(X, y)
        assert method.route_ == "low_rank"
        errors.append(np.abs(method.detrimentality_ - exact).mean())
    assert errors[0] > 1.2 * errors[1] > 1e6 * errors[2]


def test_float32_agrees_with_float64():
    X, y, _ = noisy_blobs(n=200, n_features=10)
    scores = [
        ComplexityGap(dtype=dtype).fit(X, y).detrimentality_ for dtype in ("float32", "float64")
    ]
    assert np.corrcoef(scores)[0, 1] > 0.999
    assert not np.array_equal(*scores)


def test_low_rank_in_float32_agrees_with_float64():
    # more landmarks than features: most directions of their kernel are rounding in float32
    X, y = rows(n=300, n_features=3)
    scores = [
        gaps(solve_low_rank(unit_rows(X, dtype), target, ntk, 1e-2, np.arange(150)), target).total
        for dtype in (np.float32, np.float64)
        for target in [signs(y, 0)[:, np.newaxis]]
    ]
    assert np.corrcoef(scores)[0, 1] > 0.999


def test_low_rank_refuses_what_rounding_would_decide():
    X, y = rows(n=80)
    with pytest.raises(ValueError, match="jitter=1e-13"):
        solve_low_rank(unit_rows(X, float), signs(y, 0)[:, np.newaxis], ntk, 1e-13, np.arange(80))


def test_duplicates_and_zero_rows_are_finite_and_conflicts_score_highest():
    X, y = rows(n=60)
    X[10:14] = X[10]
    y[10:14] = [0, 0, 1, 1]
    X[20] = 3 * X[21]  # the same direction: the same row for this kernel
    y[20:22] = [0, 1]
    X[30] = 0
    scores = ComplexityGap().fit(X, y).detrimentality_
    assert np.isfinite(scores).all()
    assert {20, 21} <= set(np.argsort(-scores)[:6])
    # a zero row is orthogonal to all others: nothing predicts it, and nothing else changes
    np.testing.assert_allclose(scores[30], 1 / 0.51)
    rest = np.delete(np.arange(60), 30)
    np.testing.assert_allclose(ComplexityGap().fit(X[rest], y[rest]).detrimentality_, scores[rest])
    with pytest.raises(
        ValueError, match=r"not safely positive definite with jitter=0.*Raise jitter"
    ):
        ComplexityGap(jitter=0).fit(np.r_[X[:10], X[:10]], np.r_[y[:10], y[:10]])


def test_a_cosine_above_one_is_clipped():
    row = np.random.default_rng(3).normal(size=(400, 7))
    row /= np.linalg.norm(row, axis=1, keepdims=True)
    assert ((row * row).sum(1) > 1).any()  # the trap is there
    diagonal = np.array([ntk(r[np.newaxis], r[np.newaxis]).item() for r in row])
    np.testing.assert_allclose(diagonal, 0.5, atol=1e-7)


def test_huge_and_tiny_rows_have_a_direction():
    X, y = rows()
    scale = np.ones((60, 1))
    scale[0], scale[1] = 1e300, 1e-300
    expected = ComplexityGap().fit(X, y).detrimentality_
    np.testing.assert_allclose(ComplexityGap().fit(X * scale, y).detrimentality_, expected)


def test_rows_in_any_order_and_images_as_tables():
    X, y = rows(n_features=8)
    expected = ComplexityGap().fit(X, y).detrimentality_
    order = np.random.default_rng(0).permutation(60)
    np.testing.assert_allclose(
        ComplexityGap().fit(X[order], y[order]).detrimentality_, expected[order]
    )
    images = X.reshape(60, 2, 2, 2)
    np.testing.assert_array_equal(ComplexityGap().fit(images, y).detrimentality_, expected)
    named = ComplexityGap().fit(X, np.array(["c", "a", "b"])[y])
    np.testing.assert_allclose(named.detrimentality_, expected)
    assert list(named.classes_) == ["a", "b", "c"]


def test_penultimate_features_of_a_frozen_net():
    X, y, is_noisy = noisy_blobs(n=120)
    net = fitted_classifier(X, y)
    with_net = ComplexityGap(FrozenEstimator(net), features="penultimate").fit(X, y)
    assert with_net.net_ is net
    hidden = np.maximum(X @ _array(net, "body.0.weight").T + _array(net, "body.0.bias"), 0)
    np.testing.assert_allclose(penultimate_features(net, X, batch_size=7), hidden, atol=1e-5)
    expected = ComplexityGap().fit(hidden.astype(np.float32), y).detrimentality_
    np.testing.assert_allclose(with_net.detrimentality_, expected, rtol=1e-3)
    assert roc_auc_score(is_noisy, with_net.detrimentality_) > 0.9


def _array(net, name):
    return net.module_.state_dict()[name].numpy()


class Sideways(SmallMlp):
    """Its last layer sees all rows of a batch as one."""

    n_copies = 1

    def forward(self, X):
        return self.head(self.body(X).expand(self.n_copies, -1, -1))[0]


class Copied(Sideways):
    """Its last layer sees no axis of rows first, not of one row alone either."""

    n_copies = 2


def test_a_last_layer_with_rows_on_another_axis_is_asked_row_by_row():
    X, y = blobs(30)
    net = fitted_classifier(X, y, module=Sideways, max_epochs=1)
    twin = classifier().initialize()
    twin.module_.load_state_dict(net.module_.state_dict())
    expected = penultimate_features(twin, X, batch_size=7)
    np.testing.assert_allclose(penultimate_features(net, X, batch_size=7), expected, atol=1e-6)
    net = fitted_classifier(X, y, module=Copied, max_epochs=1)
    with pytest.raises(ValueError, match=r"'head', takes \(2, 1, 16\).*features='raw'"):
        ComplexityGap(FrozenEstimator(net), features="penultimate").fit(X, y)


def test_a_net_is_trained_for_its_features_and_left_alone():
    X, y, is_noisy = noisy_blobs(n=120)
    net = classifier(SmallMlp, max_epochs=5)
    fitted = ComplexityGap(net, features="penultimate", random_state=0).fit(
        X, np.array(list("abc"))[y]
    )
    assert fitted.net_ is not net
    assert not getattr(net, "initialized_", False)
    assert roc_auc_score(is_noisy, fitted.detrimentality_) > 0.9
    raw = fitted.set_params(features="raw").fit(X, y)
    assert not hasattr(raw, "net_")


def test_planted_flips_are_found():
    X, y, is_noisy = noisy_blobs(n=150)
    for mode in ("one_vs_all", "subsample"):
        scores = ComplexityGap(mode=mode, random_state=0).fit(X, y).detrimentality_
        assert roc_auc_score(is_noisy, scores) > 0.95


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kernel": "rbf"}, "kernel='rbf'.*'ntk' or a callable"),
        ({"jitter": -1}, "jitter=-1.*finite number >= 0"),
        ({"jitter": float("nan")}, "jitter=nan"),
        ({"jitter": True}, "jitter=True"),
        ({"mode": "all"}, "mode='all'.*'one_vs_all' or 'subsample'"),
        ({"ratio": 0}, "ratio=0.*> 0"),
        ({"n_repeats": 0}, "n_repeats=0"),
        ({"max_rows": 1.5}, "max_rows=1.5"),
        ({"n_landmarks": 0}, "n_landmarks=0"),
        ({"dtype": "float16"}, "dtype='float16'"),
        ({"max_bytes": 0}, "max_bytes=0"),
        ({"features": "last"}, "features='last'.*'raw' or 'penultimate'"),
        ({"max_bytes": 1000}, r"60 rows takes 28,800 bytes, more than max_bytes=1,000.*max_rows"),
        ({"max_rows": 50, "max_bytes": 1000}, "Lower n_landmarks"),
        ({"max_rows": 50, "jitter": 0}, "low-rank route"),
    ],
)
def test_parameters_are_checked_at_fit(parameters, message):
    X, y = rows()
    with pytest.raises(ValueError, match=message):
        ComplexityGap(**parameters).fit(X, y)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (lambda A, B: np.ones(len(B)), r"gave shape \(60,\)"),
        (lambda A, B: np.full((len(A), len(B)), np.nan), "not finite"),
        (lambda A, B: (A @ B.T) + A[:, :1], "not symmetric"),
        (lambda A, B: -(A @ B.T), "not safely positive definite"),
    ],
    ids=["shape", "nan", "asymmetric", "negative"],
)
def test_what_is_no_kernel_is_refused(kernel, message):
    X, y = rows()
    with pytest.raises(ValueError, match=message):
        ComplexityGap(kernel=kernel).fit(X, y)


def test_unsuited_data_are_refused():
    X, y = rows()
    with pytest.raises(ValueError, match="numeric target"):
        ComplexityGap(mode="subsample").fit(X, X[:, 0])
    with pytest.raises(ValueError, match="does not use validation rows"):
        ComplexityGap().fit(X, y, X, y)
    with pytest.raises(ValueError, match="features='raw' compares rows of an array"):
        ComplexityGap().fit({"a": X}, y)
    with pytest.raises(ValueError, match="one class"):
        ComplexityGap().fit(X, np.zeros(60, int))
    X, y = blobs(30)
    X[3, 0] = np.nan
    with pytest.raises(ValueError, match="rows: 3"):
        ComplexityGap().fit(X, y)
