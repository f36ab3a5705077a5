"""Folders that traces share with the user's files, with other processes and with older traces."""

import os

import pytest
import torch
from skorch.callbacks import Callback
from test_trace import DropoutMlp, X, Y, assert_nothing_left, small
from test_trace_resume import fit

from skinfluence import TraceRecorder, _trace_files
from skinfluence.trace import trace_of

TOKEN = "0123456789ab"


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch):
    """Processes are killed here, not machines: what was written is there."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


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
