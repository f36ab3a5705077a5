"""Layer shapes drawn at random: every reading against the matrix by plain autograd."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from skinfluence.gradients._directional import inner_products, split_direction
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
from skinfluence.gradients.factors import _convolution
from skinfluence.gradients.factors._convolution import ConvGradients, shape_of
from skinfluence.gradients.factors._embedding import EmbeddingGradients
from skinfluence.gradients.factors._layer_gradients import LinearGradients
from tests._shared.by_hand import by_hand, close, normalized, read
from tests._shared.net_zoo import N_CLASSES, Case, table

small = st.integers(1, 5)
many = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Around(nn.Module):
    """A drawn layer, its output flattened, and a head."""

    def __init__(self, layer, n_features):
        super().__init__()
        self.layer = layer()
        self.head = nn.Linear(n_features, N_CLASSES)

    def forward(self, X):
        out = self.layer(X)
        out = out[0] if isinstance(out, tuple) else out
        return self.head(torch.tanh(out).flatten(1))


def explicit_signs(gradients, projection, n_parameters):
    """The projection of one layer as a matrix, from its definition."""
    like = torch.zeros((), dtype=torch.float64)
    if isinstance(gradients, EmbeddingGradients):
        sizes, bias = (gradients.n_tokens, gradients.b.shape[2]), 0
    elif isinstance(gradients, LinearGradients):
        sizes = (gradients.b.shape[-1], gradients.a.shape[-1])
        bias = gradients.b.shape[-1] * gradients.bias
    elif isinstance(gradients, ConvGradients):
        outputs = gradients.b.shape[1]
        bias = outputs * gradients.bias
        sizes = (outputs, (n_parameters - bias) // outputs)
    else:
        return projection.signs(0, n_parameters, like)
    left, right = projection.signs(0, sizes[0], like), projection.signs(1, sizes[1], like)
    signs = (left[:, None] * right[None]).flatten(0, 1)
    return torch.cat([signs, projection.signs(2, bias, like)]) if bias else signs


def check_all_readings(layer, draw, n, batch_size, seed):
    with torch.no_grad():
        X, _ = draw(np.random.default_rng(0), 1)
        dtype = torch.float64 if X.dtype.kind == "f" else torch.int64
        out = layer().double().eval()(torch.tensor(X, dtype=dtype))
    n_features = (out[0] if isinstance(out, tuple) else out).flatten(1).shape[1]
    case = Case(lambda: Around(layer, n_features), draw, {})
    X, y = draw(np.random.default_rng(seed), n)
    matrix = torch.tensor(by_hand(case.fitted(seed), X, y))
    loop, batches, _ = start(case.fitted(seed), X, y, layers="all", batch_size=batch_size)
    batches = list(batches)
    direction = torch.randn(matrix.shape[1], dtype=torch.float64)
    parts = split_direction(direction, loop.layers)
    norms = matrix.norm(dim=1, keepdim=True)
    close(read(loop, batches, Dense()), matrix)
    close(read(loop, batches, Norm(2)), norms[:, 0])
    close(read(loop, batches, Norm(1)), matrix.abs().sum(1))
    close(read(loop, batches, InnerProduct(parts)), matrix @ direction)
    unit = matrix / torch.where(norms > 0, norms, 1.0)
    unit_loop = normalized(loop, "gradient")
    close(read(unit_loop, batches, InnerProduct(parts)), unit @ direction)
    first = next(loop.batches(batches[:1], Kept()))
    close(read(loop, batches, Gram(first)), matrix @ matrix[: len(batches[0][1])].T)
    products = [inner_products(loop.net_loss, loop.layers, Xi, yi, direction) for Xi, yi in batches]
    close(torch.cat(products), matrix @ direction)
    projection = Projection(n_components=6, seed=seed)
    places = {part.name: i for i, part in enumerate(loop.layers)}
    signs = torch.cat(
        [
            explicit_signs(first[part.name], projection.of_layer(i), part.n_parameters)
            for i, part in enumerate(loop.layers)
        ]
    )
    close(read(loop, batches, Projected(projection, places)), matrix @ signs / 6**0.5)
    if isinstance(first.get("layer"), LinearGradients | ConvGradients):
        alone, batches, _ = start(case.fitted(seed), X, y, layers=["layer"], batch_size=batch_size)
        n_weights = case.fitted(seed).module_.layer.weight.numel()
        inputs = torch.tensor(X).flatten(1).norm(dim=1, keepdim=True)
        expected = matrix[:, :n_weights] / inputs
        close(read(normalized(alone, "activations"), batches, Dense()), expected)


rows = {"n": st.integers(1, 6), "batch_size": st.integers(1, 4), "seed": st.integers(0, 2**16)}


@many
@given(i=small, o=small, axes=st.lists(st.integers(1, 4), max_size=2), bias=st.booleans(), **rows)
def test_linear(i, o, axes, bias, **rows):
    check_all_readings(lambda: nn.Linear(i, o, bias=bias), table(*axes, i), **rows)


convolutions = {
    "dimensions": st.integers(1, 3),
    "groups": st.integers(1, 2),
    "channels": st.integers(1, 3),
    "outputs": st.integers(1, 3),
    "kernel": st.integers(1, 3),
    "stride": st.integers(1, 2),
    "dilation": st.integers(1, 2),
    "padding": st.integers(0, 1),
    "mode": st.sampled_from(["zeros", "reflect", "circular", "replicate"]),
    "length": st.integers(5, 6),
    "bias": st.booleans(),
}


@many
@given(**convolutions, **rows)
def test_conv(
    dimensions,
    groups,
    channels,
    outputs,
    kernel,
    stride,
    dilation,
    padding,
    mode,
    length,
    bias,
    **rows,
):
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]

    def layer():
        return conv(
            groups * channels,
            groups * outputs,
            kernel,
            stride,
            padding,
            dilation,
            groups,
            bias,
            mode,
        )

    check_all_readings(layer, table(groups * channels, *[length] * dimensions), **rows)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@many
@given(
    way=st.sampled_from(["product", "positions", "pixels"]),
    few_channels=st.sampled_from([0, 99]),
    same=st.booleans(),
    **convolutions,
)
def test_every_way_to_sum_a_convolution(
    way,
    few_channels,
    same,
    dimensions,
    groups,
    channels,
    outputs,
    kernel,
    stride,
    dilation,
    padding,
    mode,
    length,
    bias,
):
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
    inputs, outputs = groups * channels, groups * outputs
    if same:  # padded unevenly where the kernel is even
        stride, padding = 1, "same"
    torch.manual_seed(0)
    layer = conv(inputs, outputs, kernel, stride, padding, dilation, groups, bias, mode).double()
    x = torch.randn(4, inputs, *[length] * dimensions, dtype=torch.float64)
    b = torch.randn_like(layer(x))
    expected = torch.stack(
        [
            torch.cat([g.flatten() for g in torch.autograd.grad(out, list(layer.parameters()))])
            for out in ((layer(one[None]) * back).sum() for one, back in zip(x, b, strict=True))
        ]
    )
    gradients = ConvGradients(x, b, shape_of(layer), weight=True, bias=bias)
    with (
        patch.object(_convolution, "_cheapest", lambda costs: way if way in costs else "product"),
        patch.object(_convolution, "_FEW_CHANNELS", few_channels),
    ):
        close(gradients.power_sum(2), expected.square().sum(1))
        close(gradients.power_sum(1), expected.abs().sum(1))
        close(gradients.dense(), expected)


@many
@given(words=st.integers(1, 6), width=small, length=small, padded=st.booleans(), **rows)
def test_embedding(words, width, length, padded, **rows):
    def draw(rng, n):
        return rng.integers(0, words, (n, length)), rng.integers(0, N_CLASSES, n)

    n, batch_size, seed = rows["n"], rows["batch_size"], rows["seed"]
    padding = 0 if padded else None
    layer = lambda: nn.Embedding(words, width, padding_idx=padding)  # noqa: E731
    check_all_readings(layer, draw, n, batch_size, seed)


@many
@given(
    kind=st.sampled_from(["layer", "layer2", "group", "batch"]),
    groups=st.integers(1, 3),
    channels=st.integers(1, 3),
    length=st.integers(2, 4),
    **rows,
)
def test_norms(kind, groups, channels, length, **rows):
    width = groups * channels
    layers = {
        "layer": lambda: nn.LayerNorm(length),
        "layer2": lambda: nn.LayerNorm((width, length)),
        "group": lambda: nn.GroupNorm(groups, width),
        "batch": lambda: nn.BatchNorm1d(width),
    }
    check_all_readings(layers[kind], table(width, length), **rows)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(["lstm", "gru", "encoder"]),
    width=st.integers(1, 3),
    length=st.integers(1, 4),
    **rows,
)
def test_sequences(kind, width, length, **rows):
    layers = {
        "lstm": lambda: nn.LSTM(width, 3, batch_first=True),
        "gru": lambda: nn.GRU(width, 3, batch_first=True),
        "encoder": lambda: nn.TransformerEncoderLayer(2 * width, 2, 3, batch_first=True),
    }
    check_all_readings(layers[kind], table(length, width * (2 if kind == "encoder" else 1)), **rows)
