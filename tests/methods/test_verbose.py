"""`verbose=1` shows on stderr how far a fit is; what the fit gives is the same."""

import sys

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinfluence import (
    AnnotatorConsensus,
    CalibratedDetrimentality,
    CleanedClassifier,
    CleanedRegressor,
    ComplexityGap,
    DataShapley,
    DetrimentalityUnion,
    DetrimentalSampleCleaner,
    GradientEmbedding,
    KNNShapley,
    LeaveOneOut,
    LossScore,
    NormDetector,
    RandomScore,
    TraceRecorder,
)
from skinfluence.rows import _progress
from tests._shared.instances import SMALLEST, fitted_example
from tests._shared.interrupted import Trigger, interruptible
from tests._shared.problems import classifier, noisy_blobs

X, Y, _ = noisy_blobs(n=48, n_classes=2)
SHOWING = [cls for cls in SMALLEST if cls is not NormDetector]  # which is fitted in no time
BRIEFLY = (AnnotatorConsensus, GradientEmbedding, LossScore)
# On a few rows, in their smallest form.
IN_ONE_STEP = (
    CleanedClassifier,
    CleanedRegressor,
    ComplexityGap,
    DataShapley,
    DetrimentalSampleCleaner,
    KNNShapley,
    RandomScore,
)
BRIEF = classifier(max_epochs=3)


def shown(text):
    """Name the bars, in the order of their first appearance."""
    lines = text.replace("\x1b[A", "\r").replace("\n", "\r").split("\r")
    return list(dict.fromkeys(line.split(":")[0] for line in lines if "%|" in line))


def results(method):
    names = ("detrimentality_", "embedding_", "scores_", "sample_indices_", "probabilities_")
    return [getattr(method, name) for name in names if hasattr(method, name)]


@pytest.mark.usefixtures("brief_nets")
@pytest.mark.parametrize(
    "cls",
    [cls if cls in BRIEFLY else pytest.param(cls, marks=pytest.mark.slow) for cls in SHOWING],
    ids=lambda cls: cls.__name__,
)
def test_scores_are_the_same_bit_for_bit(cls, capsys):
    silent, *_ = fitted_example(cls)
    assert capsys.readouterr().err == ""
    verbose, *_ = fitted_example(cls, verbose=1)
    out, err = capsys.readouterr()
    assert not out
    assert bool(shown(err)) == (cls not in IN_ONE_STEP)
    for one, two in zip(results(silent), results(verbose), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("cls", SHOWING, ids=lambda cls: cls.__name__)
def test_what_is_no_number_of_bars_is_refused(cls):
    with pytest.raises(ValueError, match=r"Got verbose='loud', but expected 0 or 1\."):
        fitted_example(cls, verbose="loud")


@pytest.mark.parametrize("verbose", [-1, 0.5, None])
def test_other_values_are_refused(verbose):
    with pytest.raises(ValueError, match="verbose"):
        LossScore(BRIEF, verbose=verbose).fit(X, Y)


def test_what_a_fit_is_made_of_is_shown_within_it(capsys, monkeypatch):
    monkeypatch.setattr(_progress, "_PATIENCE", 0)
    loss = LossScore(BRIEF, verbose=1)
    parts = [("loss", loss), ("scaled", make_pipeline(StandardScaler(), clone(loss)))]
    DetrimentalityUnion(parts, random_state=0, verbose=1).fit(X, Y)
    assert shown(capsys.readouterr().err) == ["methods", "epochs"]
    DetrimentalSampleCleaner(parts[1][1], contamination=0.1).fit_resample(X, Y)
    assert shown(capsys.readouterr().err) == ["epochs"]  # asked of the part alone
    make_pipeline(StandardScaler(), CalibratedDetrimentality(loss, verbose=1)).fit(X, Y)
    assert shown(capsys.readouterr().err) == ["folds", "epochs"]


@pytest.mark.parametrize("backend", ["threading", pytest.param("loky", marks=pytest.mark.slow)])
def test_workers_leave_it_to_whoever_waits_for_them(backend, capfd):
    method = LossScore(BRIEF, cv=2, random_state=0, verbose=1)
    with joblib.parallel_config(backend, n_jobs=2):
        scores = method.fit(X, Y).detrimentality_
    assert shown(capfd.readouterr().err) == ["folds"]
    alone = clone(method).set_params(verbose=0).fit(X, Y)
    np.testing.assert_array_equal(scores, alone.detrimentality_)


def test_a_training_in_memory_is_found_whether_it_was_shown_or_not(tmp_path, capsys):
    method = LossScore(BRIEF, memory=str(tmp_path), random_state=0)
    method.fit(X, Y)
    clone(method).set_params(verbose=1).fit(X, Y)
    assert shown(capsys.readouterr().err) == []


def test_stderr_that_is_closed_costs_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert len(LossScore(BRIEF, verbose=1).fit(X, Y).detrimentality_) == 48


def note_of(fit):
    Trigger.set(2)
    with pytest.raises(KeyboardInterrupt) as caught:
        fit()
    (note,) = caught.value.__notes__
    return note.removeprefix("The fit was interrupted. ")


def test_an_interrupt_takes_the_bars_away_and_says_what_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(_progress, "_PATIENCE", 0)
    folder = str(tmp_path / "trace")
    recorder = TraceRecorder(storage=folder, resume=True)
    cached = LossScore(interruptible(), memory=str(tmp_path), random_state=0)
    for method, said in [
        (cached, f"The same fit goes on from what is kept in memory={str(tmp_path)!r}."),
        (clone(cached).set_params(random_state=None), "Nothing of it is kept"),
        (LossScore(interruptible(callbacks=[recorder])), f"{folder!r}, by the recorder of net."),
        (LossScore(interruptible()), "Nothing of it is kept: the same fit starts anew."),
        (DetrimentalityUnion([("a", cached)], random_state=0), f"a__memory={str(tmp_path)!r}."),
    ]:
        assert said in note_of(lambda method=method: method.set_params(verbose=1).fit(X, Y))
        shown = capsys.readouterr().err
        assert "epochs: " in shown
        assert not shown.rsplit("\r", 1)[-1].strip()
    path = str(tmp_path / "run.npz")
    for method in (
        LeaveOneOut(interruptible(), path=path, random_state=0),
        DataShapley(interruptible(), checkpoint=path, random_state=0),
    ):
        assert f"={path!r}." in note_of(lambda method=method: method.fit(X, Y))
