"""Recorded trainings of small nets, stopped and compared, that several test modules use."""

import errno
import os
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import Callback
from torch import nn
from torch.utils.data import WeightedRandomSampler

from skinfluence import TraceRecorder, TrainingTrace
from skinfluence.nets import sgd_net
from skinfluence.rows._seeds import seeded
from skinfluence.trace._callbacks import trace_of
from skinfluence.trace._training_trace import Checkpoint
from tests._shared.problems import SmallMlp, blobs, classifier

X, Y = blobs(n=22)
QUERIES = blobs(n=12, seed=1)
EPOCHS = 5
FULL = {"checkpoints": "all", "order": True, "steps": "all", "logits": True}


class Interrupt(Callback):
    """Stop training, as Ctrl-C does, at one moment of the step with a given number."""

    def __init__(self, moment="on_batch_end", step=4):
        self.moment = moment
        self.step = step

    def initialize(self):
        self.steps_ = -1
        return self

    def on_batch_begin(self, net, training=None, **kwargs):
        self.steps_ += bool(training)
        self._maybe("on_batch_begin", training)

    def on_grad_computed(self, net, named_parameters, training=None, **kwargs):
        self._maybe("on_grad_computed", training)

    def on_batch_end(self, net, training=None, **kwargs):
        self._maybe("on_batch_end", training)

    def _maybe(self, moment, training):
        if training and moment == self.moment and self.steps_ == self.step:
            raise KeyboardInterrupt


class DropoutMlp(SmallMlp):
    def __init__(self):
        super().__init__()
        self.body.append(nn.Dropout(0.5))
        self.body.append(nn.BatchNorm1d(16))


def small(**kwargs):
    return classifier(**{"max_epochs": 3, "batch_size": 8, "lr": 0.05, **kwargs})


def trained(net, recorder=None, seed=0, X=X, y=Y):
    with seeded(seed):
        if recorder is not None:
            net.set_params(callbacks=[*(net.callbacks or []), recorder])
        return net.fit(X, y)


def state_of(net):
    return {**dict(net.module_.named_parameters()), **dict(net.module_.named_buffers())}


def assert_same(one, two):
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


def assert_nothing_left(net):
    assert not {"fit_loop", "get_iterator"} & vars(net).keys()
    assert not any("last" in name for name, _ in net.callbacks_)
    clone(net)
    pickle.loads(pickle.dumps(net))


def weighted():
    generator = torch.Generator().manual_seed(3)
    return WeightedRandomSampler(np.arange(1.0, 23), 30, generator=generator)


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


# What callbacks of a test do next; not their parameters, which are part of what a training is.
STOP_AT, SEEN = SimpleNamespace(step=None, by=ZeroDivisionError), []


class Stop(Callback):
    """Raise in a given step, counted from the start of this call of fit; and count epochs."""

    def initialize(self):
        self.step_ = -1
        SEEN.clear()
        return self

    def on_epoch_begin(self, net, **kwargs):
        SEEN.append(len(net.history) - 1)

    def on_batch_end(self, net, training=None, **kwargs):
        self.step_ += bool(training)
        if training and self.step_ == STOP_AT.step:
            raise STOP_AT.by


def fit(folder=None, *, stop_at=None, seed=0, asked=FULL, rows=X, targets=Y, **kwargs):
    """Train a small net, in a folder where there is one; give it even if it was stopped."""
    by = kwargs.pop("by", ZeroDivisionError)
    storage = {} if folder is None else {"storage": folder, "resume": True}
    recorder = TraceRecorder(**asked, **storage)
    own = kwargs.pop("callbacks", [])
    make = kwargs.pop("make", small)
    net = make(**{"max_epochs": EPOCHS, "callbacks": [*own, Stop(), recorder], **kwargs})
    STOP_AT.step, STOP_AT.by = stop_at, by
    with seeded(seed):
        if stop_at is None or by is KeyboardInterrupt:  # which skorch does not pass on
            return net.fit(rows, targets)
        with pytest.raises(ZeroDivisionError):
            net.fit(rows, targets)
    return net


def history_of(net):
    return [{k: v for k, v in row.items() if k != "dur"} for row in net.history]


def assert_same_training(one, two):
    assert_same_trace(trace_of(one), trace_of(two))
    assert_same(one.module_.state_dict(), two.module_.state_dict())
    np.testing.assert_equal(history_of(one), history_of(two))
    mine, other = (net.optimizer_.state_dict() for net in (one, two))
    assert mine["param_groups"] == other["param_groups"]
    for place, state in mine["state"].items():
        for name, value in state.items():
            assert value is other["state"][place][name] is None or torch.equal(
                torch.as_tensor(value), torch.as_tensor(other["state"][place][name])
            )


def assert_only_the_trace(folder):
    """A finished folder holds what its manifest names, the manifest, and one record."""
    trace = TrainingTrace.load(folder)
    trace.save(folder.with_name("saved"))
    named = {path.name.split("-")[0] for path in folder.with_name("saved").iterdir()}
    found = [path.name.split("-")[0] for path in folder.iterdir()]
    assert sorted(found) == sorted({*named, "resume.pt"})


def few_epochs():
    return sgd_net(X, Y, random_state=0).set_params(max_epochs=12)
