"""Agreement of scores with leave-one-out, against scipy and by hand."""

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from skinfluence.metrics import leave_one_out_correlation


def test_against_scipy_and_by_hand():
    rng = np.random.default_rng(0)
    real = rng.normal(size=50)
    scores = real + rng.normal(size=50)
    found = leave_one_out_correlation(scores, real, k=7)
    assert found.kendall == pytest.approx(kendalltau(scores, real).statistic, abs=1e-12)
    assert found.spearman == pytest.approx(spearmanr(scores, real).statistic, abs=1e-12)
    top = set(np.argsort(scores)[-7:]) & set(np.argsort(real)[-7:])
    assert 0 < len(top) < 7
    assert found.overlap == len(top) / 7
    assert leave_one_out_correlation(3 * scores**3, real, k=7) == found  # ranks alone count
    assert leave_one_out_correlation(real, real, k=50) == pytest.approx((1, 1, 1))
    reverse = leave_one_out_correlation(-real, real, k=25)
    assert reverse == pytest.approx((-1, -1, 0))


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
def test_bad_input_is_refused(scores, real, k, message):
    with pytest.raises(ValueError, match=message):
        leave_one_out_correlation(scores, real, k=k)
