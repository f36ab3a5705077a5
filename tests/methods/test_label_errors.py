"""How likely labels are wrong: on rows whose law is known, against loops, and on digits."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.datasets import load_digits, load_iris

from skinfluence import (
    CalibratedDetrimentality,
    DetrimentalSampleCleaner,
    LossScore,
    OutlierGradientDetector,
    check_label_errors,
    estimate_label_errors,
    estimate_target_errors,
)
from skinfluence.datasets import make_noisy_labels
from skinfluence.exceptions import UnknownErrorsWarning
from skinfluence.methods import _noise_link
from skinfluence.methods._noise_link import fit_link, learn_spread, wrong_given
from tests._shared.problems import classifier, noisy_blobs

NET = classifier(max_epochs=2)
N_CLASSES = 4
PAIR = np.roll(np.eye(N_CLASSES), 1, axis=1)
EVEN = (1 - np.eye(N_CLASSES)) / (N_CLASSES - 1)


def drawn(rate, *, n=3000, kind=EVEN, hard=0.3, seed=0):
    """Draw rows of known class probabilities, labels by a known law, and what unsure models say."""
    rng = np.random.default_rng(seed)
    clean = rng.dirichlet(np.full(N_CLASSES, hard), n)
    true = (rng.random(n)[:, None] > clean.cumsum(1)).sum(1)
    law = (1 - rate) * np.eye(N_CLASSES) + rate * kind
    given = (rng.random(n)[:, None] > law[true].cumsum(1)).sum(1).clip(max=N_CLASSES - 1)
    learnt = softmax(np.log(clean + 1e-6) * 0.4, axis=1)
    return learnt, given, given != true, clean, law


def likelihood_by_a_loop(logits, codes, link):
    unit = np.mean([max(row) ** 2 for row in logits])
    total = 0.0
    for row, code in zip(logits, codes):
        stretch = np.exp(link.log_factor) * (1 + link.convexity * max(row) ** 2 / unit)
        top = softmax(row * stretch)[row.argmax()]
        agrees = (1 - link.rate) * top + link.rate * (1 - top) / (len(row) - 1)
        total += np.log(agrees if row.argmax() == code else 1 - agrees)
    return total


def centered(probabilities):
    logits = np.log(probabilities)
    return logits - logits.mean(1, keepdims=True)


@pytest.mark.parametrize("rate", [0.0, 0.2])
def test_link_has_the_greatest_likelihood(rate):
    learnt, given, *_ = drawn(rate, n=400)
    logits = centered(learnt)
    link = fit_link(logits, given)
    best = likelihood_by_a_loop(logits, given, link)
    assert -link.loss == pytest.approx(best, rel=1e-9)
    for name, step in (("log_factor", 0.05), ("rate", 0.02), ("convexity", 0.05)):
        for moved in (getattr(link, name) - step, getattr(link, name) + step):
            if name == "log_factor" or moved >= 0:
                near = type(link)(**{**vars(link), name: moved})
                assert likelihood_by_a_loop(logits, given, near) < best + 1e-6
    fixed = fit_link(logits, given, link, 0.35)
    assert fixed.rate == 0.35
    assert fixed.loss > link.loss


def test_wrong_is_what_is_left_by_bayes_rule():
    _, given, _, clean, _ = drawn(0.2, n=50, kind=PAIR)
    spread = learn_spread(clean, given, 0.2)
    found = wrong_given(clean, given, 0.2, spread)
    for row, code, share, p in zip(clean, given, spread.of_rows, found):
        given_of = [row[k] * 0.2 * share[k] for k in range(N_CLASSES)]
        given_of[code] = row[code] * (1 - 0.2 * share[code])
        assert p == pytest.approx(1 - given_of[code] / sum(given_of), abs=1e-9)


def spread_without_a_row(clean, codes, rate, before, left_out, drawn_to=3.0, tie=10.0):
    """Learn from all other rows how wrong labels are spread, by a step from the spread before."""
    n = len(codes)
    of_class, toward = np.zeros(N_CLASSES), np.zeros((N_CLASSES, N_CLASSES))
    all_of_class, all_wrong = np.zeros(N_CLASSES), np.zeros(N_CLASSES)
    for row in range(n):
        joint = clean[row] * rate * before[row]
        joint[codes[row]] = clean[row, codes[row]] * (1 - rate * before[row, codes[row]])
        joint /= joint.sum()
        for k in range(N_CLASSES):
            wrong = joint[k] if k != codes[row] else 0.0
            all_of_class[k] += joint[k]
            all_wrong[k] += wrong
            if row != left_out:
                of_class[k] += joint[k]
                toward[k, codes[row]] += wrong
    tied = tie * all_wrong.sum() / n
    unit = n / (((all_wrong + tied) / (all_of_class + tie)) @ all_of_class)
    found = np.zeros(N_CLASSES)
    for k in range(N_CLASSES):
        of_wrong = toward[k].sum()
        found[k] = unit * (of_wrong + tied) / (of_class[k] + tie)
        if k != codes[left_out]:
            even = drawn_to / (N_CLASSES - 1)
            found[k] *= (toward[k, codes[left_out]] + even) / (of_wrong + drawn_to)
    return found


@pytest.mark.parametrize("steps", [0, 3])
def test_no_row_teaches_how_its_own_label_goes_wrong(steps, monkeypatch):
    _, given, _, clean, _ = drawn(0.2, n=40, kind=PAIR)
    monkeypatch.setattr(_noise_link, "_EM_STEPS", steps + 1)
    found = learn_spread(clean, given, 0.2).of_rows
    before = (EVEN + np.eye(N_CLASSES))[:, given].T
    if steps:
        monkeypatch.setattr(_noise_link, "_EM_STEPS", steps)
        before = learn_spread(clean, given, 0.2).of_rows
    for row in (0, 7, 39):
        slow = spread_without_a_row(clean, given, 0.2, before, row)
        np.testing.assert_allclose(found[row], slow, rtol=1e-9)


def test_labels_of_rows_that_say_nothing_do_not_confirm_themselves():
    # one row a class and label: by its own label it would be the likeliest transition
    n_classes = 20
    codes = np.repeat(np.arange(n_classes), 6)
    clean = np.full((len(codes), n_classes), 0.1 / (n_classes - 1))
    clean[np.arange(len(codes)), codes] = 0.9
    right = codes.copy()
    codes[::12] = (codes[::12] + 1 + np.arange(10)) % n_classes  # 10 wrong, each another way
    spread = learn_spread(clean, codes, 0.1)
    wrong = wrong_given(clean, codes, 0.1, spread)[codes != right]
    between = spread.of_classes[right[codes != right], codes[codes != right]]
    even = (1 - np.eye(n_classes)) / (n_classes - 1)
    by_even = 0.9 * 0.1 * even[0, 1] / (0.9 * 0.1 * even[0, 1] + clean[0, 1] * 0.9)
    assert (between > 3 * even[0, 1]).all()  # what all rows say
    assert (wrong < by_even + 0.05).all()


def test_transitions_are_found_at_the_rate():
    _, given, _, clean, law = drawn(0.2, kind=PAIR)
    spread = learn_spread(clean, given, 0.2)
    found = spread.transitions(0.2)
    np.testing.assert_allclose(found.sum(1), 1)
    np.testing.assert_allclose(found, law, atol=0.05)
    nothing = learn_spread(clean, given, 0.0)
    np.testing.assert_array_equal(nothing.transitions(0.0), np.eye(N_CLASSES))
    np.testing.assert_array_equal(wrong_given(clean, given, 0.0, nothing), 0)


def test_transitions_are_finite_where_no_label_is_wrong():
    given = np.tile(np.arange(N_CLASSES), 5)
    found = learn_spread(np.eye(N_CLASSES)[given], given, 0.2).transitions(0.2)
    np.testing.assert_array_equal(found, np.eye(N_CLASSES))


@pytest.mark.parametrize("kind", [EVEN, PAIR], ids=["even", "pair"])
@pytest.mark.parametrize("rate", [0.05, 0.2, 0.4])
def test_number_and_flags_are_right_where_the_assumption_holds(rate, kind):
    learnt, given, is_wrong, *_ = drawn(rate, kind=kind, hard=0.15)
    found = estimate_label_errors(learnt, given)
    assert found.is_known
    assert found.expected == pytest.approx(is_wrong.sum(), rel=1 / 3)
    assert found.expected == pytest.approx(found.p_wrong.sum())
    low, high = found.interval
    assert low < found.expected < high
    assert found.noise_rate_interval[0] <= found.noise_rate <= found.noise_rate_interval[1]
    for promised in (0.1, 0.2):
        flagged = found.flagged(promised)
        assert len(flagged) > 0.2 * is_wrong.sum()
        assert (~is_wrong[flagged]).mean() < promised + 0.04


def test_hard_rows_are_no_errors():
    learnt, given, *_ = drawn(0.0, hard=0.5)
    disagree = learnt.argmax(1) != given
    assert disagree.mean() > 0.2  # which counting would call errors
    found = estimate_label_errors(learnt, given)
    assert found.noise_rate_interval[0] == 0
    assert not found.is_known
    assert found.interval[1] >= disagree.sum()
    assert len(found.flagged(0.2)) == 0


def test_certain_predictions_of_few_rows_leave_room_for_a_row_or_two():
    y = np.arange(178) % 3
    given = y.copy()
    given[:15] = (given[:15] + 1) % 3
    probabilities = np.full((178, 3), 1e-9)
    probabilities[np.arange(178), y] = 1 - 2e-9
    low, high = estimate_label_errors(probabilities, given).interval
    assert low < 14
    assert high > 16
    assert high - low < 6


def test_where_models_are_nowhere_certain_nothing_is_known():
    learnt, given, *_ = drawn(0.3, hard=2.0)
    found = estimate_label_errors(learnt, given)
    assert found.certainty < 0.95
    assert not found.is_known
    assert len(found.flagged(0.2)) == 0


def test_flags_are_the_longest_beginning_that_keeps_the_rate():
    learnt, given, *_ = drawn(0.2, n=500, hard=0.15)
    found = estimate_label_errors(learnt, given)
    ranking = np.random.default_rng(1).permutation(np.argsort(-found.p_wrong)[:150])
    ranking = np.concatenate([np.sort(ranking), np.setdiff1d(np.arange(500), ranking)])
    right = 1 - found._cautious
    kept = [n for n in range(1, 501) if right[ranking[:n]].mean() <= 0.2]
    assert len(found.flagged(0.2, ranking)) == max(kept, default=0)
    assert found.flagged(0.2, ranking).tolist() == ranking[: max(kept, default=0)].tolist()
    assert len(found.flagged(0.3)) >= len(found.flagged(0.1)) > 0
    for rate in (0, 1, -0.1, "a", None):
        with pytest.raises(ValueError, match="share of false alarms"):
            found.flagged(rate)
    with pytest.raises(ValueError, match="each once"):
        found.flagged(0.1, ranking[:-1])


def test_order_of_rows_and_names_of_classes_do_not_count():
    learnt, given, *_ = drawn(0.2, n=600, hard=0.15)
    plain = estimate_label_errors(learnt, given)
    order = np.random.default_rng(2).permutation(600)
    classes = np.array([2, 0, 3, 1])  # the new number of each
    moved = np.empty_like(learnt)
    moved[:, classes] = learnt
    names = np.array(["a", "b", "c", "d"])[classes[given]]
    permuted = estimate_label_errors(moved[order], names[order])
    np.testing.assert_allclose(permuted.p_wrong, plain.p_wrong[order], atol=1e-3)
    assert permuted.is_known == plain.is_known


def test_bad_probabilities_are_refused():
    learnt, given, *_ = drawn(0.1, n=20)
    spoilt = learnt.copy()
    spoilt[3] = [2.0, -1.0, 0.0, 0.0]
    with pytest.raises(ValueError, match=r"Row 3 of the probabilities.*not logits"):
        estimate_label_errors(spoilt, given)
    spoilt[3, 1] = np.nan
    with pytest.raises(ValueError, match="a column a class"):
        estimate_label_errors(learnt[:, :3], given)
    with pytest.raises(ValueError, match="one class"):
        estimate_label_errors(np.ones((5, 1)), np.zeros(5))
    with pytest.raises(ValueError, match="NaN or infinity in 1 of 20 rows"):
        estimate_label_errors(spoilt, given)


def test_numbers_of_other_rows_are_counted_and_others_not():
    rng = np.random.default_rng(0)
    predicted = rng.normal(size=1000)
    y = 3 + 5 * (predicted + 0.2 * rng.standard_t(8, 1000))
    clean = estimate_target_errors(3 + 5 * predicted, y)
    assert clean.expected < 10
    assert len(clean.flagged(0.2)) == 0
    wrong = rng.choice(1000, 100, replace=False)
    y[wrong] = y[np.roll(wrong, 1)]
    found = estimate_target_errors(3 + 5 * predicted, y)
    assert found.is_known
    assert found.expected == pytest.approx(100, rel=0.25)
    flagged = found.flagged(0.1)
    assert len(flagged) > 50
    assert 1 - np.isin(flagged, wrong).mean() < 0.14
    with pytest.raises(ValueError, match="one of each a row"):
        estimate_target_errors(predicted, y[:5])


def test_committee_says_how_many_labels_of_digits_are_wrong():
    X, y = load_digits(return_X_y=True)
    X, y = X[:600], y[:600]
    given, is_noisy = make_noisy_labels(y, rate=0.2, kind="pair", random_state=0)
    method = OutlierGradientDetector(committee=["kernels"], random_state=0)
    cleaner = DetrimentalSampleCleaner(method, contamination=("fdr", 0.1)).fit(X, given)
    errors = cleaner.method_.label_errors_
    assert errors.interval[0] <= is_noisy.sum() <= errors.interval[1]
    flagged = errors.flagged(0.1, cleaner.method_.ranking_)
    np.testing.assert_array_equal(cleaner.removed_indices_, flagged)
    assert len(flagged) > 0.4 * is_noisy.sum()
    assert (~is_noisy[flagged]).mean() < 0.15
    assert cleaner.contamination_ == ("fdr", 0.1)
    cleaner.set_params(contamination="auto").fit(X, given)
    assert cleaner.contamination_ == len(cleaner.removed_indices_) == round(errors.expected)
    assert cleaner.n_trainings_ == 1  # no shares had to be compared
    assert not hasattr(cleaner, "losses_")


def test_calibration_adds_up_what_is_likely_wrong():
    X, y, _ = noisy_blobs(n=150, rate=0.2)
    method = OutlierGradientDetector(committee=["kernels"])
    fitted = CalibratedDetrimentality(method, cv=3, random_state=0).fit(X, y)
    errors = fitted.label_errors_
    assert fitted.expected_errors(40) == round(errors.p_wrong[fitted.ranking_[:40]].sum())
    assert fitted.expected_errors(1.0) == round(errors.expected)


@pytest.mark.parametrize("amount", [("fdr", 0), ("fdr", 1.0), ("fdr",), ("rate", 0.1)])
def test_a_rate_of_false_alarms_is_checked(amount):
    X, y, _ = noisy_blobs(n=60)
    with pytest.raises(ValueError, match="a rate of false alarms"):
        DetrimentalSampleCleaner(LossScore(), contamination=amount).fit(X, y)


def test_cleaners_say_what_they_cannot_know():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(120, 4)), rng.integers(0, 3, 120)  # nothing to be predicted
    method = OutlierGradientDetector(committee=["kernels"], random_state=0)
    cleaner = DetrimentalSampleCleaner(method, contamination=("fdr", 0.1))
    with pytest.warns(UnknownErrorsWarning, match="in 120 rows"):
        assert len(cleaner.fit(X, y).removed_indices_) == 0
    with pytest.raises(ValueError, match="LossScore, as it is set, has no label_errors_"):
        DetrimentalSampleCleaner(LossScore(NET), contamination=("fdr", 0.1)).fit(X, y)
    assert not hasattr(OutlierGradientDetector(NET).fit(X, y), "label_errors_")


def test_planted_errors_are_looked_for():
    X, y = load_iris(return_X_y=True)
    names = np.array(["a", "b", "c"])[y]
    method = OutlierGradientDetector(committee=["kernels"])
    with pytest.warns(UnknownErrorsWarning, match="unsure"):
        found = check_label_errors(method, X, names, share=0.2, rate=0.2, random_state=0)
    by_kind = {each.kind: each for each in found}
    assert list(by_kind) == ["symmetric", "pair", "unsure"]
    assert {each.n_planted for each in found} == {30}
    assert by_kind["symmetric"].n_counted == pytest.approx(30, rel=1 / 3)
    assert by_kind["unsure"].n_counted < 15
    with pytest.raises(ValueError, match="some of"):
        check_label_errors(method, X, names, kinds=["permuted"], random_state=0)
    with pytest.raises(ValueError, match="has no label_errors_"):
        check_label_errors(LossScore(NET), X, names, random_state=0)


def test_planted_errors_of_numbers_are_looked_for():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4))
    y = X @ [1.0, 2.0, -1.0, 0.5] + rng.normal(scale=0.05, size=300)
    given = y.copy()
    method = OutlierGradientDetector(committee=["kernels"])
    found = check_label_errors(method, X, y, random_state=0)
    np.testing.assert_array_equal(y, given)
    assert [each.kind for each in found] == ["permuted", "shifted"]
    for each in found:
        assert each.n_planted == 30
        assert each.n_counted == pytest.approx(30, rel=1 / 3)
        assert each.found > 0.9
        assert each.holds
    vague = y + rng.normal(scale=3, size=300)  # a shift is no more than what rows differ by
    with pytest.warns(UnknownErrorsWarning, match="shifted"):
        found = check_label_errors(method, X, vague, kinds=["shifted"], random_state=0)
    assert not found[0].holds
    with pytest.raises(ValueError, match="some of"):
        check_label_errors(method, X, y, kinds=["pair"], random_state=0)
