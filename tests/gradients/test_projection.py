"""Projections keep inner products, and are the same map everywhere."""

import io
import subprocess
import sys

import numpy as np
import pytest
import torch

from skinfluence.gradients._passes import start
from skinfluence.gradients._projection import LayerProjection, Projection
from skinfluence.gradients._readings import Dense, Projected
from tests._shared.net_zoo import CASES

NETS = ["mlp", "cnn", "positions", "embedding", "layer_norm", "conv2d", "encoder"]


def projected(name, n_components, seed, n=12, batch_size=5):
    case = CASES[name]
    X, y = case.draw(np.random.default_rng(0), n)
    loop, batches = start(case.fitted(), X, y, layers="all", batch_size=batch_size)
    batches = list(batches)
    places = {layer.name: i for i, layer in enumerate(loop.layers)}
    reading = Projected(Projection(n_components, seed), places)
    return (
        torch.cat(list(loop.batches(batches, reading))),
        torch.cat(list(loop.batches(batches, Dense()))),
    )


def relative_error(name, n_components, seeds):
    errors = []
    for seed in seeds:
        small, full = projected(name, n_components, seed)
        norms = full.norm(dim=1)
        scale = norms[:, None] * norms[None, :]
        errors.append((((small @ small.T - full @ full.T) / scale) ** 2).mean())
    return float(np.sqrt(np.mean(errors)))


@pytest.mark.parametrize("name", NETS)
def test_error_falls_with_the_root_of_the_number_of_components(name):
    sizes = (64, 256, 1024)
    errors = [relative_error(name, size, range(12)) for size in sizes]
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert -0.62 < slope < -0.38, (errors, slope)
    # signs: a product of two has at most thrice the standard deviation of one (and one at most
    # sqrt(2 / k)), for a vector and itself
    assert errors[-1] < 3 * np.sqrt(2 / sizes[-1])


@pytest.mark.parametrize("name", NETS)
def test_inner_products_are_unbiased(name):
    full = projected(name, 1, 0)[1]
    norms = full.norm(dim=1)
    total = sum(p @ p.T for p in (projected(name, 64, seed)[0] for seed in range(60))) / 60
    bias = (total - full @ full.T) / (norms[:, None] * norms[None, :])
    assert bias.abs().max() < 6 * 3 * np.sqrt(2 / (64 * 60))


@pytest.mark.parametrize("name", NETS)
def test_batches_do_not_matter(name):
    whole = projected(name, 33, 0, batch_size=12)[0]
    for batch_size in (1, 5):
        torch.testing.assert_close(
            projected(name, 33, 0, batch_size=batch_size)[0], whole, atol=1e-9, rtol=1e-9
        )


def test_signs_are_the_same_in_another_process():
    code = (
        "import torch, hashlib; from skinfluence.gradients._projection import Projection; "
        "s = Projection(37, 5).of_layer(2).signs(1, 2100, torch.zeros(())); "
        "print(hashlib.sha256(s.numpy().tobytes()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert digests == {"e676ddbaf7a790349c25c93c4c2aa2d6d5e7cf4d60678d026ddfedd659e63a1a\n"}


@pytest.mark.parametrize("name", ["cnn", "encoder"])
def test_another_process_gives_the_same_embedding(name):
    code = (
        f"import sys, numpy; sys.path[:0] = {sys.path!r}; "
        "from tests.gradients.test_projection import projected; "
        f"numpy.save(sys.stdout.buffer, projected({name!r}, 33, 0, batch_size=4)[0].numpy())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    elsewhere = np.load(io.BytesIO(result.stdout))
    np.testing.assert_allclose(elsewhere, projected(name, 33, 0)[0], atol=1e-6)


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
