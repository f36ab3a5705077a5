"""Metrics against slow definitions, and what they refuse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from skinfluence.metrics import linear_datamodeling_score


def problem(seed, n_query=3, n_train=10, n_subsets=8):
    rng = np.random.default_rng(seed)
    subsets = rng.random((n_subsets, n_train)) < 0.5
    return rng.normal(size=(n_query, n_train)), subsets, rng.normal(size=(n_subsets, n_query))


@given(seed=st.integers(0, 2**16))
def test_mean_of_rank_correlations(seed):
    influence, subsets, losses = problem(seed)
    expected = [
        spearmanr([-influence[q, rows].sum() for rows in subsets], losses[:, q])[0]
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
