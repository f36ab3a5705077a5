"""Ctrl-C reaches the caller, and nothing that was cut is kept, wherever it strikes."""

import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, Checkpoint, EarlyStopping, EpochScoring, TrainEndCheckpoint

from skinfluence import (
    AreaUnderMargin,
    CalibratedDetrimentality,
    CleanedClassifier,
    ComplexityGap,
    DataShapley,
    DetrimentalityUnion,
    DetrimentalSampleCleaner,
    KNNShapley,
    LeaveOneOut,
    LossScore,
    SelfConfidence,
    SGDInfluence,
    TraceRecorder,
    TracIn,
)
from skinfluence.exceptions import InterruptedTrainingWarning
from skinfluence.metrics import removal_curve
from skinfluence.rows._seeds import draw_seeds, seeded
from tests._shared.instances import SMALLEST
from tests._shared.interrupted import (
    AsksToStop,
    InterruptedMlpInWorkers,
    InterruptsBatch,
    OwnFitLoop,
    StopsAt,
    StopsItself,
    Trigger,
    interruptible,
)
from tests._shared.problems import noisy_blobs

X, Y, _ = noisy_blobs(n=48, n_classes=2)


def with_net(estimator, folder):
    """Give an estimator an interruptible net wherever it takes one, and a place to keep work."""
    estimator = clone(estimator)
    known = estimator.get_params(deep=True)
    places = {name: interruptible() for name in known if name.rsplit("__", 1)[-1] == "net"}
    kept = {n: str(folder / "cache") for n in known if n.rsplit("__", 1)[-1] == "memory"}
    estimator.set_params(**places, **kept)
    return estimator, bool(places)


def results(estimator):
    names = ("detrimentality_", "embedding_", "scores_", "removed_indices_", "loss_")
    return [np.asarray(getattr(estimator, name)) for name in names if hasattr(estimator, name)]


def state():
    return [
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),
        random.getstate(),
        torch.get_num_threads(),
        signal.getsignal(signal.SIGINT),
    ]


def interrupted_and_again(make, k, fit=lambda estimator: estimator.fit(X, Y)):
    """Fit undisturbed, then with an interrupt at a share k of the way, then again."""
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        Trigger.set(10**9)
        expected = results(fit(make(Path(first))))
        n_pulls = 10**9 - Trigger.left()
        assert n_pulls > 0
        before = state()
        Trigger.set(int(k * n_pulls))
        with pytest.raises(KeyboardInterrupt):
            fit(make(Path(second)))
        assert Trigger.left() is None
        assert state() == before
        found = results(fit(make(Path(second))))
    assert expected
    for one, two in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, two)


# in their smallest form they take a net, but train none
UNTRAINED = {CleanedClassifier, ComplexityGap, DetrimentalSampleCleaner, KNNShapley}


def trains_a_net(kind):
    return with_net(SMALLEST[kind], Path())[1] and kind not in UNTRAINED


shares = given(k=st.floats(0, 0.999))


@pytest.mark.parametrize("kind", [kind for kind in SMALLEST if trains_a_net(kind)])
@settings(max_examples=1, deadline=None)
@shares
def test_every_estimator_raises_and_keeps_nothing(kind, k):
    extra = {"random_state": 0} if "random_state" in SMALLEST[kind].get_params() else {}

    def make(folder):
        return with_net(SMALLEST[kind].set_params(**extra), folder)[0]

    interrupted_and_again(make, k)


def pipeline():
    return make_pipeline(StandardScaler(), interruptible())


WORK = {
    "folds": lambda at: SelfConfidence(interruptible(), cv=3, memory=str(at / "m"), random_state=0),
    "scratch": lambda at: LeaveOneOut(interruptible(), path=str(at / "loo"), random_state=0),
    "shapley": lambda at: DataShapley(
        interruptible(), max_permutations=1, checkpoint=str(at / "shapley"), random_state=0
    ),
    "shapley_pipeline": lambda at: DataShapley(
        pipeline(), max_permutations=1, checkpoint=str(at / "shapley"), random_state=0
    ),
    "union": lambda at: DetrimentalityUnion(
        [("loss", LossScore()), ("margin", AreaUnderMargin()), ("self", SelfConfidence(cv=2))],
        net=interruptible(),
        random_state=0,
    ),
    "calibration": lambda at: CalibratedDetrimentality(
        LossScore(interruptible(), memory=str(at / "m")), cv=2, random_state=0
    ),
    "cleaner": lambda at: DetrimentalSampleCleaner(
        LossScore(interruptible(), memory=str(at / "m")), contamination="auto", random_state=0
    ),
    "cleaned": lambda at: CleanedClassifier(
        interruptible(), LossScore(interruptible()), contamination=0.1, random_state=0
    ),
    "cleaned_pipeline": lambda at: CleanedClassifier(
        pipeline(), LossScore(interruptible()), contamination=0.1, random_state=0
    ),
    "recorded": lambda at: TracIn(
        interruptible(callbacks=[TraceRecorder(checkpoints=3, storage=str(at / "t"), resume=True)]),
        checkpoints=3,
        random_state=0,
    ),
    "retraced": lambda at: SGDInfluence(interruptible(), storage=str(at / "r"), random_state=0),
    "in_a_callback": lambda at: SelfConfidence(
        interruptible(callbacks=[InterruptsBatch]), memory=str(at / "m"), random_state=0
    ),
    "scored": lambda at: SelfConfidence(
        interruptible(callbacks=[EpochScoring("accuracy", on_train=True)]),
        memory=str(at / "m"),
        random_state=0,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WORK)
@settings(max_examples=2, deadline=None)
@shares
def test_work_that_goes_on_equals_the_undisturbed(name, k):
    interrupted_and_again(WORK[name], k)


@pytest.mark.slow
@pytest.mark.parametrize("name", WORK)
@settings(max_examples=8, deadline=None)
@shares
def test_work_goes_on_from_many_moments(name, k):
    interrupted_and_again(WORK[name], k)


@pytest.mark.parametrize("name", ["folds", "scratch", "shapley", "recorded", "retraced"])
@settings(max_examples=2, deadline=None)
@given(k=st.integers(0, 12))
def test_an_interrupt_in_a_write_keeps_nothing_torn(name, k):
    real, left = os.replace, [k]

    def replace(*args, **kwargs):
        left[0] -= 1
        if left[0] < 0 and left[0] > -2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        expected = results(WORK[name](Path(first)).fit(X, Y))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "replace", replace)
            try:
                WORK[name](Path(second)).fit(X, Y)
            except KeyboardInterrupt:
                assert left[0] < 0
            else:
                assert left[0] >= 0
        found = results(WORK[name](Path(second)).fit(X, Y))
    for one, two in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, two)


@settings(max_examples=1, deadline=None)
@shares
def test_searches_do_not_rank_by_cut_trainings(k):
    def search(folder):
        model = CleanedClassifier(
            LogisticRegression(), LossScore(interruptible(), memory=str(folder)), random_state=0
        )
        return GridSearchCV(model, {"contamination": [0.05, 0.2]}, cv=2, error_score=0.0)

    def fit(found):
        found.fit(X, Y)
        found.loss_ = found.cv_results_["mean_test_score"]
        return found

    interrupted_and_again(search, k, fit)


def test_other_loops_over_models_are_left_too():
    Trigger.set(20)
    with pytest.raises(KeyboardInterrupt):
        cross_val_score(
            CleanedClassifier(interruptible(), LossScore(interruptible()), contamination=0.1),
            *(X, Y),
            cv=2,
        )
    Trigger.set(20)
    scores = np.arange(len(Y))
    with pytest.raises(KeyboardInterrupt):
        removal_curve(interruptible(), X, Y, scores, X_test=X, y_test=Y, random_state=0)
    assert Trigger.left() is None


def search(net, n_jobs=None):
    return GridSearchCV(net, {"lr": [0.1, 0.2]}, cv=2, error_score=0.0, n_jobs=n_jobs)


@pytest.mark.parametrize("kind", [NeuralNetClassifier, OwnFitLoop])
@pytest.mark.parametrize(
    "wrap",
    [
        search,
        lambda net: BaggingClassifier(net, 2),
        lambda net: make_pipeline(StandardScaler(), search(net)),
    ],
    ids=["search", "ensemble", "pipeline_of_search"],
)
@settings(max_examples=1, deadline=None)
@shares
def test_an_interrupt_in_a_net_that_a_model_clones(wrap, kind, k):
    def make(folder):
        net = interruptible(kind=kind)
        return CleanedClassifier(wrap(net), KNNShapley(), contamination=0.1, random_state=0)

    def fit(model):
        model.loss_ = model.fit(X, Y).predict_proba(X)
        return model

    interrupted_and_again(make, k, fit)


def test_an_interrupt_in_threads_that_a_model_begins():
    model = CleanedClassifier(search(interruptible(), 2), KNNShapley(), contamination=0.1)
    Trigger.set(3)
    with joblib.parallel_config("threading"), pytest.raises(KeyboardInterrupt):
        model.fit(X, Y)


def test_other_trainings_of_the_process_are_left_to_skorch():
    began, ended = threading.Event(), threading.Event()

    class StopsABatch(Callback):
        def on_batch_end(self, net, **kwargs):
            began.set()
            ended.wait(10)
            raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(interruptible(callbacks=[StopsABatch()]).fit, X, Y)
        began.wait(10)

        class Ends(Callback):
            def on_epoch_end(self, net, **kwargs):
                ended.set()
                other.result(10)

        LossScore(interruptible(callbacks=[Ends()])).fit(X, Y)
        assert len(other.result(10).history) == 1


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_an_interrupt_in_a_worker_reaches_the_caller(tmp_path, backend):
    flag = tmp_path / "now"
    net = interruptible(InterruptedMlpInWorkers, module__path=str(flag))
    method = LeaveOneOut(net, path=str(tmp_path / "loo"), n_jobs=2, random_state=0)
    few, targets = X[:12], Y[:12]
    with joblib.parallel_config(backend):
        expected = clone(method).set_params(path=None).fit(few, targets).detrimentality_
        flag.touch()
        with pytest.raises(KeyboardInterrupt):
            method.fit(few, targets)
        flag.unlink()
        found = method.fit(few, targets).detrimentality_
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("kind", "callbacks"),
    [
        (
            NeuralNetClassifier,
            [EarlyStopping(monitor="train_loss", patience=1, threshold=10.0, sink=str)],
        ),
        (NeuralNetClassifier, [StopsAt(2)]),
        (
            NeuralNetClassifier,
            [Checkpoint(monitor=None, dirname="c"), StopsAt(2), TrainEndCheckpoint(dirname="c")],
        ),
        (NeuralNetClassifier, [AsksToStop()]),
        (StopsItself, []),
        (OwnFitLoop, [StopsAt(2)]),
    ],
    ids=["early_stopping", "own", "with_checkpoints", "asks", "net_itself", "own_loop"],
)
def test_a_callback_may_stop_a_training(kind, callbacks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net, loop = interruptible(kind=kind, max_epochs=9, callbacks=callbacks), kind.fit_loop
    for method in (LossScore, AreaUnderMargin):
        fitted = method(net, memory=str(tmp_path / "m"), random_state=0).fit(X, Y)
        assert len(fitted.net_.history) == 2
        again = method(net, memory=str(tmp_path / "m"), random_state=0).fit(X, Y)
        np.testing.assert_array_equal(again.detrimentality_, fitted.detrimentality_)
    assert kind.fit_loop is loop
    assert pickle.loads(pickle.dumps(fitted.net_)).predict(X).shape == Y.shape


def sends_signal(*args, **kwargs):
    signal.raise_signal(signal.SIGINT)


def test_what_another_library_swallows_shows_in_the_signal(tmp_path, monkeypatch):
    # scikit-learn's MLP takes Ctrl-C for the end of its training, with a warning
    model = MLPClassifier(4, max_iter=3, batch_size=1)
    method = DataShapley(
        model, max_permutations=1, checkpoint=str(tmp_path / "shapley"), random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "Training interrupted by user")
        expected = clone(method).set_params(checkpoint=None).fit(X[:12], Y[:12]).detrimentality_
        with monkeypatch.context() as patch:
            patch.setattr(MLPClassifier, "_update_no_improvement_count", sends_signal)
            with pytest.raises(KeyboardInterrupt):
                method.fit(X[:12], Y[:12])
        np.testing.assert_array_equal(method.fit(X[:12], Y[:12]).detrimentality_, expected)


def test_a_handler_that_lets_the_training_go_on_is_obeyed(monkeypatch):
    seen = []
    earlier = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        monkeypatch.setattr(InterruptsBatch, "on_batch_begin", sends_signal)
        fitted = LossScore(interruptible(callbacks=[InterruptsBatch]), random_state=0).fit(X, Y)
    finally:
        signal.signal(signal.SIGINT, earlier)
    assert seen
    assert len(fitted.net_.history) == 3


def test_a_net_in_training_is_as_the_user_made_it():
    found = []

    class Looks(Callback):
        def on_train_begin(self, net, **kwargs):
            found.append(clone(net).set_params(callbacks=None).get_params(deep=False))

    LossScore(interruptible(callbacks=[Looks()])).fit(X, Y)
    assert found[0].keys() == interruptible().get_params(deep=False).keys()


def test_a_training_goes_on_with_other_callbacks_verbosity_and_callers(tmp_path):
    def net(verbose=0):
        recorder = TraceRecorder(checkpoints=3, storage=str(tmp_path / "t"), resume=True)
        return interruptible(callbacks=[recorder], verbose=verbose, callbacks__print_log__sink=str)

    def fit(verbose):
        method = TracIn(net(verbose), checkpoints=3, random_state=0, verbose=verbose)
        return method.fit(X, Y)

    expected = TracIn(interruptible(), checkpoints=3, random_state=0).fit(X, Y).detrimentality_
    Trigger.set(5)
    with pytest.raises(KeyboardInterrupt):
        fit(0)
    np.testing.assert_array_equal(fit(1).detrimentality_, expected)
    with seeded(draw_seeds(0, 1)[0]):  # complete by now: the user's own fit finds it too
        assert len(net().fit(X, Y).history) == 3


SCRIPT = """
    import os, signal, sys
    from pathlib import Path
    import numpy as np
    from skorch.callbacks import Callback
    from skinfluence import LeaveOneOut, SelfConfidence, TraceRecorder, TracIn
    from tests._shared.interrupted import interruptible
    from tests._shared.problems import noisy_blobs

    kind, folder = sys.argv[1], Path(sys.argv[2])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored

    class SendsSignal(Callback):
        def on_batch_end(self, net, batch=None, training=None, **kwargs):
            count = int(os.environ.get("COUNT", 0)) + 1
            os.environ["COUNT"] = str(count)
            if os.environ.get("STOP") == "yes" and count == 8:
                os.kill(os.getpid(), signal.SIGINT)

    X, y, _ = noisy_blobs(n=48, n_classes=2)
    net = interruptible(callbacks=[SendsSignal], max_epochs=6)
    recorder = TraceRecorder(checkpoints=3, storage=str(folder / "t"), resume=True)
    recorded = interruptible(callbacks=[SendsSignal, recorder], max_epochs=6)
    method = {
        "memory": lambda: SelfConfidence(net, cv=2, memory=str(folder / "m"), random_state=0),
        "path": lambda: LeaveOneOut(net, path=str(folder / "loo"), random_state=0),
        "trace": lambda: TracIn(recorded, checkpoints=3, random_state=0),
    }[kind]()
    np.save(folder / "scores.npy", method.fit(X[:24], y[:24]).detrimentality_)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["memory", "path", "trace"])
def test_a_real_signal(kind, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))

    def run(folder, stop):
        folder.mkdir(exist_ok=True)
        root = Path(__file__).parents[2]
        return subprocess.run(
            [sys.executable, script, kind, folder],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root), "STOP": stop},
            capture_output=True,
            text=True,
            check=False,
        )

    assert run(tmp_path / "whole", "no").returncode == 0
    cut = run(tmp_path / "cut", "yes")
    assert cut.returncode in {-signal.SIGINT, 130}
    assert "KeyboardInterrupt" in cut.stderr
    assert not (tmp_path / "cut" / "scores.npy").exists()
    assert run(tmp_path / "cut", "no").returncode == 0
    found, expected = (np.load(tmp_path / at / "scores.npy") for at in ("cut", "whole"))
    np.testing.assert_array_equal(found, expected)


def test_a_frozen_net_whose_training_was_cut_is_told_of():
    net = interruptible()
    Trigger.set(7)
    net.fit(X, Y)  # skorch takes the interrupt for the end
    with pytest.warns(InterruptedTrainingWarning, match=r"was cut within epoch \d of max_epochs="):
        LossScore(FrozenEstimator(net)).fit(X, Y)
    LossScore(FrozenEstimator(net.fit(X, Y))).fit(X, Y)
