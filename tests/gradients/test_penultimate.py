"""Penultimate features: the input of the last trainable layer as called, not as registered."""

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from torch import nn

from skinfluence.gradients import per_sample_gradients
from skinfluence.gradients._layers import call_order, last_module, select_layers
from skinfluence.gradients._outputs import penultimate_features
from skinfluence.gradients._skorch import net_loss_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(11, 4)).astype(np.float32)
TOKENS = RNG.integers(0, 7, (11, 5))


class HeadFirst(nn.Module):
    """Registers its head before its body."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(5, 3)
        self.body = nn.Linear(4, 5)

    def hidden(self, X):
        return torch.relu(self.body(X))

    def forward(self, X):
        return self.head(self.hidden(X))


class Unused(HeadFirst):
    """Its last registered layer is never called."""

    def __init__(self):
        super().__init__()
        self.spare = nn.Linear(6, 2)


class HeadTwice(nn.Module):
    """Calls its head on what the head gave; the second call is the last."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 4)
        self.body = nn.Linear(4, 4)

    def hidden(self, X):
        return torch.tanh(self.body(torch.tanh(self.head(X))))

    def forward(self, X):
        return self.head(self.hidden(X))


class Reused(nn.Module):
    """Registers one layer under two names."""

    def __init__(self):
        super().__init__()
        self.output = nn.Linear(4, 4)
        self.body = nn.Linear(4, 4)
        self.again = self.output

    def hidden(self, X):
        return torch.tanh(self.body(torch.tanh(self.output(X))))

    def forward(self, X):
        return self.again(self.hidden(X))


class Tied(nn.Module):
    """Predicts tokens with the table that reads them."""

    def __init__(self, bias):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7, bias=bias)
        self.head.weight = self.embedding.weight
        self.mix = nn.Linear(4, 4)

    def hidden(self, X):
        return torch.tanh(self.mix(self.embedding(X).mean(1)))

    def forward(self, X):
        return self.head(self.hidden(X))


class Nested(nn.Module):
    """Its head lies in a block that was registered first; a parametrization stands in it."""

    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 3)))
        self.body = nn.Linear(4, 5)

    def hidden(self, X):
        return torch.tanh(self.body(X))

    def forward(self, X):
        return self.block(self.hidden(X))


NETS = {
    "head_first": (HeadFirst, X, "head"),
    "unused": (Unused, X, "head"),
    "head_twice": (HeadTwice, X, "head"),
    "reused": (Reused, X, "output"),
    "tied": (lambda: Tied(bias=True), TOKENS, "head"),
    "tied_without_bias": (lambda: Tied(bias=False), TOKENS, "head"),
    "nested": (Nested, X, "block.0"),
}
every_net = pytest.mark.parametrize("name", NETS)


def fitted(name):
    module, rows, last = NETS[name]
    torch.manual_seed(0)
    net = NeuralNetClassifier(module(), criterion=nn.CrossEntropyLoss).initialize()
    return net, rows, last


@every_net
@pytest.mark.parametrize("batch_size", [4, 11])
def test_features_are_what_flows_into_the_layer_called_last(name, batch_size):
    net, rows, _ = fitted(name)
    with torch.no_grad():
        expected = net.module_.hidden(torch.tensor(rows)).numpy()
    found = penultimate_features(net, rows, batch_size=batch_size)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@every_net
def test_the_module_entered_last_is_found_by_name(name):
    net, rows, expected = fitted(name)
    net_loss = net_loss_of(net)
    found, module = last_module(net_loss, call_order(net_loss, torch.tensor(rows)))
    assert found == expected
    assert module is net_loss.module.get_submodule(expected)


@pytest.mark.parametrize("name", ["head_first", "unused", "head_twice", "reused", "nested"])
def test_last_layer_is_that_of_gradients(name):
    net, rows, expected = fitted(name)
    net_loss = net_loss_of(net)
    order = call_order(net_loss, torch.tensor(rows))
    (layer,) = select_layers(net_loss, order, "last")
    assert layer.name == expected
    y = np.zeros(len(rows), dtype=np.int64)
    assert per_sample_gradients(net, rows, y).shape == (len(rows), layer.n_parameters)


def test_calls_are_noted_in_their_order():
    net, rows, _ = fitted("head_twice")
    assert call_order(net_loss_of(net), torch.tensor(rows)).names == (
        "<root>",
        "head",
        "body",
        "head",
    )


def test_the_net_keeps_no_hook():
    net, rows, _ = fitted("head_first")
    penultimate_features(net, rows, batch_size=4)
    assert not any(module._forward_pre_hooks for module in net.module_.modules())
