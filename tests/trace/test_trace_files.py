"""Traces on disk: the same as in memory, and never half of one."""

import json
import pickle
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from skorch.callbacks import Callback

from skinfluence import GradientEmbedding, TraceRecorder, TrainingTrace
from skinfluence.trace._callbacks import trace_of
from skinfluence.trace.folder import _trace_files
from tests._shared.processes import begin, result_of
from tests._shared.traces import (
    FULL,
    DropoutMlp,
    FullDisk,
    X,
    Y,
    assert_nothing_left,
    assert_same,
    assert_same_trace,
    odd_trace,
    small,
    trained,
)


def test_every_dtype_and_shape_survives(tmp_path):
    trace = odd_trace()
    trace.save(tmp_path / "trace")
    loaded = TrainingTrace.load(tmp_path / "trace")
    assert_same_trace(loaded, trace)
    loaded.save(str(tmp_path / "again"))
    assert_same_trace(TrainingTrace.load(str(tmp_path / "again")), trace)
    assert_same_trace(pickle.loads(pickle.dumps(loaded)), trace)
    with pytest.raises(IndexError):
        loaded.step_states[2]
    assert_same(loaded.step_states[-1], trace.step_states[1])
    assert len(loaded.step_states[0:2]) == 2
    loaded.step_states[0]["scalar"].fill_(9)  # what is read may be changed, the file never
    assert_same_trace(TrainingTrace.load(tmp_path / "trace"), trace)
    loaded.save(tmp_path / "trace")  # over the files it was read from
    assert len(list((tmp_path / "trace").glob("states-*"))) == 1


def test_a_trace_without_steps_survives(tmp_path):
    net = small(max_epochs=0, callbacks=[TraceRecorder(**FULL)]).fit(X, Y)
    trace = trace_of(net)
    assert trace.n_steps == 0
    assert trace.batch_indices == []
    trace.save(tmp_path / "trace")
    assert_same_trace(TrainingTrace.load(tmp_path / "trace"), trace)


class BrainFloatMlp(DropoutMlp):
    def __init__(self):
        super().__init__()
        self.to(torch.bfloat16)

    def forward(self, X):
        return super().forward(X.to(torch.bfloat16)).float()


@pytest.mark.parametrize("module", [DropoutMlp, BrainFloatMlp])
@pytest.mark.parametrize(
    "asked", [FULL, {"steps": "last_epoch"}, {"checkpoints": 2, "logits": True}, {}]
)
def test_a_folder_holds_what_memory_would(asked, module, tmp_path):
    net = small(module=module)
    in_memory = TraceRecorder(**asked)
    on_disk = TraceRecorder(**asked, storage=tmp_path / "trace")
    trained(small(module=module), in_memory)
    net = trained(net, on_disk)
    assert_same_trace(on_disk.trace_, in_memory.trace_)
    assert on_disk.nbytes_ == in_memory.nbytes_
    assert not list(tmp_path.glob("**/*.partial"))
    np.random.seed(0)
    net.partial_fit(X, Y)
    assert on_disk.trace_.segment_starts == (0, 3)
    assert_same(on_disk.trace_.final_state, TrainingTrace.load(tmp_path / "trace").final_state)
    in_memory.trace_.save(tmp_path / "saved")
    assert_same_trace(TrainingTrace.load(tmp_path / "saved"), in_memory.trace_)


def test_another_programs_file_is_not_overwritten(tmp_path):
    (tmp_path / "trace.json").write_text('{"traceEvents": []}')
    with pytest.raises(ValueError, match="would be overwritten"):
        odd_trace().save(tmp_path)
    with pytest.raises(ValueError, match="would be overwritten"):
        small(callbacks=[TraceRecorder(storage=tmp_path)]).fit(X, Y)
    assert [path.name for path in tmp_path.iterdir()] == ["trace.json"]


def embedding_of(net):
    return GradientEmbedding(FrozenEstimator(net), checkpoints=2, combine="concat").fit(X, Y)


def embedding_elsewhere(folder):
    recorder = TraceRecorder()
    recorder.trace_ = TrainingTrace.load(folder)
    net = small().initialize()
    net.module_.load_state_dict(recorder.trace_.final_state)
    net.callbacks_.append(("recorder", recorder))
    return embedding_of(net).embedding_


def test_a_trace_gives_the_same_scores_in_a_new_process(tmp_path):
    net = trained(small(max_epochs=4), TraceRecorder(checkpoints=2, storage=tmp_path / "trace"))
    found = result_of(embedding_elsewhere, tmp_path / "trace")
    np.testing.assert_array_equal(found, embedding_of(net).embedding_)


def test_loading_unpickles_nothing(tmp_path, monkeypatch):
    odd_trace().save(tmp_path)

    def forbidden(*args, **kwargs):
        raise AssertionError("unpickled")

    for module, name in ((pickle, "load"), (pickle, "loads"), (torch, "load"), (np, "load")):
        monkeypatch.setattr(module, name, forbidden)
    assert_same_trace(TrainingTrace.load(tmp_path), odd_trace())


def change(folder, **changes):
    manifest = json.loads((folder / "trace.json").read_text())
    (folder / "trace.json").write_text(json.dumps({**manifest, **changes}))


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path):
    path.write_bytes(path.read_bytes() + b"0")


DAMAGES = {
    "states": (lambda folder: cut_short(next(folder.glob("states-*"))), "has 1?[0-9]+ bytes"),
    "steps": (lambda folder: cut_short(next(folder.glob("steps-*"))), "cut short"),
    "rates": (lambda folder: cut_short(next(folder.glob("learning_rates-*"))), "cut short"),
    "longer": (lambda folder: lengthen(next(folder.glob("steps-*"))), "damaged"),
    "missing": (lambda folder: next(folder.glob("steps-*")).unlink(), "is missing"),
    "manifest": (lambda folder: cut_short(folder / "trace.json"), "not readable as JSON"),
    "binary": (lambda folder: (folder / "trace.json").write_bytes(b"\x80\x04"), "not readable"),
    "empty": (lambda folder: (folder / "trace.json").write_text(""), "not readable as JSON"),
    "list": (lambda folder: (folder / "trace.json").write_text("[]"), "does not describe"),
    "foreign": (lambda folder: change(folder, format="another"), "does not describe"),
    "version": (lambda folder: change(folder, version=1), "version 1, this skinfluence reads 2"),
    "no_files": (lambda folder: change(folder, files={}), "damaged"),
    "short_meta": (lambda folder: change(folder, meta={"has_steps": True}), "damaged"),
    "odd_files": (lambda folder: change(folder, files=3), "damaged"),
    "no_meta": (lambda folder: change(folder, meta={}), "damaged"),
    "nothing": (lambda folder: (folder / "trace.json").unlink(), "holds no trace"),
    "no_folder": (shutil.rmtree, "holds no trace"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_trace_is_refused(damage, message, tmp_path):
    folder = tmp_path / "trace"
    odd_trace().save(folder)
    damage(folder)
    with pytest.raises(ValueError, match=message):
        TrainingTrace.load(folder)


def test_files_outside_the_folder_are_neither_read_nor_removed(tmp_path):
    folder = tmp_path / "trace"
    odd_trace().save(folder)
    files = json.loads((folder / "trace.json").read_text())["files"]
    shutil.copy(folder / files["states"]["file"], tmp_path / "outside")
    files["states"]["file"] = "../outside"
    change(folder, files=files)
    with pytest.raises(ValueError, match="lies outside"):
        TrainingTrace.load(folder)
    odd_trace().save(folder)
    assert (tmp_path / "outside").exists()


class Pausing(Callback):
    """Says that it is in the middle of a training, and stays there."""

    def __init__(self, said):
        self.said = said

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 3:
            self.said.send("in the middle")
            time.sleep(60)


def write_slowly(said, trained, trained_again, saved, saved_again):
    stuck = threading.Semaphore(0)

    def replace_never(*args):
        stuck.release()
        time.sleep(60)

    _trace_files.Path.replace = replace_never
    for folder in (saved, saved_again):
        threading.Thread(target=odd_trace().save, args=(folder,), daemon=True).start()
        stuck.acquire()
    recorders = [TraceRecorder(**FULL, storage=folder) for folder in (trained, trained_again)]
    small(callbacks=[*recorders, Pausing(said)], max_epochs=9).fit(X, Y)


def test_a_killed_process_leaves_the_old_trace_or_none(tmp_path):
    folders = [tmp_path / name for name in ("trained", "trained_again", "saved", "saved_again")]
    for folder in folders[1::2]:
        odd_trace().save(folder)
    process, said = begin(write_slowly, *folders)
    assert said.recv() == "in the middle"
    process.kill()
    process.join()
    for folder in folders:
        assert list(folder.glob("*.partial"))
    for folder in folders[::2]:
        with pytest.raises(ValueError, match="holds no trace"):
            TrainingTrace.load(folder)
    for folder in folders[1::2]:
        assert_same_trace(TrainingTrace.load(folder), odd_trace())
        odd_trace().save(folder)
        assert_same_trace(TrainingTrace.load(folder), odd_trace())


def test_a_missing_parent_folder_is_named(tmp_path):
    recorder = TraceRecorder(storage=tmp_path / "no" / "trace")
    net = small(callbacks=[recorder])
    with pytest.raises(FileNotFoundError, match="trace") as caught:
        net.fit(X, Y)
    assert "parent folder must exist" in caught.value.__notes__[0]
    assert not net.history
    assert_nothing_left(net)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.9, 0.97, 0.995])
@pytest.mark.parametrize("way", ["save", "record"])
def test_a_full_disk_leaves_the_old_trace(way, share, tmp_path, monkeypatch):
    folder = tmp_path / "trace"
    odd_trace().save(folder)
    files = sorted(folder.iterdir())
    other = trace_of(trained(small(), TraceRecorder(**FULL)))
    other.save(tmp_path / "other")
    total = sum(path.stat().st_size for path in (tmp_path / "other").iterdir())
    room = [int(share * total)]
    plain = Path.open

    def limited(path, mode="r", **kwargs):
        file = plain(path, mode, **kwargs)
        return FullDisk(file, room) if "w" in mode else file

    monkeypatch.setattr(_trace_files.Path, "open", limited)
    net = small(callbacks=[TraceRecorder(**FULL, storage=folder)])
    with pytest.raises(OSError, match="No space left") as caught:
        other.save(folder) if way == "save" else net.fit(X, Y)
    assert any("trace" in note for note in caught.value.__notes__)
    assert sorted(folder.iterdir()) == files
    monkeypatch.undo()
    assert_same_trace(TrainingTrace.load(folder), odd_trace())
    if way == "record":
        assert_nothing_left(net)
        net.fit(X, Y)
    else:
        other.save(folder)
    assert TrainingTrace.load(folder).n_steps == 9
    assert len(list(folder.iterdir())) == len(list((tmp_path / "other").iterdir()))
