"""A row's result belongs to that row, whatever moves rows on the way; or the culprit is named."""

from contextlib import nullcontext, suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from skinfluence import AreaUnderMargin, GradientEmbedding, KNNShapley, LossScore, NormDetector
from skinfluence.exceptions import BatchLossWarning, RandomRowsWarning
from skinfluence.gradients import _numbered, gradient_norms, per_sample_gradients
from skinfluence.gradients._outputs import penultimate_features
from skinfluence.gradients.routes._capture import moves_rows
from tests._shared import row_movers as movers
from tests._shared.problems import paper_method


def net_of(module, **parameters):
    torch.manual_seed(0)
    settings = {"criterion": nn.CrossEntropyLoss, "train_split": None, **parameters}
    net = NeuralNetClassifier(module, **settings).initialize()
    net.module_.double()
    return net


def one_by_one(net, X, y, layers):
    rows = range(len(X))
    return np.concatenate(
        [per_sample_gradients(net, X[i : i + 1], y[i : i + 1], layers=layers) for i in rows]
    )


any_rows = given(
    n=st.integers(2, 40),
    tied=st.sampled_from([0, 2, 5, 30]),
    batch_size=st.sampled_from([1, 3, 8, 64]),
    rare=st.booleans(),
    seed=st.integers(0, 2**16),
)


@pytest.mark.parametrize("module", movers.RIGHT_NETS)
@settings(max_examples=3, deadline=None)
@any_rows
def test_gradients_follow_rows_that_a_net_moves(module, **drawn):
    follow_rows(module, **drawn)


@pytest.mark.slow
@pytest.mark.parametrize("module", movers.RIGHT_NETS)
@settings(max_examples=25, deadline=None)
@any_rows
def test_gradients_follow_rows_in_many_sets(module, **drawn):
    follow_rows(module, **drawn)


def follow_rows(module, n, tied, batch_size, rare, seed):
    X, y = movers.token_rows(n, tied, seed, rare)
    net = net_of(module)
    for layers in ("last", "all"):
        found = per_sample_gradients(net, X, y, layers=layers, batch_size=batch_size)
        np.testing.assert_allclose(found, one_by_one(net, X, y, layers), atol=1e-10)
        norms = gradient_norms(net, X, y, layers=layers, batch_size=batch_size)
        np.testing.assert_allclose(norms, np.linalg.norm(found, axis=1), atol=1e-10)


def test_lengths_of_the_first_report():
    sizes = [6, 6, 2, 5, 1, 4, 3, 6]
    X, y = movers.token_rows(8)
    X[X == 0] = 1
    X[np.arange(6) >= np.array(sizes)[:, None]] = 0
    net = net_of(movers.Packed)
    norms = gradient_norms(net, X, y)
    alone = [gradient_norms(net, X[i : i + 1], y[i : i + 1])[0] for i in range(8)]
    np.testing.assert_allclose(norms, alone, atol=1e-12)


@pytest.mark.parametrize("module", movers.WRONG_NETS)
@pytest.mark.parametrize("read", ["gradients", "losses"])
@settings(max_examples=3, deadline=None)
@given(n=st.integers(30, 80), tied=st.sampled_from([0, 2, 5]), seed=st.integers(0, 2**16))
def test_a_net_that_mixes_rows_is_named(module, read, n, tied, seed):
    X, y = movers.token_rows(n, tied, seed)
    net = net_of(module)
    reads = {
        "gradients": lambda: per_sample_gradients(net, X, y),
        "losses": lambda: LossScore(FrozenEstimator(net)).fit(X, y),
    }
    with pytest.raises(ValueError, match=r"[Tt]he net.*(depends on|different outputs)|forward"):
        reads[read]()


@pytest.mark.parametrize("module", [*movers.RIGHT_NETS[2:], *movers.WRONG_NETS])
@settings(max_examples=3, deadline=None)
@given(n=st.integers(2, 80), tied=st.sampled_from([0, 2, 5]), seed=st.integers(0, 2**16))
def test_penultimate_features_are_the_rows_own_or_the_culprit_is_named(module, n, tied, seed):
    X, _ = movers.token_rows(n, tied, seed)
    net, twin = net_of(module), net_of(movers.Tokens)
    twin.module_.load_state_dict(net.module_.state_dict(), strict=False)
    if module in {movers.Averages, movers.NormalisesByBatch, movers.Noisy}:
        with pytest.raises(ValueError, match="The net"):
            penultimate_features(net, X, batch_size=256)
        return
    with suppress(ValueError) if module in movers.WRONG_NETS else nullcontext():
        found = penultimate_features(net, X, batch_size=256)
        np.testing.assert_allclose(found, penultimate_features(twin, X, batch_size=7), atol=1e-10)


@pytest.mark.parametrize("module", movers.RIGHT_NETS)
def test_methods_follow_rows_that_a_net_moves(module):
    X, y = movers.token_rows(45, tied=4)
    net, twin = net_of(module), net_of(movers.Tokens)
    order = np.random.default_rng(0).permutation(45)
    for method in (
        LossScore(FrozenEstimator(net)),
        paper_method(FrozenEstimator(net), detector=NormDetector()),
        KNNShapley(FrozenEstimator(net), features="penultimate"),
    ):
        is_valuation = isinstance(method, KNNShapley)
        validation = movers.token_rows(9, seed=1) if is_valuation else ()
        scores = method.fit(X, y, *validation).detrimentality_
        moved = method.fit(X[order], y[order], *validation).detrimentality_
        np.testing.assert_allclose(moved, scores[order], atol=1e-8)
        if module is not movers.Packed:
            plain = method.set_params(net=FrozenEstimator(twin)).fit(X, y, *validation)
            np.testing.assert_allclose(scores, plain.detrimentality_, atol=1e-8)


@pytest.mark.parametrize("collate", movers.RIGHT_COLLATES)
@pytest.mark.parametrize("loader", movers.RIGHT_LOADERS)
@pytest.mark.parametrize("dataset", [movers.Rows, movers.ManyAtOnce])
@settings(max_examples=3, deadline=None)
@given(n=st.integers(1, 40), batch_size=st.sampled_from([2, 8, 64]), seed=st.integers(0, 2**16))
def test_gradients_follow_rows_of_data_sets(collate, loader, dataset, n, batch_size, seed):
    X, y = movers.token_rows(n, seed=seed)
    net = net_of(movers.Tokens, iterator_valid=loader, iterator_valid__collate_fn=collate)
    found = gradient_norms(net, dataset(X, y), None, batch_size=batch_size)
    expected = gradient_norms(net_of(movers.Tokens), X, y)
    np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize("collate", movers.WRONG_COLLATES)
@settings(max_examples=3, deadline=None)
@given(
    n=st.integers(30, 80),
    tied=st.sampled_from([0, 4, 20]),
    batch_size=st.sampled_from([8, 64]),
    given_targets=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_a_collate_function_that_moves_rows_is_named(
    collate, n, tied, batch_size, given_targets, seed
):
    X, y = movers.token_rows(n, tied, seed)
    net = net_of(movers.Tokens, iterator_valid__collate_fn=collate)
    state = np.random.get_state()[1].copy()
    with pytest.raises(ValueError, match=f"collate_fn, {collate.__name__}, changes the order"):
        gradient_norms(net, movers.Rows(X, y), y if given_targets else None, batch_size=batch_size)
    assert np.array_equal(np.random.get_state()[1], state)


def test_a_rare_batch_that_is_collated_in_another_order_is_named():
    def rarely(rows):
        return movers.sorts(rows) if any(len(x) == 1 for x, _ in rows) else movers.padded(rows)

    X, y = movers.token_rows(400, tied=400)
    X[250, 1:] = 0
    net = net_of(movers.Tokens, iterator_valid__collate_fn=rarely)
    with pytest.raises(ValueError, match="collate_fn, rarely, changes the order"):
        gradient_norms(net, movers.Rows(X, y), None, batch_size=16)


@pytest.mark.parametrize("loader", movers.WRONG_LOADERS)
@pytest.mark.parametrize("predicts", [False, True])
@settings(max_examples=3, deadline=None)
@given(
    n=st.sampled_from([31, 45, 77]), batch_size=st.sampled_from([8, 16]), seed=st.integers(0, 2**16)
)
def test_a_loader_that_moves_rows_is_named(loader, predicts, n, batch_size, seed):
    X, y = movers.token_rows(n, seed=seed)
    net = net_of(
        movers.Tokens,
        iterator_valid=loader,
        iterator_valid__collate_fn=movers.padded,
        batch_size=batch_size,
    )
    plain = net_of(movers.Tokens, iterator_valid__collate_fn=movers.padded)
    rows = movers.Rows(X, y)
    embedding = GradientEmbedding(FrozenEstimator(plain)).fit(rows, y)
    embedding.net_ = net
    with pytest.raises(ValueError, match="The net's validation loader"):
        embedding.transform(rows) if predicts else gradient_norms(net, rows, None, batch_size=8)


def test_workers_carry_the_numbers_too():
    X, y = movers.token_rows(40)
    settings = {"iterator_valid__num_workers": 1, "iterator_valid__collate_fn": movers.padded}
    found = gradient_norms(net_of(movers.Tokens, **settings), movers.Rows(X, y), None)
    np.testing.assert_allclose(found, gradient_norms(net_of(movers.Tokens), X, y), atol=1e-10)


def test_a_data_set_that_gives_other_rows_is_named():
    X, y = movers.token_rows(60)
    net = net_of(movers.Tokens, iterator_valid__collate_fn=movers.padded)
    with pytest.raises(ValueError, match="gives other targets for rows"):
        gradient_norms(net, movers.OtherRowsEachTime(X, y), None)


def test_random_rows_are_warned_of():
    X, y = movers.token_rows(60)
    net = net_of(movers.Tokens, iterator_valid__collate_fn=movers.padded)
    with pytest.warns(RandomRowsWarning, match="random augmentation"):
        norms = gradient_norms(net, movers.Augmented(X, y), None)
    assert np.isfinite(norms).all()


def test_a_net_that_reads_the_padding_is_named():
    class ReadsPadding(movers.Tokens):
        def encode(self, X):
            return torch.tanh(self.hidden(self.embed(X).mean(1)))

    X, y = movers.token_rows(60)
    X[:, 4:] = 0  # so that some batches are narrower than others
    X[[3, 40]] = 1
    net = net_of(ReadsPadding, iterator_valid__collate_fn=movers.padded)
    with pytest.raises(ValueError, match="how far its batch is padded"):
        gradient_norms(net, movers.Rows(X, y), None, batch_size=8)


@pytest.mark.parametrize("collate", [movers.sorts, movers.drops_short_rows])
def test_a_training_loader_that_moves_rows_is_named_where_rows_are_recorded(collate):
    X, y = movers.token_rows(40)
    net = NeuralNetClassifier(
        movers.Tokens,
        criterion=nn.CrossEntropyLoss,
        max_epochs=2,
        train_split=None,
        verbose=0,
        iterator_train__collate_fn=collate,
        iterator_valid__collate_fn=movers.padded,
    )
    with pytest.raises(ValueError, match=f"training loader, {collate.__name__}, changes the order"):
        AreaUnderMargin(net, random_state=0).fit(movers.Rows(X, y), y)
    net.set_params(iterator_train__collate_fn=movers.padded)
    scores = AreaUnderMargin(net, random_state=0).fit(movers.Rows(X, y), y).detrimentality_
    assert np.isfinite(scores).all()


def test_inputs_may_be_drawn_at_random_in_training():
    def mixed(rows):  # an augmentation, as long as the targets stay
        X, y = movers.padded(rows)
        return X.roll(int(np.random.randint(2)), 1), y

    loader = _numbered.OrderedCollate(mixed)
    X, y = movers.token_rows(9)
    assert len(loader([(x, t) for x, t in zip(X, y, strict=True)])[1]) == 9


@pytest.mark.parametrize(
    ("make", "moves"),
    [
        (lambda x: x * 2, False),
        (lambda x: x[:, 1:], False),
        (lambda x: x[torch.arange(4)], False),
        (lambda x: x[torch.arange(4), torch.tensor([0, 1, 2, 0])], False),
        (lambda x: torch.cat([x, x], -1), False),
        (lambda x: torch.stack([x, x], -1), False),
        (lambda x: x.flip(-1), False),
        (lambda x: x.sort(-1)[0], False),
        (lambda x: x.unbind(-1)[0], False),
        (lambda x: x[:4], False),
        (lambda x: x[[1, 0, 2, 3]], True),
        (lambda x: x[x[:, 0] > -9], False),
        (lambda x: x[x[:, 0] > 0.5], True),
        (lambda x: x.index_select(0, torch.tensor([1, 0, 2, 3])), True),
        (lambda x: x[1:], True),
        (lambda x: x[2], True),
        (lambda x: x.flip(0), True),
        (lambda x: x.flip(-2), True),
        (lambda x: x.roll(1), True),
        (lambda x: torch.cat([x[:1], x], -2), True),
        (lambda x: torch.stack(x.unbind(0)), True),
        (lambda x: x.sort(0)[0], True),
        (lambda x: x.gather(-2, torch.zeros(4, 3, dtype=torch.int64)), True),
    ],
)
def test_operations_that_may_move_rows(make, moves):
    x = torch.arange(12.0).reshape(4, 3).div(10).requires_grad_()
    assert moves_rows([make(x * 1).sin()], 4) is moves


def test_a_loss_that_does_not_come_from_its_rows_is_said():
    class Weighted(NeuralNetClassifier):
        def get_loss(self, y_pred, y_true, *args, **kwargs):
            weight = torch.tensor([1.0, 5.0], dtype=y_pred.dtype)
            return nn.functional.cross_entropy(y_pred, y_true, weight=weight)

    class Contrasts(nn.Module):
        def forward(self, output, target):
            return torch.logsumexp((output @ output.mT).flatten(), 0) - output[:, 0].mean()

    class PlainSum(nn.Module):
        def forward(self, output, target):
            return nn.functional.cross_entropy(output, target, reduction="sum")

    X, y = movers.token_rows(40)
    torch.manual_seed(0)
    weighted = Weighted(movers.Tokens).initialize()
    contrasting = NeuralNetClassifier(movers.Tokens, criterion=Contrasts).initialize()
    for net in (weighted, contrasting):
        with pytest.warns(BatchLossWarning, match="neither the mean .* nor the sum"):
            gradient_norms(net, X, y)
    gradient_norms(NeuralNetClassifier(movers.Tokens, criterion=PlainSum).initialize(), X, y)
