"""What is said of one row: each kind of evidence, held against its own slow reference."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn.datasets import load_diabetes
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.helper import SliceDict

from skinfluence import (
    CalibratedDetrimentality,
    LossScore,
    OutlierGradientDetector,
    RandomScore,
    SelfConfidence,
    TracIn,
)
from skinfluence.datasets import conflicting_rows
from skinfluence.display import ExplanationDisplay, explain
from skinfluence.display._columns import columns_apart
from skinfluence.display._course import learnt_at
from tests._shared.problems import classifier, noisy_blobs

X, Y, IS_NOISY = noisy_blobs(n=120)
NAMES = np.array(["ant", "bee", "cat"])
WORDS = NAMES[Y]
FLIPPED = int(np.flatnonzero(IS_NOISY)[0])


def kernels():
    return OutlierGradientDetector(committee=["kernels"], random_state=0)


@pytest.fixture(scope="module")
def method():
    return kernels().fit(X, WORDS)


def test_a_flipped_row_is_explained_in_words(method):
    why = explain(method, X, WORDS, FLIPPED)
    truth = NAMES[FLIPPED % 3]
    assert why.given == WORDS[FLIPPED] != truth
    assert why.predicted == truth
    assert why.out_of_sample
    assert method.ranking_[why.place - 1] == FLIPPED
    lines = str(why).splitlines()
    assert lines[0].startswith(f"Row {FLIPPED}: detrimentality")
    assert f"Predicted: '{truth}'" in lines[1]
    assert "not trained on the row" in lines[1]
    assert f"Nearest rows: '{truth}' (row {why.neighbors[0].row})" in why.text
    assert why.learning is None  # kernels are not trained by steps


def test_neighbors_are_the_nearest_rows_with_their_labels(method):
    why = explain(method, X, WORDS, FLIPPED, n_neighbors=4)
    scaled = (X - X.mean(0)) / X.std(0)
    away = np.linalg.norm(scaled - scaled[FLIPPED], axis=1)
    away[FLIPPED] = np.inf
    assert [near.row for near in why.neighbors] == away.argsort()[:4].tolist()
    assert [near.label for near in why.neighbors] == WORDS[away.argsort()[:4]].tolist()
    assert [near.value for near in why.neighbors] == sorted(near.value for near in why.neighbors)
    assert not explain(method, X, WORDS, FLIPPED, n_neighbors=0).neighbors


@pytest.mark.parametrize("container", [np.asarray, csr_array], ids=["dense", "sparse"])
def test_equal_and_nearly_equal_rows_with_other_labels_are_named(container):
    rows, y = X.astype(np.float64), WORDS.copy()
    rows[5], rows[6] = rows[0], rows[0] + 1e-6
    y[0], y[5], y[6] = "ant", "bee", "cat"
    table = container(rows)
    why = explain(kernels().fit(table, y), table, y, 0)
    assert [(other.row, other.label) for other in why.conflicts] == [(5, "bee"), (6, "cat")]
    assert why.conflicts[0].value == 0
    assert "Equal, with another label: row 5 is given 'bee'." in why.text
    assert "Nearly equal, with another label: row 6 is given 'cat'." in why.text
    pairs = conflicting_rows(rows, y)
    expected = {j for i, j in pairs.tolist() if i == 0}
    assert {other.row for other in why.conflicts} == expected
    assert not explain(kernels().fit(table, y), table, y, 17).conflicts


def test_the_training_is_told_as_it_went():
    net = classifier(max_epochs=6, lr=0.003)
    method = SelfConfidence(net, checkpoints="all", random_state=0).fit(X, WORDS)
    why = explain(method, X, WORDS, FLIPPED)
    learning = why.learning
    points = method.trace_.checkpoints
    table = np.stack([method._trained.probabilities_at(X, [p.state])[FLIPPED] for p in points])
    code = NAMES.tolist().index(WORDS[FLIPPED])
    np.testing.assert_allclose(learning.given, table[:, code], atol=1e-6)
    rival = np.delete(np.arange(3), code)[np.delete(table.mean(0), code).argmax()]
    assert learning.rival == NAMES[rival]
    np.testing.assert_allclose(learning.other, table[:, rival], atol=1e-6)
    assert learning.epochs.tolist() == [1, 2, 3, 4, 5, 6]
    assert not learning.out_of_sample
    assert "was not predicted; its mean probability is" in why.text
    assert "by a net that was trained on the row" in why.text
    clean = explain(method, X, WORDS, int(method.ranking_[-1]))
    assert clean.learning.learnt_at is not None
    assert "was predicted from" in clean.text


@pytest.mark.parametrize(
    ("predicted", "epoch"),
    [([0, 0, 1, 1], 6), ([1, 1, 1, 1], 2), ([1, 0, 0, 1], 8), ([1, 1, 1, 0], None)],
)
def test_a_label_is_learnt_when_it_is_predicted_to_the_end(predicted, epoch):
    assert learnt_at(np.array([2, 4, 6, 8]), np.array(predicted, dtype=bool)) == epoch


def test_proponents_and_opponents_are_those_of_the_method():
    method = TracIn(classifier(max_epochs=5), random_state=0).fit(X, WORDS)
    why = explain(method, X, WORDS, FLIPPED, n_influential=3)
    values = method.influence(X[[FLIPPED]], WORDS[[FLIPPED]])[0]
    others = np.setdiff1d(np.arange(120), [FLIPPED])
    best = others[np.argsort(-values[others], kind="stable")]
    assert [other.row for other in why.proponents] == best[:3].tolist()
    assert [other.row for other in why.opponents] == best[::-1][:3].tolist()
    np.testing.assert_allclose([o.value for o in why.opponents], values[best[::-1][:3]])
    assert "Rows that raise its loss most" in why.text


def test_columns_are_judged_by_the_rows_given_the_same():
    rng = np.random.default_rng(0)
    columns = {
        "size": np.append(rng.normal(size=40), 30.0),
        "kind": np.array(["a"] * 40 + ["b"], dtype=object),
        "usual": rng.normal(size=41),
        "gap": np.append(np.ones(40), np.nan),
    }
    found = {c.name: c for c in columns_apart(columns, 40, np.arange(40))}
    assert list(found)[-1] == "usual"
    assert found["size"].share == 1 / 41
    assert found["size"].typical == np.median(columns["size"][:40])
    assert (found["kind"].value, found["kind"].typical, found["kind"].share) == ("b", "a", 1 / 41)
    middle = np.median(columns["usual"][:40])
    far = (abs(columns["usual"][:40] - middle) >= abs(columns["usual"][40] - middle)).sum()
    assert found["usual"].share == (1 + far) / 41
    assert found["gap"].share == 1 / 41
    assert not columns_apart(columns, 0, np.empty(0, dtype=np.intp))


def test_the_column_that_was_spoilt_comes_first():
    table = pd.DataFrame(X.astype(np.float64), columns=list("abcd"))
    table.loc[7, "c"] = 500.0
    pipeline = make_pipeline(StandardScaler(), kernels()).fit(table, WORDS)
    why = explain(pipeline, table, WORDS, 7)
    assert (why.columns[0].name, why.columns[0].value) == ("c", 500.0)
    assert "c = 500" in why.text


def test_numbers_are_explained_by_the_rows_with_the_nearest_ones():
    table, y = load_diabetes(return_X_y=True, as_frame=True)
    y = y.copy()
    y[3] = 900.0
    method = kernels().fit(table, y)
    why = explain(method, table, y, 3)
    assert (why.given, why.place) == (900.0, 1)
    assert why.predicted == pytest.approx(method.oof_predictions_[3])
    assert (why.confidence, why.learning) == (None, None)
    assert "Given: 900. Predicted: " in why.text


def test_p_values_of_calibrated_methods_are_told():
    method = CalibratedDetrimentality(LossScore(classifier(max_epochs=3)), cv=2, random_state=0)
    why = explain(method.fit(X, WORDS), X, WORDS, FLIPPED)
    assert why.p_value == method.p_values_[FLIPPED]
    assert "p-value" in why.text


def test_what_is_not_known_is_left_out():
    given = SliceDict(X=X)
    method = LossScore(classifier(max_epochs=2), random_state=0).fit(given, WORDS)
    why = explain(method, given, WORDS, 4)
    assert not (why.neighbors)
    assert not (why.conflicts)
    assert not (why.columns)
    assert not (why.proponents)
    assert why.learning is None  # one point of the training is no course
    assert len(why.text.splitlines()) == 2
    bare = explain(RandomScore(random_state=0).fit(X, WORDS), X, WORDS, 4)
    assert bare.predicted is None
    assert "Predicted" not in bare.text


def test_it_is_drawn(pyplot, brief_nets):
    method = OutlierGradientDetector(committee=["perceptrons"], random_state=0).fit(X, WORDS)
    display = ExplanationDisplay.from_estimator(method, X, WORDS, FLIPPED)
    assert list(display.panels_) == ["learning", "rows"]
    learning = display.explanation.learning
    assert learning.out_of_sample
    given, other = display.panels_["learning"].lines
    np.testing.assert_array_equal(given.get_ydata(), learning.given)
    assert given.get_linestyle() != other.get_linestyle()
    texts = [text.get_text() for text in display.panels_["rows"].texts]
    near = [f" {row.row}" for row in display.explanation.neighbors[:3]]
    assert set(near) <= set(texts)
    images = X.reshape(120, 2, 2)
    why = explain(kernels().fit(X, WORDS), X, WORDS, FLIPPED, image_shape=(2, 2))
    assert not why.columns  # pixels
    drawn = why.display()
    assert list(drawn.panels_) == ["rows"]
    picture = drawn.panels_["rows"].images[0].get_array()
    np.testing.assert_array_equal(picture, images[FLIPPED])
    given = SliceDict(X=X)
    plain = LossScore(classifier(max_epochs=1), random_state=0).fit(given, WORDS)
    _, axes = pyplot.subplots(1, 2)
    text = explain(plain, given, WORDS, 4).display(axes[1])
    assert list(text.panels_) == ["text"]
    assert text.ax_ is axes[1]
    with pytest.raises(ValueError, match="axes that stand in no grid"):
        why.display(pyplot.figure().add_axes((0, 0, 1, 1)))
    for each in (display, drawn, text):
        each.figure_.canvas.draw()
        assert each.figure_.get_tightbbox().x1 <= each.figure_.get_size_inches()[0] + 0.02


@pytest.mark.parametrize("row", [-1, 120, 1.5, True])
def test_what_is_no_row_is_refused(method, row):
    with pytest.raises(ValueError, match="the number of a row, from 0 to 119"):
        explain(method, X, WORDS, row)
