"""Nets with max pooling read images with channels last, where they take it and give the same."""

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from skinfluence import EL2N, TraceRecorder, TracIn
from skinfluence.gradients import gradient_norms, per_sample_gradients
from skinfluence.gradients._passes import start
from tests._shared.by_hand import TOLERANCE, by_hand

RNG = np.random.default_rng(0)
X = RNG.normal(size=(23, 3, 8, 8))
Y = RNG.integers(0, 3, 23)
READ = []  # of each forward pass of several rows, whether its images had channels last


class Pooling(nn.Module):
    """Pools its way to a linear layer; `flat` makes a row's numbers of its images."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2))
        self.head = nn.Linear(64, 3)

    def flat(self, images):
        return images.flatten(1)

    def forward(self, X):
        if len(X) > 1 and not torch._C._functorch.is_functorch_wrapped_tensor(X):
            READ.append(X.is_contiguous(memory_format=torch.channels_last))
        return self.head(self.flat(self.body(X)))


class Viewing(Pooling):
    """Asks for the usual order; torch refuses any other."""

    def flat(self, images):
        return images.view(len(images), -1)


class Striding(Pooling):
    """Takes numbers as they lie in memory, so that another order gives other ones in silence."""

    def flat(self, images):
        return images.as_strided((len(images), 64), (64, 1))


class Overwriting(Pooling):
    """Works on its input in place."""

    def forward(self, X):
        return super().forward(X.mul_(0.5))


MODULES = {Pooling: True, Viewing: False, Striding: False, Overwriting: True}
every_module = pytest.mark.parametrize("module", MODULES)


def fitted(module, **settings):
    torch.manual_seed(0)
    net = NeuralNetClassifier(
        module,
        criterion=nn.CrossEntropyLoss,
        train_split=None,
        verbose=0,
        max_epochs=2,
        batch_size=8,
        **settings,
    ).initialize()
    net.module_.double()
    return net


@every_module
def test_gradients_are_those_of_the_usual_order(module):
    net, own = fitted(module), X.copy()
    expected = by_hand(fitted(module), X.copy(), Y)
    READ.clear()
    found = per_sample_gradients(net, own, Y, layers="all", batch_size=9)
    assert READ[-1] == MODULES[module]
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)
    np.testing.assert_array_equal(own, X)
    norms = gradient_norms(net, own, Y, layers="all", batch_size=9)
    np.testing.assert_allclose(norms, np.linalg.norm(expected, axis=1), atol=TOLERANCE)
    np.testing.assert_array_equal(own, X)
    # no layer took a slower route for it
    assert set(start(net, X, Y, layers="all", batch_size=9).loop.strategy.values()) == {"factored"}


@pytest.mark.parametrize("cls", [EL2N, TracIn])
def test_a_net_that_is_still_to_be_trained_leaves_the_rows_alone(cls):
    net = NeuralNetClassifier(
        Overwriting, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, max_epochs=1
    )
    given = X.astype(np.float32)
    cls(net, random_state=0).fit(given, Y)
    np.testing.assert_array_equal(given, X.astype(np.float32))


@pytest.mark.parametrize("module", [Pooling, Viewing])
def test_several_checkpoints_are_read_alike(module):
    net = fitted(module, callbacks=[TraceRecorder(checkpoints="all")])
    net.partial_fit(X, Y)
    trace = dict(net.callbacks_)["TraceRecorder"].trace_
    expected = np.zeros(len(X))
    for point in trace.checkpoints:
        other = fitted(module)
        other.module_.load_state_dict(point.state)
        expected += float(point.learning_rate[0]) * np.square(by_hand(other, X, Y)).sum(1)
    found = TracIn(FrozenEstimator(net), checkpoints="all", layers="all").fit(X, Y)
    np.testing.assert_allclose(found.detrimentality_, expected, rtol=1e-8)


@every_module
def test_forward_passes_are_those_of_the_usual_order(module):
    net = fitted(module)
    READ.clear()
    found = EL2N(FrozenEstimator(net)).fit(X, Y).detrimentality_
    assert READ[-1] == MODULES[module]
    with torch.no_grad():
        errors = net.module_(torch.tensor(X)).softmax(1) - torch.eye(3)[Y]
    np.testing.assert_allclose(found, errors.norm(dim=1).numpy(), rtol=1e-10)


def test_nets_that_do_not_pool_read_images_as_they_are():
    net = fitted(Pooling)
    net.module_.body[2] = nn.AvgPool2d(2)
    READ.clear()
    gradient_norms(net, X, Y, layers="all")
    assert not any(READ)
