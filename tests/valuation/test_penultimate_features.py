"""Methods on penultimate features, of a net whose head is registered before its body."""

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from skinfluence import ComplexityGap, KNNShapley


class HeadFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(5, 3)
        self.body = nn.Linear(4, 5)

    def hidden(self, X):
        return torch.relu(self.body(X))

    def forward(self, X):
        return self.head(self.hidden(X))


def problem():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 4)).astype(np.float32), np.tile([0, 1, 2], 10)
    torch.manual_seed(0)
    net = NeuralNetClassifier(HeadFirst, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0)
    net.fit(X, y)
    with torch.no_grad():
        hidden = net.module_.eval().hidden(torch.tensor(X)).numpy()
    return net, X, y, hidden


def test_complexity_gap_sees_what_flows_into_the_head():
    net, X, y, hidden = problem()
    assert hidden.shape == (30, 5)
    found = ComplexityGap(FrozenEstimator(net), features="penultimate").fit(X, y)
    expected = ComplexityGap().fit(hidden, y)
    raw = ComplexityGap().fit(X, y)
    np.testing.assert_allclose(found.detrimentality_, expected.detrimentality_, rtol=1e-4)
    assert np.abs(found.detrimentality_ - raw.detrimentality_).max() > 1e-3


def test_knn_shapley_sees_what_flows_into_the_head():
    net, X, y, hidden = problem()
    train, val = slice(0, 20), slice(20, 30)
    found = KNNShapley(FrozenEstimator(net), features="penultimate").fit(
        X[train], y[train], X[val], y[val]
    )
    expected = KNNShapley().fit(hidden[train], y[train], hidden[val], y[val])
    raw = KNNShapley().fit(X[train], y[train], X[val], y[val])
    np.testing.assert_allclose(found.detrimentality_, expected.detrimentality_, atol=1e-8)
    assert np.abs(found.detrimentality_ - raw.detrimentality_).max() > 1e-3
