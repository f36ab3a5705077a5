"""A net is tried once, and again once anything has changed that could change what is found."""

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from torch import nn

from skinfluence.gradients import gradient_norms
from skinfluence.gradients.factors import _rules
from skinfluence.gradients.routes import _loop
from tests._shared.net_zoo import CASES


class Switched(nn.Module):
    """Mixes its rows, or uses its weight a second time, as an attribute has it."""

    def __init__(self):
        super().__init__()
        self.mixes, self.penalty = False, 0
        self.inner = nn.Linear(4, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, X):
        hidden = torch.tanh(self.inner(X))
        hidden = hidden - hidden.mean(0) if self.mixes else hidden
        return self.head(hidden) + self.penalty * self.inner.weight.square().sum()


@pytest.fixture
def trials(monkeypatch):
    """Count the trials of routes."""
    seen = []
    right = _loop.check_rows_are_independent

    def counted(net_loss, trial):
        seen.append(trial)
        right(net_loss, trial)

    monkeypatch.setattr(_loop, "check_rows_are_independent", counted)
    return seen


def problem(module=Switched, **settings):
    torch.manual_seed(0)
    net = NeuralNetClassifier(module, criterion=nn.CrossEntropyLoss, **settings).initialize()
    rng = np.random.default_rng(0)
    return net, rng.normal(size=(40, 4)).astype(np.float32), rng.integers(0, 3, 40)


def test_the_same_pass_is_tried_once(trials):
    net, X, y = problem()
    first = gradient_norms(net, X, y, layers="all")
    net.module_.train()  # gradients are taken in eval mode, whatever the net's is
    np.testing.assert_array_equal(gradient_norms(net, X, y, layers="all"), first)
    assert len(trials) == 1


def update(net, X, y):
    with torch.no_grad():
        net.module_.inner.weight.mul_(2)


def freeze(net, X, y):
    net.module_.inner.bias.requires_grad_(False)


def hook(net, X, y):
    net.module_.inner.register_forward_hook(lambda module, args, output: 2 * output)


def hook_everything(net, X, y):
    return nn.modules.module.register_module_forward_hook(lambda *_: None)


def patch(net, X, y):
    net.module_.inner.forward = lambda X: X[:, :1] * torch.ones(5)


def replace(net, X, y):
    net.module_.inner = nn.Linear(4, 5)


def smooth(net, X, y):
    net.criterion_.label_smoothing = 0.1


def move(net, X, y):
    X[:] = X[::-1].copy()


def relabel(net, X, y):
    y[:] = (y + 1) % 3


def penalise(net, X, y):
    net.module_.penalty = 0.5


def hold(net, X, y):
    net.module_.settings = {"a": 1}


CHANGES = [
    update,
    freeze,
    hook,
    hook_everything,
    patch,
    replace,
    smooth,
    move,
    relabel,
    penalise,
    hold,
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_is_tried_again(change, trials):
    net, X, y = problem()
    gradient_norms(net, X, y, layers="all")
    handle = change(net, X, y)
    found = gradient_norms(net, X, y, layers="all")
    if handle is not None:
        handle.remove()
    assert len(trials) == 2
    rows = [gradient_norms(net, X[i : i + 1], y[i : i + 1], layers="all") for i in range(len(y))]
    if handle is None:
        np.testing.assert_allclose(found, np.concatenate(rows), rtol=1e-4)


def test_other_layers_are_tried(trials):
    net, X, y = problem()
    for layers in ("all", "last", ["inner"]):
        gradient_norms(net, X, y, layers=layers)
    assert len(trials) == 3


def test_another_rule_is_tried(trials, monkeypatch):
    class Rule(_rules.LinearRule):
        pass

    net, X, y = problem()
    gradient_norms(net, X, y)
    monkeypatch.setitem(_rules.RULES, nn.Linear, Rule())
    gradient_norms(net, X, y)
    assert len(trials) == 2


def test_a_net_that_comes_to_mix_rows_is_refused():
    net, X, y = problem()
    gradient_norms(net, X, y)
    net.module_.mixes = True
    with pytest.raises(ValueError, match="depends on the other rows"):
        gradient_norms(net, X, y)


def test_routes_that_were_left_stay_left(trials):
    net, X, y = problem()
    net.module_.penalty = 0.5
    first = gradient_norms(net, X, y, layers="all")
    np.testing.assert_array_equal(gradient_norms(net, X, y, layers="all"), first)
    assert len(trials) == 1


@pytest.mark.parametrize("name", ["own_get_loss", "own_criterion", "hooked", "lstm"])
def test_code_and_parts_that_cannot_be_compared_are_tried_in_every_pass(name, trials):
    case = CASES[name]
    net = case.fitted()
    X, y = case.draw(np.random.default_rng(0), 6)
    for _ in range(2):
        gradient_norms(net, X, y, layers="all")
    assert len(trials) == 2
