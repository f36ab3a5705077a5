"""One label a row of several annotators: who is right, who is to be trusted, what is refused."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinfluence import AnnotatorConsensus

ERROR_RATES = np.repeat([0.05, 0.15, 0.35], 10)


def crowd(seed=0, n_rows=400, n_classes=4, n_labels=3, rates=ERROR_RATES):
    """Long form of labels by annotators who err independently, and the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(n_classes, size=n_rows)
    rows = np.repeat(np.arange(n_rows), n_labels)
    who = np.concatenate([rng.permutation(len(rates))[:n_labels] for _ in range(n_rows)])
    wrong = rng.random(len(rows)) < rates[who]
    other = (truth[rows] + rng.integers(1, n_classes, len(rows))) % n_classes
    return rows, who, np.where(wrong, other, truth[rows]), truth


def matrix_of(rows, who, labels, fill=None):
    matrix = np.full((rows.max() + 1, who.max() + 1), fill, dtype=object)
    matrix[rows, who] = labels
    return matrix


def one_step_by_hand(labels, probabilities, n_classes, pooling):
    """Confusions of every annotator from probabilities, and probabilities from these, in loops."""
    n_rows, n_annotators = labels.shape
    counts = np.zeros((n_annotators, n_classes, n_classes))
    for i in range(n_rows):
        for j in range(n_annotators):
            if labels[i, j] is not None:
                counts[j, :, labels[i, j]] += probabilities[i]
    pooled = counts.sum(0) + 0.01
    confusions = np.zeros_like(counts)
    for j in range(n_annotators):
        for true in range(n_classes):
            row = counts[j, true] + 0.01 + pooling * pooled[true] / pooled[true].sum()
            confusions[j, true] = row / row.sum()
    found = np.zeros_like(probabilities)
    for i in range(n_rows):
        for true in range(n_classes):
            value = (probabilities[:, true].sum() + 1) / (n_rows + n_classes)
            for j in range(n_annotators):
                if labels[i, j] is not None:
                    value *= confusions[j, true, labels[i, j]]
            found[i, true] = value
        found[i] /= found[i].sum()
    return confusions, found


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 999),
    n_rows=st.integers(6, 25),
    n_classes=st.integers(2, 4),
    n_annotators=st.integers(2, 5),
    pooling=st.sampled_from([0.5, 3.0, 20.0]),
)
def test_the_consensus_is_a_fixed_point_of_both_steps(
    seed, n_rows, n_classes, n_annotators, pooling
):
    rates = np.linspace(0, 0.5, n_annotators)
    rows, who, labels, _ = crowd(seed, n_rows, n_classes, 2, rates)
    matrix = matrix_of(rows, who, labels)
    matrix = matrix[:, (matrix != None).any(0)]  # noqa: E711 - element by element
    found = AnnotatorConsensus(pooling=pooling).fit(None, matrix)
    codes = matrix.copy()
    codes[codes != None] = np.searchsorted(  # noqa: E711
        found.classes_,
        codes[codes != None].astype(int),  # noqa: E711
    )
    confusions, again = one_step_by_hand(codes, found.probabilities_, len(found.classes_), pooling)
    np.testing.assert_allclose(found.confusion_, confusions, atol=1e-9)
    np.testing.assert_allclose(found.probabilities_, again, atol=1e-4)


def test_the_unreliable_are_found_and_beaten():
    for seed in range(3):
        rows, who, labels, truth = crowd(seed)
        found = AnnotatorConsensus().fit(None, labels, rows=rows, annotators=who)
        assert roc_auc_score(ERROR_RATES > 0.3, -found.quality_) > 0.9
        right = found.consensus_ == truth
        votes = np.zeros((len(truth), 4))
        np.add.at(votes, (rows, labels), 1)
        assert right.mean() > (votes.argmax(1) == truth).mean()
        assert roc_auc_score(~right, found.detrimentality_) > 0.8
        is_wrong = labels != truth[rows]
        assert roc_auc_score(is_wrong, found.annotation_detrimentality_) > 0.9


def test_intervals_hold_the_truth_where_mistakes_are_independent():
    held = []
    for seed in range(5):
        rows, who, labels, truth = crowd(seed)
        found = AnnotatorConsensus().fit(None, labels, rows=rows, annotators=who)
        share = np.bincount(who, labels == truth[rows]) / found.n_labels_
        low, high = found.quality_interval_.T
        assert ((low <= found.quality_) & (found.quality_ <= high)).all()
        held.append((low <= share) & (share <= high))
        # no wider than for somebody whose labels were checked against the votes of nobody
        assert (high - low).mean() < 2 * np.diff(beta.ppf([0.025, 0.975], 20, 20))
    assert np.mean(held) > 0.9


def test_intervals_hold_the_truth_of_who_gave_few_labels():
    held = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        truth = rng.integers(4, size=400)
        busy = rng.pareto(0.7, 40) + 0.2
        who = np.concatenate([rng.choice(40, 3, replace=False, p=busy / busy.sum()) for _ in truth])
        rows = np.repeat(np.arange(400), 3)
        wrong = rng.random(1200) < rng.beta(2, 8, 40)[who]
        labels = np.where(wrong, (truth[rows] + rng.integers(1, 4, 1200)) % 4, truth[rows])
        found = AnnotatorConsensus().fit(None, labels, rows=rows, annotators=who)
        codes = np.searchsorted(found.annotators_, who)
        share = np.bincount(codes, labels == truth[rows]) / found.n_labels_
        low, high = found.quality_interval_.T
        held.append((low <= share) & (share <= high))
        assert (found.n_labels_ < 10).sum() > 5
        assert ((low >= 0) & (low <= found.quality_) & (found.quality_ <= high) & (high <= 1)).all()
        whole = found.quality_interval_ * found.n_labels_[:, np.newaxis]
        np.testing.assert_allclose(whole, whole.round(), atol=1e-9)
    assert np.concatenate(held).mean() > 0.95


def test_forms_of_the_same_labels_give_the_same_consensus():
    rows, who, labels, _ = crowd(n_rows=60)
    reference = AnnotatorConsensus().fit(None, labels, rows=rows, annotators=who)
    numbers = matrix_of(rows, who, labels).astype(float)  # NaN where there is none
    words = np.array(["a", "b", "c", "d"])
    frame = pd.DataFrame(matrix_of(rows, who, words[labels])).add_prefix("person ")
    masked = np.ma.masked_invalid(numbers)
    forms = [
        numbers,
        pd.DataFrame(numbers).astype("Int64"),
        masked,
        frame,
        matrix_of(rows, who, labels),
    ]
    for form in forms:
        found = AnnotatorConsensus().fit(None, form)
        np.testing.assert_allclose(found.probabilities_, reference.probabilities_, atol=1e-12)
        np.testing.assert_allclose(found.quality_, reference.quality_, atol=1e-12)
        there = np.isfinite(found.annotation_detrimentality_)
        np.testing.assert_array_equal(there, np.isfinite(numbers))
    found = AnnotatorConsensus().fit(None, frame)
    assert found.annotators_[0] == "person 0"
    assert set(found.consensus_) <= set(words)


def test_neither_the_order_of_rows_nor_of_annotators_counts():
    rows, who, labels, _ = crowd(n_rows=80)
    matrix = matrix_of(rows, who, labels)
    reference = AnnotatorConsensus().fit(None, matrix)
    rng = np.random.default_rng(1)
    order, columns = rng.permutation(80), rng.permutation(30)
    found = AnnotatorConsensus().fit(None, matrix[order][:, columns])
    np.testing.assert_allclose(found.probabilities_, reference.probabilities_[order], atol=1e-9)
    np.testing.assert_allclose(found.quality_, reference.quality_[columns], atol=1e-9)


def seen_by_inputs(seed=0):
    rows, who, labels, truth = crowd(seed, n_labels=2)
    noise = np.random.default_rng(seed).normal(size=(len(truth), 4))
    return np.eye(4)[truth] + 0.5 * noise, rows, who, labels, truth


def test_what_inputs_say_of_a_row_makes_the_consensus_better():
    model = make_pipeline(StandardScaler(), LogisticRegression())
    for seed in range(2):
        X, rows, who, labels, truth = seen_by_inputs(seed)
        alone = AnnotatorConsensus().fit(X, labels, rows=rows, annotators=who)
        state = np.random.get_state()[1].copy()
        both = AnnotatorConsensus(model, random_state=0).fit(X, labels, rows=rows, annotators=who)
        np.testing.assert_array_equal(np.random.get_state()[1], state)
        assert (both.consensus_ == truth).mean() > (alone.consensus_ == truth).mean() + 0.03
        frame = pd.DataFrame(X, index=np.arange(len(X)) + 7).add_prefix("column ")
        again = AnnotatorConsensus(model, random_state=0)
        again.fit(frame, labels, rows=rows, annotators=who)
        np.testing.assert_allclose(again.probabilities_, both.probabilities_, atol=1e-4)
    assert not hasattr(model[-1], "coef_")


def test_the_estimator_never_saw_the_row_it_speaks_of():
    class Memory(LogisticRegression):
        def fit(self, X, y):
            self.rows_ = set(X[:, 0])
            return super().fit(X, y)

        def predict_proba(self, X):
            assert self.rows_.isdisjoint(X[:, 0])
            return super().predict_proba(X)

    X, rows, who, labels, _ = seen_by_inputs()
    AnnotatorConsensus(Memory(), cv=3).fit(X, labels, rows=rows, annotators=who)


MATRIX = matrix_of(*crowd(n_rows=40, rates=np.full(5, 0.1))[:3])
BARE = np.vstack([MATRIX, [None] * MATRIX.shape[1]])  # a row without a label


@pytest.mark.parametrize(
    ("parameters", "X", "y", "more", "error", "message"),
    [
        ({"pooling": -1}, None, MATRIX, {}, ValueError, "pooling"),
        ({"cv": None}, None, MATRIX, {}, ValueError, "expected folds"),
        ({"estimator": LogisticRegression()}, None, MATRIX, {}, ValueError, "Pass the rows"),
        ({"estimator": LogisticRegression}, MATRIX, MATRIX, {}, TypeError, "an instance"),
        (
            {},
            None,
            BARE,
            {},
            ValueError,
            r"1 rows have no label \(40",
        ),
        ({}, None, np.hstack([MATRIX, [[None]] * 40]), {}, ValueError, "5 gave no label"),
        ({}, np.ones((39, 2)), MATRIX, {}, ValueError, "inconsistent numbers of samples"),
        ({}, None, MATRIX[None], {}, ValueError, r"shape \(1, 40, 5\)"),
        ({}, None, [1, 2], {"rows": [0, 1]}, ValueError, "one of rows and annotators"),
        (
            {},
            None,
            [1, 2, 1],
            {"rows": [0, 0, 1], "annotators": ["x", "x", "y"]},
            ValueError,
            "'x' labels row 0 2 times",
        ),
        (
            {},
            None,
            [1, 2],
            {"rows": [0, 2], "annotators": ["x", "y"]},
            ValueError,
            r"1 rows have no label \(1\)",
        ),
        (
            {},
            np.ones((2, 1)),
            [1, 2],
            {"rows": [0, 2], "annotators": ["x", "y"]},
            ValueError,
            "row number 2, but X has 2",
        ),
        (
            {},
            None,
            [1, None],
            {"rows": [0, 1], "annotators": ["x", "y"]},
            ValueError,
            "NaN, NaT or None in 1 of 2",
        ),
        (
            {},
            None,
            [1, 2],
            {"rows": ["r", "s"], "annotators": ["x", "y"]},
            ValueError,
            "integers from 0 on",
        ),
        ({}, None, ["a", "b"], {}, ValueError, "No row has labels of two annotators"),
        ({}, None, np.array([[0.5, 0.2]]), {}, ValueError, "numbers with a fraction"),
        ({}, None, np.array([["a", 1]], dtype=object), {}, ValueError, "mixes labels of types"),
    ],
)
def test_what_is_no_set_of_annotations_is_refused(parameters, X, y, more, error, message):
    with pytest.raises(error, match=message):
        AnnotatorConsensus(**parameters).fit(X, y, **more)
