"""Every route against one backward pass per row, over many architectures, in float64."""

import copy
import random

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from skorch import NeuralNetClassifier
from torch import nn
from torch.autograd.graph import get_gradient_edge

from skinfluence.exceptions import GradientMismatchError
from skinfluence.gradients import (
    _layers,
    check_per_sample_gradients,
    gradient_norms,
    per_sample_gradients,
)
from skinfluence.gradients._passes import start
from skinfluence.gradients._readings import Dense, Kept
from skinfluence.gradients.routes import _loop as loop_module
from skinfluence.gradients.routes import _per_row
from skinfluence.gradients.routes._capture import explore_graph
from tests._shared.by_hand import TOLERANCE, by_hand, every_case
from tests._shared.net_zoo import CASES


@every_case
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(n=st.integers(1, 9), batch_size=st.integers(1, 5), seed=st.integers(0, 2**16))
def test_routes_agree_with_plain_autograd(name, n, batch_size, seed):
    case = CASES[name]
    net = case.fitted(seed)
    X, y = case.draw(np.random.default_rng(seed), n)
    expected = by_hand(case.fitted(seed), X, y)
    found = per_sample_gradients(net, X, y, layers="all", batch_size=batch_size)
    assert found.shape == expected.shape
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=TOLERANCE)
    for ord in (1, 2):
        norms = gradient_norms(net, X, y, layers="all", ord=ord, batch_size=batch_size)
        expected_norms = np.linalg.norm(expected, ord=ord, axis=1)
        np.testing.assert_allclose(norms, expected_norms, atol=TOLERANCE, rtol=TOLERANCE)


@every_case
@pytest.mark.parametrize("route", ["functional", "loop"])
def test_every_route_gives_the_same(name, route):
    case = CASES[name]
    net = case.fitted()
    X, y = case.draw(np.random.default_rng(1), 5)
    loop, batches, _ = start(net, X, y, layers="all", batch_size=5)
    Xi, yi = next(batches)
    gradients = {"functional": _per_row.functional_gradients, "loop": _per_row.loop_gradients}
    if route == "functional" and "loop" in loop.strategy.values():
        pytest.skip("vmap refuses this net; the loop serves it")
    expected = {k: v.dense() for k, v in next(loop.batches([(Xi, yi)], Kept())).items()}
    found = gradients[route](loop.net_loss, loop.layers, Xi, yi)
    for layer, values in expected.items():
        torch.testing.assert_close(found[layer], values, atol=TOLERANCE, rtol=TOLERANCE)


@every_case
def test_expected_routes_are_taken(name):
    case = CASES[name]
    X, y = case.draw(np.random.default_rng(0), 6)
    loop, _, _ = start(case.fitted(), X, y, layers="all", batch_size=4)
    assert {layer: loop.strategy[layer] for layer in case.strategy} == case.strategy


@every_case
def test_last_layer_is_a_part_of_all(name):
    case = CASES[name]
    net = case.fitted()
    X, y = case.draw(np.random.default_rng(2), 4)
    last, _, _ = start(net, X, y, layers="last", batch_size=4)
    (layer,) = last.layers
    full, _, _ = start(net, X, y, layers="all", batch_size=4)
    columns = {}
    first = 0
    for part in full.layers:
        columns[part.name] = slice(first, first + part.n_parameters)
        first += part.n_parameters
    everything = per_sample_gradients(net, X, y, layers="all")
    np.testing.assert_allclose(
        per_sample_gradients(net, X, y), everything[:, columns[layer.name]], atol=TOLERANCE
    )


@every_case
def test_net_and_generators_stay_bit_for_bit(name):
    case = CASES[name]
    net = case.fitted()
    net.module_.train()
    X, y = case.draw(np.random.default_rng(3), 5)
    X_before, y_before = copy.deepcopy(X), copy.deepcopy(y)
    modules = list(net.module_.modules())
    before = {
        "state": copy.deepcopy(net.module_.state_dict()),
        "modes": [m.training for m in modules],
        "requires_grad": [p.requires_grad for p in net.module_.parameters()],
        "hooks": [(dict(m._forward_hooks), dict(m._forward_pre_hooks)) for m in modules],
        "grad": [p.grad for p in net.module_.parameters()],
        "attributes": [set(vars(m)) for m in modules],
        "net": set(vars(net)),
        "reduction": getattr(net.criterion_, "reduction", None),
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].copy(),
        "python": random.getstate(),
        "threads": torch.get_num_threads(),
        "grad_mode": torch.is_grad_enabled(),
    }
    gradient_norms(net, X, y, layers="all", batch_size=2)
    per_sample_gradients(net, X, y)
    assert all(torch.equal(v, before["state"][k]) for k, v in net.module_.state_dict().items())
    assert [m.training for m in modules] == before["modes"]
    assert [p.requires_grad for p in net.module_.parameters()] == before["requires_grad"]
    assert [(dict(m._forward_hooks), dict(m._forward_pre_hooks)) for m in modules] == before[
        "hooks"
    ]
    assert all(a is b for a, b in zip((p.grad for p in net.module_.parameters()), before["grad"]))
    assert [set(vars(m)) for m in modules] == before["attributes"]
    assert set(vars(net)) == before["net"]
    assert getattr(net.criterion_, "reduction", None) == before["reduction"]
    assert torch.equal(torch.get_rng_state(), before["torch"])
    assert np.array_equal(np.random.get_state()[1], before["numpy"])
    assert random.getstate() == before["python"]
    assert torch.get_num_threads() == before["threads"]
    assert torch.is_grad_enabled() == before["grad_mode"]
    pairs = zip(X.values(), X_before.values()) if isinstance(X, dict) else [(X, X_before)]
    assert all(np.array_equal(a, b) for a, b in pairs)
    assert np.array_equal(y, y_before)


@every_case
def test_public_check_passes(name):
    case = CASES[name]
    X, y = case.draw(np.random.default_rng(4), 7)
    errors = check_per_sample_gradients(case.fitted(), X, y, batch_size=3)
    assert max(errors.values()) < TOLERANCE


def test_public_check_finds_a_wrong_rule(monkeypatch):
    case = CASES["mlp"]
    X, y = case.draw(np.random.default_rng(0), 40)
    right = loop_module.rule_for

    class OffByAFactor:
        def gradients(self, module, calls, trainable):
            factor = 1.001 if len(calls[0][0]) > 30 else 1.0  # right on the rows it is tried on
            scaled = [(a, b * factor) for a, b in calls]
            return right(module).gradients(module, scaled, trainable)

    monkeypatch.setattr(
        loop_module, "rule_for", lambda m: OffByAFactor() if right(m) is not None else None
    )
    with pytest.raises(GradientMismatchError, match=r"0 by 1\.0e-03 \(factored\)"):
        check_per_sample_gradients(case.fitted(), X, y)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 4),
    positions=st.integers(1, 6),
    n_inputs=st.integers(1, 5),
    n_outputs=st.integers(1, 5),
    ord=st.sampled_from([1, 2]),
    weight=st.booleans(),
    bias=st.booleans(),
)
def test_linear_norms_from_factors(n, positions, n_inputs, n_outputs, ord, weight, bias):
    from skinfluence.gradients.factors._layer_gradients import LinearGradients

    if not (weight or bias):
        return
    generator = torch.Generator().manual_seed(n * 100 + positions)
    a = torch.randn(n, positions, n_inputs, generator=generator, dtype=torch.float64)
    b = torch.randn(n, positions, n_outputs, generator=generator, dtype=torch.float64)
    factors = LinearGradients(a, b, weight=weight, bias=bias)
    expected = factors.dense().abs().pow(ord).sum(1)
    torch.testing.assert_close(factors.power_sum(ord), expected, atol=1e-10, rtol=1e-10)
    if positions == 1:
        flat = LinearGradients(a[:, 0], b[:, 0], weight=weight, bias=bias)
        torch.testing.assert_close(flat.power_sum(ord), expected, atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(flat.dense(), factors.dense())


def test_batch_size_changes_nothing():
    case = CASES["batch_norm"]
    net = case.fitted()
    X, y = case.draw(np.random.default_rng(5), 20)
    whole = per_sample_gradients(net, X, y, layers="all", batch_size=20)
    for batch_size in (1, 3, 19):
        part = per_sample_gradients(net, X, y, layers="all", batch_size=batch_size)
        np.testing.assert_allclose(part, whole, atol=1e-12)


def test_wrong_rule_is_found_on_the_first_rows(monkeypatch):
    case = CASES["mlp"]
    X, y = case.draw(np.random.default_rng(0), 5)
    right = loop_module.rule_for
    expected = per_sample_gradients(case.fitted(), X, y, layers="all")

    class Wrong:
        def gradients(self, module, calls, trainable):
            return right(module).gradients(module, [(a, 2 * b) for a, b in calls], trainable)

    monkeypatch.setattr(
        loop_module, "rule_for", lambda m: Wrong() if right(m) is not None else None
    )
    loop, _, _ = start(case.fitted(), X, y, layers="all", batch_size=5)
    assert set(loop.strategy.values()) == {"functional"}
    found = per_sample_gradients(case.fitted(), X, y, layers="all")
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def test_dense_layers_are_taken_a_few_rows_at_a_time(monkeypatch):
    case = CASES["weight_norm"]
    net = case.fitted()
    X, y = case.draw(np.random.default_rng(5), 11)
    whole = per_sample_gradients(net, X, y, layers="all")
    monkeypatch.setattr(loop_module, "_DENSE_BYTES", 3 * 8 * 51)  # three rows of the two layers
    loop, batches, _ = start(net, X, y, layers="all", batch_size=8)
    sizes = [len(part) for part in loop.batches(batches, Dense())]
    assert sum(sizes) == 11
    assert max(sizes) <= 3
    np.testing.assert_allclose(per_sample_gradients(net, X, y, layers="all"), whole, atol=1e-12)


@every_case
def test_batches_are_cut_to_what_caches_hold(name, monkeypatch):
    case = CASES[name]
    X, y = case.draw(np.random.default_rng(5), 9)
    expected = by_hand(case.fitted(), X, y)
    monkeypatch.setattr(_layers, "_CACHED_BYTES", 1)
    monkeypatch.setattr(_layers, "_LEAST_CACHED_ROWS", 2)
    loop, _, _ = start(case.fitted(), X, y, layers="all", batch_size=9)
    assert loop.rows_in_cache == 2
    found = per_sample_gradients(case.fitted(), X, y, layers="all", batch_size=9)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=TOLERANCE)


class ReordersRows(nn.Module):
    """Its inner layer sees the rows in another order than the loss does."""

    reorder = None

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, X):
        order = self.reorder(X[:, 0])
        return self.head(torch.tanh(self.inner(X[order]))[order.argsort()])


@pytest.mark.parametrize("first_is_smaller", [True, False])
@pytest.mark.parametrize(
    "reorder",
    [
        torch.argsort,
        lambda keys: torch.argsort(keys, descending=True),
        lambda keys: torch.arange(len(keys)).flip(0),
        lambda keys: torch.arange(len(keys)).roll(1),
    ],
    ids=["ascending", "descending", "flipped", "rolled"],
)
def test_reordering_shows_however_the_first_rows_lie(reorder, first_is_smaller):
    module = type("Reorders", (ReordersRows,), {"reorder": staticmethod(reorder)})
    net = NeuralNetClassifier(module, criterion=nn.CrossEntropyLoss).initialize()
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(9, 4)).astype(np.float32), rng.integers(0, 3, 9)
    X[:2, 0] = (0, 1) if first_is_smaller else (1, 0)
    loop, batches, _ = start(net, X, y, layers="all", batch_size=9)
    assert loop.strategy["inner"] != "factored"
    Xi, yi = next(iter(batches))
    expected = _per_row.loop_gradients(loop.net_loss, loop.layers, Xi, yi)
    found = torch.cat(list(loop.batches([(Xi, yi)], Dense())))
    torch.testing.assert_close(found, torch.cat([expected[n.name] for n in loop.layers], 1))


def test_graph_walk_counts_uses_and_finds_the_outputs_no_other_leads_to():
    weight, other = (torch.ones(3, requires_grad=True) for _ in range(2))
    first, apart = torch.sin(weight), torch.cos(other)
    second = first * weight + first  # two ways lead to `first`
    unused = torch.exp(other)
    loss = (second * apart + weight.square()).sum()
    edges = {t: get_gradient_edge(t) for t in (first, second, apart, unused)}
    uses, roots = explore_graph(loss, list(edges.values()))
    assert uses == {id(weight): 3, id(other): 1}
    assert roots == [edges[first], edges[apart]]
    assert explore_graph(torch.ones(()), []) == ({}, [])
