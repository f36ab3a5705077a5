"""Gradients over checkpoints, against explicit matrices of every checkpoint in float64."""

import copy

import numpy as np
import pytest
import torch

from skinfluence import GradientEmbedding, NormDetector, OutlierGradientDetector
from skinfluence.gradients import _trajectory
from skinfluence.gradients._passes import Trajectory, start
from skinfluence.gradients._projection import Projection
from skinfluence.gradients._readings import (
    Dense,
    Gram,
    InnerProduct,
    Kept,
    Norm,
    Projected,
    Total,
)
from skinfluence.gradients._states import module_state, net_at
from skinfluence.gradients._trajectory import MeanOf, SideBySide
from skinfluence.gradients.factors import _layer_gradients as _factors
from tests._shared.by_hand import TOLERANCE, by_hand
from tests._shared.net_zoo import CASES
from tests._shared.problems import blobs, classifier

NETS = [
    "mlp",
    "cnn",
    "conv1d",
    "batch_norm",
    "layer_norm",
    "embedding",
    "repeated_tokens",
    "tied_embedding",
    "lstm",
    "tied",
    "called_twice",
    "positions",
    "sequence_first",
    "data_dependent",
    "partly_frozen",
    "dict_input",
    "old_weight_norm",
    "root_parameter",
    "class_weights",
    "own_criterion",
]
# Nets of Linear and Conv layers alone, with a weight in every layer.
UNIT_INPUTS = ["mlp", "cnn", "conv1d", "positions", "called_twice", "dict_input"]
RATES = (0.3, 0.02, 0.0)


def moved(net, seed):
    """States as training would leave them; of one parameter alone with a tie."""
    generator = torch.Generator().manual_seed(seed)
    state = module_state(net)
    for name, value in state.items():
        if value.is_floating_point() and "running_var" not in name:
            value.add_(torch.randn(value.shape, generator=generator, dtype=value.dtype), alpha=0.3)
    return state


def at_by_hand(case, state):
    """The net at a checkpoint, by torch's own means."""
    net = case.fitted()
    net.module_.load_state_dict(state, strict=False)
    tensors = {**dict(net.module_.named_parameters()), **dict(net.module_.named_buffers())}
    assert state.keys() == tensors.keys()
    return net


class Problem:
    """A net, its states, and the matrices of gradients at each, without the package."""

    def __init__(self, name, n=5, n_states=3):
        self.case = CASES[name]
        self.net = self.case.fitted()
        self.X, self.y = self.case.draw(np.random.default_rng(1), n)
        self.states = [moved(self.net, seed) for seed in range(n_states)]
        nets = [at_by_hand(self.case, state) for state in self.states]
        self.matrices = [torch.tensor(by_hand(net, self.X, self.y)) for net in nets]

    def loop(self, combination, normalize=None, batch_size=3):
        trajectory = Trajectory(list(self.states), combination, normalize)
        return start(
            self.net,
            self.X,
            self.y,
            layers="all",
            batch_size=batch_size,
            trajectory=trajectory,
        )

    def rates(self):
        names = [name for name, _ in self.net.module_.named_parameters()]
        return [dict.fromkeys(names, rate) for rate in RATES]

    def combination(self, combine):
        return MeanOf() if combine == "mean" else SideBySide(self.rates())


def unit(matrix):
    norms = matrix.norm(dim=1, keepdim=True)
    return matrix / torch.where(norms > 0, norms, 1.0)


def combined(matrices, combine):
    if combine == "mean":
        return torch.stack(matrices).mean(0)
    weighted = [matrix * rate**0.5 for matrix, rate in zip(matrices, RATES, strict=True)]
    return torch.cat(weighted, 1)


def unit_inputs_by_hand(problem, state):
    """Gradients of weights, each layer's divided by the norm of the layer's input, row by row."""
    net = at_by_hand(problem.case, state)
    module = net.module_.eval()
    layers = {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, torch.nn.Linear | torch.nn.modules.conv._ConvNd)
    }
    inputs = {name: [] for name in layers}
    handles = [
        layer.register_forward_hook(
            lambda _, args, kwargs, output, name=name: inputs[name].append(
                (args[0] if args else kwargs["input"]).detach()
            ),
            with_kwargs=True,
        )
        for name, layer in layers.items()
    ]
    rows = []
    for row in range(len(problem.y)):
        for seen in inputs.values():
            seen.clear()
        X = problem.X
        x = {k: v[row : row + 1] for k, v in X.items()} if isinstance(X, dict) else X[row : row + 1]
        (gradient,) = by_hand(net, x, problem.y[row : row + 1])
        position, parts = 0, []
        for name, parameter in module.named_parameters():
            part = torch.tensor(gradient[position : position + parameter.numel()])
            position += parameter.numel()
            layer, kind = name.rsplit(".", 1)
            if kind == "weight":
                norm = torch.stack([seen.square().sum() for seen in inputs[layer]]).sum().sqrt()
                parts.append(part / norm if norm > 0 else part)
        rows.append(torch.cat(parts))
    for handle in handles:
        handle.remove()
    return torch.stack(rows)


def close(found, expected):
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found, expected, atol=TOLERANCE * scale, rtol=TOLERANCE)


def read(problem, combine, normalize, batch_size, reading):
    loop, batches, _ = problem.loop(problem.combination(combine), normalize, batch_size)
    return torch.cat(list(loop.batches(batches, reading(loop))))


def assert_readings_agree(problem, matrix, combine, normalize):
    """Every reading, in batches of one row, ragged ones and a single one."""
    direction = torch.randn(matrix.shape[1], dtype=torch.float64)

    def directions(loop):
        parts = direction.split([part_width(layer, loop, matrix) for layer in loop.layers])
        return {layer.name: part for layer, part in zip(loop.layers, parts, strict=True)}

    readings = [
        (lambda loop: Dense(), matrix),
        (lambda loop: Norm(2), matrix.norm(dim=1)),
        (lambda loop: Norm(1), matrix.abs().sum(1)),
        (lambda loop: InnerProduct(directions(loop)), matrix @ direction),
    ]
    for batch_size, (reading, expected) in zip([1, 3, 5, 2], readings, strict=True):
        close(read(problem, combine, normalize, batch_size, reading), expected)
    close(read(problem, combine, normalize, 1, lambda loop: Norm(2)), matrix.norm(dim=1))
    assert_gram_and_projection_agree(problem, matrix, combine, normalize)


def part_width(layer, loop, matrix):
    if loop.n_parameters == sum(each.n_parameters for each in loop.layers):
        return layer.n_parameters
    return _trajectory._n_weights(layer)


def assert_gram_and_projection_agree(problem, matrix, combine, normalize):
    loop, batches, _ = problem.loop(problem.combination(combine), normalize)
    assert loop.n_parameters == matrix.shape[1]
    batches = list(batches)
    other = next(loop.batches(batches[:1], Kept()))
    close(torch.cat(list(loop.batches(batches, Gram(other)))), matrix @ matrix[:3].T)
    sums = [torch.cat(list(part.values())) for part in loop.batches(batches, Total())]
    close(torch.stack(sums).sum(0), matrix.sum(0))
    projection = Projection(n_components=2000, seed=3)
    places = {layer.name: place for place, layer in enumerate(loop.layers)}
    found = torch.cat(list(loop.batches(batches, Projected(projection, places))))
    again, batches, _ = problem.loop(problem.combination(combine), normalize, batch_size=1)
    close(torch.cat(list(again.batches(batches, Projected(projection, places)))), found)
    spread = (found @ found.T - matrix @ matrix.T).abs().max() / matrix.square().sum(1).max()
    assert spread < 0.15  # inner products up to about 1 / sqrt(2000), times some


@pytest.mark.parametrize("name", NETS)
def test_combined_gradients_agree_with_the_matrices(name):
    problem = Problem(name)
    for combine in ("mean", "concat"):
        assert_readings_agree(problem, combined(problem.matrices, combine), combine, None)


@pytest.mark.parametrize("combine", ["mean", "concat"])
@pytest.mark.parametrize("name", ["mlp", "conv1d", "lstm", "repeated_tokens", "tied"])
def test_unit_gradients_agree_with_the_matrices(name, combine):
    problem = Problem(name)
    matrix = combined([unit(matrix) for matrix in problem.matrices], combine)
    assert_readings_agree(problem, matrix, combine, "gradient")


@pytest.mark.parametrize("combine", ["mean", "concat"])
@pytest.mark.parametrize("name", UNIT_INPUTS)
def test_unit_activations_agree_with_the_matrices(name, combine):
    problem = Problem(name)
    matrices = [unit_inputs_by_hand(problem, state) for state in problem.states]
    assert_readings_agree(problem, combined(matrices, combine), combine, "activations")


def test_a_frozen_weight_leaves_nothing_of_unit_activations():
    loop, batches, _ = Problem("partly_frozen").loop(MeanOf(), "activations")
    with pytest.raises(ValueError, match=r"leaves biases out.*requires_grad"):
        list(loop.batches(batches, Norm()))


@pytest.mark.parametrize("name", ["layer_norm", "lstm", "embedding"])
def test_layers_without_an_input_factor_are_named(name):
    problem = Problem(name)
    loop, batches, _ = problem.loop(MeanOf(), "activations")
    with pytest.raises(ValueError, match="normalize='activations' takes gradients that have"):
        list(loop.batches(batches, Dense()))


@pytest.mark.parametrize("name", ["mlp", "lstm"])
@pytest.mark.parametrize("combine", ["mean", "concat"])
def test_one_checkpoint_is_the_plain_gradient(name, combine):
    problem = Problem(name, n_states=1)
    rates = [dict.fromkeys(problem.rates()[0], 1.0)]
    combination = MeanOf() if combine == "mean" else SideBySide(rates)
    loop, batches, _ = problem.loop(combination)
    close(torch.cat(list(loop.batches(batches, Dense()))), problem.matrices[0])


def test_rows_without_a_gradient_stay_without():
    problem = Problem("mlp")
    with torch.no_grad():
        for state in problem.states:
            state["4.weight"] *= 0
            state["4.bias"] *= 0
            state["4.bias"][0] = 1e5  # certain of class 0
    problem.y[:] = 0
    for normalize in (None, "gradient", "activations"):
        for combine in ("mean", "concat"):
            found = read(problem, combine, normalize, 2, lambda loop: Norm(2))
            assert found.tolist() == [0.0] * 5


@pytest.mark.parametrize("name", ["mlp", "batch_norm", "lstm", "tied", "old_weight_norm"])
def test_the_net_and_the_states_stay_as_they_are(name):
    problem = Problem(name)
    problem.net.module_.train()
    net_before = copy.deepcopy(problem.net.module_.state_dict())
    attributes = set(vars(problem.net))
    states = copy.deepcopy(problem.states)
    random_state = torch.get_rng_state()
    for combine in ("mean", "concat"):
        read(problem, combine, "gradient", 2, lambda loop: Dense())
    assert problem.net.module_.training
    assert set(vars(problem.net)) == attributes
    assert torch.equal(torch.get_rng_state(), random_state)
    for found, expected in zip(
        [problem.net.module_.state_dict(), *problem.states], [net_before, *states], strict=True
    ):
        assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert all(
        p.grad is None and p._backward_hooks is None for p in problem.net.module_.parameters()
    )
    assert not any(module._forward_hooks for module in problem.net.module_.modules())


def test_a_state_read_back_is_the_net_itself():
    problem = Problem("batch_norm")
    for state in problem.states:
        found = module_state(net_at(problem.net, state))
        assert found.keys() == state.keys()
        assert all(torch.equal(found[name], value) for name, value in state.items())


def test_norms_over_checkpoints_build_no_matrix(monkeypatch):
    problem = Problem("mlp")
    loop, batches, _ = problem.loop(MeanOf(), "gradient")
    beside, other_batches, _ = problem.loop(problem.combination("concat"), "gradient")

    def forbidden(self):
        raise AssertionError("the wide matrix was built")

    monkeypatch.setattr(_factors.LinearGradients, "dense", forbidden)
    mean = torch.cat(list(loop.batches(batches, Norm(2))))
    concatenated = torch.cat(list(beside.batches(other_batches, Norm(1))))
    matrices = [unit(matrix) for matrix in problem.matrices]
    close(mean, combined(matrices, "mean").norm(dim=1))
    close(concatenated, combined(matrices, "concat").abs().sum(1))


def test_few_rows_at_once_where_gradients_are_dense(monkeypatch):
    from skinfluence.gradients.routes import _loop

    problem = Problem("lstm")
    expected = combined(problem.matrices, "mean")
    monkeypatch.setattr(_loop, "_DENSE_BYTES", 8 * expected.shape[1] * 6)
    loop, batches, _ = problem.loop(MeanOf(), batch_size=5)
    found = list(loop.batches(batches, Dense()))
    assert max(len(part) for part in found) == 2
    close(torch.cat(found), expected)


def test_parameters_of_one_layer_at_two_rates_have_no_one_weight():
    problem = Problem("mlp")
    rates = problem.rates()
    rates[1]["4.bias"] = 0.5
    loop, batches, _ = problem.loop(SideBySide(rates))
    with pytest.raises(ValueError, match=r"layer 4 were trained at .*one parameter group"):
        list(loop.batches(batches, Norm(2)))


def test_a_parameter_that_is_not_trained_has_rate_zero():
    problem = Problem("mlp")
    rates = [{k: v for k, v in each.items() if not k.startswith("0.")} for each in problem.rates()]
    loop, batches, _ = problem.loop(SideBySide(rates))
    found = torch.cat(list(loop.batches(batches, Dense())))
    assert not found[:, :25].any()
    close(found[:, 25:50], 0.3**0.5 * problem.matrices[0][:, 25:50])


X, Y = blobs(n=40)


def net(**kwargs):
    return classifier(max_epochs=4, batch_size=16, **kwargs)


def test_inner_products_side_by_side_are_the_sum_over_checkpoints():
    method = GradientEmbedding(
        net(), layers="all", checkpoints=2, combine="concat", n_components=None, random_state=0
    ).fit(X, Y)
    expected = np.zeros((40, 40))
    for checkpoint in method.trace_.checkpoints:
        at = net().initialize()
        at.module_.load_state_dict(checkpoint.state)
        matrix = by_hand(at, X, Y).astype(np.float64)
        expected += checkpoint.learning_rate[0] * matrix @ matrix.T
    np.testing.assert_allclose(
        method.embedding_ @ method.embedding_.T, expected, rtol=1e-4, atol=1e-5 * expected.max()
    )


@pytest.mark.parametrize("normalize", [None, "gradient", "activations"])
def test_methods_take_norms_off_the_factors(normalize, monkeypatch):
    embedding = GradientEmbedding(
        net(),
        layers="all",
        checkpoints="all",
        normalize=normalize,
        n_components=None,
        random_state=0,
    ).fit_transform(X, Y)
    settings = {"layers": "all", "checkpoints": "all", "normalize": normalize}
    for order in (1, 2):
        detector = OutlierGradientDetector(
            net(), detector=NormDetector(order), n_neighbors=None, random_state=0, **settings
        )
        scores = detector.fit(X, Y).detrimentality_
        np.testing.assert_allclose(scores, np.linalg.norm(embedding, order, axis=1), rtol=1e-4)
        np.testing.assert_allclose(detector.score_detrimentality(X, Y), scores, rtol=1e-6)
    assert len(detector.trace_.checkpoints) == 4


def test_the_width_counts_every_checkpoint():
    settings = {"checkpoints": 2, "combine": "concat", "random_state": 0}
    embedding = GradientEmbedding(net(), **settings).fit(X, Y)
    assert embedding.embedding_.shape == (40, 2 * 17 * 3)
    projected = GradientEmbedding(net(), n_components=20, **settings).fit_transform(X, Y)
    assert projected.shape == (40, 20)
    unbiased = GradientEmbedding(net(), normalize="activations", **settings).fit_transform(X, Y)
    assert unbiased.shape == (40, 2 * 16 * 3)
    with pytest.raises(ValueError, match="max_bytes"):
        GradientEmbedding(net(), max_bytes=40 * 2 * 51 * 4 - 1, **settings).fit(X, Y)


@pytest.mark.parametrize(
    "wrong", [{"checkpoints": 0}, {"checkpoints": "first"}, {"combine": "sum"}, {"normalize": "l2"}]
)
def test_wrong_settings_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        GradientEmbedding(net(), **wrong).fit(X, Y)
