"""Small skorch nets of many architectures, in float64, with rows to feed them."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm

from benchmarks.costs.nets import ResNet18

N_CLASSES = 3


class Mlp(nn.Sequential):
    def __init__(self, n_inputs=4, n_hidden=5, n_outputs=N_CLASSES, inplace=False):
        super().__init__(
            nn.Linear(n_inputs, n_hidden),
            nn.ReLU(inplace=inplace),
            nn.Linear(n_hidden, n_hidden, bias=False),
            nn.ReLU(inplace=inplace),
            nn.Linear(n_hidden, n_outputs),
        )


class Cnn(nn.Sequential):
    def __init__(self, norm=None):
        super().__init__(
            nn.Conv2d(2, 3, 3, padding=1),
            norm or nn.Identity(),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(12, N_CLASSES),
        )


class BatchNormCnn(Cnn):
    def __init__(self):
        super().__init__(nn.BatchNorm2d(3))


class LayerNormMlp(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, N_CLASSES))


class EmbeddingBagOfWords(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.head = nn.Linear(4, N_CLASSES)

    def forward(self, X):
        return self.head(self.embedding(X).mean(1))


class RepeatedTokens(nn.Module):
    """Padding, tokens used several times, and a table looked up twice."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4, padding_idx=2)
        self.head = nn.Linear(4, N_CLASSES)

    def forward(self, X):
        first, second = self.embedding(X), self.embedding(X.flip(1)[:, :3])
        return self.head(torch.tanh(first).mean(1) * second.sum(1))


class TiedEmbedding(nn.Module):
    """The table that reads tokens also predicts them."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.mix = nn.Linear(4, 4)

    def forward(self, X):
        return torch.tanh(self.mix(self.embedding(X).mean(1))) @ self.embedding.weight.T


class Conv1D(nn.Module):
    """Computes what GPT-2's layer of that name does, and goes by its name: y = x W + b."""

    def __init__(self, n_inputs, n_outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_inputs, n_outputs) / 2)
        self.bias = nn.Parameter(torch.randn(n_outputs) / 2)

    def forward(self, x):
        return x @ self.weight + self.bias


Conv1D.__module__ = "transformers.pytorch_utils"  # by which the core knows it


class OffsetRMSNorm(nn.Module):
    """Scales by one plus the weight, as Gemma does."""

    def __init__(self, n_channels):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_channels) / 2)

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * (1 + self.weight)


class LanguageModel(nn.Module):
    """Scores every next token by the table that reads tokens; positions are looked up once."""

    def __init__(self, norm=nn.RMSNorm, numbers_have_rows=True):
        super().__init__()
        self.tokens = nn.Embedding(7, 4, padding_idx=2)
        self.positions = nn.Embedding(5, 4)
        self.norm = norm(4)
        self.mix = Conv1D(4, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.tokens.weight
        self.numbers_have_rows = numbers_have_rows

    def forward(self, X):
        numbers = torch.arange(X.shape[1])
        positions = self.positions(numbers[None] if self.numbers_have_rows else numbers)
        h = self.tokens(X) + positions
        h = h + torch.tanh(self.mix(self.norm(h))).cumsum(1)
        return self.head(h).mT  # classes on the second axis, as CrossEntropyLoss has them


class TwoTables(nn.Module):
    """Two tables share one matrix, with an output layer whose bias is its own."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 7)
        self.left = nn.Embedding(7, 4, padding_idx=0)
        self.right = nn.Embedding(7, 4)
        self.left.weight = self.right.weight = self.head.weight

    def forward(self, X):
        h = torch.tanh(self.left(X)) * self.right(X.flip(1))
        return self.head(h.cumsum(1)).mT


class ConvStack(nn.Sequential):
    """A convolution with every setting at once, in one to three dimensions."""

    def __init__(self, conv, pool, **kwargs):
        super().__init__(
            conv(4, 6, 3, **kwargs), nn.Tanh(), pool(2), nn.Flatten(), nn.LazyLinear(N_CLASSES)
        )


class ConvTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, 2, 3, padding="same", padding_mode="reflect")
        self.head = nn.Linear(2, N_CLASSES)

    def forward(self, X):
        return self.head(torch.tanh(self.conv(torch.tanh(self.conv(X)))).mean(2))


class GroupNormCnn(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(2, 4, 3),
            nn.GroupNorm(2, 4),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(36, N_CLASSES),
        )


class BatchNormMlp(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, N_CLASSES))


class Encoder(nn.Module):
    def __init__(self, batch_first=True):
        super().__init__()
        self.project = nn.Linear(3, 4)
        self.encoder = nn.TransformerEncoderLayer(4, 2, 5, batch_first=batch_first)
        self.head = nn.Linear(4, N_CLASSES)
        self.batch_first = batch_first

    def forward(self, X):
        X = self.project(X)
        X = self.encoder(X) if self.batch_first else self.encoder(X.transpose(0, 1)).transpose(0, 1)
        return self.head(X.mean(1))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.recurrent = kind(3, 4, batch_first=True)
        self.head = nn.Linear(4, N_CLASSES)

    def forward(self, X):
        return self.head(self.recurrent(X)[0][:, -1])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(3, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, N_CLASSES)

    def forward(self, X):
        X = self.project(X)
        return self.head(self.attention(X, X, X, need_weights=False)[0].mean(1))


class SequenceFirst(nn.Module):
    """The Linear layer sees positions on its first axis, rows on its second."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 4)
        self.head = nn.Linear(4, N_CLASSES)

    def forward(self, X):
        return self.head(torch.tanh(self.inner(X.transpose(0, 1))).mean(0))


class CalledTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.head = nn.Linear(4, N_CLASSES)

    def forward(self, X):
        return self.head(torch.tanh(self.inner(torch.tanh(self.inner(X)))))


class TiedWeights(nn.Module):
    """Two Linear layers share one weight, and a function uses it a third time."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.head = nn.Linear(4, N_CLASSES)

    def forward(self, X):
        X = torch.tanh(self.second(torch.tanh(self.first(X))))
        return self.head(nn.functional.linear(X, self.first.weight))


class WeightNorm(nn.Sequential):
    def __init__(self):
        super().__init__(weight_norm(nn.Linear(4, 5)), nn.Tanh(), weight_norm(nn.Linear(5, 3)))


class DataDependent(nn.Module):
    """Control flow on values, which vmap refuses; some rows never reach the inner layer."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, N_CLASSES)

    def forward(self, X):
        rows = [self.inner(x[None]) if x.sum().item() > 0 else x[None] for x in X]
        return self.head(self.norm(torch.cat(rows)))


class RootParameter(nn.Module):
    """A parameter of the net's module itself, and one that the loss never reads."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.unused = nn.Linear(2, 2)
        self.head = nn.Linear(4, N_CLASSES)

    def forward(self, X):
        return self.head(X * self.scale)


class PartlyFrozen(Mlp):
    def __init__(self):
        super().__init__()
        self[0].weight.requires_grad_(False)
        self[2].weight.requires_grad_(False)


class KeywordInputs(nn.Module):
    """Takes a dict of inputs, and calls its layer by keyword."""

    def __init__(self):
        super().__init__()
        self.left = nn.Linear(3, 4)
        self.right = nn.Linear(2, 4)
        self.head = nn.Linear(4, N_CLASSES)

    def forward(self, left, right):
        return self.head(input=torch.tanh(self.left(left) + self.right(right)))


class FocalLoss(nn.Module):
    """A criterion that averages over rows whatever it is told."""

    def forward(self, output, target):
        log_p = torch.log_softmax(output, 1)[torch.arange(len(target)), target]
        return (-((1 - log_p.exp()) ** 2) * log_p).mean()


class PenalisedNet(NeuralNetClassifier):
    """Adds a weight penalty, so that every row's own loss holds it."""

    def get_loss(self, y_pred, y_true, *args, **kwargs):
        penalty = self.module_[0].weight.square().sum()
        return super().get_loss(y_pred, y_true, *args, **kwargs) + 0.1 * penalty


class Hooked(Mlp):
    """A user's forward hook changes what a Linear layer gives."""

    def __init__(self):
        super().__init__()
        self[0].register_forward_hook(lambda module, args, output: output * 2)


class OldWeightNorm(nn.Sequential):
    """The deprecated weight norm, which recomputes a plain attribute in a hook."""

    def __init__(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            super().__init__(
                nn.utils.weight_norm(nn.Linear(4, 5)), nn.Tanh(), nn.Linear(5, N_CLASSES)
            )


class Pruned(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, N_CLASSES))
        prune.l1_unstructured(self[0], "weight", 0.5)


class SortsRows(nn.Module):
    """Sorts the rows, as packing of sequences does, and puts them back."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 5)
        self.head = nn.Linear(5, N_CLASSES)

    def forward(self, X):
        order = X[:, 0].argsort()
        return self.head(torch.tanh(self.inner(X[order]))[order.argsort()])


class CalledForNothing(nn.Module):
    """The layer's own output is thrown away; its weight is used in another way."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, N_CLASSES)

    def forward(self, X):
        self.head(X).detach()
        return nn.functional.linear(nn.functional.normalize(X), self.head.weight)


class WithPrototypes(nn.Module):
    """Returns a tuple with a tensor that has no rows."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 5)
        self.prototypes = nn.Parameter(torch.randn(3, 5))

    def forward(self, X):
        hidden = torch.tanh(self.body(X))
        return hidden @ self.prototypes.T, self.prototypes


class PrototypeNet(NeuralNetClassifier):
    """Its loss reads both outputs."""

    def get_loss(self, y_pred, y_true, *args, **kwargs):
        logits, prototypes = y_pred
        loss = super().get_loss(logits, y_true, *args, **kwargs)
        return loss + prototypes[y_true].square().sum(1).mean()


class CombinedLoss(nn.Module):
    """An inner criterion that averages, beside a term of its own."""

    def __init__(self):
        super().__init__()
        self.mse = nn.MSELoss()

    def forward(self, output, target):
        return 3 * self.mse(output, target) + (output - target).abs().mean()


class SoftmaxMlp(Mlp):
    def forward(self, X):
        return torch.softmax(super().forward(X), 1)


class SqueezedMlp(Mlp):
    def __init__(self):
        super().__init__(n_outputs=1)

    def forward(self, X):
        return super().forward(X).squeeze(-1)


@dataclass(frozen=True)
class Case:
    """A net and its data; `strategy` names the routes that must have been taken."""

    module: Callable[..., nn.Module]
    draw: Callable[[np.random.Generator, int], tuple[Any, Any]]
    strategy: dict[str, str]
    net: type[NeuralNet] = NeuralNetClassifier
    criterion: Any = nn.CrossEntropyLoss
    parameters: tuple[tuple[str, Any], ...] = ()

    def fitted(self, seed=0):
        torch.manual_seed(seed)
        net = self.net(self.module, criterion=self.criterion, **dict(self.parameters))
        net.initialize()
        net.module_.double()
        _finish_lazy(net, self.draw)
        _unsettle_norms(net.module_)
        if isinstance(net.criterion_, nn.Module):
            net.criterion_.double()
        return net


def _finish_lazy(net, draw):
    X, _ = draw(np.random.default_rng(0), 2)
    if any(isinstance(p, nn.UninitializedParameter) for p in net.module_.parameters()):
        net.module_.eval()(torch.tensor(X))
        net.module_.double()


def _unsettle_norms(module):
    """Move normalisation layers away from their initial values, as training would."""
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.running_mean.uniform_(-0.5, 0.5)
                part.running_var.uniform_(0.5, 2)
            if isinstance(part, nn.GroupNorm | nn.LayerNorm | nn.modules.batchnorm._BatchNorm):
                part.weight.uniform_(0.5, 1.5)
                part.bias.uniform_(-0.5, 0.5)


def table(*shape):
    return lambda rng, n: (rng.normal(size=(n, *shape)), rng.integers(0, N_CLASSES, n))


def tokens(rng, n):
    return rng.integers(0, 7, size=(n, 5)), rng.integers(0, N_CLASSES, n)


def two_inputs(rng, n):
    X = {"left": rng.normal(size=(n, 3)), "right": rng.normal(size=(n, 2))}
    return X, rng.integers(0, N_CLASSES, n)


def sequences_of_classes(rng, n):
    return rng.normal(size=(n, 6, 4)), rng.integers(0, N_CLASSES, (n, 6))


def tokens_of_tokens(rng, n):
    return rng.integers(0, 7, (n, 5)), rng.integers(0, 7, (n, 5))


def binary(rng, n):
    return rng.normal(size=(n, 4)), rng.integers(0, 2, n)


def one_target(rng, n):
    return rng.normal(size=(n, 4)), rng.normal(size=n)


def many_labels(rng, n):
    return rng.normal(size=(n, 4)), rng.integers(0, 2, (n, N_CLASSES))


class PositionsLast(nn.Module):
    """A class per position: CrossEntropyLoss wants the classes on the second axis."""

    def __init__(self):
        super().__init__()
        self.mlp = Mlp()

    def forward(self, X):
        return self.mlp(X).mT


FACTORED = {"0": "factored", "2": "factored", "4": "factored"}

CASES = {
    "mlp": Case(Mlp, table(4), FACTORED),
    "inplace_relu": Case(Mlp, table(4), FACTORED, parameters=(("module__inplace", True),)),
    "cnn": Case(Cnn, table(2, 5, 5), {"0": "factored", "5": "factored"}),
    "batch_norm": Case(BatchNormCnn, table(2, 5, 5), {"0": "factored", "1": "factored"}),
    "layer_norm": Case(LayerNormMlp, table(4), {"0": "factored", "1": "factored"}),
    "embedding": Case(EmbeddingBagOfWords, tokens, {"embedding": "factored"}),
    "lstm": Case(lambda: Recurrent(nn.LSTM), table(5, 3), {"recurrent": "loop"}),
    "gru": Case(lambda: Recurrent(nn.GRU), table(5, 3), {"recurrent": "loop"}),
    "attention": Case(Attention, table(5, 3), {"project": "factored", "attention": "functional"}),
    "encoder": Case(
        Encoder,
        table(4, 3),
        {
            "encoder.self_attn": "functional",
            "encoder.linear1": "factored",
            "encoder.norm1": "factored",
        },
    ),
    "encoder_sequence_first": Case(
        lambda: Encoder(batch_first=False), table(3, 3), {"encoder.linear1": "functional"}
    ),
    "repeated_tokens": Case(RepeatedTokens, tokens, {"embedding": "factored"}),
    "tied_embedding": Case(
        TiedEmbedding,
        lambda rng, n: (rng.integers(0, 7, (n, 5)), rng.integers(0, 7, n)),
        {"embedding": "functional", "mix": "factored"},
    ),
    "conv1d": Case(
        lambda: ConvStack(nn.Conv1d, nn.AdaptiveAvgPool1d, groups=2, stride=2, dilation=2),
        table(4, 11),
        {"0": "factored"},
    ),
    "conv2d": Case(
        lambda: ConvStack(
            nn.Conv2d,
            nn.AdaptiveAvgPool2d,
            groups=2,
            stride=(2, 1),
            dilation=(1, 2),
            padding=(1, 2),
        ),
        table(4, 6, 5),
        {"0": "factored"},
    ),
    "conv2d_circular": Case(
        lambda: ConvStack(
            nn.Conv2d, nn.AdaptiveAvgPool2d, padding=1, padding_mode="circular", bias=False
        ),
        table(4, 4, 3),
        {"0": "factored"},
    ),
    "conv3d": Case(
        lambda: ConvStack(nn.Conv3d, nn.AdaptiveAvgPool3d, stride=2, padding="valid"),
        table(4, 5, 4, 3),
        {"0": "factored"},
    ),
    "conv_twice": Case(ConvTwice, table(2, 6), {"conv": "factored"}),
    "group_norm": Case(GroupNormCnn, table(2, 5, 5), {"0": "factored", "1": "factored"}),
    "batch_norm_table": Case(BatchNormMlp, table(4), {"1": "factored"}),
    "resnet18": Case(
        lambda: ResNet18(n_channels=2, width=2, n_outputs=N_CLASSES),
        table(2, 8, 8),
        {"stem.0": "factored", "blocks.2.conv1": "factored", "head": "factored"},
    ),
    "sequence_first": Case(SequenceFirst, table(3, 3), {"inner": "functional"}),
    "called_twice": Case(CalledTwice, table(4), {"inner": "factored"}),
    "tied": Case(TiedWeights, table(4), {"first": "functional", "second": "factored"}),
    "weight_norm": Case(WeightNorm, table(4), {"0": "functional", "2": "functional"}),
    "data_dependent": Case(DataDependent, table(4), {"inner": "loop", "norm": "factored"}),
    "root_parameter": Case(RootParameter, table(4), {"<root>": "functional", "head": "factored"}),
    "partly_frozen": Case(PartlyFrozen, table(4), {"0": "factored", "4": "factored"}),
    "dict_input": Case(KeywordInputs, two_inputs, {"left": "factored", "head": "factored"}),
    "language_model": Case(
        LanguageModel,
        tokens_of_tokens,
        dict.fromkeys(["tokens", "positions", "norm", "mix"], "factored"),
    ),
    "language_model_by_numbers": Case(
        lambda: LanguageModel(OffsetRMSNorm, numbers_have_rows=False),
        tokens_of_tokens,
        {"tokens": "factored", "norm": "factored", "mix": "factored"},
    ),
    "two_tables": Case(TwoTables, tokens_of_tokens, {"head": "functional"}),
    "hooked": Case(Hooked, table(4), {"0": "functional"}),
    "old_weight_norm": Case(OldWeightNorm, table(4), {"2": "factored"}),
    "pruned": Case(Pruned, table(4), {"2": "factored"}),
    "sorts_rows": Case(SortsRows, table(4), {"head": "factored"}),
    "called_for_nothing": Case(CalledForNothing, table(4), {"head": "functional"}),
    "prototypes": Case(WithPrototypes, table(4), {"body": "factored"}, PrototypeNet),
    "combined_loss": Case(
        Mlp,
        lambda rng, n: (rng.normal(size=(n, 4)), rng.normal(size=(n, N_CLASSES))),
        FACTORED,
        NeuralNetRegressor,
        CombinedLoss,
    ),
    "positions": Case(
        PositionsLast, sequences_of_classes, {f"mlp.{i}": "factored" for i in (0, 2, 4)}
    ),
    "class_weights": Case(
        Mlp,
        table(4),
        FACTORED,
        parameters=(
            ("criterion__weight", torch.tensor([1.0, 2.0, 5.0])),
            ("criterion__label_smoothing", 0.1),
        ),
    ),
    "own_criterion": Case(Mlp, table(4), FACTORED, criterion=FocalLoss),
    "own_get_loss": Case(Mlp, table(4), {"0": "functional", "2": "factored"}, net=PenalisedNet),
    "nll_of_softmax": Case(SoftmaxMlp, table(4), FACTORED, criterion=nn.NLLLoss),
    "binary": Case(
        lambda: Mlp(n_outputs=1),
        binary,
        FACTORED,
        net=NeuralNetBinaryClassifier,
        criterion=nn.BCEWithLogitsLoss,
    ),
    "regression": Case(
        lambda: Mlp(n_outputs=1), one_target, FACTORED, NeuralNetRegressor, nn.MSELoss
    ),
    "squeezed_regression": Case(
        SqueezedMlp, one_target, FACTORED, NeuralNetRegressor, nn.SmoothL1Loss
    ),
    "multilabel": Case(Mlp, many_labels, FACTORED, NeuralNet, nn.BCEWithLogitsLoss),
}
