"""Trainings that are more than the steps of one optimiser: recorded as such, never retraced."""

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from skinfluence import SGDInfluence, TraceRecorder
from skinfluence.exceptions import InterruptedTrainingWarning
from skinfluence.trace._callbacks import trace_of
from tests._shared.problems import blobs
from tests._shared.sgd_nets import Double, sgd

X, Y = blobs(n=24)
X_VAL, Y_VAL = blobs(n=12, seed=1)
X, X_VAL = X.astype(np.float64), X_VAL.astype(np.float64)


class Clip(Callback):
    """Bounds the weights between steps, or after epochs."""

    def __init__(self, when, bound=0.1):
        self.when = when
        self.bound = bound

    def _clip(self, net):
        with torch.no_grad():
            for parameter in net.module_.parameters():
                parameter.clamp_(-self.bound, self.bound)

    def on_batch_end(self, net, training=None, **kwargs):
        if training and self.when == "batch":
            self._clip(net)

    def on_epoch_end(self, net, **kwargs):
        if self.when == "epoch":
            self._clip(net)

    def on_train_end(self, net, **kwargs):
        if self.when == "end":
            self._clip(net)


class Decaying(Callback):
    """Raises the weight decay after every epoch."""

    def on_epoch_end(self, net, **kwargs):
        for group in net.optimizer_.param_groups:
            group["weight_decay"] += 0.1


class Stop(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_begin(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise KeyboardInterrupt


def net_with(*callbacks, **kwargs):
    recorder = TraceRecorder(order=True, steps="all", checkpoints="all")
    settings = {"criterion": nn.CrossEntropyLoss, "max_epochs": 4, "optimizer__momentum": 0.9}
    return sgd(
        NeuralNetClassifier, Double, **{**settings, "callbacks": [recorder, *callbacks], **kwargs}
    )


def fit(net):
    torch.manual_seed(0)
    return net.fit(X, Y)


def refused(net, match, y=Y, **kwargs):
    for parameters in ("trajectory", "epoch", "final"):
        method = SGDInfluence(FrozenEstimator(net), parameters=parameters, **kwargs)
        with pytest.raises(ValueError, match=match):
            method.fit(X, y, X_VAL, Y_VAL)


def one_cycle():
    return LRScheduler(OneCycleLR, max_lr=0.2, total_steps=5)


@pytest.mark.parametrize(
    ("callback", "named"),
    [
        (one_cycle(), ["momentum of the optimiser"]),
        (Decaying(), ["weight_decay of the optimiser"]),
        (Clip("batch"), ["parameters between steps"]),
        (Clip("epoch"), ["parameters after the last step", "parameters between steps"]),
        (Clip("end"), ["parameters after the last step"]),
    ],
    ids=["momentum", "decay", "batch", "epoch", "end"],
)
def test_departures_are_named_and_refused(callback, named):
    net = fit(net_with(callback))
    assert trace_of(net).departures == tuple(named)
    refused(net, "; ".join(named))


def test_a_schedule_of_learning_rates_is_none():
    net = fit(net_with(LRScheduler(OneCycleLR, max_lr=0.2, total_steps=5, cycle_momentum=False)))
    assert trace_of(net).departures == ()
    scores = SGDInfluence(FrozenEstimator(net)).fit(X, Y, X_VAL, Y_VAL).detrimentality_
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("best_is_last", [False, True])
def test_early_stopping_that_loads_the_best(best_is_last):
    stopping = EarlyStopping("train_loss", patience=2, load_best=True, lower_is_better=best_is_last)
    net = fit(net_with(stopping, lr=0.02))
    if best_is_last:
        assert trace_of(net).departures == ()
        SGDInfluence(FrozenEstimator(net)).fit(X, Y, X_VAL, Y_VAL)
    else:
        refused(net, "parameters after the last step.*load_best")


def test_a_folder_tells_of_them_too(tmp_path):
    net = net_with(one_cycle())
    net.set_params(callbacks=[TraceRecorder(steps="all", storage=tmp_path), one_cycle()])
    assert trace_of(fit(net)).departures == ("momentum of the optimiser",)


def test_going_on_with_and_without_the_momentum():
    net = fit(net_with()).partial_fit(X, Y)
    assert trace_of(net).departures == ()
    net._initialize_optimizer()
    net.partial_fit(X, Y)
    refused(net, "momentum, begun anew")


def test_going_on_with_other_targets_is_refused():
    net = fit(net_with())
    with pytest.raises(ValueError, match="other targets"):
        net.partial_fit(X, (Y + 1) % 3)


def test_other_targets_than_those_trained_on_are_refused():
    refused(fit(net_with()), "targets given are not those", y=(Y + 1) % 3)


class Tempered(nn.CrossEntropyLoss):
    """Learns a temperature."""

    def __init__(self):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(()))

    def forward(self, output, target):
        return super().forward(output / self.temperature, target)


class Wrapped(nn.Module):
    """Hides class weights."""

    def __init__(self):
        super().__init__()
        self.loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))

    def forward(self, output, target):
        return self.loss(output, target)


def test_a_criterion_that_is_trained_is_refused():
    refused(fit(net_with(criterion=Tempered)), "Tempered has parameters that are trained")


def test_weights_inside_of_a_criterion_are_no_mean_to_renormalize():
    refused(fit(net_with(criterion=Wrapped)), "is no plain mean", renormalize=True)


def test_the_last_epoch_is_the_last_that_took_a_step():
    net = fit(net_with(Stop(4)))
    assert len(trace_of(net).epoch_starts) == 4
    assert trace_of(net).n_steps == 15
    with pytest.warns(InterruptedTrainingWarning, match="within epoch 4"):
        method = SGDInfluence(FrozenEstimator(net), epochs="last").fit(X, Y, X_VAL, Y_VAL)
    shorter = fit(net_with(max_epochs=3))
    expected = SGDInfluence(FrozenEstimator(shorter), epochs="last").fit(X, Y, X_VAL, Y_VAL)
    assert np.abs(expected.detrimentality_).min() > 0
    np.testing.assert_allclose(method.detrimentality_, expected.detrimentality_, rtol=1e-12)
    dropped = fit(net_with(callbacks=[TraceRecorder(steps="last_epoch"), Stop(4)]))
    with (
        pytest.warns(InterruptedTrainingWarning, match="within epoch 4"),
        pytest.raises(ValueError, match="interrupted where an epoch had just begun"),
    ):
        SGDInfluence(FrozenEstimator(dropped), epochs="last").fit(X, Y, X_VAL, Y_VAL)
