"""Projections keep inner products, and are the same map everywhere."""

import hashlib

import numpy as np
import pytest
import torch

from skinfluence.gradients._passes import start
from skinfluence.gradients._projection import LayerProjection, Projection
from skinfluence.gradients._readings import Dense, Projected
from tests._shared.net_zoo import CASES
from tests._shared.processes import result_of

NETS = ["mlp", "cnn", "positions", "embedding", "layer_norm", "conv2d", "encoder"]


class Gradients:
    """The gradients of a net's rows, whole and projected."""

    def __init__(self, name, n=12, batch_size=5):
        case = CASES[name]
        X, y = case.draw(np.random.default_rng(0), n)
        self.loop, batches, _ = start(case.fitted(), X, y, layers="all", batch_size=batch_size)
        self.batches = list(batches)

    def read(self, reading):
        return torch.cat(list(self.loop.batches(self.batches, reading)))

    def whole(self):
        return self.read(Dense())

    def projected(self, n_components, seed):
        places = {layer.name: i for i, layer in enumerate(self.loop.layers)}
        return self.read(Projected(Projection(n_components, seed), places))


def relative_error(gradients, n_components, seeds):
    full = gradients.whole()
    norms = full.norm(dim=1)
    scale = norms[:, None] * norms[None, :]
    errors = []
    for seed in seeds:
        small = gradients.projected(n_components, seed)
        errors.append((((small @ small.T - full @ full.T) / scale) ** 2).mean())
    return float(np.sqrt(np.mean(errors)))


@pytest.mark.parametrize("name", NETS)
def test_error_falls_with_the_root_of_the_number_of_components(name):
    sizes = (64, 256, 1024)
    gradients = Gradients(name)
    errors = [relative_error(gradients, size, range(12)) for size in sizes]
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert -0.62 < slope < -0.38, (errors, slope)
    # signs: a product of two has at most thrice the standard deviation of one (and one at most
    # sqrt(2 / k)), for a vector and itself
    assert errors[-1] < 3 * np.sqrt(2 / sizes[-1])


@pytest.mark.parametrize("name", NETS)
def test_inner_products_are_unbiased(name):
    gradients = Gradients(name)
    full = gradients.whole()
    norms = full.norm(dim=1)
    total = sum(p @ p.T for p in (gradients.projected(64, seed) for seed in range(60))) / 60
    bias = (total - full @ full.T) / (norms[:, None] * norms[None, :])
    assert bias.abs().max() < 6 * 3 * np.sqrt(2 / (64 * 60))


@pytest.mark.parametrize("name", NETS)
def test_batches_do_not_matter(name):
    whole = Gradients(name, batch_size=12).projected(33, 0)
    for batch_size in (1, 5):
        found = Gradients(name, batch_size=batch_size).projected(33, 0)
        torch.testing.assert_close(found, whole, atol=1e-9, rtol=1e-9)


def digest_of_signs():
    signs = Projection(37, 5).of_layer(2).signs(1, 2100, torch.zeros(()))
    return hashlib.sha256(signs.numpy().tobytes()).hexdigest()


def test_signs_are_the_same_in_another_process():
    expected = "e676ddbaf7a790349c25c93c4c2aa2d6d5e7cf4d60678d026ddfedd659e63a1a"
    assert digest_of_signs() == result_of(digest_of_signs) == expected


def embedding(name, batch_size=5):
    return Gradients(name, batch_size=batch_size).projected(33, 0).numpy()


@pytest.mark.parametrize("name", ["cnn", "encoder"])
def test_another_process_gives_the_same_embedding(name):
    elsewhere = result_of(embedding, name, 4)
    np.testing.assert_allclose(elsewhere, embedding(name), atol=1e-6)


def test_signs_are_balanced_and_independent_of_each_other():
    like = torch.zeros((), dtype=torch.float64)
    projection = Projection(64, 0)
    signs = [
        projection.of_layer(layer).signs(part, 3000, like) for layer in (0, 1) for part in (0, 1)
    ]
    for i, one in enumerate(signs):
        assert set(one.unique().tolist()) == {-1.0, 1.0}
        assert abs(one.mean()) < 4 / np.sqrt(one.numel())
        for other in signs[:i]:
            assert abs((one * other).mean()) < 4 / np.sqrt(one.numel())
    other_seed = Projection(64, 1).of_layer(0).signs(0, 3000, like)
    assert abs((signs[0] * other_seed).mean()) < 4 / np.sqrt(other_seed.numel())


def test_signs_too_many_to_keep_are_drawn_again(monkeypatch):
    import skinfluence.gradients._projection as module

    values = torch.randn(3, 2500, dtype=torch.float64)
    kept = LayerProjection(16, 0, 0).project_dense(values)
    monkeypatch.setattr(module, "_CACHE_BYTES", 100)
    torch.testing.assert_close(LayerProjection(16, 0, 0).project_dense(values), kept)
    layer = LayerProjection(16, 0, 0)
    assert torch.equal(layer.signs(0, 2500, values), layer.signs(0, 2500, values))
    assert not layer._kept
