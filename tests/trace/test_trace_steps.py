"""What a trace holds: steps that replay, checkpoints, the end of training, bytes."""

import copy

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetRegressor
from skorch.callbacks import Callback, EarlyStopping, GradientNormClipping, LRScheduler
from skorch.dataset import ValidSplit

from skinfluence import GradientEmbedding, TraceRecorder
from skinfluence.gradients._states import net_at
from skinfluence.rows._seeds import seeded
from skinfluence.trace._callbacks import trace_of
from skinfluence.trace._needs import TraceNeeds
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


class Copies(Callback):
    """Copies the parameters after every epoch, by means of its own."""

    def initialize(self):
        self.states_, self.rates_ = [], []
        return self

    def on_batch_end(self, net, training=None, **kwargs):
        if training:
            self.rate_ = [group["lr"] for group in net.optimizer_.param_groups]

    def on_epoch_end(self, net, **kwargs):
        self.states_.append(copy.deepcopy(net.module_.state_dict()))
        self.rates_.append(self.rate_)


def sgd(**kwargs):
    return small(**{"optimizer": torch.optim.SGD, **kwargs})


class Regressor(NeuralNetRegressor):
    """A net in the dtype that its module is given."""

    def initialize_module(self):
        super().initialize_module()
        self.module_.to(self.dtype)
        return self

    dtype = torch.float64


class Regressor32(Regressor):
    dtype = torch.float32


def replayed_by_hand(net, trace, X, y, step):
    """The next state, by plain autograd on a module of its own."""
    module = SmallMlp(n_outputs=1).to(next(net.module_.parameters()).dtype)
    module.load_state_dict(trace.step_states[step])
    rows = torch.tensor(trace.batch_indices[step])
    loss = (module(torch.tensor(X)[rows]) - torch.tensor(y)[rows]).square().mean()
    loss.backward()
    settings = zip(
        trace.parameter_groups, trace.learning_rates[step], trace.weight_decay, strict=True
    )
    expected = {}
    for names, rate, decay in settings:
        for name in names:
            parameter = module.get_parameter(name)
            expected[name] = (parameter - rate * (parameter.grad + decay * parameter)).detach()
    return expected


@pytest.mark.parametrize("per", ["epoch", "batch"])
@pytest.mark.parametrize("kind", [Regressor, Regressor32])
def test_steps_replay(kind, per):
    scheduler = LRScheduler("StepLR", step_size=2, gamma=0.7, step_every=per)
    recorder = TraceRecorder(**FULL)
    net = kind(
        SmallMlp,
        module__n_outputs=1,
        optimizer=torch.optim.SGD,
        lr=0.02,
        optimizer__param_groups=[("head.*", {"lr": 0.05, "weight_decay": 0.0})],
        optimizer__weight_decay=0.1,
        batch_size=5,
        max_epochs=4,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        callbacks=[scheduler, recorder],
    )
    inputs = X.astype(str(kind.dtype).removeprefix("torch."))
    targets = inputs[:, :1] * 2 + 1
    with seeded(0):
        trace = trace_of(net.fit(inputs, targets))
    exact = 1e-12 if kind is Regressor else 1e-6
    after = [*trace.step_states[1:], trace.final_state]
    for step, state in enumerate(after):
        for name, expected in replayed_by_hand(net, trace, inputs, targets, step).items():
            torch.testing.assert_close(state[name], expected, atol=exact, rtol=exact)
    assert trace.replay_error_ < (1e-11 if kind is Regressor else 1e-4)
    assert len(set(trace.learning_rates[:, 0])) > 1
    assert trace.weight_decay == (0.0, 0.1)
    assert trace.learning_rates.shape == (20, 2)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": torch.optim.Adam},
        {"module": DropoutMlp, "lr": 0.01},
        {"callbacks": [GradientNormClipping(0.01)]},
    ],
)
def test_steps_that_are_not_plain_sgd_show(settings):
    recorder = TraceRecorder(order=True)
    trace = trace_of(trained(sgd(**settings), recorder))
    assert trace.replay_error_ > 1e-2
    clipped = "callbacks" in settings
    assert trace.gradient_callbacks == (("GradientNormClipping",) if clipped else ())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer__momentum": 0.9, "optimizer__dampening": 0.3, "optimizer__weight_decay": 0.1},
        {"optimizer__momentum": 0.5, "optimizer__nesterov": True},
    ],
)
def test_steps_of_sgd_are_known_as_such(settings):
    net = trained(sgd(**settings), TraceRecorder(order=True))
    assert trace_of(net.partial_fit(X, Y)).replay_error_ < 1e-4


@pytest.mark.parametrize(("checkpoints", "epochs"), [(1, [7]), (3, [2, 5, 7]), (20, range(1, 8))])
@pytest.mark.parametrize("first", [True, False])
def test_checkpoints_are_what_an_independent_copy_says(checkpoints, epochs, first):
    copies, recorder = Copies(), TraceRecorder(checkpoints=checkpoints)
    scheduler = LRScheduler("ExponentialLR", gamma=0.9)
    others = [copies, scheduler]
    callbacks = [recorder, *others] if first else [*others, recorder]
    net = trained(small(max_epochs=7, callbacks=callbacks, module=DropoutMlp))
    trace = recorder.trace_
    assert [c.epoch for c in trace.checkpoints] == list(epochs)
    for checkpoint in trace.checkpoints:
        assert_same(checkpoint.state, copies.states_[checkpoint.epoch - 1])
        assert checkpoint.learning_rate.tolist() == copies.rates_[checkpoint.epoch - 1]
    assert trace.final_state is trace.checkpoints[-1].state
    assert recorder.nbytes_ == trace.nbytes
    assert [c.epoch for c in trace.evenly_spaced(2)][-1] == 7
    assert_same(trace.final_state, state_of(net))


@pytest.mark.parametrize("load_best", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_early_stopping_ends_truthfully(load_best, first):
    stopping = EarlyStopping("train_loss", patience=2, load_best=load_best)
    recorder = TraceRecorder(checkpoints=4)
    callbacks = [recorder, stopping] if first else [stopping, recorder]
    net = trained(small(lr=30.0, max_epochs=40, callbacks=callbacks))
    trace = recorder.trace_
    assert len(net.history) < 40
    assert trace.checkpoints[-1].epoch == len(net.history) == len(trace.epoch_starts)
    assert_same(trace.final_state, state_of(net))


@pytest.mark.parametrize("steps", ["all", "last_epoch", None])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("moment", ["on_batch_begin", "on_grad_computed", "on_batch_end"])
def test_an_interrupted_step_counts_if_it_moved_the_net(moment, first, steps):
    recorder, stop = TraceRecorder(order=True, steps=steps), Interrupt(moment)
    net = trained(sgd(callbacks=[recorder, stop] if first else [stop, recorder]))
    taken = 5 if moment == "on_batch_end" else 4  # the steps of the optimiser
    trace = recorder.trace_
    assert trace.n_steps == len(trace.batch_indices) == taken
    assert trace.checkpoints[-1].epoch == 1
    assert trace.epoch_starts == (0, 3)
    if steps is not None:
        assert len(trace.step_states) == taken - trace.first_step
        assert trace.first_step == (0 if steps == "all" else 3)
    assert_same(trace.final_state, state_of(net))
    net.callbacks_ = [entry for entry in net.callbacks_ if entry[1] is not stop]
    continued = trace_of(net.partial_fit(X, Y))
    assert continued.epoch_starts == (0, 3, taken, taken + 3, taken + 6)
    assert continued.segment_starts == (0, 2)
    assert continued.n_steps == taken + 9


def test_logits_keep_one_table_for_every_epoch_begun():
    recorder, stop = TraceRecorder(logits=True), Interrupt("on_batch_begin", step=3)
    net = trained(small(callbacks=[stop, recorder]))
    net.callbacks_ = [entry for entry in net.callbacks_ if entry[1] is not stop]
    trace = trace_of(net.partial_fit(X, Y))
    assert len(trace.logits) == len(trace.epoch_starts) == 5
    assert np.isnan(trace.logits[1]).all()
    assert not np.isnan(trace.logits[[0, 2, 3, 4]]).any()


@pytest.mark.parametrize("first", [True, False])
def test_a_learning_rate_of_zero_is_a_step(first):
    recorder, stop = TraceRecorder(**FULL), Interrupt()
    trained(sgd(lr=0.0, callbacks=[recorder, stop] if first else [stop, recorder]))
    assert recorder.trace_.n_steps == 5
    assert recorder.trace_.replay_error_ == 0


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"batch_size": -1},
        {"iterator_train__drop_last": True},
        {"iterator_train__shuffle": False, "iterator_train__sampler": weighted()},
        {"train_split": ValidSplit(11)},
    ],
)
@pytest.mark.parametrize(
    "asked", [{}, FULL, {"steps": "last_epoch"}, {"checkpoints": 2, "logits": True}]
)
def test_bytes_are_known_before_the_first_step(asked, settings):
    recorder = TraceRecorder(**asked)
    trace = trace_of(trained(small(**settings), recorder))
    slack = 1.1 if "train_split" in settings else 1.0
    assert trace.nbytes <= recorder.nbytes_ <= slack * trace.nbytes


@pytest.mark.parametrize(
    ("asked", "cheaper"),
    [
        ({"steps": "all"}, "steps='last_epoch'"),
        ({"steps": "last_epoch"}, "larger batches"),
        ({"checkpoints": "all"}, "fewer checkpoints"),
    ],
)
def test_too_large_a_trace_is_refused_before_any_step(asked, cheaper, tmp_path):
    recorder = TraceRecorder(**asked, max_bytes=500)
    net = small(callbacks=[recorder])
    with seeded(0), pytest.raises(ValueError, match=rf"{cheaper}.* folder") as refused:
        net.fit(X, Y)
    assert str(recorder.nbytes_) in str(refused.value)
    assert not net.history
    assert_nothing_left(net)
    recorder.storage = tmp_path / "trace"  # a folder has no limit
    net.fit(X, Y)
    assert recorder.trace_.nbytes == recorder.nbytes_ > 500


@pytest.mark.parametrize(
    "wrong", [{"checkpoints": 0}, {"checkpoints": "first"}, {"steps": "some"}, {"max_bytes": 0}]
)
def test_wrong_settings_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        small(callbacks=[TraceRecorder(**wrong)]).fit(X, Y)


def test_a_frozen_net_brings_its_trace():
    recorder = TraceRecorder(checkpoints=3, order=True)
    net = trained(small(max_epochs=6), recorder)
    method = GradientEmbedding(FrozenEstimator(net), checkpoints=3).fit(X, Y)
    assert method.trace_ is recorder.trace_
    means = []
    for checkpoint in recorder.trace_.checkpoints:
        at = small().initialize()
        at.module_.load_state_dict(checkpoint.state)
        means.append(GradientEmbedding(FrozenEstimator(at)).fit_transform(X, Y))
    np.testing.assert_allclose(method.embedding_, np.mean(means, 0), atol=1e-5)
    own = GradientEmbedding(small(callbacks=[TraceRecorder(checkpoints=3)]), checkpoints=3)
    own.fit(X, Y)
    assert own.trace_ is trace_of(own.net_)  # not recorded twice
    with pytest.raises(ValueError, match=r"no trace.*TraceRecorder\(checkpoints=2\)"):
        GradientEmbedding(FrozenEstimator(trained(small())), checkpoints=2).fit(X, Y)
    with pytest.raises(ValueError, match=r"5 checkpoints .its trace holds 3.*checkpoints=5"):
        GradientEmbedding(FrozenEstimator(net), checkpoints=5).fit(X, Y)


def test_a_trace_is_held_against_what_a_method_needs():
    trace = trace_of(trained(small(), TraceRecorder(order=True)))
    TraceNeeds(order=True).check_trace(trace, X, Y)
    TraceNeeds().check_trace(trace, X[::-1], Y[::-1])  # nothing was recorded row by row for it
    for others in (X[::-1], X[:20], X + 1):
        with pytest.raises(ValueError, match=r"of 22 rows; the .* are others, or in another order"):
            TraceNeeds(order=True).check_trace(trace, others, Y)
    for needed, missing in (
        ({"logits": True}, "logits"),
        ({"steps": "last_epoch"}, "states before its steps"),
        ({"steps": "all"}, "states before its steps"),
        ({"checkpoints": frozenset({"all"})}, "3 checkpoints"),
    ):
        with pytest.raises(ValueError, match=rf"brings no {missing}.*{next(iter(needed))}="):
            TraceNeeds(**needed).check_trace(trace, X, Y)
    for same in (Y.astype(np.float32), Y[:, np.newaxis], None):
        TraceNeeds(order=True).check_trace(trace, X, same)
    with pytest.raises(ValueError, match="targets given are not those"):
        TraceNeeds(order=True).check_trace(trace, X, 1 - Y)


class LimitedTable(torch.nn.Module):
    """Its look-up rescales its own table."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(5, 3, max_norm=0.1)
        self.head = torch.nn.Linear(3, 3)

    def forward(self, X):
        return self.head(self.table(X.long()).mean(1))


def test_gradients_leave_the_trace_as_it_is():
    rows = np.arange(44).reshape(22, 2) % 5
    net = trained(small(module=LimitedTable), TraceRecorder(**FULL), X=rows)
    trace = trace_of(net)
    with torch.no_grad():
        for state in trace.step_states:
            state["table.weight"] += 3.0  # beyond the norm that the look-up allows
    before = copy.deepcopy(trace.step_states)
    for state in trace.step_states:
        net_at(net, state).predict(rows)
    for state, expected in zip(trace.step_states, before, strict=True):
        assert_same(state, expected)


def test_states_of_another_module_are_refused():
    net = trained(small(), TraceRecorder())
    state = dict(trace_of(net).final_state)
    for wrong in (
        {**state, "head.bias": torch.zeros(7)},
        {name: value for name, value in state.items() if name != "head.bias"},
        {**state, "other": torch.zeros(1)},
    ):
        with pytest.raises(ValueError, match="The trace is of another module"):
            net_at(net, wrong)
