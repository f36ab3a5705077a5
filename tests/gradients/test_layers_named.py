"""Nets that the defaults cannot serve as they are, and those that they now do."""

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.data import DataLoader, TensorDataset

from skinfluence import (
    InfluenceFunction,
    InnerProductInfluence,
    MirroredInfluence,
    OutlierGradientDetector,
    SGDInfluence,
)
from skinfluence.gradients import gradient_norms, per_sample_gradients
from tests._shared.problems import SmallMlp, blobs, classifier, noisy_blobs, paper_method

X, Y, _ = noisy_blobs(n=60)


class Penalised(NeuralNetClassifier):
    def get_loss(self, *args, **kwargs):
        penalty = sum(p.square().sum() for p in self.module_.parameters())
        return super().get_loss(*args, **kwargs) + 0.01 * penalty


class Normalised(SmallMlp):
    def __init__(self):
        super().__init__()
        self.head = weight_norm(self.head)


class Hooked(SmallMlp):
    def __init__(self):
        super().__init__()
        self.head.register_forward_hook(lambda module, args, output: 2 * output)


def penalised(module):
    return Penalised(
        module, criterion=nn.CrossEntropyLoss, max_epochs=2, train_split=None, verbose=0
    )


@pytest.mark.parametrize(
    ("net", "why"),
    [
        (penalised(SmallMlp), "head, a Linear, has none: its parameters are used outside of it"),
        (classifier(Normalised, max_epochs=2), "has none: a hook or a reparametrisation"),
        (classifier(Hooked, max_epochs=2), "has none: a hook or a reparametrisation"),
    ],
    ids=["penalty", "weight_norm", "hook"],
)
def test_defaults_that_cannot_serve_a_net_name_the_way_out_at_once(net, why):
    method = OutlierGradientDetector(net, random_state=0)
    with pytest.raises(ValueError, match=why) as error:
        method.fit(X, Y)
    assert "normalize='gradient'" in str(error.value)
    assert "n_neighbors=None" in str(error.value)
    method.set_params(normalize="gradient", n_neighbors=None)
    assert np.isfinite(method.fit(X, Y).detrimentality_).all()


def test_autocast_is_served():
    class Cast(SmallMlp):
        def forward(self, X):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return super().forward(X)

    fitted = OutlierGradientDetector(classifier(Cast, max_epochs=5), random_state=0).fit(X, Y)
    plain = OutlierGradientDetector(classifier(max_epochs=5), random_state=0).fit(X, Y)
    assert np.corrcoef(fitted.detrimentality_, plain.detrimentality_)[0, 1] > 0.99
    net = classifier(Cast).initialize()
    twin = classifier().initialize()
    twin.module_.load_state_dict(net.module_.state_dict())
    found, expected = (per_sample_gradients(each, X, Y) for each in (net, twin))
    np.testing.assert_allclose(found, expected, atol=0.03 * np.abs(expected).max())


class Words(nn.Module):
    def __init__(self, sparse=False):
        super().__init__()
        self.embed = nn.Embedding(9, 4, sparse=sparse)
        self.head = nn.Linear(4, 2)

    def forward(self, X):
        return self.head(self.embed(X).mean(1))


@pytest.mark.parametrize(
    "method",
    [
        InfluenceFunction(layers="all", random_state=0),
        InfluenceFunction(layers="all", curvature="hessian", damping=1.0, random_state=0),
        SGDInfluence(random_state=0),
        InnerProductInfluence(random_state=0),
        MirroredInfluence(random_state=0),
    ],
    ids=lambda method: type(method).__name__,
)
def test_sparse_embeddings_give_what_dense_ones_do(method):
    rng = np.random.default_rng(0)
    tokens, y = rng.integers(0, 9, (40, 5)), np.arange(40) % 2
    scores = []
    for sparse in (False, True):
        net = classifier(
            Words,
            module__sparse=sparse,
            optimizer=torch.optim.SGD,
            lr=0.1,
            max_epochs=2,
        )
        scores.append(method.set_params(net=net).fit(tokens, y).detrimentality_)
    np.testing.assert_allclose(*scores, rtol=1e-5, atol=1e-7)


def test_batch_normalisation_without_statistics_is_named_before_torch_complains():
    class Normed(SmallMlp):
        def __init__(self):
            super().__init__()
            self.body.append(nn.BatchNorm1d(16, track_running_stats=False))

    net = classifier(Normed).initialize()
    for rows in (slice(0, 1), slice(0, 2), slice(0, 60)):
        with pytest.raises(ValueError, match=r"body\.2, a BatchNorm1d without running"):
            gradient_norms(net, X[rows], Y[rows])
    method = paper_method(FrozenEstimator(net))
    with pytest.raises(ValueError, match="track_running_stats=True"):
        method.fit(X, Y)


def test_a_loader_is_no_data_set():
    inputs, y = blobs(20)
    loader = DataLoader(TensorDataset(torch.tensor(inputs), torch.tensor(y)))
    with pytest.raises(TypeError, match=r"DataLoader as X.*X\.dataset"):
        gradient_norms(classifier().initialize(), loader, None)
