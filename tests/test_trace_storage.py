"""Folders that traces share with the user's files, with other processes and with older traces."""

import pytest
import torch
from skorch.callbacks import Callback
from test_trace import DropoutMlp, X, Y, assert_nothing_left, small

from skinfluence import TraceRecorder


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
