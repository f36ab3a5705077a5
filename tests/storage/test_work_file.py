"""The file from which a stopped run goes on: whose it is, and when it is written."""

import os

import numpy as np
import pytest
import torch

from skinfluence.storage._files import packed
from skinfluence.storage._work_file import WorkFile


def work_file(path, key="data", **settings):
    settings = {"kind": "a method", "inputs": "X and y", **settings}
    return WorkFile.of_parameter("path", path, key, **settings)


def test_a_state_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "run.npz"
    assert work_file(path).read() is None
    state = {
        "sums": np.random.default_rng(0).normal(size=(3, 4)),
        "n": 57,
        "statistics": [1.5, 1 / 3],
        "u": {"weight": torch.randn(2, 3).to(torch.bfloat16)},
    }
    work_file(path).write(state)
    found = work_file(path).read()
    np.testing.assert_array_equal(found["sums"], state["sums"])
    assert (found["n"], found["statistics"]) == (57, [1.5, 1 / 3])
    assert torch.equal(found["u"]["weight"], state["u"]["weight"])
    found["sums"] += 1  # may be added to
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]


def test_a_file_of_other_data_is_refused_or_replaced(tmp_path):
    path = tmp_path / "run.npz"
    work_file(path).write({"n": 1})
    with pytest.raises(ValueError, match="belongs to other data or parameters: X and y must be"):
        work_file(path, key="other data").read()
    replacing = WorkFile(path, "other data", kind="a method", foreign="not mine")
    assert replacing.read() is None
    replacing.write({"n": 2})
    assert replacing.read() == {"n": 2}


OTHERS = [b"", b"no archive", b"PK\x03\x04 cut off", packed({"my": "checkpoint"}), packed([1])]


@pytest.mark.parametrize("content", OTHERS, ids=range(5))
def test_other_files_are_refused_and_stay(tmp_path, content):
    path = tmp_path / "run.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"not a file this method wrote.*move it away"):
        work_file(path).read()
    work_file(tmp_path / "other").write({"n": 1})
    with pytest.raises(ValueError, match="not a file this method wrote"):
        work_file(tmp_path / "other", kind="another method").read()
    assert path.read_bytes() == content


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_a_pickle_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": "skinfluence state of a method", "state": Bomb()}, "run")
    with pytest.raises(ValueError, match="not a file this method wrote"):
        work_file(tmp_path / "run").read()
    np.savez("run.npz", fingerprint=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="not a file this method wrote"):
        work_file(tmp_path / "run.npz").read()
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("by", [None, ZeroDivisionError, KeyboardInterrupt])
def test_whatever_ends_a_run_its_state_is_kept_unless_it_is_torn(by, tmp_path):
    def run(file, state):
        with file.keeping(lambda: state):
            if by is not None:
                raise by

    for state in (None, {"n": 3}, None):
        file = work_file(tmp_path / "run")
        if by is None:
            run(file, state)
        else:
            with pytest.raises(by):
                run(file, state)
        assert file.path.exists() == (state is not None or file.read() == {"n": 3})
    assert file.read() == {"n": 3}


def test_it_is_written_every_so_many_seconds(tmp_path, monkeypatch):
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    file = work_file(tmp_path / "run", seconds=5.0)
    written = []
    for now in (1.0, 4.9, 5.0, 9.9, 10.0):
        file.watch(lambda: {"at": now})  # noqa: B023
        written.append(file.read())
    assert written == [None, None, {"at": 5.0}, {"at": 5.0}, {"at": 10.0}]


def test_a_full_disk_leaves_the_old_file_and_the_error_that_ended_the_run(tmp_path, monkeypatch):
    file = work_file(tmp_path / "run")
    file.write({"n": 1})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        file.write({"n": 2})
    assert "could not be written to" in caught.value.__notes__[0]
    with pytest.raises(ZeroDivisionError) as caught, file.keeping(lambda: {"n": 2}):
        raise ZeroDivisionError
    assert "where the run stopped is not in" in caught.value.__notes__[0]
    assert file.read() == {"n": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("place", range(0, 400, 23))
def test_a_file_with_a_flipped_bit_is_never_gone_on_with(tmp_path, place):
    path = tmp_path / "work"
    file = WorkFile(path, "key", kind="tests", foreign="not one of ours")
    file.write({"values": np.arange(3.0), "n": 2})
    data = bytearray(path.read_bytes())
    data[place * len(data) // 400] ^= 4
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="not one of ours"):
        file.read()
