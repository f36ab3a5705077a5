"""Detection curves against brute force over the orders of equal rows."""

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from skinfluence.metrics import detection_curve, recall_at_budget

rows = st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=6).filter(
    lambda pairs: any(noisy for noisy, _ in pairs)
)


def brute_force(noisy, scores):
    """Share found after 1, 2, ... rows: the mean over every order that respects the scores."""
    n, orders = len(noisy), []
    for order in permutations(range(n)):
        if all(scores[a] >= scores[b] for a, b in pairwise(order)):
            orders.append(np.cumsum([noisy[row] for row in order]) / sum(noisy))
    return np.mean(orders, axis=0)


def random_problem(seed, n=60, n_levels=None):
    rng = np.random.default_rng(seed)
    noisy = rng.random(n) < 0.3
    noisy[0] = True
    noisy[1] = False
    scores = rng.normal(size=n) if n_levels is None else rng.integers(0, n_levels, n)
    return noisy, scores.astype(float)


@settings(max_examples=60, deadline=None)
@given(rows)
def test_curve_is_the_mean_over_the_orders_of_equal_rows(pairs):
    noisy, scores = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    expected = brute_force(noisy, scores)
    curve = detection_curve(noisy, scores)
    np.testing.assert_allclose(curve.found, expected, atol=1e-12)
    np.testing.assert_allclose(
        curve.precision, expected * sum(noisy) / np.arange(1, len(noisy) + 1), atol=1e-12
    )
    for k in range(1, len(noisy) + 1):
        assert recall_at_budget(noisy, scores, k) == pytest.approx(expected[k - 1], abs=1e-12)


@pytest.mark.parametrize("n_levels", [None, 4])
@pytest.mark.parametrize("seed", range(5))
def test_area_follows_from_the_area_under_the_roc_curve(seed, n_levels):
    noisy, scores = random_problem(seed, n_levels=n_levels)
    share = noisy.mean()
    expected = share / 2 + (1 - share) * roc_auc_score(noisy, scores)
    assert detection_curve(noisy, scores).area == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_mean_precision_at_the_noisy_rows_is_average_precision(seed):
    noisy, scores = random_problem(seed)
    curve = detection_curve(noisy, scores)
    steps = np.diff(curve.found, prepend=0)
    assert steps @ curve.precision == pytest.approx(average_precision_score(noisy, scores))


def test_only_the_order_of_scores_counts_and_not_that_of_rows():
    noisy, scores = random_problem(0, n_levels=5)
    curve = detection_curve(noisy, scores)
    shuffled = np.random.default_rng(1).permutation(len(noisy))
    for other in (
        detection_curve(noisy, np.exp(scores)),
        detection_curve(noisy[shuffled], scores[shuffled]),
        detection_curve(noisy.astype(int), scores.tolist()),
    ):
        np.testing.assert_allclose(np.stack(other), np.stack(curve), atol=1e-12)


def test_constant_scores_are_chance_and_truth_is_the_best_there_is():
    noisy, _ = random_problem(0)
    constant = detection_curve(noisy, np.zeros(60))
    np.testing.assert_allclose(constant.found, constant.chance)
    np.testing.assert_allclose(constant.precision, noisy.mean())
    assert constant.area == pytest.approx(0.5)
    best = detection_curve(noisy, noisy.astype(float))
    assert (best.precision[: noisy.sum()] == 1).all()
    assert best.area == pytest.approx(1 - noisy.mean() / 2)
    assert best.n_inspected[0] == 1
    assert best.found[-1] == best.chance[-1] == 1


def test_budget_is_a_share_or_a_number():
    noisy, scores = random_problem(3)
    for share, number in ((0.1, 6), (1.0, 60), (0.04, 2), (np.float32(0.5), 30)):
        expected = detection_curve(noisy, scores).found[number - 1]
        assert recall_at_budget(noisy, scores, share) == expected
        assert recall_at_budget(noisy, scores, np.int64(number)) == expected
    assert recall_at_budget(noisy, scores, 1) == detection_curve(noisy, scores).found[0]


@pytest.mark.parametrize("budget", [0, 61, -1, 0.0, 1.1, -0.1, 0.001, True, "half", None, np.nan])
def test_other_budgets_are_refused(budget):
    noisy, scores = random_problem(0)
    with pytest.raises(ValueError, match=f"budget={budget!r} for 60 rows"):
        recall_at_budget(noisy, scores, budget)


@pytest.mark.parametrize(
    ("noisy", "scores", "message"),
    [
        ([True, False], [1.0], r"shape \(2,\).*shape \(1,\).*same rows"),
        ([[True]], [[1.0]], "one-dimensional"),
        ([0, 2], [1.0, 2.0], "y_noisy != y_clean"),
        (["a", "b"], [1.0, 2.0], "y_noisy != y_clean"),
        ([False, False], [1.0, 2.0], "None of the 2 rows is noisy"),
        ([], [], "None of the 0 rows is noisy"),
        ([True, False], [1.0, np.nan], "detrimentality holds NaN.*rows: 1"),
    ],
)
def test_bad_input_is_refused(noisy, scores, message):
    for call in (detection_curve, lambda *args: recall_at_budget(*args, 1)):
        with pytest.raises(ValueError, match=message):
            call(noisy, scores)
