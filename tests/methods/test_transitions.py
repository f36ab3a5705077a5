"""How labels go wrong, and weights of members that know of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import softmax
from scipy.stats import dirichlet_multinomial

from skinfluence.methods import _transitions
from skinfluence.methods._pool import Pool, fit_pool, pool_predictions
from skinfluence.methods._transitions import even_noise, noise_transitions


def classes_of_members(rng, n=3000, n_classes=5, unclear=0.3):
    """Draw classes, and two members that know them but for rows between two neighboring ones."""
    truth = rng.integers(n_classes, size=n)
    is_unclear = rng.random(n) < unclear
    beside = (truth + 1) % n_classes
    known = np.eye(n_classes)[truth]
    known[is_unclear] = (np.eye(n_classes)[truth] + np.eye(n_classes)[beside])[is_unclear] / 2
    shown = np.log(0.98 * known + 0.02 / n_classes)
    labels = np.where(is_unclear & (rng.random(n) < 0.5), beside, truth)
    members = np.stack([shown, 0.3 * shown]) + 0.3 * rng.normal(size=(2, n, n_classes))
    return members, labels


def flipped(labels, rate, rng, *, pair):
    n_classes = labels.max() + 1
    steps = 1 if pair else rng.integers(1, n_classes, size=len(labels))
    return np.where(rng.random(len(labels)) < rate, (labels + steps) % n_classes, labels)


def test_pair_noise_shows_in_the_transitions():
    rng = np.random.default_rng(0)
    truth = rng.integers(5, size=4000)
    given_ = np.where(rng.random(4000) < 0.2, (truth + 1) % 5, truth)
    found = noise_transitions(np.eye(5)[truth], given_)
    np.testing.assert_allclose(np.diag(found), 0.8, atol=0.02)
    for k in range(5):
        assert found[k, (k + 1) % 5] > 4 * found[k, (k + 2) % 5]


@pytest.mark.parametrize("rate", [0.05, 0.2])
@pytest.mark.parametrize("pair", [True, False])
def test_wrong_labels_are_told_from_hard_rows(pair, rate):
    rng = np.random.default_rng(1)
    members, labels = classes_of_members(rng)
    _, found = fit_pool(members, flipped(labels, rate, rng, pair=pair), "classes")
    expected = even_noise(5, rate)
    if pair:
        expected = (1 - rate) * np.eye(5) + rate * np.roll(np.eye(5), 1, axis=1)
    np.testing.assert_allclose(found, expected, atol=0.04)


def test_few_wrong_labels_of_one_class_show():
    # as where ten rows of one class of ten were all given the same wrong label
    rng = np.random.default_rng(8)
    members, labels = classes_of_members(rng, n=300, unclear=0.0)
    given_ = labels.copy()
    given_[np.flatnonzero(labels == 3)[:10]] = 1
    _, found = fit_pool(members, given_, "classes")
    assert found[3, 1] > 4 * found[3, 2]


def test_hard_rows_alone_do_not_look_like_wrong_labels():
    members, labels = classes_of_members(np.random.default_rng(2))
    _, found = fit_pool(members, labels, "classes")
    assert found[0, 0] > 0.98  # though 15 % of the labels are not the likeliest class


def test_members_keep_what_they_know_of_right_labels():
    # taken as right, wrong labels make all members less sure than they may be
    rng = np.random.default_rng(3)
    members, labels = classes_of_members(rng, unclear=0.0)
    given_ = flipped(labels, 0.3, rng, pair=False)
    pool, _ = fit_pool(members, given_, "classes")
    plain = Pool.fit(members, given_, "classes")
    rows = np.arange(len(labels))
    surely, hardly = (each.predict(members)[rows, labels].mean() for each in (pool, plain))
    assert surely > 0.85
    assert hardly < 0.7


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(2, 6), st.floats(0, 1), st.integers(0, 99))
def test_transitions_are_probabilities(n_rows, n_classes, directed, seed):
    rng = np.random.default_rng(seed)
    predicted = rng.dirichlet(np.full(n_classes, 0.3), n_rows)
    labels = rng.integers(n_classes, size=n_rows)
    found = noise_transitions(predicted, labels, directed=directed)
    np.testing.assert_allclose(found.sum(1), 1)
    assert (found > 0).all()
    np.testing.assert_allclose(np.ptp(np.diag(found)), 0, atol=1e-12)  # one rate for all classes


def counted_one_by_one(probabilities, codes):
    """Count labels among the surest rows of each predicted class, and add up doubts, row by row."""
    n_classes = probabilities.shape[1]
    counts = np.zeros((n_classes, n_classes))
    predicted, doubts = probabilities.argmax(1), 0.0
    for k in range(n_classes):
        rows = [i for i in range(len(codes)) if predicted[i] == k]
        rows.sort(key=lambda i: -probabilities[i].max())
        n_wanted = max(len(rows) / 4, min(len(rows) / 2, 30), 10)
        for i in rows[: int(np.ceil(n_wanted))]:
            counts[k, codes[i]] += 1
            doubts += 1 - probabilities[i, k]
    return counts, doubts


@pytest.mark.parametrize("n_rows", [30, 150, 800])
def test_labels_are_counted_among_the_surest_rows(n_rows):
    rng = np.random.default_rng(4)
    probabilities = rng.dirichlet(np.full(4, 0.5), n_rows)
    codes = rng.integers(4, size=n_rows)
    counts, doubts = counted_one_by_one(probabilities, codes)
    off = ~np.eye(4, dtype=bool)
    disagree, doubt = counts[off].sum() / counts.sum(), doubts / counts.sum()
    # a label agrees if it and the prediction are right, or wrong in the same way, one of three
    rate = brentq(lambda e: (1 - e) * (1 - doubt) + e * doubt / 3 - (1 - disagree), 0, 1)
    likelihoods = []
    for drawn in _transitions._DRAWN:
        rows = [counts[k][off[k]].astype(int) for k in range(4)]
        each = [dirichlet_multinomial.logpmf(x, np.full(3, drawn / 3), x.sum()) for x in rows]
        likelihoods.append(sum(each))
    drawn = _transitions._DRAWN[int(np.argmax(likelihoods))]
    for directed in (0.0, 0.4, 1.0):
        found = noise_transitions(probabilities, codes, directed=directed)
        for k in range(4):
            share = (counts[k] + drawn / 3) / (counts[k][off[k]].sum() + drawn)
            expected = rate * (directed * share + (1 - directed) / 3)
            np.testing.assert_allclose(found[k][off[k]], expected[off[k]], rtol=1e-9)


def test_weights_are_repeated_rows_and_none_is_absence():
    rng = np.random.default_rng(5)
    probabilities = rng.dirichlet(np.full(3, 0.5), 200).repeat(2, axis=0)  # ties of two
    codes = rng.integers(3, size=200).repeat(2)
    once = noise_transitions(probabilities[::2], codes[::2], np.full(200, 2.0))
    np.testing.assert_allclose(noise_transitions(probabilities, codes), once, rtol=1e-12)
    weights = rng.integers(2, size=400).astype(float)
    some = noise_transitions(probabilities[weights > 0], codes[weights > 0])
    np.testing.assert_allclose(noise_transitions(probabilities, codes, weights), some)
    outputs = np.log(np.stack([probabilities, rng.dirichlet(np.ones(3), 400)]))
    pool, transitions = fit_pool(outputs, codes, "classes", weights)
    part, of_part = fit_pool(outputs[:, weights > 0], codes[weights > 0], "classes")
    np.testing.assert_allclose(pool.weights, part.weights, rtol=1e-12)
    np.testing.assert_allclose(transitions, of_part, rtol=1e-12)


def test_names_of_classes_and_units_of_members_do_not_count():
    rng = np.random.default_rng(6)
    members, labels = classes_of_members(rng, n=400)
    given_ = flipped(labels, 0.2, rng, pair=True)
    order = rng.permutation(5)  # class order[k] becomes class k
    pool, found = fit_pool(members, given_, "classes")
    renamed, of_renamed = fit_pool(members[:, :, order], np.argsort(order)[given_], "classes")
    np.testing.assert_allclose(renamed.weights, pool.weights, atol=1e-3)
    np.testing.assert_allclose(of_renamed, found[np.ix_(order, order)], atol=1e-3)
    scaled, _ = fit_pool(members * np.array([7.0, 0.1])[:, None, None], given_, "classes")
    np.testing.assert_allclose(scaled.weights * [7.0, 0.1], pool.weights, atol=1e-3)


def test_scores_are_twice_the_probability_of_a_wrong_label():
    rng = np.random.default_rng(7)
    members, labels = classes_of_members(rng, n=500)
    given_ = flipped(labels, 0.2, rng, pair=True)
    predicted = softmax(members, axis=2)
    pooled, scores = pool_predictions(predicted, given_, "classes")
    _, transitions = fit_pool(np.log(np.maximum(predicted, 1 / 501)), given_, "classes")
    for i in range(0, 500, 25):
        joint = [pooled[i, c] * transitions[c, given_[i]] for c in range(5)]
        np.testing.assert_allclose(scores[i], 2 * (1 - joint[given_[i]] / sum(joint)), atol=1e-10)


def test_members_that_know_nothing_tell_no_rate():
    codes = np.arange(60) % 3
    found = noise_transitions(np.full((60, 3), 1 / 3), codes)
    np.testing.assert_allclose(np.diag(found), 60 / 61)  # the lowest that so many rows can tell
    pool, _ = fit_pool(np.zeros((2, 60, 3)), codes, "classes")
    np.testing.assert_allclose(pool.predict(np.zeros((2, 60, 3))), 1 / 3)


def test_one_class_is_always_right():
    pool, transitions = fit_pool(np.zeros((2, 7, 1)), np.zeros(7, dtype=int), "classes")
    assert transitions.tolist() == [[1.0]]
    assert pool.predict(np.zeros((2, 7, 1))).tolist() == [[1.0]] * 7
