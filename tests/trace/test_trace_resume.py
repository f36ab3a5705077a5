"""Trainings and retracings that were stopped: they go on, and end as if they never had been."""

import errno
import os
import pickle
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, EarlyStopping, EpochScoring, Freezer, LRScheduler
from skorch.dataset import ValidSplit
from torch.utils.data import RandomSampler

from skinfluence import SGDInfluence, TraceRecorder, TrainingTrace
from skinfluence.influence.retraced import _retracing
from skinfluence.nets._default import default_net, sgd_net
from skinfluence.nets._training import fit_net
from skinfluence.rows._seeds import seeded
from skinfluence.storage._files import packed
from skinfluence.storage._work_file import WorkFile
from skinfluence.trace._callbacks import trace_of
from skinfluence.trace._recording import Recording
from tests._shared.processes import exit_code
from tests._shared.traces import (
    EPOCHS,
    FULL,
    QUERIES,
    SEEN,
    STOP_AT,
    DropoutMlp,
    FullDisk,
    Interrupt,
    Stop,
    X,
    Y,
    assert_nothing_left,
    assert_only_the_trace,
    assert_same,
    assert_same_trace,
    assert_same_training,
    few_epochs,
    fit,
    history_of,
    small,
)
from tests._shared.work_files import kept

pytestmark = pytest.mark.usefixtures("quick_disk")


def own_generator(seed):
    return torch.Generator().manual_seed(seed)


class SamplerLoader(torch.utils.data.DataLoader):
    """A loader whose sampler alone has a generator."""

    def __init__(self, dataset, batch_size, shuffle):
        sampler = RandomSampler(dataset, generator=own_generator(3))
        super().__init__(dataset, batch_size=batch_size, sampler=sampler)


def schedule(policy, **kwargs):
    return LRScheduler(policy, **kwargs)


def callbacks_of(kind):
    schedules = torch.optim.lr_scheduler
    made = {
        "per epoch": [schedule(schedules.ExponentialLR, gamma=0.7)],
        "per batch": [schedule(schedules.CosineAnnealingLR, T_max=9, step_every="batch")],
        "milestones": [schedule(schedules.MultiStepLR, milestones=[1, 3], gamma=0.1)],
        "plateau": [schedule(schedules.ReduceLROnPlateau, patience=0, threshold=0.9)],
        "one cycle": [
            schedule(schedules.OneCycleLR, max_lr=0.1, total_steps=15, step_every="batch")
        ],
        "frozen layer": [Freezer("body.*")],
        "best score": [EpochScoring("accuracy", lower_is_better=False, on_train=True, name="acc")],
    }
    return made.get(kind, [])


TRAININGS = {
    "momentum": {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9},
    "adam": {"optimizer": torch.optim.Adam, "lr": 0.01},
    "dropout": {"module": DropoutMlp, "train_split": ValidSplit(4)},
    "loader's generator": {"iterator_train__generator": None},
    "sampler's generator": {"iterator_train": SamplerLoader},
    **{name: {} for name in ("per epoch", "per batch", "milestones", "plateau", "best score")},
    "one cycle": {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9},
    "frozen layer": {},
}


def settings_of(kind):
    settings = {**TRAININGS[kind], "callbacks": callbacks_of(kind)}
    if kind == "loader's generator":
        settings["iterator_train__generator"] = own_generator(5)
    return settings


@pytest.mark.parametrize("kind", TRAININGS)
def test_goes_on_as_if_never_stopped(kind, tmp_path):
    whole = fit(**settings_of(kind))
    steps = trace_of(whole).n_steps
    fit(tmp_path / "t", stop_at=steps // EPOCHS + 1, **settings_of(kind))
    fit(tmp_path / "t", stop_at=2 * (steps // EPOCHS), **settings_of(kind))  # of this call
    again = fit(tmp_path / "t", **settings_of(kind))
    assert SEEN == [3, 4]
    assert_same_training(again, whole)
    assert_only_the_trace(tmp_path / "t")
    assert_nothing_left(again)


@pytest.mark.parametrize("asked", [{"steps": "last_epoch"}, {"checkpoints": 2}, {"logits": True}])
def test_goes_on_whatever_is_recorded(asked, tmp_path):
    whole = fit(asked=asked)
    for stop_at in (0, 4, 3):  # in the first epoch: nothing to go on with, begins anew
        fit(tmp_path / "t", asked=asked, stop_at=stop_at)
    again = fit(tmp_path / "t", asked=asked)
    assert len(SEEN) == EPOCHS - 2
    assert_same_training(again, whole)
    assert_only_the_trace(tmp_path / "t")


def test_package_nets_go_on(tmp_path):
    for make in (default_net, sgd_net):
        whole, again = (TraceRecorder(**FULL) for _ in range(2))
        folder = tmp_path / make.__name__
        again.set_params(storage=folder, resume=True)
        nets = []
        for recorder, stop_at in ((whole, None), (again, 2), (again, None)):
            net = make(X, Y, random_state=0).set_params(max_epochs=4, callbacks=[Stop()])
            STOP_AT.step = stop_at
            try:
                nets.append(fit_net(net, X, Y, 0, recorder))
            except ZeroDivisionError:
                assert stop_at is not None
        assert SEEN == [2, 3]
        assert_same_trace(again.trace_, whole.trace_)
        assert_same(nets[0].module_.state_dict(), nets[1].module_.state_dict())


def test_an_interrupt_leaves_a_trace_and_is_gone_on_from(tmp_path):
    folder = tmp_path / "t"
    whole = fit()
    stopped = fit(folder, stop_at=7, by=KeyboardInterrupt)
    assert trace_of(stopped).n_steps == 8
    assert_same(TrainingTrace.load(folder).final_state, trace_of(stopped).final_state)
    again = fit(folder)
    assert SEEN == [2, 3, 4]
    assert_same_training(again, whole)
    assert_only_the_trace(folder)


def test_early_stopping_stops_where_it_did(tmp_path):
    def stopping():
        # no epoch improves on the first by so much
        return [EarlyStopping("train_loss", patience=3, threshold=0.9, load_best=True)]

    whole = fit(callbacks=stopping(), lr=1e-3)
    assert len(whole.history) == EPOCHS - 1
    fit(tmp_path / "t", callbacks=stopping(), lr=1e-3, stop_at=7)
    for seen in ([2, 3], [3]):
        again = fit(tmp_path / "t", callbacks=stopping(), lr=1e-3)
        assert seen == SEEN
        assert_same_trace(trace_of(again), trace_of(whole))
        assert history_of(again) == history_of(whole)


def test_a_finished_folder_trains_no_epoch(tmp_path):
    settings = {"optimizer": torch.optim.Adam, "asked": FULL}
    first = fit(tmp_path / "t", **settings)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "t").iterdir()}
    again = fit(tmp_path / "t", **settings)
    assert not SEEN
    assert_same_training(again, first)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "t").iterdir()} == files
    assert_nothing_left(again)
    with pytest.raises(ValueError, match=r"5 epochs already.*resume=False"):
        again.partial_fit(X, Y)


OTHERS = {
    "rows": ({"rows": X + 1e-3}, "X"),
    "targets": ({"targets": 1 - Y}, "y"),
    "parameter": ({"lr": 0.01}, "net or parameter of it"),
    "epochs": ({"max_epochs": 6}, "net or parameter of it"),
    "module": ({"module": DropoutMlp}, "start of the parameters"),
    "callback": ({"callbacks": [Interrupt(step=99)]}, "callback Interrupt"),
    "recorder": ({"asked": {"order": True}}, "setting of the recorder"),
    "seed": ({"seed": 1}, r"start of the parameters \(seed\)"),
}


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(("change", "named"), OTHERS.values(), ids=OTHERS)
def test_another_training_is_refused(change, named, finished, tmp_path):
    folder = tmp_path / "t"
    fit(folder, stop_at=None if finished else 4)
    files = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match=f"another.*{named}.*remove the folder") as caught:
        fit(folder, **change)
    assert str(folder) in str(caught.value)
    assert {path: path.read_bytes() for path in folder.iterdir()} == files
    assert_same_training(fit(folder), fit())


class Seeded(torch.nn.Module):
    """The same weights whatever the global generators are."""

    def __init__(self):
        super().__init__()
        with seeded(0):
            self.layer = torch.nn.Linear(X.shape[1], int(Y.max()) + 1)

    def forward(self, inputs):
        return self.layer(inputs)


def test_only_a_seed_that_was_drawn_from_is_held_against_a_training(tmp_path):
    shuffled = {"module": Seeded, "asked": {"order": True}}
    fit(tmp_path / "t", stop_at=4, **shuffled)
    with pytest.raises(ValueError, match=r"random numbers of torch \(seed\)"):
        fit(tmp_path / "t", seed=1, **shuffled)
    own = {**shuffled, "iterator_train__generator": own_generator(1)}
    fit(tmp_path / "own", stop_at=4, **own)
    own["iterator_train__generator"] = own_generator(1)
    again = fit(tmp_path / "own", seed=1, **own)
    own["iterator_train__generator"] = own_generator(1)
    assert SEEN == [1, 2, 3, 4]
    assert_same_trace(trace_of(again), trace_of(fit(seed=2, **own)))


@pytest.mark.parametrize("stop_at", [4, None])
def test_generators_that_training_never_drew_from_stay_as_they_are(stop_at, tmp_path):
    fit(tmp_path / "t", stop_at=stop_at)
    recorder = TraceRecorder(**FULL, storage=tmp_path / "t", resume=True)
    net = small(max_epochs=EPOCHS, callbacks=[Stop(), recorder])
    STOP_AT.step = None
    with seeded(0):
        np.random.seed(7)
        random.seed(7)
        before = np.random.get_state()[1].copy(), random.getstate()
        net.fit(X, Y)
        np.testing.assert_array_equal(np.random.get_state()[1], before[0])
        assert random.getstate() == before[1]


class Accumulating(NeuralNetClassifier):
    """Takes a step with every second batch, also over the end of an epoch."""

    def train_step(self, batch, **fit_params):
        self._set_training(True)
        step = self.train_step_single(batch, **fit_params)
        if sum(len(row["batches"]) for row in self.history) % 2 == 0:
            self.optimizer_.step()
            self.optimizer_.zero_grad()
        return step


def accumulating(**kwargs):
    return Accumulating(**small(**kwargs).get_params(deep=False))


def test_gradients_that_are_added_up_are_gone_on_with(tmp_path):
    whole = fit(make=accumulating)
    fit(tmp_path / "t", stop_at=4, make=accumulating)
    again = fit(tmp_path / "t", make=accumulating)
    assert SEEN == [1, 2, 3, 4]
    assert_same(again.module_.state_dict(), whole.module_.state_dict())


def test_a_trace_without_a_record_is_not_overwritten_and_resume_false_replaces(tmp_path):
    folder = tmp_path / "t"
    trace_of(fit()).save(folder)
    with pytest.raises(ValueError, match=r"written without resume=True.*resume=False"):
        fit(folder)
    assert_same_trace(TrainingTrace.load(folder), trace_of(fit()))
    trace_of(fit()).save(tmp_path / "plain")
    fit(tmp_path / "stopped", stop_at=7)
    for name in ("t", "stopped"):
        trace_of(fit()).save(tmp_path / name)
        assert len(list((tmp_path / name).iterdir())) == len(list((tmp_path / "plain").iterdir()))


class TensorInHistory(Callback):
    def on_epoch_end(self, net, **kwargs):
        net.history.record("odd", torch.ones(1))


def test_what_cannot_go_on_is_refused(tmp_path):
    with pytest.raises(ValueError, match="True only with a folder"):
        small(callbacks=[TraceRecorder(resume=True)]).fit(X, Y)
    with pytest.raises(ValueError, match="1 other recorders"):
        fit(tmp_path / "t", callbacks=[("other", TraceRecorder())])
    net = small(callbacks=[TraceRecorder(storage=tmp_path / "w", resume=True)])
    for given in ("weight", "epochs"):
        with pytest.raises(TypeError, match=rf"fit got {given}.*resume=False"):
            net.fit(X, Y, **{given: 1})
    with pytest.raises(TypeError, match="net's history"):
        fit(tmp_path / "h", callbacks=[TensorInHistory()])
    with pytest.raises(TypeError, match="can be kept in a file"):
        packed({"object": object()})


def damage(path):
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("name", ["resume.pt", "states-*", "steps-*", "epochs-*"])
@pytest.mark.parametrize("way", [damage, Path.unlink])
def test_damaged_folders_are_refused(name, way, tmp_path):
    folder = tmp_path / "t"
    fit(folder, stop_at=6)
    (path,) = folder.glob(name)
    if name in {"states-*", "steps-*"} and way is damage:  # what no record counts is there too
        path.write_bytes(path.read_bytes()[:100])
    else:
        way(path)
    if name == "resume.pt" and way is Path.unlink:
        assert_same_training(fit(folder), fit())  # nothing says that anything was there
        return
    with pytest.raises(ValueError, match=str(folder)):
        fit(folder)


def test_a_finished_folder_without_its_trace_is_refused(tmp_path):
    fit(tmp_path / "t")
    (tmp_path / "t" / "trace.json").unlink()
    with pytest.raises(ValueError, match="trace is gone"):
        fit(tmp_path / "t")


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("exploded",))


def test_reading_runs_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit(tmp_path / "t", stop_at=4)
    for data in (pickle.dumps(Bomb()), b"", b"\x80\x04"):
        (tmp_path / "t" / "resume.pt").write_bytes(data)
        with pytest.raises(ValueError, match="damaged"):
            fit(tmp_path / "t")
    torch.save(Bomb(), tmp_path / "t" / "resume.pt")
    with pytest.raises(ValueError, match="damaged"):
        fit(tmp_path / "t")
    assert not Path("exploded").exists()


class Sizes(Callback):
    """Notes how large the record is when an epoch begins."""

    def __init__(self, folder):
        self.folder = folder

    def on_epoch_begin(self, net, **kwargs):
        SEEN.append((self.folder / "resume.pt").stat().st_size)


def test_an_epoch_costs_the_same_however_many_went_before(tmp_path):
    sizes = Sizes(tmp_path / "t")
    fit(tmp_path / "t", callbacks=[sizes], max_epochs=30)
    noted = [size for size in SEEN if size > 100]
    assert len(noted) == 30
    assert max(noted[2:]) - min(noted[2:]) < 500


@pytest.mark.parametrize("room", [100, 5_000, 15_000, 30_000, 45_000, 60_000])
def test_a_full_disk_loses_no_complete_epoch(room, tmp_path, monkeypatch):
    folder = tmp_path / "t"
    fit(folder, stop_at=4)
    left, plain = [room], Path.open

    def limited(path, mode="r", **kwargs):
        file = plain(path, mode, **kwargs)
        return file if mode in {"r", "rb"} else FullDisk(file, left)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", limited)
        recorder = TraceRecorder(**FULL, storage=folder, resume=True)
        STOP_AT.step = None
        with seeded(0), pytest.raises(OSError, match="No space left") as caught:
            small(max_epochs=EPOCHS, callbacks=[Stop(), recorder]).fit(X, Y)
        assert caught.value.errno == errno.ENOSPC
        assert any(str(folder) in note for note in caught.value.__notes__)
    reached = SEEN[-1]
    assert not list(folder.glob("*.partial"))
    assert not list(folder.glob("*.tmp"))
    again = fit(folder)
    assert len(SEEN) in {EPOCHS - reached, EPOCHS - reached - 1}
    assert_same_training(again, fit())
    assert_only_the_trace(folder)


def die_after(cls, name, n_calls):
    original, calls = getattr(cls, name), []

    def counted(*args, **kwargs):
        calls.append(0)
        result = original(*args, **kwargs)
        if len(calls) == n_calls:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(cls, name, counted)


def fit_and_die(folder, stage):
    _retracing._SECONDS_BETWEEN_WRITES = 0
    os.fsync = lambda file: None
    if stage == "training":
        die_after(Recording, "begin_step", 7)
    if stage == "retracing":
        die_after(WorkFile, "watch", 9)
        die_after(Recording, "begin_step", 8)  # five epochs need not be trained again
    SGDInfluence(few_epochs(), storage=folder, random_state=0).fit(X, Y, *QUERIES)


def test_killed_while_training_and_again_while_retracing(tmp_path):
    whole = SGDInfluence(few_epochs(), random_state=0).fit(X, Y, *QUERIES)
    folder = tmp_path / "t"

    assert exit_code(fit_and_die, folder, "training") == -signal.SIGKILL
    assert not (folder / "trace.json").exists()
    assert exit_code(fit_and_die, folder, "retracing") == -signal.SIGKILL
    assert kept(folder / "retrace.pt")["n_steps"] == 9
    method = SGDInfluence(few_epochs(), storage=folder, random_state=0).fit(X, Y, *QUERIES)
    np.testing.assert_array_equal(method.detrimentality_, whole.detrimentality_)
    assert_same_trace(TrainingTrace.load(folder), whole.trace_)
    assert_only_the_trace(folder)


def interrupted(method, after, monkeypatch, *validation):
    """Fit until a number of steps are retraced; what stops it comes in the middle of one."""
    calls = []
    original = WorkFile.watch

    def watch(self, state):
        calls.append(state()["n_steps"])
        original(self, state)
        if len(calls) == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(WorkFile, "watch", watch)
        try:
            method.fit(X, Y, *validation)
        except KeyboardInterrupt:
            assert len(calls) == after
    return calls


@pytest.mark.parametrize("validation", [QUERIES, ()], ids=["given", "halves"])
def test_an_interrupted_retracing_goes_on(validation, tmp_path, monkeypatch):
    settings = {"epochs": 8, "random_state": 0}
    whole = SGDInfluence(few_epochs(), **settings).fit(X, Y, *validation)
    method = SGDInfluence(few_epochs(), storage=tmp_path / "t", **settings)
    first = interrupted(method, 5, monkeypatch, *validation)
    assert list(tmp_path.glob("t*/retrace.pt"))
    rest = interrupted(method, 10**6, monkeypatch, *validation)
    assert first[-1] == 5
    assert rest[0] == 6
    np.testing.assert_array_equal(method.detrimentality_, whole.detrimentality_)
    assert not list(tmp_path.glob("t*/retrace.pt"))
    assert not list(tmp_path.glob("t*/*.tmp"))


def test_another_retracing_begins_anew(tmp_path, monkeypatch):
    method = SGDInfluence(few_epochs(), storage=tmp_path / "t", epochs=8, random_state=0)
    for change in ({"epochs": 9}, {"hessian": False}, {"renormalize": True}, {"batch_size": 5}):
        assert interrupted(method, 5, monkeypatch, *QUERIES) == [1, 2, 3, 4, 5]
        method.set_params(**change)
        expected = clone(method).set_params(storage="memory")
        found = interrupted(method, 10**6, monkeypatch, *QUERIES)
        assert found[0] == 1
        expected.fit(X, Y, *QUERIES)
        np.testing.assert_array_equal(method.detrimentality_, expected.detrimentality_)
    interrupted(method, 5, monkeypatch, *QUERIES)
    assert interrupted(method, 2, monkeypatch, QUERIES[0] + 1, QUERIES[1]) == [1, 2]
    with pytest.raises(ValueError, match="another X"):
        method.fit(X + 1, Y, *QUERIES)
    with pytest.raises(ValueError, match="integer together with a folder"):
        method.set_params(random_state=None).fit(X, Y, *QUERIES)


def test_a_full_disk_while_retracing_keeps_what_was_written(tmp_path, monkeypatch):
    method = SGDInfluence(few_epochs(), storage=tmp_path / "t", epochs=8, random_state=0)
    monkeypatch.setattr(_retracing, "_SECONDS_BETWEEN_WRITES", 0)
    interrupted(method, 5, monkeypatch, *QUERIES)
    plain = Path.open

    def limited(path, mode="r", **kwargs):
        file = plain(path, mode, **kwargs)
        return FullDisk(file, [100]) if "retrace" in path.name and "w" in mode else file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", limited)
        with pytest.raises(OSError, match="No space left") as caught:
            method.fit(X, Y, *QUERIES)
    assert any("retrace.pt" in note for note in caught.value.__notes__)
    assert interrupted(method, 10**6, monkeypatch, *QUERIES)[0] == 6
    expected = SGDInfluence(few_epochs(), epochs=8, random_state=0).fit(X, Y, *QUERIES)
    np.testing.assert_array_equal(method.detrimentality_, expected.detrimentality_)


def test_a_finished_half_is_not_retraced_again(tmp_path, monkeypatch):
    settings = {"epochs": 8, "random_state": 0}
    method = SGDInfluence(few_epochs(), storage=tmp_path / "t", **settings)
    n_whole = len(interrupted(clone(method), 10**6, monkeypatch))
    assert not list(tmp_path.glob("t*/retrace.pt"))
    first = interrupted(method, n_whole // 2 + 3, monkeypatch)
    rest = interrupted(method, 10**6, monkeypatch)
    assert len(first) + len(rest) == n_whole
    whole = SGDInfluence(few_epochs(), **settings).fit(X, Y)
    np.testing.assert_array_equal(method.detrimentality_, whole.detrimentality_)
    assert not list(tmp_path.glob("t*/retrace.pt"))


def test_another_programs_retrace_file_is_refused(tmp_path):
    method = SGDInfluence(few_epochs(), storage=tmp_path, random_state=0)
    for content in ({"my": "checkpoint"}, [1, 2]):
        torch.save(content, tmp_path / "retrace.pt")
        with pytest.raises(ValueError, match=r"retrace.pt is not a file of SGDInfluence.*Move it"):
            method.fit(X, Y, *QUERIES)
        assert torch.load(tmp_path / "retrace.pt") == content
    (tmp_path / "retrace.pt").unlink()
    method.fit(X, Y, *QUERIES)


def test_a_folder_and_a_recorder_of_the_net_are_refused_together(tmp_path):
    method = SGDInfluence(few_epochs(), storage=tmp_path / "t", epochs=2, random_state=0)
    stopped = few_epochs().set_params(callbacks=[Interrupt(step=4)])
    with pytest.raises(KeyboardInterrupt):
        clone(method).set_params(net=stopped).fit(X, Y, *QUERIES)
    files = {path: path.read_bytes() for path in (tmp_path / "t").iterdir()}
    own = few_epochs().set_params(callbacks=[TraceRecorder(order=True)])
    for rows in ((), QUERIES):
        with pytest.raises(ValueError, match=r"TraceRecorder of its own.*resume=True to that"):
            clone(method).set_params(net=own).fit(X, Y, *rows)
    assert {path: path.read_bytes() for path in (tmp_path / "t").iterdir()} == files
    # what the error asks for
    recorder = TraceRecorder(steps="all", storage=tmp_path / "own", resume=True)
    own.set_params(callbacks=[recorder])
    found = clone(method).set_params(net=own, storage="memory").fit(X, Y, *QUERIES)
    expected = clone(method).set_params(storage="memory").fit(X, Y, *QUERIES)
    np.testing.assert_array_equal(found.detrimentality_, expected.detrimentality_)
    assert (tmp_path / "own" / "resume.pt").exists()
    # a frozen net is not trained, so its recorder is in nobody's way
    frozen = clone(method).set_params(net=FrozenEstimator(found.net_), storage=tmp_path / "walk")
    np.testing.assert_array_equal(
        frozen.fit(X, Y, *QUERIES).detrimentality_, expected.detrimentality_
    )


class Caching(torch.utils.data.Dataset):
    """Keeps the rows that it has read."""

    def __init__(self):
        self.cache = {}

    def __len__(self):
        return len(X)

    def __getitem__(self, row):
        return self.cache.setdefault(row, (X[row], Y[row]))


def test_what_changes_while_training_counts_as_changed_and_the_error_says_so(tmp_path):
    rows = Caching()
    whole = fit(tmp_path / "t", rows=rows, targets=None)
    with pytest.raises(ValueError, match=r"another X.*change while training count as changed"):
        fit(tmp_path / "t", rows=rows, targets=None)
    assert_same_training(fit(tmp_path / "t", rows=Caching(), targets=None), whole)
