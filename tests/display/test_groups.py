"""Groups: errors counted, intervals that hold, and nobody accused by chance."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import fisher_exact, mannwhitneyu
from sklearn.datasets import load_diabetes

from skinfluence import CalibratedDetrimentality, LossScore, OutlierGradientDetector, RandomScore
from skinfluence.display import groups_frame
from skinfluence.display._groups import holm, wilson_interval
from skinfluence.display._noise_matrix import confident_disagreements
from tests._shared.problems import blobs, classifier

NAMES = np.array(["ada", "bob", "eve", "kim"])
RATES = {"ada": 0.02, "bob": 0.05, "eve": 0.15, "kim": 0.35}


@pytest.fixture(scope="module")
def annotated():
    X, y = blobs(n=480)
    rng = np.random.default_rng(0)
    annotator = NAMES[rng.permutation(480) % 4]
    wrong = rng.random(480) < np.vectorize(RATES.get)(annotator)
    given = np.where(wrong, (y + rng.integers(1, 3, 480)) % 3, y)
    method = OutlierGradientDetector(committee=["kernels"], random_state=0).fit(X, given)
    return X, given, annotator, wrong, method


def test_who_errs_most_comes_first_with_the_errors_counted(annotated):
    X, y, annotator, wrong, method = annotated
    frame = groups_frame(method, X, y, by=annotator)
    assert frame.index.tolist()[0] == "kim"
    assert frame.trust_less.to_dict() == {"kim": True, "eve": False, "bob": False, "ada": False}
    truth = pd.Series(wrong).groupby(annotator).agg(["size", "sum", "mean"]).loc[frame.index]
    np.testing.assert_array_equal(frame.n_rows, truth["size"])
    np.testing.assert_allclose(frame.expected_errors, truth["sum"], atol=3)
    assert ((frame.rate_low <= truth["mean"]) & (truth["mean"] <= frame.rate_high)).all()
    assert ((frame.place_low < frame.mean_place) & (frame.mean_place < frame.place_high)).all()
    assert abs((frame.mean_place * frame.n_rows).sum() / 480 - 0.5) < 1e-9


def test_groups_are_columns_arrays_or_the_classes_themselves(annotated):
    X, y, annotator, _, method = annotated
    by_series = groups_frame(method, X, y, by=pd.Series(pd.Categorical(annotator)))
    pd.testing.assert_frame_equal(by_series, groups_frame(method, X, y, by=annotator))
    numbers = pd.DataFrame(X, columns=list("abcd")).assign(day=np.arange(480) % 2)
    fitted = OutlierGradientDetector(committee=["kernels"], random_state=0).fit(numbers, y)
    assert set(groups_frame(fitted, numbers, y, by="day").index) == {0, 1}
    assert set(groups_frame(method, X, y, by=y).index) == {0, 1, 2}
    one = groups_frame(method, X, y, by=["all"] * 480)
    assert (one.p_value.item(), one.trust_less.item()) == (1.0, False)


def test_methods_without_predictions_are_tested_by_their_scores(annotated):
    X, y, annotator, wrong, _ = annotated
    method = RandomScore(random_state=1).fit(X, y)
    frame = groups_frame(method, X, y, by=annotator)
    assert "expected_errors" not in frame
    assert not frame.trust_less.any()
    method.detrimentality_ = wrong + 0.1 * method.detrimentality_
    frame = groups_frame(method, X, y, by=annotator)
    raw = [
        mannwhitneyu(
            method.detrimentality_[annotator == name],
            method.detrimentality_[annotator != name],
            alternative="greater",
        ).pvalue
        for name in NAMES
    ]
    np.testing.assert_allclose(frame.p_value[NAMES], holm(raw))
    assert frame.trust_less["kim"]
    table, targets = load_diabetes(return_X_y=True)
    numeric = OutlierGradientDetector(committee=["kernels"], random_state=0).fit(table, targets)
    assert "error_rate" not in groups_frame(numeric, table, targets, by=table[:, 1] > 0)


def test_calibrated_methods_count_what_they_say_they_expect(annotated):
    X, y, annotator, _, _ = annotated
    method = CalibratedDetrimentality(LossScore(classifier(max_epochs=3)), cv=2, random_state=0)
    frame = groups_frame(method.fit(X, y), X, y, by=annotator)
    assert frame.expected_errors.sum() == pytest.approx(method.label_errors_.p_wrong.sum())
    rows = annotator == "kim"
    codes = np.searchsorted(method.classes_, y)
    errors = confident_disagreements(method.oof_probabilities_, codes)
    assert frame.contradicted["kim"] == errors[rows].sum()
    table = [
        [(errors & rows).sum(), (~errors & rows).sum()],
        [(errors & ~rows).sum(), (~errors & ~rows).sum()],
    ]
    p_value = fisher_exact(table, alternative="greater").pvalue
    assert frame.p_value["kim"] == pytest.approx(min(1, 4 * p_value))


def test_nobody_is_accused_by_chance(annotated):
    X, y, _, _, method = annotated
    rng = np.random.default_rng(1)
    accused = 0
    for _ in range(40):
        frame = groups_frame(method, X, y, by=rng.integers(0, 6, 480))
        accused += bool(frame.trust_less.any())
    assert accused <= 5


def test_intervals_are_wilsons_and_p_values_holms():
    low, high = wilson_interval(3, 20, 0.95)  # Wilson's own form, solved for the share
    for end in (low, high):
        z = (3 / 20 - end) / np.sqrt(end * (1 - end) / 20)
        assert abs(z) == pytest.approx(1.959964, abs=1e-6)
    assert wilson_interval(0, 5, 0.95)[0] == 0
    assert wilson_interval(5, 5, 0.95)[1] == 1
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.5]), [0.04, 0.09, 0.09, 0.5])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"by": "who"}, "expected a column of X"),
        ({"by": [1, 2]}, "inconsistent numbers of samples"),
        ({"by": np.ones((480, 2))}, "one group a row"),
        ({"by": np.arange(480), "level": 1.0}, "level=1.0"),
    ],
)
def test_what_are_no_groups_is_refused(annotated, settings, match):
    X, y, *_, method = annotated
    with pytest.raises(ValueError, match=match):
        groups_frame(method, X, y, **settings)
