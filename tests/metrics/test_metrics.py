"""Metrics against slow definitions, and what they refuse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from skinfluence.metrics import leave_one_out_correlation, linear_datamodeling_score


def rank_correlation(one, two):
    """Spearman's, from counts: equal numbers share their mean rank."""
    ranks = [
        [(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values]
        for values in map(np.asarray, (one, two))
    ]
    return np.corrcoef(ranks)[0, 1]


def problem(seed, n_query=3, n_train=10, n_subsets=8):
    rng = np.random.default_rng(seed)
    subsets = rng.random((n_subsets, n_train)) < 0.5
    return rng.normal(size=(n_query, n_train)), subsets, rng.normal(size=(n_subsets, n_query))


@given(seed=st.integers(0, 2**16))
def test_mean_of_rank_correlations(seed):
    influence, subsets, losses = problem(seed)
    expected = [
        rank_correlation([-influence[q, rows].sum() for rows in subsets], losses[:, q])
        for q in range(3)
    ]
    assert linear_datamodeling_score(influence, subsets, losses) == pytest.approx(np.mean(expected))


@given(seed=st.integers(0, 2**16), scale=st.floats(0.1, 100))
def test_truth_scores_one_and_its_opposite_minus_one(seed, scale):
    influence, subsets, _ = problem(seed)
    losses = 5 - subsets @ influence.T
    assert linear_datamodeling_score(scale * influence, subsets, losses) == pytest.approx(1)
    assert linear_datamodeling_score(-influence, subsets, losses) == pytest.approx(-1)


def test_constant_predictions_score_zero():
    _, subsets, losses = problem(0)
    assert linear_datamodeling_score(np.zeros((3, 10)), subsets, losses) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subsets": np.arange(20).reshape(2, 10)}, "boolean array"),
        ({"subsets": np.ones((8, 9), bool)}, r"expected \(n_subsets, 10\)"),
        ({"subsets": np.ones((1, 10), bool)}, "at least two subsets"),
        ({"losses": np.zeros((3, 8))}, r"losses of shape \(3, 8\), but expected \(8, 3\)"),
        ({"influence": np.full((3, 10), np.nan)}, "influence holds NaN"),
        ({"losses": np.full((8, 3), np.inf)}, "losses holds NaN or infinity"),
    ],
)
def test_bad_input(change, message):
    names = ("influence", "subsets", "losses")
    arguments = {**dict(zip(names, problem(0))), **change}
    with pytest.raises(ValueError, match=message):
        linear_datamodeling_score(**arguments)


def test_leave_one_out_correlation_against_scipy_and_by_hand():
    rng = np.random.default_rng(0)
    real = rng.normal(size=50)
    scores = real + rng.normal(size=50)
    found = leave_one_out_correlation(scores, real, k=7)
    assert found.kendall == pytest.approx(kendalltau(scores, real).statistic, abs=1e-12)
    assert found.spearman == pytest.approx(rank_correlation(scores, real), abs=1e-12)
    top = set(np.argsort(scores)[-7:]) & set(np.argsort(real)[-7:])
    assert 0 < len(top) < 7
    assert found.overlap == len(top) / 7
    assert leave_one_out_correlation(3 * scores**3, real, k=7) == found  # ranks alone count
    assert leave_one_out_correlation(real, real, k=50) == pytest.approx((1, 1, 1))
    reverse = leave_one_out_correlation(-real, real, k=25)
    assert reverse == pytest.approx((-1, -1, 0))


@given(
    st.lists(st.integers(0, 4), min_size=8, max_size=8).filter(lambda v: len(set(v)) > 1),
    st.integers(0, 2**16),
)
def test_ties_share_their_rank(scores, seed):
    real = np.random.default_rng(seed).permutation(8) // 2
    found = leave_one_out_correlation(np.array(scores), real, k=3).spearman
    assert found == pytest.approx(rank_correlation(scores, real), abs=1e-12)


def test_equal_scores_say_nothing():
    assert leave_one_out_correlation(np.zeros(4), np.arange(4), k=2)[:2] == (0, 0)
    assert leave_one_out_correlation(np.arange(4), np.ones(4), k=2)[:2] == (0, 0)


@pytest.mark.parametrize(
    ("scores", "real", "k", "message"),
    [
        ([1, 2, 3], [1, 2], 1, r"shape \(3,\).*shape \(2,\).*same rows"),
        ([[1, 2]], [[1, 2]], 1, "one-dimensional"),
        ([1], [1], 1, "at least two"),
        ([1, np.nan], [1, 2], 1, "detrimentality holds NaN.*rows: 1"),
        ([1, 2], [np.inf, 2], 1, "leave_one_out holds NaN or infinity.*rows: 0"),
        ([1, 2], [1, 2], 0, "k=0"),
        ([1, 2], [1, 2], 3, "k=3.*2 rows"),
    ],
)
def test_bad_leave_one_out_is_refused(scores, real, k, message):
    with pytest.raises(ValueError, match=message):
        leave_one_out_correlation(scores, real, k=k)
