"""Batches are cut so that what autograd saves of them fits, and no score tells of it."""

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn
from torch.nn.utils import parametrize

from skinfluence import InfluenceFunction, LossScore
from skinfluence.gradients import gradient_norms, per_sample_gradients
from skinfluence.gradients._passes import Trajectory, start
from skinfluence.gradients._readings import Norm
from skinfluence.gradients._states import module_state
from skinfluence.gradients._trajectory import MeanOf, SideBySide
from skinfluence.gradients.routes import _loop
from skinfluence.influence import EKFAC, ConjugateGradient, DataInf
from tests._shared.by_hand import TOLERANCE, by_hand, every_case
from tests._shared.net_zoo import CASES

N_ROWS = 300
# of a row: the tanh's output, which the head reads too, and the log of the probabilities
SAVED = 8 * (5 + 3)


class Watched(nn.Module):
    """Notes how many rows come in a pass whose activations are saved."""

    seen: tuple[list[int], list[int]] = ([], [])

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, X):
        self.seen[torch.is_grad_enabled()].append(len(X))
        return self.head(torch.tanh(self.inner(X)))


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


class Reweighted(Watched):
    """Computes a weight anew in every pass, which autograd saves once, whatever the rows."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 400)
        self.middle = nn.Linear(400, 5)
        parametrize.register_parametrization(self.middle, "weight", Doubled())

    def forward(self, X):
        return self.head(self.middle(self.inner(X)))


class Differentiates(Watched):
    """Its forward asks torch.func for a derivative, which allows nobody to watch what is saved."""

    def forward(self, X):
        slopes = torch.func.vmap(torch.func.grad(lambda x: x.sin().sum()))(X.detach())
        return super().forward(X + slopes)


@pytest.fixture(autouse=True)
def seen(monkeypatch):
    """Count the rows of passes, without (0) and with (1) a graph."""
    found = ([], [])
    monkeypatch.setattr(Watched, "seen", found)
    return found


def problem(module=Watched, n=N_ROWS, **settings):
    torch.manual_seed(0)
    net = NeuralNetClassifier(
        module, criterion=nn.CrossEntropyLoss, train_split=None, **settings
    ).initialize()
    net.module_.double()
    rng = np.random.default_rng(0)
    return net, rng.normal(size=(n, 4)), rng.integers(0, 3, n)


def saved_a_row(net, X, y):
    loop, _, _ = start(net, X, y, layers="all", batch_size=8)
    return loop.verdict.saved_a_row


def bounded(monkeypatch, n_rows):
    monkeypatch.setattr(_loop, "_SAVED_BYTES", SAVED * n_rows)


def test_what_is_saved_is_counted_once_and_without_what_is_there_anyway():
    assert saved_a_row(*problem()) == SAVED


def test_weights_that_a_pass_computes_are_no_rows():
    # the inputs of the middle and the head layer, and the log of the probabilities
    assert saved_a_row(*problem(Reweighted)) == 8 * (400 + 5 + 3)


def test_small_nets_are_not_cut(seen):
    net, X, y = problem()
    gradient_norms(net, X, y, layers="all")
    assert seen[1][-1] == 300


@pytest.mark.parametrize("again", [False, True])
def test_batches_are_cut_to_the_bound(again, monkeypatch, seen):
    net, X, y = problem()
    expected = np.linalg.norm(by_hand(net, X, y), axis=1)
    bounded(monkeypatch, 7)
    if again:  # what a row takes is remembered with the rest of the trial
        gradient_norms(net, X, y, layers="all")
    seen[1].clear()
    found = gradient_norms(net, X, y, layers="all")
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    cut = [7] * 42 + [6]
    tried = [7, 7, 2] if again else []  # else it is read off the trial
    assert seen[1][-len(tried + cut) :] == tried + cut


@every_case
def test_no_net_of_the_zoo_minds_the_cut(name, monkeypatch):
    case = CASES[name]
    X, y = case.draw(np.random.default_rng(5), 9)
    expected = by_hand(case.fitted(), X, y)
    monkeypatch.setattr(_loop, "_SAVED_BYTES", 1)
    loop, _, _ = start(case.fitted(), X, y, layers="all", batch_size=9)
    assert loop.verdict.saved_a_row > 0
    assert loop.rows_at_once == 1
    found = per_sample_gradients(case.fitted(), X, y, layers="all", batch_size=9)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_a_forward_that_cannot_be_watched_is_not_cut(monkeypatch, seen):
    net, X, y = problem(Differentiates)
    expected = by_hand(net, X, y)
    monkeypatch.setattr(_loop, "_SAVED_BYTES", 1)
    seen[1].clear()
    found = per_sample_gradients(net, X, y, layers="all")
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert max(seen[1]) == 300


def test_passes_that_save_nothing_are_not_cut(monkeypatch, seen):
    net, X, y = problem(max_epochs=1)
    bounded(monkeypatch, 7)
    LossScore(net, batch_size=256, random_state=0).fit(X.astype(np.float32), y)
    assert max(seen[0]) == 256


def test_checkpoints_share_the_bound_where_their_gradients_are_kept(monkeypatch):
    net, X, y = problem()
    states = [module_state(net)] * 3
    rates = [dict.fromkeys(states[0], 0.1)] * 3
    bounded(monkeypatch, 60)
    for combination, normalize, expected in [
        (MeanOf(), None, 20),
        (SideBySide(rates), None, 60),
        (SideBySide(rates), "activations", 60),
        (SideBySide(rates), "gradient", 20),
    ]:
        at = Trajectory(states, combination, normalize)
        loop, batches, _ = start(net, X, y, layers="all", batch_size=256, trajectory=at)
        assert loop.rows_at_once == expected
        cut = torch.cat(list(loop.batches(batches, Norm(2))))
        monkeypatch.setattr(_loop, "_SAVED_BYTES", 2**30)
        (whole,) = loop.batches([(torch.tensor(X), torch.tensor(y))], Norm(2))
        torch.testing.assert_close(cut, whole, rtol=1e-12, atol=0)
        bounded(monkeypatch, 60)


@pytest.mark.parametrize("solver", [ConjugateGradient(), EKFAC(), DataInf()], ids=repr)
def test_scores_of_influence_do_not_tell_of_the_cut(solver, monkeypatch, seen):
    net, X, y = problem(n=90)
    method = InfluenceFunction(
        FrozenEstimator(net), solver=solver, layers="all", damping=0.1, random_state=0
    )
    rows = (X[:60], y[:60], X[60:], y[60:])
    whole = method.fit(*rows).detrimentality_
    assert max(seen[1]) == 60
    bounded(monkeypatch, 4)
    seen[1].clear()
    cut = method.fit(*rows).detrimentality_
    assert max(seen[1]) <= 16  # of the trial
    assert seen[1].count(4) >= 60 // 4
    np.testing.assert_allclose(cut, whole, rtol=1e-8, atol=1e-12)
