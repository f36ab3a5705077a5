"""Scores read off training, against loops over rows and records made by hand."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNet, NeuralNetBinaryClassifier
from torch import nn

from skinfluence import (
    EL2N,
    AreaUnderMargin,
    ConfidenceWeightedEntropy,
    ForgettingEvents,
    GraNd,
    LossScore,
    NormalizedMargin,
    RandomScore,
    SelfConfidence,
    TraceRecorder,
)
from skinfluence.dynamics import _formulas as formulas
from skinfluence.gradients import gradient_norms
from skinfluence.rows._seeds import draw_seeds, seeded
from tests._shared.problems import SmallMlp, blobs, classifier, noisy_blobs, regressor

CLASS_SCORES = [SelfConfidence, NormalizedMargin, ConfidenceWeightedEntropy, EL2N]
RECORDED = [AreaUnderMargin, ForgettingEvents]
every_class_score = pytest.mark.parametrize("cls", CLASS_SCORES)


class WithSoftmax(SmallMlp):
    def forward(self, X):
        return super().forward(X).softmax(-1)


class WithSigmoid(SmallMlp):
    def forward(self, X):
        return super().forward(X)[:, 0].sigmoid()


def binary(**kwargs):
    settings = {
        "module__n_outputs": 1,
        "optimizer": torch.optim.Adam,
        "lr": 0.01,
        "max_epochs": 8,
        "train_split": None,
        "verbose": 0,
    }
    return NeuralNetBinaryClassifier(kwargs.pop("module", SmallMlp), **{**settings, **kwargs})


def recorded(net=None, **kwargs):
    recorder = TraceRecorder(checkpoints="all", logits=True)
    return (net or classifier(max_epochs=8, **kwargs)).set_params(callbacks=[recorder])


def fitted(net, X, y, seed=0):
    with seeded(seed):
        return net.fit(X, y)


def at_state(net, state):
    """A copy of a net that truly holds other parameters."""
    other = copy.deepcopy(net)
    other.module_.load_state_dict(state)
    return other


def naive(cls, p, y):
    """The formulas one row at a time, on probabilities."""
    scores = []
    for row, label in zip(p.tolist(), y.tolist(), strict=True):
        others = [value for k, value in enumerate(row) if k != label]
        if cls is SelfConfidence:
            scores.append(-row[label])
        elif cls is NormalizedMargin:
            scores.append(max(others) - row[label])
        elif cls is EL2N:
            scores.append(math.hypot(1 - row[label], *others))
        else:
            entropy = -sum(value * math.log(value) for value in row) / math.log(len(row))
            x = entropy / row[label]
            scores.append(-math.log(1 + x) / x)
    return np.array(scores)


logits = st.lists(st.lists(st.floats(-8, 8), min_size=4, max_size=4), min_size=1, max_size=5)


@every_class_score
@settings(max_examples=40, deadline=None)
@given(z=logits)
def test_formulas_agree_with_a_loop(cls, z):
    z = np.array(z)
    y = np.arange(len(z)) % 4
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    found = cls._formula(formulas.log_softmax(z), y)
    np.testing.assert_allclose(found, naive(cls, p, y), rtol=1e-10, atol=1e-13)


@every_class_score
def test_formulas_keep_their_order_and_stay_finite_far_out(cls):
    gaps = np.array([-1e5, -1e3, -100, -30, -10, -1, 0, 1, 10, 30, 100, 1e3, 1e5])
    z = np.stack([gaps, np.zeros_like(gaps), np.full_like(gaps, -2e5)], 1)
    scores = cls._formula(formulas.log_softmax(z), np.zeros(len(gaps), dtype=int))
    assert np.isfinite(scores).all()
    assert (np.diff(scores) <= 1e-15).all()  # the surer of the label, the lower
    assert scores[0] > scores[6] > scores[-1]


def test_error_and_entropy_keep_the_digits_of_a_row_the_net_is_sure_of():
    log_p = formulas.log_softmax(np.array([[50.0, 0.0]]))
    y = np.array([0])
    np.testing.assert_allclose(formulas.error_norm(log_p, y), math.sqrt(2) * math.exp(-50))
    assert log_p[0, 0] == pytest.approx(-math.exp(-50), rel=1e-12, abs=0)


@every_class_score
def test_label_names_do_not_count_in_the_formulas(cls):
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(20, 5)), rng.integers(5, size=20)
    order = rng.permutation(5)
    renamed = np.argsort(order)[y]
    one = cls._formula(formulas.log_softmax(z), y)
    two = cls._formula(formulas.log_softmax(z[:, order]), renamed)
    np.testing.assert_allclose(two, one, rtol=1e-12)


def test_formulas_agree_with_cleanlab():
    rank = pytest.importorskip("cleanlab.rank")
    rng = np.random.default_rng(0)
    z, y = 2 * rng.normal(size=(200, 4)), rng.integers(4, size=200)
    log_p = formulas.log_softmax(z)
    found = {
        "self_confidence": -formulas.self_confidence(log_p, y),
        "normalized_margin": (1 - formulas.normalized_margin(log_p, y)) / 2,
        "confidence_weighted_entropy": -formulas.confidence_weighted_entropy(log_p, y),
    }
    for method, quality in found.items():
        theirs = rank.get_label_quality_scores(y, np.exp(log_p), method=method)
        np.testing.assert_allclose(quality, theirs, rtol=1e-9)


def test_forgetting_agrees_with_a_loop():
    rng = np.random.default_rng(0)
    margins = rng.normal(size=(9, 60))
    margins[rng.random(margins.shape) < 0.2] = np.nan
    margins[:, :3] = -1  # never learnt
    margins[:, 3] = 0  # a tie is not right
    expected = []
    for row in margins.T:
        seen = [value > 0 for value in row if not math.isnan(value)]
        count = sum(before and not after for before, after in itertools.pairwise(seen))
        expected.append(count if any(seen) else len(row))
    np.testing.assert_array_equal(formulas.forgetting_events(margins), expected)
    assert max(expected[4:]) < 9


NETS = {
    "logits": classifier(max_epochs=8),
    "probabilities": classifier(WithSoftmax, criterion=nn.NLLLoss, max_epochs=8),
    "one logit": binary(),
    "one probability": binary(module=WithSigmoid, criterion=nn.BCELoss),
    "own nonlinearity": classifier(
        criterion=nn.MultiMarginLoss, predict_nonlinearity=nn.Softmax(-1), max_epochs=8
    ),
}


def probabilities(net, X):
    """Class probabilities by plain torch, not by the net's own predict_proba."""
    with torch.no_grad():
        outputs = net.module_.eval()(torch.as_tensor(X)).double().numpy()
    if isinstance(net, NeuralNetBinaryClassifier):
        z = outputs.reshape(-1)
        p = z if isinstance(net.criterion_, nn.BCELoss) else 1 / (1 + np.exp(-z))
        return np.stack([1 - p, p], 1)
    if isinstance(net.criterion_, nn.NLLLoss):
        return outputs / outputs.sum(1, keepdims=True)
    exp = np.exp(outputs)
    return exp / exp.sum(1, keepdims=True)


def labelled_for(net):
    X, y, _ = noisy_blobs(n=60)
    return (X, y % 2) if isinstance(net, NeuralNetBinaryClassifier) else (X, y)


@every_class_score
@pytest.mark.parametrize("kind", NETS)
def test_scores_of_every_kind_of_net_agree_with_a_loop(cls, kind):
    X, y = labelled_for(NETS[kind])
    names = np.array(["ant", "bee", "cat"])
    method = cls(NETS[kind], random_state=0).fit(X, names[y])
    expected = naive(cls, probabilities(method.net_, X), y)
    np.testing.assert_allclose(method.detrimentality_, expected, rtol=1e-5, atol=1e-6)
    judged = method.score_detrimentality(X[:7], names[y[:7]])
    np.testing.assert_allclose(judged, expected[:7], rtol=1e-5, atol=1e-6)
    predicted = probabilities(method.net_, X).argmax(1)
    at_predicted = naive(cls, probabilities(method.net_, X), predicted)
    np.testing.assert_allclose(method.transform(X)[:, 0], at_predicted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_loss_is_that_of_the_criterion(weighted):
    X, y, _ = noisy_blobs(n=60)
    weight = torch.tensor([1.0, 5.0, 0.5]) if weighted else None
    method = LossScore(classifier(criterion__weight=weight, max_epochs=8), random_state=0)
    method.fit(X, y)
    with torch.no_grad():
        z = method.net_.module_.eval()(torch.as_tensor(X)).double()
    loss = nn.CrossEntropyLoss(reduction="none", weight=None if weight is None else weight.double())
    expected = loss(z, torch.as_tensor(y)).numpy()
    np.testing.assert_allclose(method.detrimentality_, expected, rtol=1e-5, atol=1e-7)


def test_loss_score_takes_a_regression():
    X, _ = blobs(60)
    y = X.sum(1) + np.where(np.arange(60) % 10 == 0, 5, 0)
    method = LossScore(regressor(max_epochs=10), random_state=0).fit(X, y)
    residuals = method.net_.predict(X)[:, 0] - y
    np.testing.assert_allclose(method.detrimentality_, residuals**2, rtol=1e-3, atol=1e-5)
    assert method.transform(X).shape == (60, 1)


@pytest.mark.parametrize("cls", [*CLASS_SCORES, LossScore])
def test_mean_over_checkpoints_is_the_mean_of_single_checkpoints(cls):
    X, y, _ = noisy_blobs(n=60)
    net = fitted(recorded(), X, y)
    trace = net.callbacks[0].trace_
    alone = [
        cls(FrozenEstimator(at_state(net, point.state))).fit(X, y).detrimentality_
        for point in trace.checkpoints
    ]
    every = cls(FrozenEstimator(net), checkpoints="all").fit(X, y)
    np.testing.assert_allclose(every.detrimentality_, np.mean(alone, 0), rtol=1e-12)
    np.testing.assert_allclose(every.score_detrimentality(X, y), np.mean(alone, 0), rtol=1e-12)
    four = cls(FrozenEstimator(net), checkpoints=4, batch_size=7).fit(X, y)
    np.testing.assert_allclose(four.detrimentality_, np.mean(alone[1::2], 0), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("kind", ["logits", "probabilities", "one logit", "one probability"])
def test_margins_are_those_of_the_recorded_logits(kind):
    X, y = labelled_for(NETS[kind])
    method = AreaUnderMargin(NETS[kind], random_state=0).fit(X, y)
    table = method.trace_.logits.astype(np.float64)
    if table.shape[2] == 1:
        one = table[:, :, 0]
        z = one if kind == "one logit" else np.log(one) - np.log1p(-one)
        expected = -(np.where(y == 1, z, -z)).mean(0)
    else:
        z = table if kind == "logits" else np.log(table)
        given = np.take_along_axis(z, y[None, :, None], 2)[:, :, 0]
        others = np.where(np.eye(3, dtype=bool)[y], -np.inf, z).max(2)
        expected = -(given - others).mean(0)
    np.testing.assert_allclose(method.detrimentality_, expected, rtol=1e-9, atol=1e-9)
    forgotten = ForgettingEvents(NETS[kind], random_state=0).fit(X, y)
    assert forgotten.detrimentality_.max() <= len(table)


def test_margins_are_those_of_forward_passes_before_each_step():
    X, y, _ = noisy_blobs(n=60)
    net = fitted(recorded(batch_size=-1, iterator_train__shuffle=False), X, y)
    trace = net.callbacks[0].trace_
    before = [trace.initial_state, *(point.state for point in trace.checkpoints[:-1])]
    margins = []
    for state in before:
        with torch.no_grad():
            z = at_state(net, state).module_(torch.as_tensor(X)).double().numpy()
        margins.append([row[label] - np.delete(row, label).max() for row, label in zip(z, y)])
    expected = -np.mean(margins, 0)
    found = AreaUnderMargin(FrozenEstimator(net)).fit(X, y).detrimentality_
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    forgotten = ForgettingEvents(FrozenEstimator(net)).fit(X, y).detrimentality_
    np.testing.assert_array_equal(forgotten, formulas.forgetting_events(np.array(margins)))


@pytest.mark.parametrize("cls", RECORDED)
def test_rows_of_a_recorded_training_may_come_in_any_order(cls):
    X, y, _ = noisy_blobs(n=60)
    net = classifier(batch_size=-1, iterator_train__shuffle=False, max_epochs=8)
    order = np.random.default_rng(0).permutation(60)
    straight = cls(net, random_state=0).fit(X, y).detrimentality_
    permuted = cls(net, random_state=0).fit(X[order], y[order]).detrimentality_
    np.testing.assert_allclose(permuted, straight[order], rtol=1e-4, atol=1e-5)


def test_rows_that_an_epoch_skips_count_where_they_were_seen():
    X, y, _ = noisy_blobs(n=60)
    net = recorded(iterator_train__shuffle=False, iterator_train__drop_last=True, batch_size=32)
    with pytest.raises(ValueError, match="28 of 60 rows were never trained on"):
        AreaUnderMargin(net).fit(X, y)
    net = recorded(iterator_train__drop_last=True, batch_size=32)
    method = AreaUnderMargin(net, random_state=0).fit(X, y)
    assert np.isnan(method.trace_.logits).any()
    assert np.isfinite(method.detrimentality_).all()


@pytest.mark.parametrize(
    "method",
    [
        LossScore(checkpoints=4, random_state=0),
        EL2N(checkpoints="all", random_state=0),
        GraNd(epoch=3, n_seeds=1, random_state=0),
        AreaUnderMargin(random_state=0),
        ForgettingEvents(random_state=0),
    ],
    ids=lambda method: type(method).__name__,
)
def test_one_training_serves_all_methods_as_each_alone(method):
    X, y, _ = noisy_blobs(n=60)
    shared = fitted(recorded(), X, y, seed=draw_seeds(0, 3)[0])
    alone = clone(method).set_params(net=classifier(max_epochs=8)).fit(X, y)
    joint = clone(method).set_params(net=FrozenEstimator(shared)).fit(X, y)
    np.testing.assert_array_equal(joint.detrimentality_, alone.detrimentality_)
    assert joint.trace_ is shared.callbacks[0].trace_


def test_grand_is_the_mean_norm_over_nets_trained_apart():
    X, y, _ = noisy_blobs(n=60)
    method = GraNd(classifier(max_epochs=8), epoch=3, n_seeds=3, random_state=0).fit(X, y)
    assert [len(net.history) for net in method.nets_] == [3, 3, 3]
    norms = [gradient_norms(net, X, y, layers="all") for net in method.nets_]
    np.testing.assert_allclose(method.detrimentality_, np.mean(norms, 0), rtol=1e-5)
    assert not np.allclose(norms[0], norms[1])
    judged = method.score_detrimentality(X[:5], y[:5])
    np.testing.assert_allclose(judged, method.detrimentality_[:5], rtol=1e-4)
    targets = X.sum(1)
    assert GraNd(epoch=2, n_seeds=2).fit(X, targets).detrimentality_.min() >= 0


def test_grand_needs_its_epoch_in_a_frozen_net():
    X, y, _ = noisy_blobs(n=60)
    bare = fitted(classifier(max_epochs=4), X, y)
    with pytest.raises(ValueError, match=r"epoch=3, but the frozen net brings no trace"):
        GraNd(FrozenEstimator(bare), epoch=3).fit(X, y)
    net = classifier(max_epochs=4, callbacks=[TraceRecorder(checkpoints=2)])
    with pytest.raises(ValueError, match=r"epoch=3.*checkpoints at \[2, 4\]"):
        GraNd(FrozenEstimator(fitted(net, X, y)), epoch=3).fit(X, y)


@pytest.mark.parametrize("cls", [*CLASS_SCORES, *RECORDED])
def test_nets_without_classes_are_refused_before_training(cls):
    X, _ = blobs(30)
    targets = X.sum(1)

    class NotToBeTrained(nn.Module):
        def forward(self, X):
            raise AssertionError

    for net in (regressor(NotToBeTrained), NeuralNet(NotToBeTrained, nn.CrossEntropyLoss)):
        with pytest.raises(ValueError, match=r"needs class probabilities.*LossScore"):
            cls(net).fit(X, targets)
    with pytest.raises(ValueError, match="Got a NeuralNetRegressor"):
        cls().fit(X, targets)


@pytest.mark.parametrize("cls", [EL2N, AreaUnderMargin])
def test_outputs_that_are_no_probabilities_are_refused(cls):
    X, y = blobs(30)
    net = classifier(criterion=nn.MultiMarginLoss, max_epochs=2)
    with pytest.raises(ValueError, match="no class probabilities, as MultiMarginLoss"):
        cls(net).fit(X, y)


class Labelled(torch.utils.data.Dataset):
    def __init__(self, X, y):
        self.X, self.y = torch.as_tensor(X), torch.as_tensor(y)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.X[i], self.y[i]


@pytest.mark.parametrize("cls", [LossScore, EL2N, AreaUnderMargin])
def test_a_data_set_brings_its_labels(cls):
    X, y, _ = noisy_blobs(n=60)
    net = classifier(max_epochs=4, iterator_train__shuffle=False)
    given = cls(net, random_state=0).fit(X, y).detrimentality_
    found = cls(net, random_state=0).fit(Labelled(X, y)).detrimentality_
    np.testing.assert_allclose(found, given, rtol=1e-6)


def test_labels_of_a_data_set_are_checked():
    X, y, _ = noisy_blobs(n=60)
    y = np.where(np.arange(60) == 7, -100, y)  # what torch's losses ignore
    with pytest.raises(ValueError, match=r"own labels hold \[-100\]"):
        EL2N(classifier(max_epochs=2)).fit(Labelled(X, y))
    soft = np.full((60, 3), 1 / 3, dtype=np.float32)
    with pytest.raises(ValueError, match=r"targets of shape \(60, 3\)"):
        EL2N(classifier(max_epochs=2)).fit(Labelled(X, soft))


class AlwaysNoisy(SmallMlp):
    def forward(self, X):
        return super().forward(X) + torch.randn(len(X), 3)


def test_nets_that_are_random_or_diverge_are_refused():
    X, y, _ = noisy_blobs(n=60)
    with pytest.raises(ValueError, match="random"):
        LossScore(classifier(AlwaysNoisy, max_epochs=2)).fit(X, y)
    diverging = classifier(optimizer=torch.optim.SGD, lr=1e38, max_epochs=4)
    with pytest.raises(ValueError, match="diverged"):
        AreaUnderMargin(diverging).fit(X, y)


@pytest.mark.parametrize("cls", [LossScore, *CLASS_SCORES])
@pytest.mark.parametrize("checkpoints", [0, "first", 1.5, None])
def test_checkpoints_are_checked(cls, checkpoints):
    X, y = blobs(30)
    with pytest.raises(ValueError, match="checkpoints="):
        cls(checkpoints=checkpoints).fit(X, y)


@pytest.mark.parametrize("cls", RECORDED)
def test_what_is_recorded_is_bounded(cls):
    X, y = blobs(30)
    with pytest.raises(ValueError, match="more than max_bytes=100"):
        cls(classifier(max_epochs=2), max_bytes=100).fit(X, y)


def test_cross_validated_confidence_is_that_of_nets_which_did_not_see_the_row():
    X, y, is_noisy = noisy_blobs(n=90)
    method = SelfConfidence(classifier(max_epochs=12), cv=3, random_state=0).fit(X, y)
    scores = method.detrimentality_
    assert len(method.net_) == 3
    assert ((scores > 0) & (scores < 1)).all()
    assert np.median(scores[is_noisy]) > np.quantile(scores[~is_noisy], 0.9)


def test_scores_in_a_pipeline():
    X, y, _ = noisy_blobs(n=60)
    pipeline = make_pipeline(StandardScaler(), EL2N(classifier(max_epochs=4), checkpoints=2))
    assert pipeline.fit_transform(X, y).shape == (60, 1)
    assert pipeline.transform(X[:3]).shape == (3, 1)


def test_random_scores_are_uniform_and_of_the_seed_alone():
    X, y = np.zeros((5000, 1)), np.zeros(5000, dtype=int)  # not even two classes
    state = np.random.get_state()[1].copy()
    first = RandomScore(random_state=0).fit(X, y)
    scores = first.detrimentality_
    assert ((scores >= 0) & (scores < 1)).all()
    counts = np.histogram(scores, 10, (0, 1))[0]
    assert np.abs(counts - 500).max() < 110  # five standard deviations
    again = RandomScore(random_state=0).fit(X + 1, y)
    np.testing.assert_array_equal(again.detrimentality_, scores)
    assert not np.array_equal(RandomScore(random_state=1).fit(X, y).detrimentality_, scores)
    assert not np.array_equal(RandomScore().fit(X, y).detrimentality_, scores)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    assert not hasattr(first, "net_")
    assert not hasattr(first, "transform")
    assert RandomScore().fit(Labelled(X, y)).detrimentality_.shape == (5000,)
    with pytest.raises(ValueError, match="X_val"):
        RandomScore().fit(X, y, X, y)
