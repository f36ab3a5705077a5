"""Sampled semivalues against all subsets, truncation, and the statistic."""

from itertools import permutations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import beta as beta_function

from skinfluence.valuation.shapley._semivalues import (
    N_CHAINS,
    Gains,
    Progress,
    gelman_rubin,
    permutation_gains,
    position_weights,
)
from tests._shared.valuation_references import shapley_over_all_subsets


def random_game(n, seed=0):
    """A utility that gives every subset a number of its own."""
    table = {}
    rng = np.random.default_rng(seed)
    draws = iter(rng.normal(size=2**n))

    def utility(subset):
        key = tuple(sorted(int(i) for i in subset))
        if key not in table:
            table[key] = float(next(draws))
        return table[key]

    return utility


def beta_weight(n, alpha, beta):
    """The weight of one subset, as the paper defines the Beta Shapley value."""
    return lambda size: (
        beta_function(size + beta, n - size - 1 + alpha) / beta_function(alpha, beta)
    )


@pytest.mark.parametrize(("alpha", "beta"), [(1, 1), (16, 1), (4, 1), (1, 4), (0.5, 2.5)])
def test_all_permutations_give_the_semivalue_over_all_subsets(alpha, beta):
    n, utility = 6, random_game(6)
    weights = position_weights(n, alpha, beta)
    progress = Progress.start(n)
    for order in permutations(range(n)):
        values = [utility(order[:size]) for size in range(n + 1)]
        progress.add(Gains(np.array(order), np.diff(values)), weights)
    expected = shapley_over_all_subsets(utility, n, beta_weight(n, alpha, beta))
    np.testing.assert_allclose(progress.values, expected, atol=1e-12)


def test_beta_one_one_is_shapley_s_and_large_alpha_stresses_small_subsets():
    np.testing.assert_allclose(position_weights(50, 1, 1), 1)
    assert beta_weight(7, 1, 1)(3) == pytest.approx(1 / (7 * comb(6, 3)))
    assert (np.diff(position_weights(50, 16, 1)) < 0).all()
    assert (np.diff(position_weights(50, 1, 16)) > 0).all()
    assert np.isfinite(position_weights(100_000, 16, 1)).all()


@given(st.integers(1, 2000), st.floats(0.1, 30), st.floats(0.1, 30))
def test_weights_have_mean_one(n, alpha, beta):
    assert position_weights(n, alpha, beta).mean() == pytest.approx(1, rel=1e-8)


def test_gains_are_the_steps_of_the_utility():
    utility = random_game(8)
    full, empty = utility(range(8)), utility([])
    order, gains = permutation_gains(utility, 8, empty=empty, full=full, truncation=None, seed=3)
    assert sorted(order) == list(range(8))
    for position in range(8):
        step = utility(order[: position + 1]) - utility(order[:position])
        assert gains[position] == pytest.approx(step)
    assert gains.sum() == pytest.approx(full - empty)


def test_truncation_waits_for_five_in_succession():
    sizes = []

    def utility(subset):
        sizes.append(len(subset))
        return 1.0 if len(subset) == 3 or len(subset) >= 10 else 0.0

    gains = permutation_gains(utility, 40, empty=0.0, full=1.0, truncation=0.1, seed=0).gains
    assert sizes == list(range(1, 15))  # 10, ..., 14 are as good as all; 3 alone was luck
    np.testing.assert_array_equal(np.flatnonzero(gains), [2, 3, 9])


@settings(max_examples=20)
@given(st.integers(0, 1000), st.integers(2, 30))
def test_statistic_is_the_textbook_s_on_the_draws(seed, n_draws):
    rng = np.random.default_rng(seed)
    draws = rng.normal(rng.normal(size=(4, 1, 3)), 1, size=(4, n_draws, 3))
    within = draws.var(axis=1, ddof=1).mean(0)
    between = draws.mean(axis=1).var(axis=0, ddof=1)
    expected = np.sqrt(((n_draws - 1) / n_draws * within + between) / within).max()
    assert gelman_rubin(draws.sum(1), (draws**2).sum(1), n_draws) == pytest.approx(expected)


def test_statistic_of_chains_that_agree_or_never_meet():
    assert gelman_rubin(np.zeros((4, 2)), np.zeros((4, 2)), 5) == 1
    means = np.array([[0.0], [1.0]])  # no spread within: the chains never meet
    assert gelman_rubin(5 * means, 5 * means**2, 5) == np.inf


def test_progress_stops_when_chains_agree_or_enough_are_drawn():
    rng = np.random.default_rng(0)
    progress, weights = Progress.start(3), np.ones(3)
    while not progress.is_done(10_000, 1.02):
        progress.add(Gains(rng.permutation(3), rng.normal(size=3)), weights)
    assert progress.statistics[-1] <= 1.02 < min(progress.statistics[:-1])
    assert progress.n_permutations % N_CHAINS == 0
    assert progress.is_done(progress.n_permutations, None)
    assert not progress.is_done(progress.n_permutations + 1, None)
