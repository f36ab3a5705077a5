"""Traces on disk: the same as in memory, and never half of one."""

import errno
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator

from skinfluence import GradientEmbedding, TraceRecorder, TrainingTrace
from skinfluence.trace._callbacks import trace_of
from skinfluence.trace._training_trace import Checkpoint
from skinfluence.trace.folder import _trace_files
from tests.trace.test_trace import (
    FULL,
    DropoutMlp,
    X,
    Y,
    assert_nothing_left,
    assert_same,
    small,
    trained,
)

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
    torch.complex64,
]


def assert_same_trace(one, two):
    for name in ("initial_state", "final_state"):
        assert_same(getattr(one, name), getattr(two, name))
    for mine, other in zip(one.checkpoints, two.checkpoints, strict=True):
        assert mine.epoch == other.epoch
        np.testing.assert_array_equal(mine.learning_rate, other.learning_rate)
        assert_same(mine.state, other.state)
    for name in ("batch_indices", "step_states"):
        assert (getattr(one, name) is None) == (getattr(two, name) is None)
    for mine, other in zip(one.batch_indices or [], two.batch_indices or [], strict=True):
        np.testing.assert_array_equal(mine, other)
    for mine, other in zip(one.step_states or [], two.step_states or [], strict=True):
        assert_same(mine, other)
    np.testing.assert_array_equal(one.learning_rates, two.learning_rates)
    assert (one.logits is None) == (two.logits is None)
    if one.logits is not None:
        np.testing.assert_array_equal(one.logits, two.logits)
    assert one._meta() == two._meta()
    assert one.nbytes == two.nbytes


def odd_trace():
    """States of every dtype, of no axis, and with nothing in them."""

    def state(seed):
        generator = torch.Generator().manual_seed(seed)
        found = {"empty": torch.empty(0, 3), "scalar": torch.tensor(seed, dtype=torch.int64)}
        for dtype in DTYPES:
            values = torch.randint(0, 2, (3, 5), generator=generator).to(dtype)
            found[f"m.{dtype}"] = values.T if seed % 2 else values.T.contiguous()
            found[f"s.{dtype}"] = values[0, 0]
        return found

    final = state(3)
    return TrainingTrace(
        n_samples=4,
        initial_state=state(1),
        final_state=final,
        checkpoints=[
            Checkpoint(1, np.array([0.1, 0.2]), state(2)),
            Checkpoint(2, np.array([1 / 3, 0.0]), final),
        ],
        learning_rates=np.array([[0.1, 0.2], [1 / 3, 0.0]]),
        batch_indices=[np.array([3, 1]), np.array([], np.int64)],
        step_states=[state(5), state(6)],
        parameter_groups=(("a", "b"), ()),
        weight_decay=(0.0, 1 / 3),
        epoch_starts=(0, 1),
        planned_epochs=(2,),
        replay_error_=0.1,
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


def environment():
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


SCORES_ELSEWHERE = """
import sys
import numpy as np
from sklearn.frozen import FrozenEstimator
from skinfluence import GradientEmbedding, TraceRecorder, TrainingTrace
from tests.trace.test_trace import X, Y, small
trace = TrainingTrace.load(sys.argv[1])
recorder = TraceRecorder()
net = small().initialize()
net.module_.load_state_dict(trace.final_state)
recorder.trace_ = trace
net.callbacks_.append(("recorder", recorder))
method = GradientEmbedding(FrozenEstimator(net), checkpoints=2, combine="concat")
np.save(sys.argv[2], method.fit(X, Y).embedding_)
"""


def test_a_trace_gives_the_same_scores_in_a_new_process(tmp_path):
    net = trained(small(max_epochs=4), TraceRecorder(checkpoints=2, storage=tmp_path / "trace"))
    method = GradientEmbedding(FrozenEstimator(net), checkpoints=2, combine="concat")
    places = [str(tmp_path / "trace"), str(tmp_path / "scores.npy")]
    command = [sys.executable, "-c", SCORES_ELSEWHERE, *places]
    subprocess.run(command, env=environment(), check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "scores.npy"), method.fit(X, Y).embedding_)


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


WRITE_SLOWLY = """
import sys, threading, time
from skorch.callbacks import Callback
from skinfluence import TraceRecorder
from skinfluence.trace.folder import _trace_files
from tests.trace.test_trace import FULL, X, Y, small
from tests.trace.test_trace_files import odd_trace
trained, trained_again, saved, saved_again = sys.argv[1:]
stuck = threading.Semaphore(0)
def replace_never(*args):
    stuck.release()
    time.sleep(60)
_trace_files.Path.replace = replace_never
for folder in (saved, saved_again):
    threading.Thread(target=odd_trace().save, args=(folder,), daemon=True).start()
    stuck.acquire()
class Slow(Callback):
    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 3:
            print("in the middle", flush=True)
            time.sleep(60)
recorders = [TraceRecorder(**FULL, storage=folder) for folder in (trained, trained_again)]
small(callbacks=[*recorders, Slow()], max_epochs=9).fit(X, Y)
"""


def test_a_killed_process_leaves_the_old_trace_or_none(tmp_path):
    folders = [tmp_path / name for name in ("trained", "trained_again", "saved", "saved_again")]
    for folder in folders[1::2]:
        odd_trace().save(folder)
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE_SLOWLY, *map(str, folders)],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "in the middle\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
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


class FullDisk:
    """A file on a disk that has room for some bytes more."""

    def __init__(self, file, room):
        self._file, self._room = file, room

    def write(self, data):
        self._room[0] -= len(data)
        if self._room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()


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
