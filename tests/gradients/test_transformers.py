"""Language models of transformers, with padding: the core against each text alone, without it."""

import numpy as np
import pytest
import torch
from torch import nn

from skinfluence.gradients import (
    check_per_sample_gradients,
    gradient_norms,
    per_sample_gradients,
)
from skinfluence.gradients._passes import start
from skinfluence.gradients._projection import Projection
from skinfluence.gradients._readings import InnerProduct, Kept, Projected
from skinfluence.gradients._skorch import net_loss_of
from tests._shared import text_nets
from tests._shared.text_nets import (
    causal_net,
    gradients_alone,
    text_classifier,
    to_predict,
    tokens,
)

RELATIVE = {torch.float64: 1e-10, torch.float32: 1e-4}


def names_of(net, X, y, layers):
    loop, _, _ = start(net, X, y, layers=layers, batch_size=4)
    return [name for layer in loop.layers for name in layer.parameters], loop.strategy


def assert_as_alone(net, X, y, layers, relative, strategy=frozenset({"factored"})):
    names, taken = names_of(net, X, y, layers)
    assert set(taken.values()) == strategy, taken
    expected = gradients_alone(net, X, y, set(names))
    scale = np.abs(expected).max()
    assert scale > 1e-3
    for batch_size in (1, 3, len(y)):
        found = per_sample_gradients(net, X, y, layers=layers, batch_size=batch_size)
        assert np.abs(found - expected).max() <= relative * scale
    norms = gradient_norms(net, X, y, layers=layers)
    np.testing.assert_allclose(norms, np.linalg.norm(expected, axis=1), rtol=100 * relative)
    return expected


@pytest.mark.parametrize("over_tokens", ["mean", "sum"])
@pytest.mark.parametrize("dtype", RELATIVE)
def test_gpt_as_each_text_alone(dtype, over_tokens):
    X = tokens(9)
    net = causal_net(text_nets.gpt, dtype, over_tokens)
    mean = assert_as_alone(net, X, to_predict(X), "all", RELATIVE[dtype])
    if over_tokens == "sum":  # of several tokens, more than their mean
        y = to_predict(X)
        per_token = gradients_alone(causal_net(text_nets.gpt, dtype), X, y, all_names(net))
        counts = (y[:, 1:] != -100).sum(1, keepdims=True)
        np.testing.assert_allclose(mean, per_token * counts, atol=1e-4)


def all_names(net):
    return {name for name, _ in net.module_.named_parameters()}


@pytest.mark.parametrize("dtype", RELATIVE)
def test_bert_with_lora_as_each_text_alone(dtype):
    X, y = tokens(9), np.arange(9) % 3
    net = text_classifier(text_nets.bert(), text_nets.lora(), dtype)
    some = assert_as_alone(net, X, y, ["*lora_*"], RELATIVE[dtype])
    assert some.shape[1] == 2 * 2 * 2 * (8 * 2)  # layers, query and value, A and B
    assert_as_alone(net, X, y, "all", RELATIVE[dtype])


@pytest.mark.slow
def test_minilm_with_lora_as_each_text_alone():
    X, y = tokens(5), np.arange(5) % 3
    net = text_classifier(text_nets.minilm(), text_nets.lora())
    assert_as_alone(net, X, y, ["*lora_*", "output"], 1e-10)


def test_bert_whole_as_each_text_alone():
    X, y = tokens(8), np.arange(8) % 3
    net = text_classifier(text_nets.bert())
    net.module_.requires_grad_(True)
    assert_as_alone(net, X, y, "all", 1e-10)


def test_small_transformer_as_each_text_alone():
    X, y = tokens(8), np.arange(8) % 3
    assert_as_alone(text_classifier(), X, y, "all", 1e-10)


def test_llama_up_to_the_single_precision_it_rounds_to():
    X = tokens(8)
    assert_as_alone(causal_net(text_nets.llama), X, to_predict(X), "all", 1e-5)


def test_padding_further_changes_nothing():
    net = causal_net(text_nets.gpt)
    wide = tokens(8, width=12, longest=7)
    narrow = {name: values[:, :7] for name, values in wide.items()}
    there = per_sample_gradients(net, wide, to_predict(wide), layers="all")
    here = per_sample_gradients(net, narrow, to_predict(narrow), layers="all")
    np.testing.assert_allclose(there, here, atol=1e-12)


def test_padding_an_adapted_model_further_changes_nothing():
    wide, y = tokens(8, width=12, longest=7), np.arange(8) % 3
    narrow = {name: values[:, :7] for name, values in wide.items()}
    net = text_classifier(text_nets.bert(), text_nets.lora())
    there = per_sample_gradients(net, wide, y, layers=["*lora_*", "output"])
    here = per_sample_gradients(net, narrow, y, layers=["*lora_*", "output"])
    np.testing.assert_allclose(there, here, atol=1e-12)


def test_untied_and_unknown_layers_go_by_a_slower_right_way():
    class Doubled(nn.Linear):  # of a class that no rule knows
        def forward(self, x):
            return 2 * super().forward(x)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.gpt = text_nets.gpt(tie_word_embeddings=False)
            self.gpt.transformer.h[0].mlp.c_proj = Doubled(32, 8)

        def forward(self, **X):
            return self.gpt(**X)

    X = tokens(6)
    net = causal_net(Net)
    assert_as_alone(net, X, to_predict(X), "all", 1e-10, {"factored", "loop"})
    assert "gpt.lm_head" in names_of(net, X, to_predict(X), "all")[1]


def test_readings_of_gpt_are_those_of_its_matrix():
    X = tokens(6)
    y = to_predict(X)
    net = causal_net(text_nets.gpt)
    loop, batches, _ = start(net, X, y, layers="all", batch_size=6)
    batch = next(iter(batches))
    kept = next(loop.batches([batch], Kept()))
    generator = torch.Generator().manual_seed(0)
    for layer in loop.layers:
        part = kept[layer.name]
        matrix = part.dense()
        direction = torch.randn(matrix.shape[1], dtype=matrix.dtype, generator=generator)
        weights = torch.randn(6, dtype=matrix.dtype, generator=generator)
        pairs = [
            (part.power_sum(1), matrix.abs().sum(1)),
            (part.power_sum(2), matrix.square().sum(1)),
            (part.dot(direction), matrix @ direction),
            (part.gram(part.take(slice(2, 5))), matrix @ matrix[2:5].mT),
            (part.scaled(weights).dense(), matrix * weights[:, None]),
            (part.summed(), matrix.sum(0)),
        ]
        for found, expected in pairs:
            torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-8)
    flat = torch.cat([kept[layer.name].dense() for layer in loop.layers], 1)
    whole = next(
        loop.batches(
            [batch], InnerProduct({layer.name: kept[layer.name].summed() for layer in loop.layers})
        )
    )
    torch.testing.assert_close(whole, flat @ flat.sum(0), atol=1e-10, rtol=1e-8)
    places = {layer.name: i for i, layer in enumerate(loop.layers)}
    projected = next(loop.batches([batch], Projected(Projection(4096, 0), places)))
    gram = flat @ flat.mT
    assert float((projected @ projected.mT - gram).abs().max() / gram.max()) < 0.15


def test_check_names_no_layer_of_gpt():
    X = tokens(6)
    errors = check_per_sample_gradients(causal_net(text_nets.gpt), X, to_predict(X))
    assert max(errors.values()) < 1e-10


def test_a_loss_that_averages_over_the_tokens_of_a_batch_is_told():
    from skorch import NeuralNet

    from skinfluence.exceptions import BatchLossWarning

    class OverBatch(nn.Module):
        def forward(self, output, target):
            logits = output.logits[:, :-1].flatten(0, 1)  # an attribute, as transformers has it
            return nn.functional.cross_entropy(logits, target[:, 1:].flatten())

    torch.manual_seed(0)
    net = NeuralNet(text_nets.gpt, criterion=OverBatch, train_split=None).initialize()
    X = tokens(9)
    with pytest.warns(BatchLossWarning):
        found = per_sample_gradients(net, X, to_predict(X))
    expected = per_sample_gradients(causal_net(text_nets.gpt, torch.float32), X, to_predict(X))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_look_at_one_row_is_no_part_of_a_pass():
    # at other parameters, a loss that is computed row by row first asks the net for one row, amid
    # the hooks of the pass; with padding, so that the model's mask must be of that row alone
    X = tokens(9)
    order = np.argsort(X["attention_mask"].sum(1), kind="stable")
    X = {name: values[order] for name, values in X.items()}
    y = to_predict(X)
    net = causal_net(text_nets.gpt)
    loop, batches, _ = start(net, X, y, layers="all", batch_size=9)
    there = loop.at(net_loss_of(net))
    kept = next(there.batches(batches, Kept()))
    assert set(there.strategy.values()) == {"factored"}
    found = torch.cat([kept[layer.name].dense() for layer in there.layers], 1).numpy()
    np.testing.assert_allclose(found, gradients_alone(net, X, y, all_names(net)), atol=1e-10)
