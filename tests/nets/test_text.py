"""Nets for tokens: frozen and adapted encoders, a transformer from scratch, and what is refused."""

import copy

import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline
from torch import nn

from skinfluence import LossScore, OutlierGradientDetector
from skinfluence.nets import CausalLMLoss, encode_texts, text_net
from tests._shared import text_nets
from tests._shared.text_nets import tokens, trimmed


def labelled(n=40):
    X = tokens(n)
    return X, (X["input_ids"] == 5).any(1).astype(int)


class Words(nn.Module):
    """Looks states up; of the outputs it gives, one by name is read."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(text_nets.N_TOKENS, 6)
        self.config = type("Config", (), {"hidden_size": 6})()

    def forward(self, input_ids, attention_mask):
        return {"last_hidden_state": self.table(input_ids) + 0 * attention_mask[..., None]}


def test_small_transformer_learns_a_word():
    rng = np.random.default_rng(0)
    X, _ = labelled(200)
    y = np.arange(200) % 2
    X["input_ids"][:, 0] = np.where(y == 1, 5, rng.integers(6, text_nets.N_TOKENS, 200))
    net = text_net(X, y, random_state=0).set_params(max_epochs=8).fit(X, y)
    assert (net.predict(X) == y).mean() > 0.95
    again = text_net(X, y, random_state=0).set_params(max_epochs=8).fit(X, y)
    np.testing.assert_array_equal(net.predict_proba(X), again.predict_proba(X))


def test_a_frozen_encoder_stays_as_it_is():
    X, y = labelled()
    words = Words()
    before = copy.deepcopy(words.state_dict())
    net = text_net(X, y, encoder=words, random_state=0).set_params(max_epochs=2).fit(X, y)
    assert all(torch.equal(value, before[name]) for name, value in words.state_dict().items())
    assert all(p.requires_grad for p in words.parameters())
    trained = {name for name, p in net.module_.named_parameters() if p.requires_grad}
    assert trained == {"output.weight", "output.bias"}
    kept = net.module_.encoder.table.weight
    assert kept.data_ptr() == words.table.weight.data_ptr()  # no copy for every clone


@pytest.mark.parametrize("y", [np.linspace(-5, 9, 40), np.eye(2, dtype=int)[np.arange(40) % 2]])
def test_numbers_and_indicators(y):
    X, _ = labelled()
    scores = LossScore(text_net(X, y, random_state=0).set_params(max_epochs=1)).fit(X, y)
    assert np.isfinite(scores.detrimentality_).all()


def test_encoded_texts_are_means_of_their_own_states():
    X, _ = labelled()
    words = Words()
    found = encode_texts(X, encoder=words, batch_size=7)
    for i in range(len(found)):
        alone = words.table(trimmed(X, i)["input_ids"])[0].mean(0).detach()
        np.testing.assert_allclose(found[i], alone, atol=1e-6)
    assert words.training


@pytest.mark.parametrize(
    ("X", "kind", "told"),
    [
        (["a text", "another"], TypeError, "tokenizer"),
        ({"input_ids": [[1, 2], [3]]}, ValueError, "padding=True"),
        ({"tokens": [[1, 2], [3, 4]]}, ValueError, "'input_ids'"),
    ],
)
def test_what_is_no_table_of_tokens_is_refused(X, kind, told):
    with pytest.raises(kind, match=told):
        text_net(X, [0, 1])
    with pytest.raises(kind, match=told):
        encode_texts(X, encoder=Words())


def test_wrong_parameters_are_refused():
    X, y = labelled()
    with pytest.raises(ValueError, match="without encoder"):
        text_net(X, y, adapter=object())
    with pytest.raises(ValueError, match=r"n_tokens=3.*token 2\d"):
        text_net(X, y, n_tokens=3)
    with pytest.raises(TypeError, match="expected a model"):
        text_net(X, y, encoder="bert")
    with pytest.raises(ValueError, match="over_tokens"):
        CausalLMLoss("max")
    with pytest.raises(TypeError, match="without 'logits'"):
        CausalLMLoss()({"other": torch.ones(1)}, torch.ones(1))


def test_texts_and_ragged_rows_are_refused_with_a_way_out():
    X, y = labelled()
    net = text_net(X, y, random_state=0)
    ragged = [row[row > 0].tolist() for row in X["input_ids"]]
    for method in (LossScore(net), LossScore()):
        with pytest.raises(ValueError, match=r"holds texts.*TfidfVectorizer.*nets\.text_net"):
            method.fit(["a text", "another"] * 20, y)
        with pytest.raises(ValueError, match="collate_fn"):
            method.fit(ragged, y)
    with pytest.raises(ValueError, match=r"X\['input_ids'\] have"):
        LossScore(net).fit({"input_ids": ragged}, y)


class Ragged(torch.utils.data.Dataset):
    """Tokens without padding, which batches are given by `padded`."""

    def __init__(self, X, y):
        self.X, self.y = X, y

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.X["input_ids"][i, : self.X["attention_mask"][i].sum()], int(self.y[i])


def padded(samples):
    width = max(len(row) for row, _ in samples)
    ids, mask = torch.zeros(2, len(samples), width, dtype=torch.int64)
    for i, (row, _) in enumerate(samples):
        ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), 1
    return {"input_ids": ids, "attention_mask": mask}, torch.tensor([y for _, y in samples])


def test_ragged_rows_come_through_a_collate_function():
    from skinfluence.gradients import per_sample_gradients

    X, y = labelled(12)
    expected = per_sample_gradients(text_nets.text_classifier(), X, y, layers="all")
    net = text_nets.text_classifier(iterator_valid__collate_fn=padded)
    found = per_sample_gradients(net, Ragged(X, y), None, layers="all", batch_size=5)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_encodings_and_outputs_of_transformers():
    encoding = text_nets.transformers().BatchEncoding
    X, y = labelled()
    net = text_net(X, y, encoder=text_nets.bert(), random_state=0).set_params(max_epochs=1)
    expected = LossScore(net, cv=2, random_state=0).fit(X, y).detrimentality_
    tensors = {name: torch.tensor(value) for name, value in X.items()}
    for given in (encoding(X), encoding(tensors)):
        found = LossScore(net, cv=2, random_state=0).fit(given, y).detrimentality_
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_an_adapter_is_what_is_trained():
    X, y = labelled()
    model = text_nets.bert()
    before = copy.deepcopy(model.state_dict())
    net = text_net(X, y, encoder=model, adapter=text_nets.lora(), random_state=0)
    net.set_params(max_epochs=2)
    settings = {"n_neighbors": None, "committee": None, "random_state": 0}
    method = OutlierGradientDetector(net, layers=["*lora_*"], **settings).fit(X, y)
    assert np.isfinite(method.detrimentality_).all()
    trained = {name for name, p in method.net_.module_.named_parameters() if p.requires_grad}
    assert all("lora_" in name or name.startswith("output") for name in trained)
    assert len(trained) == 2 * 2 * 2 + 2
    assert model.state_dict().keys() == before.keys()  # no adapter was put into the user's model
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_texts_through_tokenizers_of_skorch():
    text_nets.transformers()
    from skorch.hf import HuggingfaceTokenizer
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    X, y = labelled()
    texts = [" ".join(f"w{token}" for token in row if token) for row in X["input_ids"]]
    tokenizer = HuggingfaceTokenizer(
        tokenizer=Tokenizer,
        model=models.WordLevel,
        model__unk_token="[UNK]",
        trainer=trainers.WordLevelTrainer,
        trainer__special_tokens=["[UNK]", "[PAD]"],
        pre_tokenizer=pre_tokenizers.Whitespace,
        max_length=8,
    )
    encoded = tokenizer.fit_transform(texts)
    net = text_net(encoded, y, random_state=0).set_params(max_epochs=2)
    expected = LossScore(net, random_state=0).fit(encoded, y).detrimentality_
    found = make_pipeline(tokenizer, LossScore(net, random_state=0)).fit(texts, y)
    np.testing.assert_allclose(found[-1].detrimentality_, expected, atol=1e-6)


def test_an_output_of_several_tensors_is_refused_with_a_way_out():
    from skorch import NeuralNetClassifier

    X, y = labelled()
    net = NeuralNetClassifier(Words, criterion=nn.CrossEntropyLoss, train_split=None)
    with pytest.raises(ValueError, match=r"dict with last_hidden_state.*\.logits; nets\.text_net"):
        LossScore(net).fit(X, y)
