"""Every display, by both of its constructors: what is drawn, where, and that it can be read."""

import sys
import types
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinfluence import (
    AreaUnderMargin,
    CalibratedDetrimentality,
    DetrimentalityUnion,
    LossScore,
    OutlierGradientDetector,
    RandomScore,
    SelfConfidence,
)
from skinfluence.display import (
    DataMapDisplay,
    DetectionCurveDisplay,
    DetrimentalityDisplay,
    MethodComparisonDisplay,
    NoiseMatrixDisplay,
    RemovalCurveDisplay,
    SampleGalleryDisplay,
)
from skinfluence.display._style import LINES, line_style
from skinfluence.metrics import RemovalCurve, detection_curve, removal_curve
from skinfluence.nets import _stacked
from tests._shared.problems import classifier, noisy_blobs

pytestmark = pytest.mark.usefixtures("pyplot")
X, Y, IS_NOISY = noisy_blobs(n=120)
NAMES = np.array(["ant", "bee", "cat"])
WORDS = NAMES[Y]
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def method():
    committee = ["kernels", "perceptrons"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_stacked, "_MAX_EPOCHS", 20)
        return OutlierGradientDetector(committee=committee, random_state=0).fit(X, WORDS)


def texts_of(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


def heights(container):
    return np.array([patch.get_height() for patch in container.patches])


def no_text_is_cut_or_covered(display):
    """Tell whether what is drawn lies within the figure, and labels of ticks apart."""
    figure = display.figure_
    figure.canvas.draw()
    drawn = figure.get_tightbbox()  # inches
    width, height = figure.get_size_inches()
    beyond = max(-drawn.x0, -drawn.y0, drawn.x1 - width, drawn.y1 - height)
    ticks = [t.get_window_extent() for t in display.ax_.get_yticklabels() if display.ax_.axison]
    return beyond < 0.02 and not any(one.overlaps(two) for one, two in pairwise(ticks))


def test_scores_are_counted_beside_the_threshold_and_the_truth(method):
    display = DetrimentalityDisplay.from_estimator(method, is_noisy=IS_NOISY)
    ax = display.ax_
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    above = int((method.detrimentality_ > method.threshold_).sum())
    assert labels[0] == f"known to be clean ({(~IS_NOISY).sum()})"
    assert labels[1] == f"known to be noisy ({IS_NOISY.sum()})"
    assert labels[2].endswith(f"{above} rows above")
    assert heights(ax.containers[0]).sum() == (~IS_NOISY).sum()
    assert ax.lines[0].get_xdata()[0] == method.threshold_
    assert ax.patches[-1].get_hatch()  # what tells it apart without color
    assert display.figure_ is ax.figure
    assert no_text_is_cut_or_covered(display)
    plain = DetrimentalityDisplay.from_predictions(method.detrimentality_)
    assert heights(plain.ax_.containers[0]).sum() == 120
    assert plain.ax_.get_legend() is None
    assert plain.threshold is None


def test_detection_is_drawn_against_chance_and_the_oracle(method, pyplot):
    _, ax = pyplot.subplots()
    display = DetectionCurveDisplay.from_estimator(method, IS_NOISY, ax=ax)
    curve = detection_curve(IS_NOISY, method.detrimentality_)
    np.testing.assert_array_equal(display.line_.get_ydata()[1:], curve.found)
    oracle, chance = ax.lines[:2]
    n_noisy = IS_NOISY.sum()
    expected = np.minimum(np.arange(121) / n_noisy, 1)
    np.testing.assert_allclose(oracle.get_ydata(), expected)
    np.testing.assert_allclose(chance.get_ydata(), np.arange(121) / 120)
    assert f"area {curve.area:.3f}" in display.line_.get_label()
    second = DetectionCurveDisplay.from_predictions(IS_NOISY, RNG.random(120), name="other", ax=ax)
    assert len(ax.lines) == 4  # chance and oracle once
    assert display.ax_ is second.ax_ is ax
    assert display.line_.get_linestyle() != second.line_.get_linestyle()
    assert no_text_is_cut_or_covered(second)


def test_removal_has_the_spread_of_its_seeds():
    settings = {"X_test": X, "y_test": WORDS, "budgets": (0, 0.1, 0.2), "n_seeds": 3}
    scores = RNG.random(120)
    model = LogisticRegression()
    display = RemovalCurveDisplay.from_estimator(
        model, X, WORDS, scores, **settings, random_state=0, name="at random"
    )
    curve = removal_curve(model, X, WORDS, scores, **settings, random_state=0)
    np.testing.assert_allclose(display.line_.get_ydata(), curve.mean)
    np.testing.assert_allclose(display.random_line_.get_ydata(), curve.random_mean)
    band = display.ax_.collections[0].get_paths()[0].vertices
    expected = curve.random_mean + curve.random_scores.std(0, ddof=1)
    assert np.isclose(band[:, 1].max(), expected.max())
    assert no_text_is_cut_or_covered(display)
    alone = RemovalCurve(curve.budgets, curve.n_removed, curve.scores[:1], None)
    drawn = RemovalCurveDisplay.from_predictions(alone, score_name="accuracy")
    assert drawn.random_line_ is None
    assert not drawn.ax_.collections  # of one seed there is no spread
    assert drawn.ax_.get_ylabel() == "accuracy"


def test_noise_is_counted_by_the_confident_joint(method):
    display = NoiseMatrixDisplay.from_estimator(method, WORDS)
    p, codes = method.oof_probabilities_, np.searchsorted(NAMES, WORDS)
    limits = [p[codes == k, k].mean() for k in range(3)]
    joint = np.zeros((3, 3))
    for row, code in zip(p, codes, strict=True):
        sure = [k for k in range(3) if row[k] >= limits[k]]
        if sure:
            joint[code, max(sure, key=lambda k: row[k])] += 1
    expected = joint / joint.sum(1, keepdims=True) * np.bincount(codes)[:, None]
    np.testing.assert_allclose(display.expected, expected)
    np.testing.assert_allclose(display.expected.sum(1), np.bincount(codes))
    wrong = display.expected.sum() - np.trace(display.expected)
    assert abs(wrong - IS_NOISY.sum()) < 5
    assert display.text_[0, 0].get_text() == f"{expected[0, 0]:.0f}"
    assert [t.get_text() for t in display.ax_.get_yticklabels()] == NAMES.tolist()
    assert no_text_is_cut_or_covered(display)


def test_many_classes_with_long_names_stay_readable():
    n_classes = 16
    names = np.array([f"a class with the name {chr(97 + i)}" for i in range(n_classes)])
    codes = RNG.integers(0, n_classes, 900)
    probabilities = RNG.dirichlet(np.full(n_classes, 0.1), 900)
    display = NoiseMatrixDisplay.from_predictions(names[codes], probabilities, classes=names)
    np.testing.assert_allclose(display.expected.sum(), 900)
    assert no_text_is_cut_or_covered(display)
    unseen = NoiseMatrixDisplay.from_predictions(["a", "a"], [[1, 0], [1, 0]], classes=["a", "b"])
    np.testing.assert_array_equal(unseen.expected, [[2, 0], [0, 0]])


def test_the_map_of_a_committee_is_out_of_sample(method):
    display = DataMapDisplay.from_estimator(method, X, WORDS, is_noisy=IS_NOISY)
    epochs, course = method.committee_.along_training(X, np.arange(120))
    _, some = method.committee_.along_training(X[[7, 3]], np.array([7, 3]))
    np.testing.assert_allclose(some, course[:, [7, 3]], atol=1e-6)
    assert len(epochs) == len(course) == 10
    given = course[:, np.arange(120), np.searchsorted(NAMES, WORDS)]
    np.testing.assert_allclose(display.confidence, given.mean(0))
    np.testing.assert_allclose(display.spread, given.std(0))
    # what is averaged is what the perceptrons say out of bag
    member = method.committee_._members[1].trained
    X_seen = method.committee_._views.reduced(method.committee_._views.scaled(X))
    np.testing.assert_allclose(course.mean(0), member.out_of_bag(X_seen), atol=1e-6)
    assert (display.regions_[IS_NOISY] == "wrong").mean() > 0.5
    assert (display.regions_[~IS_NOISY] == "easy").mean() > 0.5
    points = sum(len(c.get_offsets()) for c in display.ax_.collections[:4])
    assert points == 120
    assert "not trained" in display.ax_.get_legend().get_title().get_text()
    assert no_text_is_cut_or_covered(display)


def test_images_are_mapped_by_the_net_of_the_other_half(brief_nets):
    y = np.arange(60) % 2
    images = RNG.normal(size=(60, 1, 6, 6)).astype(np.float32) + y[:, None, None, None]
    method = OutlierGradientDetector(committee=["perceptrons"], checkpoints=2, random_state=0).fit(
        images, y
    )
    every = np.arange(60)
    epochs, course = method.committee_.along_training(images, every)
    row = int(method.committee_._members[0]._halves[0][1][0])
    _, alone = method.committee_.along_training(images[[row]], np.array([row]))
    np.testing.assert_allclose(alone[:, 0], course[:, row], atol=1e-6)
    member = method.committee_._members[0]
    for trained, (_, held) in zip(member.trained[:2], member._halves, strict=True):
        for number, point in enumerate(trained.trace.checkpoints):
            expected = trained.probabilities_at(images[held], [point.state])
            np.testing.assert_allclose(course[number, held], expected, atol=1e-6)
    assert len(epochs) == 2


@pytest.mark.parametrize(
    "one_net",
    [
        SelfConfidence(classifier(max_epochs=6), checkpoints="all", random_state=0),
        AreaUnderMargin(classifier(max_epochs=6), random_state=0),
    ],
    ids=lambda method: type(method).__name__,
)
def test_the_map_of_one_net_is_in_sample(one_net):
    display = DataMapDisplay.from_estimator(one_net.fit(X, WORDS), X, WORDS)
    assert "a net trained on the row" in display.ax_.get_legend().get_title().get_text()
    assert display.confidence.shape == (120,)
    if isinstance(one_net, AreaUnderMargin):
        logits = one_net.trace_.logits.astype(np.float64)
        probabilities = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    else:
        points = one_net.trace_.checkpoints
        probabilities = [one_net._trained.probabilities_at(X, [p.state]) for p in points]
    again = DataMapDisplay.from_predictions(probabilities, WORDS)
    np.testing.assert_allclose(again.confidence, display.confidence, atol=1e-6)
    np.testing.assert_allclose(again.spread, display.spread, atol=1e-6)


def test_methods_are_compared_by_what_they_find_or_by_how_they_agree():
    parts = [("loss", LossScore()), ("random", RandomScore()), ("confidence", SelfConfidence())]
    union = DetrimentalityUnion(parts, classifier(max_epochs=6), random_state=0).fit(X, WORDS)
    known = MethodComparisonDisplay.from_estimator(union, is_noisy=IS_NOISY)
    areas = [curve.curve.area for curve in known.curves_.values()]
    assert areas == sorted(areas, reverse=True)
    assert list(known.curves_)[-1] == "random"
    assert len(known.ax_.lines) == 5
    looks = {str(curve.line_.get_linestyle()) for curve in known.curves_.values()}
    assert len(looks) == 3
    assert no_text_is_cut_or_covered(known)
    unknown = MethodComparisonDisplay.from_estimator(union)
    np.testing.assert_allclose(unknown.rank_correlation_, union.rank_correlation_)
    assert texts_of(unknown.ax_)[:2] == ["1.00", f"{union.rank_correlation_[0, 1]:.2f}"]
    assert no_text_is_cut_or_covered(unknown)
    by_name = {"a": union.methods_["loss"], "b": union.methods_["random"]}
    named = MethodComparisonDisplay.from_estimator(by_name)
    again = MethodComparisonDisplay.from_predictions({"a": union.scores_[:, 0], "b": np.ones(120)})
    assert named.rank_correlation_.shape == (2, 2)
    assert texts_of(again.ax_) == ["1.00", "none", "none", "none"]


def test_a_gallery_of_a_table_shows_what_contradicts_each_row(method):
    table = pd.DataFrame(X, columns=["a long name of a column", "b", "c", "d"])
    pipeline = make_pipeline(StandardScaler(), OutlierGradientDetector(committee=["kernels"]))
    pipeline.fit(table, WORDS)
    display = SampleGalleryDisplay.from_estimator(
        pipeline, table, WORDS, rows=4, n_contradicting=2, is_noisy=IS_NOISY
    )
    np.testing.assert_array_equal(display.rows_, pipeline[-1].ranking_[:4])
    scaled = pipeline[0].transform(table)
    for suspect in display.suspects:
        row = suspect.sample.row
        others = np.flatnonzero(WORDS[row] != WORDS)
        away = np.linalg.norm(scaled[others] - scaled[row], axis=1)
        near = [sample.row for sample in suspect.contradicting]
        assert near == others[away.argsort()[:2]].tolist()
        assert {sample.label for sample in suspect.contradicting}.isdisjoint({WORDS[row]})
    texts = texts_of(display.ax_)
    assert texts[:8] == ["row", "score", "given", "predicted", "a long name o…", "b", "c", "d"]
    assert no_text_is_cut_or_covered(display)
    chosen = SampleGalleryDisplay.from_estimator(method, X, WORDS, rows=[7, 3], n_columns=2)
    assert chosen.rows_.tolist() == [7, 3]
    assert len(chosen.columns) == 2


def test_a_gallery_of_images_has_tiles():
    images = RNG.random((30, 8, 8))
    y = np.array(["a longer label than fits here", "b", "c"] * 10)
    scores = RNG.random(30)
    noisy = scores > 0.5
    display = SampleGalleryDisplay.from_predictions(
        images, y, scores, predicted=y[::-1], rows=7, is_noisy=noisy
    )
    pictures = display.ax_.images
    assert len(pictures) == 7 * 4  # each with three that contradict it
    np.testing.assert_array_equal(pictures[0].get_array(), images[scores.argmax()])
    assert len(display.ax_.patches) == noisy[display.rows_].sum()
    assert no_text_is_cut_or_covered(display)
    flat = SampleGalleryDisplay.from_predictions(
        images.reshape(30, 64), y, scores, rows=1, image_shape=(8, 8), n_contradicting=0
    )
    np.testing.assert_array_equal(flat.ax_.images[0].get_array(), images[scores.argmax()])
    assert len(flat.ax_.images) == 1
    assert no_text_is_cut_or_covered(flat)
    colored = SampleGalleryDisplay.from_predictions(RNG.random((30, 3, 5, 4)), y, scores, rows=2)
    assert colored.ax_.images[0].get_array().shape == (5, 4, 3)
    single = SampleGalleryDisplay.from_predictions(images[:, None], y, scores, rows=2)
    assert single.ax_.images[0].get_array().shape == (8, 8)


def test_a_gallery_of_numbers_shows_the_nearest_rows_and_texts_are_shortened():
    y = X[:, 0].astype(np.float64) * 1000
    display = SampleGalleryDisplay.from_predictions(X, y, RNG.random(120), rows=3, predicted=y + 1)
    row = display.suspects[0].sample.row
    scaled = (X - X.mean(0)) / X.std(0)
    away = np.linalg.norm(scaled - scaled[row], axis=1)
    away[row] = np.inf
    near = [sample.row for sample in display.suspects[0].contradicting]
    assert near == away.argsort()[:3].tolist()
    texts = ["a sentence that goes on and on and on, and does not come to an end at all"] * 10
    shown = SampleGalleryDisplay.from_predictions(texts, ["a", "b"] * 5, np.arange(10.0), rows=2)
    assert shown.columns == ["text"]
    assert len(shown.suspects[0].sample.content[0]) == 70
    assert no_text_is_cut_or_covered(shown)


def test_in_sample_predictions_are_called_so_in_the_gallery():
    method = LossScore(classifier(max_epochs=3), random_state=0).fit(X, WORDS)
    display = SampleGalleryDisplay.from_estimator(method, X, WORDS, rows=2)
    assert "in sample" in texts_of(display.ax_)


def test_lines_differ_without_color():
    looks = [line_style(number) for number in range(2 * len(LINES))]
    assert len({(str(look["linestyle"]), look.get("marker")) for look in looks}) == len(looks)


WRONG = {
    "flags of other rows": (
        lambda m: DetrimentalityDisplay.from_estimator(m, is_noisy=[True]),
        "is_noisy of shape",
    ),
    "no scores": (lambda m: DetrimentalityDisplay.from_predictions([np.nan]), "one finite score"),
    "no probabilities": (
        lambda m: NoiseMatrixDisplay.from_estimator(RandomScore().fit(X, WORDS), WORDS),
        "oof_probabilities_",
    ),
    "columns without names": (
        lambda m: NoiseMatrixDisplay.from_predictions(["a", "b"], np.ones((2, 3)) / 3),
        "a column for each",
    ),
    "no training": (
        lambda m: DataMapDisplay.from_estimator(RandomScore().fit(X, WORDS), X, WORDS),
        "follows no one training",
    ),
    "no checkpoints": (
        lambda m: DataMapDisplay.from_estimator(
            LossScore(classifier(max_epochs=1)).fit(X, WORDS), X, WORDS
        ),
        "checkpoints to 10",
    ),
    "one epoch": (
        lambda m: DataMapDisplay.from_predictions(np.ones((1, 2, 2)), ["a", "b"]),
        "at least two epochs",
    ),
    "other lengths": (
        lambda m: MethodComparisonDisplay.from_predictions({"a": [1.0], "b": [1.0, 2.0]}),
        "of the same rows",
    ),
    "rows beyond": (
        lambda m: SampleGalleryDisplay.from_estimator(m, X, WORDS, rows=[120]),
        "there are 120",
    ),
    "another shape": (
        lambda m: SampleGalleryDisplay.from_estimator(m, X, WORDS, image_shape=(3, 3)),
        "4 pixels",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_drawn_is_refused(name, method):
    call, match = WRONG[name]
    with pytest.raises(ValueError, match=match):
        call(method)


def test_what_is_no_method_or_no_table_is_refused(method):
    with pytest.raises(TypeError, match="DetrimentalityUnion or methods"):
        MethodComparisonDisplay.from_estimator(method)
    with pytest.raises(TypeError, match="fitted method"):
        DetrimentalityDisplay.from_estimator(BaseEstimator())
    with pytest.raises(TypeError, match="neither images nor lines"):
        SampleGalleryDisplay.from_predictions({"a": X}, WORDS, RNG.random(120))
    folds = CalibratedDetrimentality(LossScore(classifier(max_epochs=2)), cv=2).fit(X, WORDS)
    with pytest.raises(ValueError, match="follows no one training"):
        DataMapDisplay.from_estimator(folds, X, WORDS)


def test_without_matplotlib_the_way_out_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", types.ModuleType("matplotlib"))
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install matplotlib or .*skinfluence\[plot\]"):
        DetrimentalityDisplay.from_predictions([1.0, 2.0])
