"""Recording a training: it changes nothing, and what it notes is what happened."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, EpochTimer
from skorch.dataset import ValidSplit
from torch import nn
from torch.utils.data import BatchSampler, DataLoader

from skinfluence import TraceRecorder
from skinfluence.nets._training import fit_net
from skinfluence.rows._seeds import seeded
from skinfluence.trace._callbacks import trace_of
from tests._shared.problems import SmallMlp
from tests._shared.traces import (
    FULL,
    DropoutMlp,
    Interrupt,
    X,
    Y,
    assert_nothing_left,
    assert_same,
    small,
    state_of,
    trained,
    weighted,
)


class NoisyMlp(SmallMlp):
    """Draws random numbers in eval mode too."""

    def forward(self, X):
        return super().forward(X) + torch.rand(1) + np.random.rand()


class EagerBatches:
    """Draws its order when iteration begins, not with the first batch."""

    def __iter__(self):
        return iter(np.array_split(torch.randperm(22).numpy(), 3))

    def __len__(self):
        return 3


class RaisesAtStart(Callback):
    def on_train_begin(self, net, **kwargs):
        raise ZeroDivisionError


class RowNumbers(nn.Module):
    """Notes the rows of every forward pass in training, which hold their own number."""

    def __init__(self, noted, n_outputs=2):
        super().__init__()
        self.noted = noted
        self.layer = nn.Linear(1, n_outputs)

    def forward(self, X):
        if self.training:
            self.noted.append(X[:, 0].int().tolist())
        return self.layer(X / 100)


class NumberNet(NeuralNetClassifier):
    """Its clones share the list in which rows are noted."""

    def initialize_module(self):
        self.module_ = RowNumbers(**self.get_params_for("module"))
        return self


UNSHUFFLED = {"iterator_train__shuffle": False}
TRAININGS = {
    "shuffled": {},
    "unshuffled": UNSHUFFLED,
    "dropout": {"module": DropoutMlp, "iterator_train__drop_last": True},
    "own_sampler": {"iterator_train__sampler": weighted(), **UNSHUFFLED},
    "own_batch_sampler": {
        "iterator_train__batch_sampler": BatchSampler(weighted(), 7, drop_last=False),
        "iterator_train__batch_size": 1,
        **UNSHUFFLED,
    },
    "eager_batch_sampler": {
        "iterator_train__batch_sampler": EagerBatches(),
        "iterator_train__batch_size": 1,
        **UNSHUFFLED,
    },
    "noisy": {"module": NoisyMlp},
    "split": {"train_split": ValidSplit(3, stratified=True)},
    "momentum": {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9},
    "whole": {"batch_size": -1},
    "interrupted": {"callbacks": [Interrupt()]},
    "persistent_worker": {
        "iterator_train__num_workers": 1,
        "iterator_train__persistent_workers": True,
        "max_epochs": 2,
    },
}


@pytest.mark.parametrize("settings", TRAININGS.values(), ids=TRAININGS)
def test_recording_changes_no_bit_of_training(settings):
    net = small(**copy.deepcopy(settings))
    alone = trained(clone(net))
    recorder = TraceRecorder(**FULL)
    recorded = trained(clone(net), recorder)
    assert_same(state_of(recorded), state_of(alone))
    assert_same(recorder.trace_.final_state, state_of(alone))
    assert_nothing_left(recorded)
    for again in (clone(recorded), recorded):  # refitted
        if not settings.keys() & {"iterator_train__sampler", "iterator_train__batch_sampler"}:
            with seeded(0):
                assert_same(state_of(again.fit(X, Y)), state_of(alone))
    assert len(recorder.trace_.epoch_starts) <= net.max_epochs


@pytest.mark.filterwarnings("ignore")  # of torch's compiler itself
def test_a_compiled_net_is_recorded_too():
    net = small(compile=True, compile__backend="eager", max_epochs=1)
    alone = trained(clone(net))
    trace = trace_of(trained(clone(net), TraceRecorder(**FULL)))
    expected = state_of(alone)
    assert {f"_orig_mod.{name}" for name in trace.final_state} == expected.keys()
    for name, value in trace.final_state.items():
        assert torch.equal(value, expected[f"_orig_mod.{name}"])
    assert trace.replay_error_ is not None


@pytest.mark.parametrize("callbacks", [None, [], [EpochTimer], "disable"])
def test_a_recorder_added_for_a_method_leaves_no_mark(callbacks):
    alone = fit_net(small(callbacks=callbacks, module=DropoutMlp), X, Y, seed=5)
    recorder = TraceRecorder(**FULL)
    net = fit_net(small(callbacks=callbacks, module=DropoutMlp), X, Y, 5, recorder)
    assert_same(state_of(net), state_of(alone))
    assert net.callbacks == callbacks
    assert [name for name, _ in net.callbacks_] == [name for name, _ in alone.callbacks_]
    assert net.get_params(deep=False).keys() == alone.get_params(deep=False).keys()
    assert_nothing_left(net)
    assert len(recorder.trace_.checkpoints) == 3


def test_partial_fit_and_warm_start_continue():
    def go_on(net):
        with seeded(0):
            net.fit(X, Y).partial_fit(X, Y)
            return net.set_params(warm_start=True).fit(X, Y)

    recorder = TraceRecorder(**FULL)
    net = go_on(small(callbacks=[recorder]))
    assert_same(state_of(net), state_of(go_on(small())))
    trace = recorder.trace_
    assert trace.segment_starts == (0, 3, 6)
    assert [c.epoch for c in trace.checkpoints] == list(range(1, 10))
    assert trace.epoch_starts == tuple(range(0, 27, 3))
    assert trace.n_steps == len(trace.step_states) == len(trace.batch_indices) == 27
    assert trace.logits.shape == (9, 22, 3)
    assert trace.nbytes <= recorder.nbytes_ <= 1.1 * trace.nbytes
    with pytest.raises(ValueError, match="The recorded order is of 22 rows"):
        net.partial_fit(X[::-1].copy(), Y[::-1].copy())
    with pytest.raises(ValueError, match="another weight_decay of the optimiser"):
        net.set_params(optimizer__weight_decay=0.1).partial_fit(X, Y)
    assert_nothing_left(net)
    with torch.no_grad():  # what came between was not recorded: another trace
        net.module_.head.bias += 1
    start = copy.deepcopy(state_of(net))
    net.set_params(optimizer__weight_decay=0.0).partial_fit(X, Y)
    assert recorder.trace_.segment_starts == (0,)
    assert_same(recorder.trace_.initial_state, start)


def test_other_rows_may_follow_where_rows_are_not_recorded():
    net = trained(small(), TraceRecorder())
    assert trace_of(net.partial_fit(X[:9], Y[:9])).segment_starts == (0, 3)


class FailsInStep(NeuralNetClassifier):
    def train_step(self, batch, **fit_params):
        if len(self.history) == 2:
            raise ZeroDivisionError
        return super().train_step(batch, **fit_params)


@pytest.mark.parametrize("storage", ["memory", "folder"])
@pytest.mark.parametrize("failure", ["step", "split", "callback", "loader"])
def test_errors_leave_nothing_behind(failure, storage, tmp_path):
    recorder = TraceRecorder(**FULL, storage="memory" if storage == "memory" else tmp_path / "t")
    settings = {"train_split": None, "verbose": 0, "max_epochs": 3, "lr": 0.1}
    net = FailsInStep(SmallMlp, criterion=nn.CrossEntropyLoss, callbacks=[recorder], **settings)
    y, error = Y, ZeroDivisionError
    if failure == "split":
        y, error = np.arange(22), ValueError  # every class once: no stratified split
        net.set_params(train_split=ValidSplit(5, stratified=True))
    elif failure == "callback":
        net.set_params(callbacks=[recorder, RaisesAtStart()])
    elif failure == "loader":
        net.set_params(iterator_train__num_workers=-1)
        error = ValueError
    with pytest.raises(error):
        net.fit(X, y)
    assert not {"fit_loop", "get_iterator"} & vars(net).keys()
    assert not hasattr(recorder, "trace_")
    clone(net)
    pickle.loads(pickle.dumps(net))
    if failure != "callback":
        assert not hasattr(recorder, "recording_")
        assert not list(tmp_path.glob("t/*"))
    if failure == "loader":
        net.iterator_train__num_workers = 0
    net.set_params(train_split=None, callbacks=[recorder], max_epochs=1).fit(X, Y)
    assert recorder.trace_.n_steps == 1
    assert_nothing_left(net)
    assert not list(tmp_path.glob("t/*.partial"))


def test_a_callback_that_raises_once_does_not_spoil_partial_fit():
    recorder, bad = TraceRecorder(**FULL), RaisesAtStart()
    net = small(callbacks=[recorder, ("bad", bad)]).initialize()
    with pytest.raises(ZeroDivisionError):
        net.partial_fit(X, Y)
    net.callbacks_ = [entry for entry in net.callbacks_ if entry[1] is not bad]
    net.partial_fit(X, Y)
    assert recorder.trace_.n_steps == 9
    assert_nothing_left(net)


def test_two_recorders_on_one_net_see_the_same():
    one, two = TraceRecorder(**FULL), TraceRecorder(order=True)
    net = trained(small(callbacks=[one]), two)
    assert_same(state_of(net), state_of(trained(small())))
    for mine, other in zip(one.trace_.batch_indices, two.trace_.batch_indices, strict=True):
        np.testing.assert_array_equal(mine, other)
    assert_nothing_left(net)


def numbered(noted, **kwargs):
    settings = {"batch_size": 4, "max_epochs": 3, "train_split": None, "verbose": 0, **kwargs}
    return NumberNet(
        RowNumbers, module__noted=noted, criterion=nn.CrossEntropyLoss, lr=0.1, **settings
    )


SHUFFLED = {"iterator_train__shuffle": True}
SPLIT = {"train_split": ValidSplit(3, stratified=True), **SHUFFLED}
WORKERS = {"iterator_train__num_workers": 2}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {**SHUFFLED, "iterator_train__drop_last": True},
        {"iterator_train__sampler": weighted()},
        SPLIT,
        {**SHUFFLED, **WORKERS},
        {**SPLIT, **WORKERS},
    ],
)
def test_the_recorded_rows_are_those_trained_on(settings):
    noted = []
    recorder = TraceRecorder(order=True, logits=True)
    net = numbered(noted, callbacks=[recorder], **settings)
    rows = np.arange(22, dtype=np.float32)[:, None]
    outputs = []
    net.train_step_single = record_outputs(net, outputs)
    try:
        net.fit(rows, np.arange(22) % 2)
    finally:
        del net.train_step_single
    trace = recorder.trace_
    assert [found.tolist() for found in trace.batch_indices] == noted
    assert trace.n_samples == 22
    expected = np.full((3, 22, 2), np.nan, np.float32)
    per_epoch = len(noted) // 3
    for step, (batch, output) in enumerate(zip(noted, outputs, strict=True)):
        expected[step // per_epoch, batch] = output
    np.testing.assert_array_equal(trace.logits, expected)


def record_outputs(net, outputs):
    def train_step_single(batch, **fit_params):
        step = type(net).train_step_single(net, batch, **fit_params)
        outputs.append(step["y_pred"].detach().numpy())
        return step

    return train_step_single


class EveryOther(DataLoader):
    """Gives each batch twice."""

    def __iter__(self):
        for batch in super().__iter__():
            yield batch
            yield batch


class FiveRows(torch.utils.data.Dataset):
    def __len__(self):
        return 5

    def __getitem__(self, row):
        return X[row], Y[row]


def one_batch(dataset, **settings):
    return [dataset[:4]]


def other_rows(dataset, y):
    return FiveRows(), None


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"iterator_train": EveryOther}, TypeError, "EveryOther, iterates in a way of its own"),
        ({"iterator_train": one_batch}, TypeError, "without a batch sampler"),
        ({"train_split": other_rows}, ValueError, "no .*Subset"),
        (
            {"iterator_train__in_order": False, "iterator_train__num_workers": 2},
            TypeError,
            "in_order=True",
        ),
    ],
)
def test_an_order_that_cannot_be_known_is_refused(settings, error, message):
    net = small(callbacks=[TraceRecorder(order=True)], iterator_train__shuffle=False)
    with pytest.raises(error, match=message):
        net.set_params(**settings).fit(X, Y)
    assert_nothing_left(net)
