"""Weights of rows in the training loss: what they do, where they go, and what is refused."""

import inspect

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

from skinfluence import (
    EL2N,
    AreaUnderMargin,
    BaseDetrimentality,
    CalibratedDetrimentality,
    ComplexityGap,
    DataShapley,
    DetrimentalityUnion,
    GradientEmbedding,
    GraNd,
    InnerProductInfluence,
    KNNShapley,
    LossScore,
    OutlierGradientDetector,
    RandomScore,
    SelfConfidence,
    SGDInfluence,
)
from skinfluence.outlier.committee._kernels import KernelMachine
from tests._shared.instances import SMALLEST
from tests._shared.problems import SmallMlp, blobs, classifier, fitted_classifier, regressor

TAKING = [cls for cls in SMALLEST if "sample_weight" in inspect.signature(cls.fit).parameters]


def weights_of(n, seed=0):
    weights = np.random.default_rng(seed).uniform(0.1, 3, size=n)
    weights[::5] = 0
    return weights


def parameters(net):
    return np.concatenate([p.detach().numpy().ravel() for p in net.module_.parameters()])


def of_sgd(criterion, **kwargs):
    settings = {"optimizer": torch.optim.SGD, "lr": 0.1, "batch_size": 16, "max_epochs": 3}
    settings |= {"iterator_train__shuffle": False, "criterion": criterion}
    return {**settings, **kwargs}


PER_CLASS = torch.tensor([1.0, 2.0, 0.5])


def mean_loss(outputs, y, w):
    return (nn.functional.cross_entropy(outputs, y, reduction="none") * w).mean()


def sum_loss(outputs, y, w):
    return (nn.functional.cross_entropy(outputs, y, reduction="none") * w).sum()


def class_weighted_loss(outputs, y, w):
    losses = nn.functional.cross_entropy(outputs, y, PER_CLASS, reduction="none")
    return (losses * w).sum() / PER_CLASS[y].sum()


@pytest.mark.parametrize(
    ("settings", "loss"),
    [
        ({}, mean_loss),
        ({"criterion__reduction": "sum", "lr": 0.01}, sum_loss),
        ({"criterion__weight": PER_CLASS}, class_weighted_loss),
    ],
    ids=["mean", "sum", "class weights"],
)
def test_a_net_is_trained_by_the_weighted_loss(settings, loss):
    X, y = blobs(50)
    weights = weights_of(50)
    net = classifier(**of_sgd(nn.CrossEntropyLoss, **settings))
    method = LossScore(net, random_state=0)
    method.fit(X, y, sample_weight=weights)
    seed = method._seeds[0]
    torch.manual_seed(seed)
    fresh = clone(net).initialize()
    optimizer = torch.optim.SGD(fresh.module_.parameters(), lr=net.lr)
    w = torch.from_numpy(weights / weights.mean()).float()
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    for _ in range(net.max_epochs):
        for first in range(0, len(X), net.batch_size):
            part = slice(first, first + net.batch_size)
            optimizer.zero_grad()
            loss(fresh.module_(X[part]), y[part], w[part]).backward()
            optimizer.step()
    np.testing.assert_allclose(parameters(method.net_), parameters(fresh), rtol=1e-4, atol=1e-6)
    assert not method.net_.criterion_._forward_hooks
    assert method.net_.criterion_.reduction == settings.get("criterion__reduction", "mean")
    assert [name for name, _ in method.net_.callbacks_ if "skinfluence" in name] == []


def test_a_regression_of_two_numbers_is_weighted_by_row():
    X, _ = blobs(40)
    y = np.stack([X[:, 0], X[:, 1]], axis=1)
    corrupted = y.copy()
    corrupted[:10] += 50
    weights = np.r_[np.zeros(10), np.ones(30)]
    net = regressor(module__n_outputs=2)
    clean = LossScore(net, random_state=0).fit(X, y, sample_weight=weights)
    weighted = LossScore(net, random_state=0).fit(X, corrupted, sample_weight=weights)
    np.testing.assert_array_equal(parameters(weighted.net_), parameters(clean.net_))
    assert weighted.detrimentality_[:10].min() > weighted.detrimentality_[10:].max()


METHODS = [
    LossScore(classifier(max_epochs=4), random_state=0),
    AreaUnderMargin(classifier(max_epochs=4), random_state=0),
    GraNd(classifier(), epoch=2, n_seeds=2, random_state=0),
    OutlierGradientDetector(classifier(max_epochs=4), random_state=0),
    OutlierGradientDetector(random_state=0),
    SelfConfidence(GaussianNB(), random_state=0),
    SelfConfidence(RandomForestClassifier(60, random_state=0)),
    LossScore(classifier(max_epochs=4), cv=2, random_state=0),
    CalibratedDetrimentality(LossScore(classifier(max_epochs=4)), cv=2, random_state=0),
    DetrimentalityUnion([("loss", LossScore()), ("el2n", EL2N())], random_state=0),
]


@pytest.mark.usefixtures("brief_nets")
@pytest.mark.parametrize("method", METHODS, ids=lambda method: repr(method)[:40])
def test_weights_reach_the_training_and_equal_ones_change_nothing(method):
    X, y = blobs(60, spread=2.0)
    plain = clone(method).fit(X, y).detrimentality_
    for alike in (np.full(60, 0.5), [2] * 60, 3.0):
        same = clone(method).fit(X, y, sample_weight=alike).detrimentality_
        np.testing.assert_array_equal(same, plain)
    weighted = clone(method).fit(X, y, sample_weight=weights_of(60)).detrimentality_
    assert weighted.shape == plain.shape
    assert np.isfinite(weighted).all()
    assert not np.array_equal(weighted, plain)
    scaled = clone(method).fit_transform(X, y, sample_weight=7 * weights_of(60))
    if scaled.shape[1] == 1:
        np.testing.assert_allclose(scaled[:, 0], weighted, rtol=1e-3, atol=1e-5)


@pytest.mark.usefixtures("brief_nets")
def test_rows_without_weight_have_no_say_in_a_committee():
    X, y = blobs(80)
    weights = np.ones(80)
    weights[:20] = 0
    flipped = y.copy()
    flipped[:20] = (y[:20] + 1) % 3
    first = OutlierGradientDetector(random_state=0).fit(X, y, sample_weight=weights)
    second = OutlierGradientDetector(random_state=0).fit(X, flipped, sample_weight=weights)
    np.testing.assert_allclose(second.oof_probabilities_, first.oof_probabilities_, atol=1e-7)
    assert second.committee_.weights == pytest.approx(first.committee_.weights, abs=1e-6)
    np.testing.assert_allclose(second.detrimentality_[20:], first.detrimentality_[20:], atol=1e-6)
    # and are scored at the labels given
    assert (second.detrimentality_[:20] > first.detrimentality_[:20]).all()


@pytest.mark.usefixtures("brief_nets")
def test_rows_without_weight_have_no_say_in_a_committee_of_numbers():
    X, _ = blobs(80)
    y = X[:, 0] + 0.1 * X[:, 1]
    weights = np.r_[np.zeros(20), np.ones(60)]
    wrong = y.copy()
    wrong[:20] += 30
    members = ["forest", "neighbors", "kernels", ("ridge", Ridge())]
    method = OutlierGradientDetector(committee=members, random_state=0)
    first = clone(method).fit(X, y, sample_weight=weights)
    second = clone(method).fit(X, wrong, sample_weight=weights)
    np.testing.assert_allclose(second.oof_predictions_, first.oof_predictions_, atol=1e-5)
    np.testing.assert_allclose(second.detrimentality_[20:], first.detrimentality_[20:], rtol=1e-4)
    assert second.detrimentality_[:20].min() > second.detrimentality_[20:].max()


@pytest.mark.parametrize("is_numeric", [False, True])
def test_rows_without_weight_have_no_say_in_a_pooled_union(is_numeric):
    X, y = blobs(80)
    weights = np.r_[np.zeros(20), np.ones(60)]
    y = X[:, 0] + 0.1 * X[:, 1] if is_numeric else y
    wrong = np.r_[y[:20] + 30 if is_numeric else (y[:20] + 1) % 3, y[20:]]
    models = [Ridge(), DummyRegressor()] if is_numeric else [LogisticRegression(), GaussianNB()]
    method = DetrimentalityUnion(
        [(f"model {i}", LossScore(model, cv=KFold(4))) for i, model in enumerate(models)],
        aggregate="pooled",
        random_state=0,
    )
    first, second = (clone(method).fit(X, each, sample_weight=weights) for each in (y, wrong))
    name = "oof_predictions_" if is_numeric else "oof_probabilities_"
    np.testing.assert_allclose(getattr(second, name), getattr(first, name), atol=1e-5)
    np.testing.assert_allclose(second.detrimentality_[20:], first.detrimentality_[20:], rtol=1e-4)


@pytest.mark.parametrize("width", [None, 4.0])
def test_kernel_machines_leave_out_weighted_rows_exactly(width):
    rng = np.random.default_rng(0)
    X, y, w = rng.normal(size=(40, 3)), rng.normal(size=(40, 2)), rng.uniform(0.2, 2, size=40)
    w[3] = 0
    w /= w.mean()
    machine = KernelMachine(X[:15], width)
    found = machine.fit(X, y, w)
    features = machine._kernel_of(X) @ machine._basis
    # the penalty that was chosen, read off the fitted coefficients
    centered = features - w @ features / w.sum()
    gram, moment = (
        centered.T @ (w[:, None] * centered),
        centered.T @ (w[:, None] * (y - w @ y / 40)),
    )
    residual = moment - gram @ machine._weights
    penalty = float((residual * machine._weights).sum() / np.square(machine._weights).sum())
    for row in range(40):
        kept = np.arange(40) != row
        ridge = Ridge(alpha=penalty).fit(features[kept], y[kept], sample_weight=w[kept])
        np.testing.assert_allclose(found[row], ridge.predict(features[[row]])[0], atol=1e-6)


def test_folds_get_the_weights_of_their_rows():
    X, y = blobs(60)
    weights = weights_of(60)
    method = LossScore(classifier(max_epochs=4), cv=3, random_state=0)
    method.fit(X, y, sample_weight=weights)
    fold, rows = method.folds_[1], method._fold_rows[1]
    alone = clone(fold).fit(X[rows], y[rows], sample_weight=weights[rows])
    np.testing.assert_array_equal(alone.detrimentality_, fold.detrimentality_)


def test_a_model_is_fitted_with_weights_in_every_fold():
    X, y = blobs(60, spread=2.0)
    weights = weights_of(60)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    folds = [(np.arange(0, 60, 2), np.arange(1, 60, 2)), (np.arange(1, 60, 2), np.arange(0, 60, 2))]
    for routing in (False, True):
        with sklearn.config_context(enable_metadata_routing=routing):
            found = SelfConfidence(model, cv=folds).fit(X, y, sample_weight=weights)
    train, held = folds[0]
    w = weights[train] / weights[train].mean()
    fitted = clone(model).fit(X[train], y[train], logisticregression__sample_weight=w)
    np.testing.assert_allclose(found.oof_probabilities_[held], fitted.predict_proba(X[held]))


def test_routing_brings_weights_through_a_pipeline():
    X, y = blobs(60)
    weights = weights_of(60)
    method = LossScore(classifier(max_epochs=4), random_state=0)
    scaled = StandardScaler().fit_transform(X)
    expected = clone(method).fit(scaled, y, sample_weight=weights).detrimentality_
    with sklearn.config_context(enable_metadata_routing=True):
        asking = clone(method).set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)  # it would take them, too
        pipeline = make_pipeline(scaler, asking).fit(X, y, sample_weight=weights)
        np.testing.assert_array_equal(pipeline[-1].detrimentality_, expected)
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            make_pipeline(scaler, clone(method)).fit(X, y, sample_weight=weights)
    pipeline = make_pipeline(StandardScaler(), clone(method))
    pipeline.fit(X, y, lossscore__sample_weight=weights)
    np.testing.assert_array_equal(pipeline[-1].detrimentality_, expected)


def test_a_cached_training_is_that_of_the_same_weights(tmp_path):
    X, y = blobs(60)
    method = LossScore(classifier(max_epochs=4), memory=str(tmp_path), random_state=0)
    for _ in range(2):
        for given in (None, weights_of(60), weights_of(60, seed=1)):
            plain = clone(method).set_params(memory=None).fit(X, y, sample_weight=given)
            kept = clone(method).fit(X, y, sample_weight=given)
            np.testing.assert_array_equal(kept.detrimentality_, plain.detrimentality_)
    assert len(list(tmp_path.rglob("*.lock"))) == 3


def test_an_embedding_is_of_the_weighted_training():
    X, y = blobs(60)
    frozen = LossScore(classifier(max_epochs=4), random_state=0)
    net = frozen.fit(X, y, sample_weight=weights_of(60)).net_
    embedding = GradientEmbedding(classifier(max_epochs=4), random_state=0)
    found = embedding.fit_transform(X, y, sample_weight=weights_of(60))
    np.testing.assert_array_equal(parameters(embedding.net_), parameters(net))
    same = GradientEmbedding(FrozenEstimator(net), random_state=0).fit_transform(X, y)
    np.testing.assert_allclose(found, same, rtol=1e-5, atol=1e-7)


@pytest.mark.usefixtures("brief_nets")
@pytest.mark.parametrize("cls", TAKING, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.ones(39), "sample_weight for 39 rows, but X and y have 40"),
        (np.ones((40, 2)), r"of shape \(40, 2\)"),
        (np.r_[-1.0, np.ones(39)], "sample_weight of -1.0 for"),
        (np.r_[np.nan, np.ones(39)], "sample_weight of nan for"),
        (np.zeros(40), "all .* rows to be trained on is zero"),
        (["heavy"] * 40, "expected numbers"),
    ],
)
def test_wrong_weights_are_refused(cls, given, message):
    X, y = blobs(40, n_classes=2)
    with pytest.raises(ValueError, match=message):
        clone(SMALLEST[cls]).fit(X, y, sample_weight=given)


@pytest.mark.usefixtures("brief_nets")
@pytest.mark.parametrize("cls", TAKING, ids=lambda cls: cls.__name__)
def test_weights_are_read_and_not_written(cls):
    X, y = blobs(40, n_classes=2)
    method = clone(SMALLEST[cls])
    weights = weights_of(40)
    weights.flags.writeable = False
    for given in (weights, weights.tolist(), pd.Series(weights, index=np.arange(40) + 7)):
        clone(method).fit(X, y, sample_weight=given)


def test_every_method_takes_weights():
    methods = {cls for cls in SMALLEST if issubclass(cls, BaseDetrimentality)}
    assert {ComplexityGap, RandomScore, SGDInfluence, KNNShapley} <= methods <= set(TAKING)
    assert GradientEmbedding in TAKING


def test_a_union_hands_weights_to_what_scores_removal():
    X, y = blobs(60)
    X_val, y_val = X[40:], y[40:]
    weights = weights_of(40)
    alone = InnerProductInfluence(random_state=0)
    union = DetrimentalityUnion([("loss", LossScore()), ("ip", alone)], random_state=0)
    union.fit(X[:40], y[:40], X_val, y_val, sample_weight=weights)
    frozen = clone(alone).set_params(net=FrozenEstimator(union.net_))
    frozen.fit(X[:40], y[:40], X_val, y_val, sample_weight=weights)
    np.testing.assert_allclose(union.scores_[:, 1], frozen.detrimentality_, rtol=1e-5, atol=1e-7)
    assert (union.scores_[weights == 0, 1] == 0).all()


def test_random_scores_are_the_same_with_weights():
    X, y = blobs(40)
    plain = RandomScore(random_state=0).fit(X, y).detrimentality_
    weighted = RandomScore(random_state=0).fit(X, y, sample_weight=weights_of(40))
    np.testing.assert_array_equal(weighted.detrimentality_, plain)


class OwnMethod(BaseDetrimentality):
    """Trains nothing, and knows nothing of weights."""

    def __init__(self, random_state=None):
        self.random_state = random_state

    def _check_parameters(self):
        pass

    def _prepare(self, rows, validation):
        return rows, None

    def _fit_scores(self, rows, validation):
        return np.zeros(len(rows))


class PairLoss(nn.Module):
    """Without a reduction to be taken from it."""

    def forward(self, outputs, y):
        return nn.functional.cross_entropy(outputs, y)


class StubbornLoss(PairLoss):
    """Says that it has one, and takes the mean all the same."""

    def __init__(self, reduction="mean"):
        super().__init__()
        self.reduction = reduction


class OwnLossNet(NeuralNetClassifier):
    def get_loss(self, y_pred, y_true, X=None, training=False):
        return nn.functional.cross_entropy(y_pred, y_true)


def own_loss_net():
    return OwnLossNet(SmallMlp, criterion=nn.CrossEntropyLoss, max_epochs=2, verbose=0)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (lambda X, y: LossScore(FrozenEstimator(fitted_classifier(X, y))), "trains nothing"),
        (lambda X, y: GradientEmbedding(FrozenEstimator(fitted_classifier(X, y))), "is frozen"),
        (lambda X, y: LossScore(classifier(criterion=PairLoss)), "PairLoss, has no reduction"),
        (lambda X, y: LossScore(classifier(criterion=StubbornLoss)), r"losses of shape \(\)"),
        (lambda X, y: LossScore(own_loss_net()), "without its criterion"),
        (lambda X, y: SelfConfidence(KNeighborsClassifier()), "KNeighborsClassifier takes none"),
        (
            lambda X, y: OutlierGradientDetector(committee=[("near", KNeighborsClassifier())]),
            "KNeighborsClassifier takes none",
        ),
        (
            lambda X, y: DetrimentalityUnion([("loss", LossScore()), ("own", OwnMethod())]),
            "OwnMethod, as it is set, trains nothing",
        ),
        (
            lambda X, y: DataShapley(KNeighborsClassifier(1)),
            "KNeighborsClassifier takes none",
        ),
    ],
)
def test_what_cannot_be_weighted_says_so(method, message):
    X, y = blobs(40)
    with pytest.raises(ValueError, match=message):
        method(X, y).fit(X, y, sample_weight=weights_of(40))


def test_a_net_that_failed_is_left_without_hooks():
    X, y = blobs(40)
    net = classifier(criterion=StubbornLoss)
    with pytest.raises(ValueError, match="losses of shape"):
        LossScore(net).fit(X, y, sample_weight=weights_of(40))
    assert not hasattr(net, "criterion_")  # a clone was trained
    assert "get_iterator" not in vars(net)
