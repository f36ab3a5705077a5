"""The kind of fault that is named, and its grounds."""

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.datasets import load_digits

from skinfluence import LossScore, OutlierGradientDetector
from skinfluence.datasets import make_noisy_labels
from skinfluence.display import explain
from skinfluence.display._kinds import fault_of, stands_alone
from tests._shared.problems import classifier, noisy_blobs

CLASSES = np.array(["ant", "bee", "cat"])
X, Y, IS_NOISY = noisy_blobs(n=120)


@pytest.mark.parametrize(
    ("probabilities", "near", "alone", "kind"),
    [
        ([0.1, 0.8, 0.1], "bee bee bee ant cat", False, "wrong label"),
        ([0.1, 0.8, 0.1], "bee bee bee ant cat", True, "wrong label"),
        ([0.1, 0.8, 0.1], "bee bee cat cat cat", True, "rare"),
        ([0.1, 0.5, 0.4], "bee bee bee cat cat", False, None),  # no more likely than not
        ([0.1, 0.8, 0.1], "bee bee ant cat cat", False, "ambiguous"),
        ([0.1, 0.8, 0.1], "bee bee cat cat cat", False, None),
        ([0.3, 0.6, 0.1], "ant ant ant ant ant", False, "ambiguous"),
        ([0.6, 0.3, 0.1], "ant ant ant ant ant", False, "ambiguous"),
        ([0.8, 0.1, 0.1], "ant ant bee bee bee", False, None),  # given and predicted
        ([0.8, 0.1, 0.1], "ant ant bee bee bee", True, "rare"),
        ([0.0, 0.9, 0.1], "bee", False, "wrong label"),
    ],
)
def test_grounds_decide_the_kind(probabilities, near, alone, kind):
    fault = fault_of(np.array(probabilities), CLASSES, 0, np.array(near.split()), alone)
    assert fault.kind == kind
    assert (fault.given, fault.other) == (probabilities[0], max(probabilities[1:]))
    assert fault.other_label == CLASSES[1:][np.argmax(probabilities[1:])]
    assert fault.near_given == near.split().count("ant")


def test_a_label_is_wrong_where_that_outweighs_how_often_labels_are_right():
    transitions = np.array([[0.9, 0.05, 0.05], [0.02, 0.9, 0.08], [0.05, 0.05, 0.9]])
    near = np.array(["bee"] * 5)
    for own, kind in ((0.02, None), (0.01, "wrong label")):  # .9 own against .02 (.9 - own)
        probabilities = np.array([own, 0.9 - own, 0.1])
        found = fault_of(probabilities, CLASSES, 0, near, False, transitions=transitions)
        assert found.kind == kind
        assert (found.given, found.other) == (own, 0.9 - own)  # as predicted


def test_nine_rows_in_ten_have_nearer_neighbors_than_one_that_stands_alone():
    closest = np.arange(10.0)
    assert not stands_alone(np.array([8.5, 20]), np.arange(10.0) + 1)
    assert stands_alone(np.array([9.5, 20]), closest)
    assert not stands_alone(np.array([0, 9.5]), closest)  # equal to another
    assert not stands_alone(np.array([1.0]), closest[:0])


@pytest.mark.parametrize("container", [np.asarray, csr_array])
def test_kinds_are_named_in_words(container):
    flipped = int(np.flatnonzero(IS_NOISY)[0])
    rows = np.vstack([X, [[30, 30, 30, 30]]]) if container is np.asarray else X
    y = np.append(Y, 0)[: len(rows)]
    method = OutlierGradientDetector(committee=["kernels"], random_state=0)
    method.fit(container(rows), y)
    why = explain(method, container(rows), y, flipped)
    assert why.kind == "wrong label"
    assert why.fault.other_label == flipped % 3 == why.predicted
    near = sum(row.label == why.predicted for row in why.neighbors)
    grounds = f"{why.predicted} has probability {why.confidence:.2f} and {why.given} "
    assert f"Kind of fault: wrong label; {grounds}" in why.text
    assert f"of the 5 nearest rows {near} are given {why.predicted}." in why.text
    assert "Kind of fault" not in explain(method, container(rows), y, len(rows) // 2).text
    if container is np.asarray:
        why = explain(method, rows, y, len(X), n_neighbors=1)
        assert why.kind == "rare"
        assert "Kind of fault: rare; its nearest row is farther away than that" in why.text


def test_there_is_no_kind_where_grounds_are_missing():
    in_sample = LossScore(classifier(max_epochs=3), random_state=0).fit(X, Y)
    why = explain(in_sample, X, Y, 0)
    assert (why.fault, why.kind) == (None, None)
    numbers = OutlierGradientDetector(committee=["kernels"], random_state=0)
    targets = X[:, 0].astype(float)
    assert explain(numbers.fit(X, targets), X, targets, 0).fault is None


@pytest.mark.slow
def test_flips_and_hard_digits_are_told_apart():
    rows, y = load_digits(return_X_y=True)
    y, is_noisy = make_noisy_labels(y, rate=0.1, random_state=0)
    method = OutlierGradientDetector(random_state=0).fit(rows, y)
    order = method.ranking_

    def kinds(some):
        return [explain(method, rows, y, row, n_columns=0).kind for row in some]

    assert is_noisy[order[:10]].all()
    assert kinds(order[:10]).count("wrong label") >= 9
    hard = kinds(order[~is_noisy[order]][:20])
    assert hard.count("rare") + hard.count("ambiguous") > 10
