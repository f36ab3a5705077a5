"""Weights of rows in influence: a whole number is as many copies, and zero is no row at all."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from skinfluence import (
    InfluenceFunction,
    InnerProductInfluence,
    MirroredInfluence,
    SGDInfluence,
    TracIn,
)
from skinfluence.influence import (
    EKFAC,
    AdversarialLoss,
    Arnoldi,
    ConjugateGradient,
    DataInf,
    Exact,
    Identity,
    LiSSA,
)
from tests._shared.problems import SmallMlp, blobs

COUNTS = np.array([1, 2, 0, 3, 1, 1, 0, 2, 1, 4, 1, 1, 2, 1, 1, 3, 1, 0, 2, 1, 1, 1, 2, 1])
COPIES = np.repeat(np.arange(24), COUNTS)


class DoubleMlp(SmallMlp):
    def __init__(self):
        super().__init__(n_hidden=5)
        self.double()


def rows():
    X, y = blobs(60, spread=2.0)
    X = X.astype(np.float64)
    return X[:24], y[:24], X[24:], y[24:]


def full_batches(**kwargs):
    settings = {"criterion": nn.CrossEntropyLoss, "optimizer": torch.optim.SGD, "lr": 0.3}
    settings |= {"max_epochs": 6, "batch_size": -1, "iterator_train__shuffle": False}
    return NeuralNetClassifier(DoubleMlp, train_split=None, verbose=0, **{**settings, **kwargs})


def of_copies(values):
    """Add up what the copies of each row have."""
    return np.stack([values[..., row == COPIES].sum(-1) for row in range(24)], axis=-1)


def frozen():
    X, y, _, _ = rows()
    torch.manual_seed(0)
    return FrozenEstimator(full_batches().fit(X, y))


SOLVERS = [
    (Exact(), "ggn", 0.1),
    (Exact(), "hessian", 5.0),
    (Exact(), "ggn", "auto"),
    pytest.param(ConjugateGradient(tol=1e-12), "ggn", 0.1, marks=pytest.mark.slow),
    (ConjugateGradient(tol=1e-12), "hessian", 5.0),
    (Arnoldi(n_iterations=200, rank=100), "ggn", 0.1),
    (EKFAC(n_corrections=0), "ggn", 0.1),
    (EKFAC(), "ggn", 0.1),
    (DataInf(), "ggn", "auto"),
    (DataInf(), "ggn", 0.1),
    (Identity(), "ggn", 0.1),
]


@pytest.mark.parametrize(
    ("solver", "curvature", "damping"), SOLVERS, ids=lambda value: str(value)[:20]
)
def test_an_influence_function_of_weights_is_that_of_copies(solver, curvature, damping):
    X, y, X_val, y_val = rows()
    method = InfluenceFunction(
        frozen(), solver=solver, curvature=curvature, damping=damping, batch_size=7, random_state=0
    )
    found = clone(method).fit(X, y, X_val, y_val, sample_weight=COUNTS)
    copies = clone(method).fit(X[COPIES], y[COPIES], X_val, y_val)
    expected = of_copies(copies.detrimentality_)
    np.testing.assert_allclose(found.detrimentality_, expected, rtol=1e-6, atol=1e-10)
    influence = found.influence(X_val[:3], y_val[:3])
    expected = of_copies(copies.influence(X_val[:3], y_val[:3]))
    np.testing.assert_allclose(influence, expected, rtol=1e-6, atol=1e-10)
    # rows to come weigh what is one on the mean
    new = found.score_detrimentality(X_val, y_val) * 24
    expected = copies.score_detrimentality(X_val, y_val) * len(COPIES)
    np.testing.assert_allclose(new, expected, rtol=1e-6, atol=1e-10)
    own = method.set_params(reference="self")
    found = clone(own).fit(X, y, sample_weight=COUNTS).detrimentality_
    copies = clone(own).fit(X[COPIES], y[COPIES]).detrimentality_
    np.testing.assert_allclose(found[COPIES] * 24, copies * len(COPIES), rtol=1e-6, atol=1e-10)
    assert (found > 0).all()  # rows of weight zero are judged, too


@pytest.mark.slow
def test_lissa_draws_rows_as_often_as_they_weigh():
    X, y, X_val, y_val = rows()
    exact = InfluenceFunction(frozen(), solver=Exact(), damping=0.3)
    exact.fit(X, y, X_val, y_val, sample_weight=COUNTS)
    solver = LiSSA(depth=4000, batch_size=16)
    drawn = InfluenceFunction(frozen(), solver=solver, damping=0.3, random_state=0)
    drawn.fit(X, y, X_val, y_val, sample_weight=COUNTS)
    alike = np.corrcoef(drawn.detrimentality_, exact.detrimentality_)[0, 1]
    assert alike > 0.999
    size = np.abs(exact.detrimentality_).max()
    assert np.abs(drawn.detrimentality_ - exact.detrimentality_).max() < 0.05 * size


def minimum(X, y, weights, damping):
    """The parameters of a linear net at the minimum of the weighted, damped loss, by LBFGS."""
    net = nn.Linear(4, 3).double()
    X, y, w = torch.from_numpy(X), torch.from_numpy(y), torch.from_numpy(weights)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    settings = {"max_iter": 500, "tolerance_grad": 1e-13, "tolerance_change": 1e-16}
    optimizer = torch.optim.LBFGS(net.parameters(), line_search_fn="strong_wolfe", **settings)

    def loss():
        optimizer.zero_grad()
        losses = nn.functional.cross_entropy(net(X), y, reduction="none")
        penalty = sum(parameter.square().sum() for parameter in net.parameters())
        total = (w * losses).mean() + damping / 2 * penalty
        total.backward()
        return total

    optimizer.step(loss)
    return net


def test_it_is_the_slope_at_which_a_minimum_forgets_a_row():
    X, y, X_val, y_val = rows()
    weights, damping, step = COUNTS / COUNTS.mean(), 0.05, 1e-2
    net = NeuralNetClassifier(
        lambda: nn.Linear(4, 3).double(), criterion=nn.CrossEntropyLoss, train_split=None, verbose=0
    ).initialize()
    net.module_.load_state_dict(minimum(X, y, weights, damping).state_dict())
    net.check_data(X, y)

    def validation_loss(of):
        with torch.no_grad():
            outputs = of(torch.from_numpy(X_val))
            return float(nn.functional.cross_entropy(outputs, torch.from_numpy(y_val)))

    slopes = []
    for row in range(24):
        losses = []
        for sign in (1, -1):
            moved = weights.copy()
            moved[row] *= 1 + sign * step
            losses.append(validation_loss(minimum(X, y, moved, damping)))
        slopes.append((losses[0] - losses[1]) / (2 * step))
    method = InfluenceFunction(
        FrozenEstimator(net), solver=Exact(), curvature="hessian", damping=damping
    )
    method.fit(X, y, X_val, y_val, sample_weight=COUNTS)
    np.testing.assert_allclose(method.detrimentality_, slopes, rtol=1e-3, atol=1e-6)


FIRST_ORDER = [
    InnerProductInfluence(random_state=0),
    InnerProductInfluence(objective=AdversarialLoss(0.1), random_state=0),
    InnerProductInfluence(n_ensemble=2, random_state=0),
    MirroredInfluence(random_state=0),
    TracIn(reference="validation", random_state=0),
    TracIn(reference="validation", normalize="gradient", random_state=0),
    TracIn(reference="validation", n_components=10, random_state=0),
    SGDInfluence(random_state=0),
    SGDInfluence(parameters="epoch", epochs=3, random_state=0),
    SGDInfluence(parameters="final", hessian=False, random_state=0),
]


@pytest.mark.parametrize("method", FIRST_ORDER, ids=lambda method: repr(method)[:60])
def test_training_by_weights_gives_what_training_on_copies_gives(method):
    X, y, X_val, y_val = rows()
    method = clone(method).set_params(net=full_batches(), batch_size=7)
    found = clone(method).fit(X, y, X_val, y_val, sample_weight=COUNTS)
    copies = clone(method).fit(X[COPIES], y[COPIES], X_val, y_val)
    # what is no mean over the training rows is in units of a row of mean weight
    unit = 1.0 if isinstance(method, SGDInfluence) else COUNTS.mean()
    expected = of_copies(copies.detrimentality_) / unit
    np.testing.assert_allclose(found.detrimentality_, expected, rtol=1e-6, atol=1e-9)
    assert (found.detrimentality_[COUNTS == 0] == 0).all()
    influence = found.influence(X_val[:2], y_val[:2])
    expected = of_copies(copies.influence(X_val[:2], y_val[:2])) / unit
    np.testing.assert_allclose(influence, expected, rtol=1e-6, atol=1e-9)


def test_self_influence_of_tracin_is_of_rows_of_weight_one():
    X, y, _, _ = rows()
    method = TracIn(full_batches(), random_state=0)
    found = clone(method).fit(X, y, sample_weight=COUNTS).detrimentality_
    copies = clone(method).fit(X[COPIES], y[COPIES]).detrimentality_
    np.testing.assert_allclose(found[COPIES], copies, rtol=1e-6)
    assert (found > 0).all()


REMOVAL = [
    InfluenceFunction(random_state=0),
    InnerProductInfluence(random_state=0),
    MirroredInfluence(random_state=0),
    TracIn(reference="validation", random_state=0),
    TracIn(reference="validation", n_components=10, random_state=0),
    SGDInfluence(random_state=0),
]


@pytest.mark.parametrize("method", REMOVAL, ids=lambda method: repr(method)[:60])
def test_rows_that_validate_each_other_judge_by_their_weight(method):
    X, y, _, _ = rows()
    spoilt = X.copy()
    spoilt[COUNTS == 0] += 5
    method = clone(method).set_params(net=full_batches(), batch_size=7)
    first, second = (clone(method).fit(rows, y, sample_weight=COUNTS) for rows in (X, spoilt))
    # the other half, which is what judges, holds rows of no weight
    np.testing.assert_allclose(second.detrimentality_, first.detrimentality_, atol=1e-9)
    for fold, train in zip(first.folds_, first._fold_rows, strict=True):
        held = np.setdiff1d(np.arange(24), train)
        judging = held[np.repeat(np.arange(len(held)), COUNTS[held])]
        alone = clone(fold).fit(
            X[train], y[train], X[judging], y[judging], sample_weight=COUNTS[train]
        )
        np.testing.assert_allclose(
            alone.detrimentality_, fold.detrimentality_, rtol=1e-6, atol=1e-9
        )


@pytest.mark.parametrize("method", REMOVAL, ids=lambda method: repr(method)[:60])
def test_weights_of_one_are_none(method):
    X, y, X_val, y_val = rows()
    method = clone(method).set_params(net=full_batches())
    plain = clone(method).fit(X, y, X_val, y_val).detrimentality_
    for given in (np.ones(24), np.full(24, 3), 0.5):
        same = clone(method).fit(X, y, X_val, y_val, sample_weight=given).detrimentality_
        np.testing.assert_array_equal(same, plain)


def test_a_callable_objective_and_weights_need_validation_rows():
    def objective(module, X_val, y_val):
        return nn.functional.cross_entropy(module(X_val), y_val)

    X, y, X_val, y_val = rows()
    method = InnerProductInfluence(full_batches(), objective=objective, random_state=0)
    with pytest.raises(ValueError, match=r"no X_val.*Give X_val and y_val"):
        clone(method).fit(X, y, sample_weight=COUNTS)
    found = clone(method).fit(X, y, X_val, y_val, sample_weight=COUNTS).detrimentality_
    plain = clone(method).set_params(objective=None)
    expected = plain.fit(X, y, X_val, y_val, sample_weight=COUNTS).detrimentality_
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_one_row_less_has_no_meaning_with_weights():
    X, y, X_val, y_val = rows()
    method = SGDInfluence(full_batches(), renormalize=True, random_state=0)
    with pytest.raises(ValueError, match="Set renormalize=False"):
        method.fit(X, y, X_val, y_val, sample_weight=COUNTS)


def test_a_retracing_in_a_folder_is_of_its_weights(tmp_path):
    X, y, X_val, y_val = rows()
    method = SGDInfluence(full_batches(), storage=str(tmp_path / "walk"), random_state=0)
    kept = clone(method).fit(X, y, X_val, y_val, sample_weight=COUNTS).detrimentality_
    plain = clone(method).set_params(storage="memory")
    expected = plain.fit(X, y, X_val, y_val, sample_weight=COUNTS).detrimentality_
    np.testing.assert_array_equal(kept, expected)
    with pytest.raises(ValueError, match="holds another training"):
        clone(method).fit(X, y, X_val, y_val, sample_weight=COUNTS[::-1])
