"""One resumable training at a time in a folder, of this process and of others."""

import os
import threading
from types import SimpleNamespace

import pytest
from skorch.callbacks import Callback

from skinfluence import SGDInfluence, TraceRecorder, TrainingTrace
from skinfluence.rows._seeds import seeded
from skinfluence.storage._lock import LOCK_FILE, FolderLock, locked
from skinfluence.storage._work_file import WorkFile
from skinfluence.trace._callbacks import trace_of
from skinfluence.trace._recording import Recording
from tests._shared.processes import begin
from tests._shared.traces import (
    QUERIES,
    SEEN,
    X,
    Y,
    assert_same,
    assert_same_trace,
    assert_same_training,
    few_epochs,
    fit,
    odd_trace,
    small,
)

pytestmark = pytest.mark.usefixtures("quick_disk")


# What callbacks of a test do next; not their parameters, which are part of what a training is.
TODO = SimpleNamespace(begin=list, epoch=list, end=list)  # list() does nothing


def train_slowly(connection, folder):
    os.fsync = lambda file: None
    begin_epoch = Recording.begin_epoch

    def slow(self):
        begin_epoch(self)
        if self._n_epochs == 2:
            connection.send("in the middle")
            connection.recv()

    Recording.begin_epoch = slow
    fit(folder)


@pytest.mark.parametrize("ends_by", ["its end", "a kill"])
def test_another_process_keeps_out(ends_by, tmp_path):
    folder = tmp_path / "t"
    process, connection = begin(train_slowly, folder)
    assert connection.recv() == "in the middle"
    files = {path: path.read_bytes() for path in folder.iterdir()}
    assert folder / LOCK_FILE in files
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"in use by another process.*another folder"):
            fit(folder)
    with pytest.raises(RuntimeError, match="in use by another process"):
        small(callbacks=[TraceRecorder(storage=folder)]).fit(X, Y)
    with pytest.raises(RuntimeError, match="in use by another process"):
        odd_trace().save(folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == files
    if ends_by == "a kill":
        process.kill()
        process.join()
        assert (folder / LOCK_FILE).exists()
    else:
        connection.send("go on")
        process.join()
        assert process.exitcode == 0
    again = fit(folder)
    assert SEEN == [2, 3, 4] if ends_by == "a kill" else not SEEN
    assert_same_training(again, fit())
    assert not (folder / LOCK_FILE).exists()


def test_a_complete_training_is_read_by_as_many_as_like(tmp_path):
    whole = fit(tmp_path)
    with locked(tmp_path):  # stands for another that reads, or for a disk that is not written to
        again = fit(tmp_path)
    assert not SEEN
    assert_same_training(again, whole)


class Acts(Callback):
    """Do what is to be done when a training begins, after its first epoch, and when it ends."""

    def on_train_begin(self, net, **kwargs):
        TODO.begin()

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 1:
            TODO.epoch()

    def on_train_end(self, net, **kwargs):
        TODO.end()


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("threaded", [True, False])
def test_another_training_of_this_process_is_kept_out(threaded, resume, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = []

    def again():
        with pytest.raises(RuntimeError, match="another training of this process") as caught:
            small(callbacks=[TraceRecorder(storage="t", resume=resume)]).fit(X, Y)
        refused.append(caught)

    def in_a_thread():
        thread = threading.Thread(target=again)
        thread.start()
        thread.join()

    monkeypatch.setattr(TODO, "epoch", in_a_thread if threaded else again)
    recorder = TraceRecorder(storage=tmp_path / "t", resume=True)
    small(callbacks=[Acts(), recorder]).fit(X, Y)
    assert len(refused) == 1
    assert_same(TrainingTrace.load("t").final_state, recorder.trace_.final_state)


@pytest.mark.parametrize("by", [ZeroDivisionError, KeyboardInterrupt])
def test_the_folder_is_free_after_whatever_ended_a_training(by, tmp_path):
    folder = tmp_path / "t"
    stopped = fit(folder, stop_at=7, by=by)  # kept, and with it whatever it refers to
    assert not (folder / LOCK_FILE).exists()
    assert_same_training(fit(folder), fit())
    del stopped


@pytest.mark.parametrize("moment", ["begin", "end"])
@pytest.mark.parametrize("place", [0, 1])
def test_errors_of_callbacks_around_the_training_free_the_folder(
    place, moment, tmp_path, monkeypatch
):
    def raises():
        raise ZeroDivisionError

    def train():
        callbacks = [TraceRecorder(order=True, storage=tmp_path / "t", resume=True)]
        callbacks.insert(place, Acts())
        with seeded(0):
            nets.append(small(callbacks=callbacks))
            nets[-1].fit(X, Y)

    nets, errors = [], []
    for _ in range(2):
        monkeypatch.setattr(TODO, moment, raises)
        with pytest.raises(ZeroDivisionError) as caught:
            train()
        errors.append(caught)  # as a notebook keeps the traceback
    monkeypatch.setattr(TODO, moment, list)
    train()
    assert not (tmp_path / "t" / LOCK_FILE).exists()
    assert TrainingTrace.load(tmp_path / "t").n_steps == 9


def test_what_was_taken_over_cannot_go_on(tmp_path):
    first = FolderLock(tmp_path)
    second = FolderLock(tmp_path)
    second.hold()
    with pytest.raises(RuntimeError, match="taken over"):
        first.hold()
    first.release()  # of no effect
    assert (tmp_path / LOCK_FILE).exists()
    with pytest.raises(RuntimeError, match="another training of this process"):
        FolderLock(tmp_path)
    second.loosen()
    with locked(tmp_path):
        (tmp_path / LOCK_FILE).unlink()  # as a user may: it comes back with the next training
    with locked(tmp_path):
        assert (tmp_path / LOCK_FILE).exists()
    assert not list(tmp_path.iterdir())


def take(folder):
    FolderLock(folder)


def hold_and_fork(connection, folder):
    """Hold the folder, in a process whose worker releases what it inherited, and wait with it."""
    lock = FolderLock(folder)
    lock.hold()
    if os.fork() == 0:
        lock.release()
    connection.send("here")
    try:
        connection.recv()
    except EOFError:
        os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_forked_worker_neither_frees_the_folder_nor_keeps_it(tmp_path):
    parent, said = begin(hold_and_fork, tmp_path)
    assert [said.recv() for _ in range(2)] == ["here"] * 2
    with pytest.raises(RuntimeError, match="in use by another process"):
        FolderLock(tmp_path)
    parent.kill()
    parent.join()
    FolderLock(tmp_path).release()  # though the worker, which waits to be told, is alive
    said.close()


def test_two_recorders_do_not_share_a_folder(tmp_path):
    recorders = [TraceRecorder(storage=tmp_path / "t"), TraceRecorder(storage=str(tmp_path / "t"))]
    with pytest.raises(ValueError, match=r"Two recorders.*a folder of its own"):
        small(callbacks=recorders).fit(X, Y)
    recorders[1].set_params(storage=tmp_path / "u")
    net = small(callbacks=recorders).fit(X, Y)
    assert_same(TrainingTrace.load(tmp_path / "u").final_state, trace_of(net).final_state)
    assert_same_trace(TrainingTrace.load(tmp_path / "t"), trace_of(net))


def test_a_retracing_keeps_others_out(tmp_path, monkeypatch):
    method = SGDInfluence(few_epochs(), storage=tmp_path, epochs=1, random_state=0)
    watched, original = [], WorkFile.watch

    def watch(self, state):
        original(self, state)
        with pytest.raises(RuntimeError, match="another training of this process"):
            FolderLock(tmp_path)
        watched.append(state()["n_steps"])

    monkeypatch.setattr(WorkFile, "watch", watch)
    method.fit(X, Y, *QUERIES)
    assert watched
    FolderLock(tmp_path).release()
