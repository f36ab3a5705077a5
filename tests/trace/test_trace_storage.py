"""Folders that traces share with the user's files, with other processes and with older traces."""

import dataclasses
import os
import pickle
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import Callback

from skinfluence import (
    CalibratedDetrimentality,
    DetrimentalSampleCleaner,
    GraNd,
    InnerProductInfluence,
    LossScore,
    TraceRecorder,
    TracIn,
    TrainingTrace,
)
from skinfluence.trace._callbacks import trace_of
from skinfluence.trace.folder import _trace_files
from skinfluence.trace.folder._resume_point import ResumePoint
from skinfluence.trace.folder._trace_files import TraceWriter
from tests._shared.processes import exit_code
from tests._shared.traces import (
    FULL,
    SEEN,
    DropoutMlp,
    FullDisk,
    Stop,
    X,
    Y,
    assert_nothing_left,
    assert_only_the_trace,
    assert_same_trace,
    assert_same_training,
    fit,
    small,
)

pytestmark = pytest.mark.usefixtures("quick_disk")

TOKEN = "0123456789ab"


def users_checkpoint(path):
    torch.save({"my": "checkpoint"}, path)
    return path


def test_a_record_of_another_program_is_not_removed(tmp_path):
    users_file = users_checkpoint(tmp_path / "resume.pt")
    small(callbacks=[TraceRecorder(storage=tmp_path)]).fit(X, Y)
    trace_of(fit()).save(tmp_path)
    assert torch.load(users_file) == {"my": "checkpoint"}
    with pytest.raises(ValueError, match=r"resume.pt does not describe a skinfluence training"):
        fit(tmp_path)
    assert torch.load(users_file) == {"my": "checkpoint"}


def test_files_of_other_programs_stay_whatever_they_look_like(tmp_path):
    names = [f"pytorch_model-{TOKEN}.bin", f"trace.json-{TOKEN}.bin", f"mystates-{TOKEN}.partial"]
    left_behind = [f"states-{TOKEN}.bin", f"logits-{TOKEN}.partial", f"trace.json-{TOKEN}.partial"]
    for name in [*names, *left_behind]:
        (tmp_path / name).write_text("mine")
    fit(tmp_path)
    found = {path.name for path in tmp_path.iterdir()}
    assert found.issuperset(names)
    assert found.isdisjoint(left_behind)


def test_all_that_is_written_is_known_as_our_own(tmp_path):
    fit(tmp_path / "t", stop_at=7, by=KeyboardInterrupt)
    fit(tmp_path / "u", stop_at=7)
    for path in [*(tmp_path / "t").iterdir(), *(tmp_path / "u").iterdir()]:
        own = _trace_files._OWN_NAME.fullmatch(path.name)
        assert own or path.name in {"trace.json", "resume.pt"}


class GrowingBuffer(DropoutMlp):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(0))

    def forward(self, X):
        if self.training:
            self.seen = torch.cat([self.seen, X[:1, 0].detach()])
        return super().forward(X)


class ToDouble(Callback):
    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 2:
            net.module_.head.bias.data = net.module_.head.bias.data.double()

    def on_batch_begin(self, net, batch=None, **kwargs):
        if len(net.history) == 2:
            raise KeyboardInterrupt


CHANGED_TENSORS = {
    "size": ({"module": GrowingBuffer}, r"'seen'.*\(3,\).*was of shape \(0,\)"),
    "dtype": ({"callbacks": [ToDouble()]}, r"'head.bias'.*float64.*was of .*float32"),
}


@pytest.mark.parametrize(("settings", "message"), CHANGED_TENSORS.values(), ids=CHANGED_TENSORS)
def test_a_tensor_that_changes_its_form_is_refused_by_a_folder(settings, message, tmp_path):
    callbacks = settings.get("callbacks", [])
    recorder = TraceRecorder(checkpoints="all", storage=tmp_path / "t")
    net = small(**{**settings, "callbacks": [*callbacks, recorder]})
    with pytest.raises(ValueError, match=message):
        net.fit(X, Y)
    assert not list((tmp_path / "t").iterdir())
    assert_nothing_left(net)
    in_memory = TraceRecorder(checkpoints="all")
    small(**{**settings, "callbacks": [*callbacks, in_memory]}).fit(X, Y)
    assert len(in_memory.trace_.checkpoints) > 1


def test_saving_a_trace_where_it_lives_changes_nothing(tmp_path):
    trace = trace_of(fit(tmp_path))
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    trace.save(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files
    expected = trace_of(fit())
    assert_same_trace(trace, expected)
    assert_same_trace(pickle.loads(pickle.dumps(trace)), expected)
    other = dataclasses.replace(trace, optimizer="another")
    other.save(tmp_path)
    assert TrainingTrace.load(tmp_path).optimizer == "another"
    assert_same_trace(trace, expected)  # read from files that are no longer in the folder
    next(tmp_path.glob("steps-*")).unlink()
    expected.save(tmp_path)
    assert_same_trace(TrainingTrace.load(tmp_path), expected)


def test_a_trace_replaced_on_disk_stays_as_it_was(tmp_path):
    first = trace_of(fit())
    first.save(tmp_path)
    loaded = TrainingTrace.load(tmp_path)
    trace_of(fit(seed=1)).save(tmp_path)
    assert_same_trace(loaded, first)


def go_on_and_die(folder, name, when):
    os.fsync = lambda file: None
    cls = ResumePoint if name == "save" else TraceWriter
    original = getattr(cls, name)

    def die(*args, **kwargs):
        if when == "after":
            original(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(cls, name, die)
    fit(folder)


@pytest.mark.parametrize("asked", [FULL, {"steps": "last_epoch"}])
@pytest.mark.parametrize("stop_at", [1, 7, 13])
def test_the_trace_of_an_interrupt_outlives_what_follows(asked, stop_at, tmp_path):
    stopped = trace_of(fit(tmp_path / "t", asked=asked, stop_at=stop_at, by=KeyboardInterrupt))
    stopped.save(tmp_path / "kept")
    expected = TrainingTrace.load(tmp_path / "kept")
    whole = fit(asked=asked)
    for next_stop in (1, 4 if stop_at < 13 else 2, None):
        again = fit(tmp_path / "t", asked=asked, stop_at=next_stop)
        assert_same_trace(stopped, expected)
    assert_same_training(again, whole)
    assert_only_the_trace(tmp_path / "t")


@pytest.mark.parametrize("moment", ["before save", "after save", "after clear", "after keep"])
def test_killed_while_files_of_an_interrupt_are_copied(moment, tmp_path):
    folder = tmp_path / "t"
    stopped = trace_of(fit(folder, stop_at=7, by=KeyboardInterrupt))
    stopped.save(tmp_path / "kept")
    when, name = moment.split()
    assert exit_code(go_on_and_die, folder, name, when) == -signal.SIGKILL
    again = fit(folder)
    assert SEEN == [2, 3, 4]
    assert_same_trace(stopped, TrainingTrace.load(tmp_path / "kept"))
    assert_same_training(again, fit())
    assert_only_the_trace(folder)


def test_a_kill_costs_no_copy(tmp_path, monkeypatch):
    fit(tmp_path / "t", stop_at=7)

    def forbidden(*args):
        raise AssertionError("copied")

    monkeypatch.setattr(_trace_files, "copy_start", forbidden)
    assert_same_training(fit(tmp_path / "t"), fit())


@pytest.mark.parametrize("room", [100, 5_000, 15_000])
def test_a_full_disk_while_copying_loses_nothing(room, tmp_path, monkeypatch):
    folder = tmp_path / "t"
    stopped = trace_of(fit(folder, stop_at=7, by=KeyboardInterrupt))
    files = {path: path.read_bytes() for path in folder.iterdir()}
    left, plain = [room], Path.open

    def limited(path, mode="r", **kwargs):
        file = plain(path, mode, **kwargs)
        return file if mode in {"r", "rb"} else FullDisk(file, left)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", limited)
        with pytest.raises(OSError, match="No space left") as caught:
            fit(folder)
    assert any(str(folder) in note for note in caught.value.__notes__)
    assert {path: path.read_bytes() for path in folder.iterdir()} == files
    assert_same_trace(TrainingTrace.load(folder), stopped)
    assert_same_training(fit(folder), fit())


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("how", [{}, {"validation": 0.3}, {"cv": 3}])
def test_every_part_of_the_rows_has_a_folder_of_its_own(how, resume, tmp_path):
    def method(*callbacks):
        net = small(max_epochs=2, callbacks=list(callbacks))
        return TracIn(net, reference="self" if "cv" in how else "validation", random_state=0, **how)

    asked = {"checkpoints": "all", "order": True}
    recorder = TraceRecorder(**asked, storage=tmp_path / "t", resume=resume)
    found = method(("mine", recorder), Stop()).fit(X, Y)
    np.testing.assert_array_equal(
        found.detrimentality_, method(TraceRecorder(**asked)).fit(X, Y).detrimentality_
    )
    n_parts = how.get("cv", 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"t-{i}" for i in range(n_parts)]
    for number, net in enumerate(found.net_):
        assert_same_trace(TrainingTrace.load(tmp_path / f"t-{number}"), trace_of(net))
    assert recorder.storage == tmp_path / "t"


@pytest.mark.parametrize(
    "method",
    [
        GraNd(epoch=2, n_seeds=3),
        InnerProductInfluence(n_ensemble=3),
        DetrimentalSampleCleaner(LossScore(), cv=2),
        DetrimentalSampleCleaner(LossScore(), contamination=3, action="relabel"),
    ],
    ids=["GraNd", "InnerProductInfluence", "auto", "relabel"],
)
def test_further_trainings_leave_the_folder_to_the_first(method, tmp_path):
    recorder = TraceRecorder(order=True, storage=tmp_path / "t")
    net = small(max_epochs=2, callbacks=[recorder])
    owner = "method__" if isinstance(method, DetrimentalSampleCleaner) else ""
    method = clone(method).set_params(**{f"{owner}net": net, "random_state": 0})
    given = () if owner or isinstance(method, GraNd) else (X + 0.1, Y)
    method.fit(X, Y, *given)
    fitted = method.method_ if owner else method
    first = fitted.nets_[0] if hasattr(fitted, "nets_") else fitted.net_
    assert_same_trace(TrainingTrace.load(tmp_path / "t"), trace_of(first))
    assert trace_of(first).n_samples == len(X)
    assert all(trace_of(n) is None for n in getattr(fitted, "nets_", [])[1:])


def test_calibration_has_a_folder_for_each_part(tmp_path):
    net = small(max_epochs=2, callbacks=[TraceRecorder(order=True, storage=tmp_path / "t")])
    method = CalibratedDetrimentality(LossScore(net), cv=2, random_state=0).fit(X, Y)
    for number, fold in enumerate(method.folds_):
        found = TrainingTrace.load(tmp_path / f"t-{number}")
        assert_same_trace(found, trace_of(fold.net_))
