"""Everything read off gradients, against the same of the dense matrix by plain autograd."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skinfluence.gradients._directional import _as_parameters as as_parameters
from skinfluence.gradients._directional import (
    double_backward_inner_products,
    forward_inner_products,
    hessian_vector_product,
    inner_products,
    plain_kernels,
    split_direction,
)
from skinfluence.gradients._passes import start
from skinfluence.gradients._projection import Projection
from skinfluence.gradients._readings import (
    Dense,
    Gram,
    InnerProduct,
    Kept,
    Norm,
    Projected,
)
from skinfluence.gradients.factors import _layer_gradients as _factors
from tests._shared.by_hand import (
    WEIGHT_NORM,
    by_hand,
    close,
    every_case,
    flat_gradient,
    normalized,
    read,
    row_losses_by_hand,
)
from tests._shared.net_zoo import CASES

# Nets whose Linear and Conv layers can be told from the rest by name.
FORWARD_MODE_FAILS = {"lstm", "gru", "weight_norm", "old_weight_norm"}
# Its tables have a row for padding that an output layer reads, too.
FORWARD_MODE_FAILS |= {"language_model", "language_model_by_numbers", "two_tables"}


def problem(name, n, seed=0, batch_size=3):
    case = CASES[name]
    net = case.fitted(seed)
    X, y = case.draw(np.random.default_rng(seed), n)
    loop, batches, _ = start(net, X, y, layers="all", batch_size=batch_size)
    return loop, batches, torch.tensor(by_hand(case.fitted(seed), X, y)), (net, X, y)


@every_case
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(n=st.integers(1, 7), batch_size=st.integers(1, 4), seed=st.integers(0, 2**16))
def test_readings_agree_with_the_matrix(name, n, batch_size, seed):
    loop, batches, matrix, _ = problem(name, n, seed, batch_size)
    batches = list(batches)
    unit_loop = normalized(loop, "gradient")
    direction = torch.randn(matrix.shape[1], dtype=torch.float64)
    parts = split_direction(direction, loop.layers)
    norms = matrix.norm(dim=1, keepdim=True)
    unit = matrix / torch.where(norms > 0, norms, 1.0)
    close(read(loop, batches, Norm(2)), norms[:, 0])
    close(read(loop, batches, Norm(1)), matrix.abs().sum(1))
    close(read(loop, batches, Dense()), matrix)
    close(read(loop, batches, InnerProduct(parts)), matrix @ direction)
    close(read(unit_loop, batches, InnerProduct(parts)), unit @ direction)
    close(read(unit_loop, batches, Dense()), unit)
    other = next(loop.batches(batches[:1], Kept()))
    first = matrix[: len(batches[0][1])]
    close(read(loop, batches, Gram(other)), matrix @ first.T)


@every_case
@pytest.mark.parametrize("prefer_positions", [True, False])
def test_both_ways_to_sum_positions_agree(name, prefer_positions, monkeypatch):
    from skinfluence.gradients.factors import _convolution as _conv_factors

    loop, batches, matrix, _ = problem(name, 5)
    batches = list(batches)
    projection = Projection(n_components=7, seed=3)
    places = {layer.name: i for i, layer in enumerate(loop.layers)}
    expected = read(loop, batches, Projected(projection, places))
    for module in (_factors, _conv_factors):
        monkeypatch.setattr(module, "positions_are_cheaper", lambda *_: prefer_positions)
        monkeypatch.setattr(_factors, "_BLOCK_ELEMENTS", 50)  # many small blocks
    close(read(loop, batches, Norm(2)), matrix.norm(dim=1))
    close(read(loop, batches, Norm(1)), matrix.abs().sum(1))
    other = next(loop.batches(batches[:1], Kept()))
    close(read(loop, batches, Gram(other)), matrix @ matrix[: len(batches[0][1])].T)
    close(read(loop, batches, Projected(projection, places)), expected)


@every_case
@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(n=st.integers(1, 5), seed=st.integers(0, 2**16))
def test_inner_products_without_gradients(name, n, seed):
    loop, batches, matrix, _ = problem(name, n, seed, batch_size=n)
    ((X, y),) = batches
    direction = torch.randn(matrix.shape[1], dtype=torch.float64)
    expected = matrix @ direction
    tangents = as_parameters(loop.layers, direction)
    close(inner_products(loop.net_loss, loop.layers, X, y, direction), expected)
    with plain_kernels():
        backward = double_backward_inner_products(loop.net_loss, loop.layers, X, y, tangents)
        close(backward, expected)
        if name not in FORWARD_MODE_FAILS:
            forward = forward_inner_products(loop.net_loss, loop.layers, X, y, tangents)
            close(forward, expected)


@every_case
@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(n=st.integers(1, 4), seed=st.integers(0, 2**16))
def test_hessian_vector_product(name, n, seed):
    case = CASES[name]
    loop, batches, matrix, (_, X_rows, y_rows) = problem(name, n, seed, batch_size=n)
    ((X, y),) = batches
    direction = torch.randn(matrix.shape[1], dtype=torch.float64)
    if name in WEIGHT_NORM:
        with pytest.raises(ValueError, match="second derivative is wrong in torch"):
            hessian_vector_product(loop.net_loss, loop.layers, X, y, direction)
        return
    found = hessian_vector_product(loop.net_loss, loop.layers, X, y, direction)
    net = case.fitted(seed)
    expected = torch.zeros_like(direction)
    with plain_kernels():
        for loss in row_losses_by_hand(net, X_rows, y_rows):
            gradient = flat_gradient(loss, net.module_, create_graph=True)
            if gradient.requires_grad:
                expected += flat_gradient(gradient @ direction, net.module_)
    close(found, expected)


def kernels():
    return torch.backends.mha.get_fastpath_enabled(), torch.backends.cuda.flash_sdp_enabled()


def fail_among_plain_kernels():
    with plain_kernels():
        assert kernels() == (False, False)
        raise ZeroDivisionError


def test_kernels_are_restored_after_an_error():
    before = kernels()
    with pytest.raises(ZeroDivisionError):
        fail_among_plain_kernels()
    assert kernels() == before


def test_direction_of_another_length():
    loop, _, matrix, _ = problem("mlp", 2)
    with pytest.raises(ValueError, match=rf"expected \({matrix.shape[1]},\)"):
        split_direction(torch.zeros(3), loop.layers)


def unit_activation_columns(net, X, matrix, loop):
    """The dense gradients with every layer's input scaled by hand; biases left out."""
    inputs = {}
    handles = [
        layer.module.register_forward_hook(
            lambda _, args, __, name=layer.name: inputs.update({name: args[0]})
        )
        for layer in loop.layers
    ]
    with torch.no_grad():
        loop.net_loss.forward(torch.tensor(X))
    for handle in handles:
        handle.remove()
    columns, start = [], 0
    for layer in loop.layers:
        size = layer.module.weight.numel()
        norm = inputs[layer.name].flatten(1).norm(dim=1, keepdim=True)
        columns.append(matrix[:, start : start + size] / norm.where(norm > 0, 1.0))
        start += layer.n_parameters
    return torch.cat(columns, 1)


@pytest.mark.parametrize("name", ["mlp", "cnn", "conv1d", "conv2d_circular", "positions"])
def test_unit_activations(name):
    loop, batches, matrix, (net, X, _) = problem(name, 6)
    expected = unit_activation_columns(net, X, matrix, loop)
    batches = list(batches)
    unit_loop = normalized(loop, "activations")
    close(read(unit_loop, batches, Dense()), expected)
    close(read(unit_loop, batches, Norm()), expected.norm(dim=1))


def test_unit_activations_name_the_layer_that_has_none():
    for name, kind in {"layer_norm": "LayerNorm", "embedding": "Embedding", "lstm": "LSTM"}.items():
        loop, batches, _, _ = problem(name, 3)
        with pytest.raises(ValueError, match=f"{kind}.* has none|inputs of an {kind}"):
            read(normalized(loop, "activations"), batches, Norm())


def test_zero_gradients_stay_zero_when_normalised():
    factors = _factors.LinearGradients(torch.zeros(2, 3), torch.zeros(2, 4), True, True)
    assert factors.with_unit_activations().dense().abs().sum() == 0
    loop = normalized(problem("mlp", 2)[0], "gradient")
    assert loop._normalized({"0": factors})["0"].dense().abs().sum() == 0
