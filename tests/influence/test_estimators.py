"""The three estimators as users call them: signs, queries, validation rows, routing, fairness."""

import pickle
import re

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn import config_context
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from skorch.helper import SliceDict
from torch import nn

from skinfluence import InfluenceFunction, InnerProductInfluence, MirroredInfluence
from skinfluence.exceptions import ValidationOverlapWarning
from skinfluence.influence import (
    EKFAC,
    AdversarialLoss,
    Arnoldi,
    ConjugateGradient,
    DataInf,
    DemographicParity,
    EqualOpportunity,
    Exact,
    Identity,
    LiSSA,
    ValidationLoss,
)
from skinfluence.influence._dropout import FixedDropout, dropout_submodel
from skinfluence.influence.objectives._objective_math import gap_weights
from tests._shared.problems import (
    SmallMlp,
    blobs,
    classifier,
    fitted_classifier,
    noisy_blobs,
    regressor,
)

SOLVERS = [
    Exact(),
    ConjugateGradient(),
    LiSSA(depth=40),
    Arnoldi(n_iterations=30, rank=20),
    EKFAC(),
    DataInf(),
    Identity(),
]
METHODS = [
    *[InfluenceFunction(solver=solver, layers="last", random_state=0) for solver in SOLVERS],
    InnerProductInfluence(random_state=0),
    InnerProductInfluence(objective=AdversarialLoss(0.1), random_state=0),
    MirroredInfluence(n_steps=1, random_state=0),
]


def name_of(method):
    inner = getattr(method, "solver", None) or getattr(method, "objective", None)
    return f"{type(method).__name__}-{inner!r}"


every_method = pytest.mark.parametrize("method", METHODS, ids=name_of)


@pytest.fixture(scope="module")
def data():
    X, y, is_noisy = noisy_blobs(n=90)
    X_val, y_val = blobs(n=24, seed=3)
    return X, y, is_noisy, X_val, y_val, FrozenEstimator(fitted_classifier(X, y))


@every_method
def test_sign_queries_and_new_rows(method, data):
    X, y, is_noisy, X_val, y_val, frozen = data
    fitted = clone(method).set_params(net=frozen).fit(X, y, X_val=X_val, y_val=y_val)
    scores = fitted.detrimentality_
    assert roc_auc_score(is_noisy, scores) > 0.95
    influence = fitted.influence(X_val, y_val)
    assert influence.shape == (24, 90)
    # steps of finite length, and of conjugate gradients cut short, are not quite linear
    nearly = isinstance(method, MirroredInfluence) or "EKFAC" in name_of(method)
    bar = 0.99 if nearly else 0.9999
    assert spearmanr(-influence.mean(0), scores)[0] > bar
    proponents, opponents = (f(X_val, y_val, k=7) for f in (fitted.proponents, fitted.opponents))
    for query in range(24):
        np.testing.assert_array_equal(
            np.sort(influence[query])[::-1][:7], influence[query, proponents[query]]
        )
        np.testing.assert_array_equal(
            np.sort(influence[query])[:7], influence[query, opponents[query]]
        )
    # a training row scored as a new one has the score it had
    again = fitted.score_detrimentality(X[:9], y[:9])
    np.testing.assert_allclose(again, scores[:9], rtol=1e-3, atol=1e-4 * np.abs(scores).max())
    restored = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(restored.influence(X_val, y_val), influence)
    with pytest.raises(ValueError, match="k=91, but there are 90"):
        fitted.proponents(X_val, y_val, k=91)


@every_method
def test_net_and_generators_are_left_alone(method, data):
    X, y, _, X_val, y_val, frozen = data
    net = frozen.estimator
    net.module_.train()
    state = {name: value.clone() for name, value in net.module_.state_dict().items()}
    attributes, generator = set(vars(net)), torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()
    fitted = clone(method).set_params(net=frozen).fit(X, y, X_val=X_val, y_val=y_val)
    fitted.influence(X_val[:2], y_val[:2])
    assert net.module_.training
    assert set(vars(net)) == attributes
    assert all(torch.equal(v, state[k]) for k, v in net.module_.state_dict().items())
    assert all(p.grad is None or p.requires_grad for p in net.module_.parameters())
    assert torch.equal(torch.get_rng_state(), generator)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


@every_method
def test_batch_size_and_order_of_rows(method, data):
    if isinstance(getattr(method, "solver", None), LiSSA):
        pytest.skip("LiSSA draws rows by their number")
    X, y, _, X_val, y_val, frozen = data
    method = clone(method).set_params(net=frozen)
    expected = method.fit(X, y, X_val, y_val).detrimentality_
    order = np.random.default_rng(0).permutation(len(X))
    other = clone(method).set_params(batch_size=7)
    found = other.fit(X[order], y[order], X_val[::-1], y_val[::-1]).detrimentality_
    # a difference of losses keeps fewer digits than a gradient
    tolerance = 1e-2 if isinstance(method, MirroredInfluence) else 1e-4
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected[order], rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("solver", [Exact(), Arnoldi(), DataInf(), Identity(), LiSSA(depth=50)])
def test_self_influence(solver, data):
    X, y, is_noisy, *_, frozen = data
    if isinstance(solver, LiSSA):
        X, y, is_noisy = X[:20], y[:20], None
    method = InfluenceFunction(frozen, solver=solver, reference="self", layers="last")
    fitted = method.fit(X, y)
    diagonal = fitted.influence(X[:15], y[:15]).diagonal()
    np.testing.assert_allclose(fitted.detrimentality_[:15], diagonal, rtol=1e-4)
    assert (fitted.detrimentality_ > 0).all()
    assert np.std(fitted.detrimentality_) > 0.1 * np.mean(fitted.detrimentality_)  # no constant
    if is_noisy is not None:
        assert roc_auc_score(is_noisy, fitted.detrimentality_) > 0.95
    with pytest.raises(ValueError, match="does not use validation rows as it is set"):
        clone(method).fit(X, y, X_val=X[:3], y_val=y[:3])


def test_influence_is_leave_one_out_on_a_convex_problem():
    """Ridge regression by its closed form: what removing a row does, to first order in 1 / n."""
    rng = np.random.default_rng(0)
    X, X_val = rng.normal(size=(300, 3)), rng.normal(size=(20, 3))
    weight = rng.normal(size=3)
    y, y_val = X @ weight + rng.normal(size=300), X_val @ weight + rng.normal(size=20)
    damping = 0.05

    def solution(X, y, n):
        hessian = 2 * X.T @ X / n + damping * np.eye(3)
        return np.linalg.solve(hessian, 2 * X.T @ y / n)

    def loss(w):
        return np.mean((X_val @ w - y_val) ** 2)

    full = solution(X, y, 300)
    keep = [np.delete(np.arange(300), i) for i in range(300)]
    real = np.array([loss(solution(X[k], y[k], 300)) - loss(full) for k in keep])
    net = _linear(full)
    method = InfluenceFunction(FrozenEstimator(net), solver=Exact(), damping=damping)
    fitted = method.fit(X, y, X_val=X_val, y_val=y_val)
    assert spearmanr(-fitted.detrimentality_, real)[0] > 0.99
    np.testing.assert_allclose(-fitted.detrimentality_, real, atol=0.1 * np.abs(real).max())


def _linear(weight):
    from skorch import NeuralNetRegressor

    net = NeuralNetRegressor(
        nn.Linear,
        module__in_features=3,
        module__out_features=1,
        module__bias=False,
        train_split=None,
    ).initialize()
    net.module_.double()
    with torch.no_grad():
        net.module_.weight.copy_(torch.tensor(weight)[None])
    return net


@every_method
@pytest.mark.parametrize("given", ["itself", "copy", "shuffled", "part", "dict"])
def test_training_rows_as_validation_rows_are_refused(method, given, data):
    if method is not METHODS[0] and given != "copy":
        pytest.skip("one method stands for all: the base class compares")
    X, y, *_, frozen = data
    order = np.random.default_rng(0).permutation(len(X))
    rows = {"itself": X, "copy": X.copy(), "shuffled": X[order], "part": X[10:20], "dict": X}[given]
    labels = y[order] if given == "shuffled" else y[: len(rows)]
    method = clone(method).set_params(net=frozen)
    if given == "dict":
        method.set_params(net=classifier())
        X, rows = SliceDict(X=X), SliceDict(X=X.copy())
    with pytest.raises(ValueError, match=r"All \d+ rows of X_val are training rows"):
        method.fit(X, y, X_val=rows, y_val=labels)


def test_some_training_rows_among_validation_rows_warn(data):
    X, y, _, X_val, y_val, frozen = data
    mixed, labels = np.concatenate([X_val, X[:6]]), np.concatenate([y_val, y[:6]])
    with pytest.warns(ValidationOverlapWarning, match="6 of the 30 rows of X_val"):
        InnerProductInfluence(frozen).fit(X, y, X_val=mixed, y_val=labels)


def test_rows_of_few_categories_may_coincide():
    rng = np.random.default_rng(0)
    X, X_val = rng.integers(0, 2, (200, 3)), rng.integers(0, 2, (50, 3))
    y, y_val = X.sum(1) > 1, X_val.sum(1) > 1
    fitted = InnerProductInfluence(random_state=0).fit(X, y, X_val=X_val, y_val=y_val)
    assert np.isfinite(fitted.detrimentality_).all()
    with pytest.raises(ValueError, match="All 200 rows"):
        InnerProductInfluence(random_state=0).fit(X, y, X_val=X[::-1], y_val=y[::-1])


@pytest.mark.parametrize("method", [METHODS[1], METHODS[7], METHODS[9]], ids=name_of)
def test_pipeline_transforms_and_routes_validation_rows(method, data):
    X, y, _, X_val, y_val, _ = data
    net = classifier()
    with config_context(enable_metadata_routing=True):
        last = clone(method).set_params(net=net).set_fit_request(X_val=True, y_val=True)
        pipeline = Pipeline(
            [("scale", StandardScaler()), ("score", last)], transform_input=["X_val"]
        )
        pipeline.fit(X, y, X_val=X_val, y_val=y_val)
    scaler = StandardScaler().fit(X)
    direct = clone(method).set_params(net=net)
    direct.fit(scaler.transform(X), y, scaler.transform(X_val), y_val)
    np.testing.assert_array_equal(pipeline[-1].detrimentality_, direct.detrimentality_)


def test_pipeline_routes_the_sensitive_attribute(data):
    X, y, _, X_val, y_val, frozen = data
    groups = np.where(np.arange(24) % 2, "a", "b")
    method = InnerProductInfluence(frozen, objective=DemographicParity(positive=1))
    with config_context(enable_metadata_routing=True):
        last = clone(method).set_fit_request(X_val=True, y_val=True, sensitive_val=True)
        pipeline = Pipeline([("score", last)])
        pipeline.fit(X, y, X_val=X_val, y_val=y_val, sensitive_val=groups)
    direct = clone(method).fit(X, y, X_val, y_val, groups)
    np.testing.assert_array_equal(pipeline[-1].detrimentality_, direct.detrimentality_)
    assert direct.fit_transform(X, y, X_val, y_val, groups).shape == (90, 1)


@pytest.mark.parametrize("validation", ["cross", 0.3])
@pytest.mark.parametrize("method", [METHODS[1], METHODS[7], METHODS[9]], ids=name_of)
def test_without_validation_rows_folds_validate_each_other(method, validation, data):
    X, y, is_noisy, X_val, y_val, frozen = data
    method = clone(method).set_params(net=classifier(), validation=validation)
    fitted = method.fit(X, y)
    # 45 rows a fold, a tenth of the rows that judge them mislabelled
    assert roc_auc_score(is_noisy, fitted.detrimentality_) > 0.7
    assert fitted.influence(X_val, y_val).shape == (24, 90)
    with pytest.raises(AttributeError, match="has no attribute 'transform'"):
        fitted.transform(X_val)
    with pytest.raises(ValueError, match="its net is frozen"):
        clone(method).set_params(net=frozen).fit(X, y)
    fitted.fit(X, y, X_val, y_val)  # refit with rows: nothing of the halves is left
    assert fitted.influence(X_val, y_val).shape == (24, 90)
    assert not hasattr(fitted, "folds_")


PROBABILITY = {
    DemographicParity: lambda chance, y, groups: (
        chance[groups == 0].mean() - chance[groups == 1].mean()
    ).abs(),
    EqualOpportunity: lambda chance, y, groups: (
        chance[(groups == 0) & (y == 1)].mean() - chance[(groups == 1) & (y == 1)].mean()
    ).abs(),
}


@pytest.mark.parametrize("objective", PROBABILITY)
def test_gaps_equal_a_callable_that_says_the_same(objective, data):
    X, y, _, X_val, y_val, frozen = data
    groups = np.random.default_rng(0).integers(0, 2, 24)
    method = InnerProductInfluence(frozen, objective=objective(positive=1), batch_size=5)
    found = method.fit(X, y, X_val, y_val, np.array(["x", "z"])[groups]).detrimentality_

    def by_hand(module, X, y):
        chance = torch.softmax(module(X), 1)[:, 1]
        return PROBABILITY[objective](chance, y, torch.as_tensor(groups))

    identity = InfluenceFunction(frozen, solver=Identity(), objective=objective(positive=1))
    identity.fit(X, y, X_val, y_val, groups)
    np.testing.assert_allclose(identity.detrimentality_ * 90, found, rtol=1e-3, atol=1e-5)
    expected = InnerProductInfluence(frozen, objective=by_hand).fit(X, y, X_val, y_val)
    np.testing.assert_allclose(found, expected.detrimentality_, rtol=1e-3, atol=1e-5)
    with pytest.raises(AttributeError, match="has no attribute 'influence'"):
        method.influence(X_val, y_val)


def test_gap_of_three_groups_is_between_the_highest_and_the_lowest():
    values = torch.tensor([0.1, 0.2, 0.9, 0.5, 0.7], dtype=torch.float64)
    groups, counted = torch.tensor([0, 0, 1, 2, 1]), torch.ones(5, dtype=torch.bool)
    assert gap_weights(values, groups, counted).tolist() == [-0.5, -0.5, 0.5, 0.0, 0.5]


def test_validation_loss_equals_a_callable_and_adversarial_differs(data):
    X, y, _, X_val, y_val, frozen = data

    def scores(objective):
        method = InnerProductInfluence(frozen, objective=objective)
        return method.fit(X, y, X_val, y_val).detrimentality_

    plain = scores(ValidationLoss())
    called = scores(lambda module, X, y: nn.functional.cross_entropy(module(X), y))
    np.testing.assert_allclose(called, plain, rtol=1e-3, atol=1e-5)
    module = frozen.estimator.module_
    X_leaf = torch.tensor(X_val, requires_grad=True)
    nn.functional.cross_entropy(module(X_leaf), torch.tensor(y_val)).backward()
    moved = (X_leaf + 0.3 * X_leaf.grad.sign()).detach()
    attacked = scores(lambda module, X, y: nn.functional.cross_entropy(module(moved), y))
    module.zero_grad(set_to_none=True)
    np.testing.assert_allclose(scores(AdversarialLoss(0.3)), attacked, rtol=1e-3, atol=1e-4)
    assert not np.allclose(attacked, plain, rtol=0.05)


class DropoutMlp(SmallMlp):
    def __init__(self):
        super().__init__()
        self.body.append(nn.Dropout(0.5))


def test_ensemble_of_dropout_submodels(data):
    X, y, is_noisy, X_val, y_val, _ = data
    net = fitted_classifier(X, y, module=DropoutMlp)
    method = InnerProductInfluence(FrozenEstimator(net), n_ensemble=4, random_state=0)
    fitted = method.fit(X, y, X_val, y_val)
    assert len(fitted.nets_) == 1
    members = [dropout_submodel(net, seed) for seed in (1, 2)]
    outputs = [member.module_(torch.tensor(X)) for member in members]
    assert not torch.equal(*outputs)
    torch.testing.assert_close(members[0].module_(torch.tensor(X[:3])), outputs[0][:3])
    assert not any(isinstance(part, FixedDropout) for part in net.module_.modules())
    singles = [
        InnerProductInfluence(FrozenEstimator(member)).fit(X, y, X_val, y_val).detrimentality_
        for member in fitted._members()
    ]
    np.testing.assert_allclose(fitted.detrimentality_, np.mean(singles, axis=0), rtol=1e-4)
    assert roc_auc_score(is_noisy, fitted.detrimentality_) > 0.9
    influence = fitted.influence(X_val, y_val)
    assert spearmanr(-influence.mean(0), fitted.detrimentality_)[0] > 0.9999


def test_ensemble_of_seeds(data):
    X, y, _, X_val, y_val, frozen = data
    names = np.array(["u", "v", "w"])
    method = InnerProductInfluence(classifier(), n_ensemble=3, random_state=0)
    fitted = method.fit(X, names[y], X_val, names[y_val])
    singles = [
        InnerProductInfluence(FrozenEstimator(net)).fit(X, y, X_val, y_val).detrimentality_
        for net in fitted.nets_
    ]
    assert len(singles) == 3
    np.testing.assert_allclose(fitted.detrimentality_, np.mean(singles, axis=0), rtol=1e-4)
    with pytest.raises(ValueError, match="frozen net without dropout layers"):
        clone(method).set_params(net=frozen).fit(X, y, X_val, y_val)


def test_dropped_channels_are_whole():
    mask = FixedDropout(0.5, True, 0)(torch.ones(2, 6, 3, 3))
    assert set(mask.unique().tolist()) == {0.0, 2.0}
    assert (mask.flatten(2).std(2) == 0).all()
    torch.testing.assert_close(mask[0], mask[1])


def test_small_steps_of_the_mirror_tend_to_the_inner_product(data):
    X, y, _, X_val, y_val, frozen = data
    expected = InnerProductInfluence(frozen).fit(X, y, X_val, y_val).detrimentality_
    errors = []
    for step_size in (1e-1, 1e-2, 1e-3):
        method = MirroredInfluence(frozen, n_steps=1, step_size=step_size)
        found = method.fit(X, y, X_val, y_val).detrimentality_
        errors.append(np.abs(found - expected).max() / np.abs(expected).max())
    assert (np.diff(errors) < 0).all(), errors
    assert errors[-1] < 0.02


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (InfluenceFunction(solver="cg"), "solver='cg', but expected None or a solver"),
        (InfluenceFunction(solver=Exact), "Pass an instance"),
        (InfluenceFunction(solver=LiSSA(depth=0)), "depth=0"),
        (InfluenceFunction(curvature="fisher"), "curvature='fisher', but expected 'ggn' or"),
        (InfluenceFunction(reference="test"), "reference='test', but expected 'validation'"),
        (InfluenceFunction(damping=0), "damping=0, but expected 'auto' or a finite number > 0"),
        (InfluenceFunction(damping=float("nan")), "damping=nan"),
        (InfluenceFunction(validation="half"), "validation='half'"),
        (InfluenceFunction(objective=ValidationLoss(), reference="self"), "row's own loss"),
        (InfluenceFunction(curvature="hessian", solver=EKFAC(), damping=9), "not the Hessian"),
        (InfluenceFunction(curvature="hessian", solver=DataInf(), damping=9), "not the Hessian"),
        (InnerProductInfluence(objective="loss"), "objective='loss', but expected None"),
        (InnerProductInfluence(objective=DemographicParity), "Pass an instance"),
        (InnerProductInfluence(objective=AdversarialLoss(0)), "eps=0"),
        (InnerProductInfluence(objective=DemographicParity(1)), "sensitive_val is None"),
        (InnerProductInfluence(objective=lambda module, X, y: 3.0), "expected a scalar tensor"),
        (InnerProductInfluence(n_ensemble=0), "n_ensemble=0"),
        (MirroredInfluence(n_steps=0), "n_steps=0"),
        (MirroredInfluence(step_size=-1.0), "step_size=-1.0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_parameters(method, message, data):
    X, y, _, X_val, y_val, frozen = data
    with pytest.raises(ValueError, match=re.escape(message)):
        clone(method).set_params(net=frozen).fit(X, y, X_val=X_val, y_val=y_val)


def test_bad_groups(data):
    X, y, _, X_val, y_val, frozen = data
    parity = InnerProductInfluence(frozen, objective=DemographicParity(positive=1))
    for groups, message in (
        (np.zeros(24), "belong to 1 group"),
        (np.zeros(5), "24"),
        (np.r_[np.nan, np.zeros(23)], "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            parity.fit(X, y, X_val, y_val, sensitive_val=groups)
    with pytest.raises(ValueError, match="without X_val"):
        parity.fit(X, y, sensitive_val=np.zeros(24))
    with pytest.raises(ValueError, match="name the favourable one"):
        clone(parity).set_params(objective=DemographicParity()).fit(
            X, y, X_val, y_val, np.arange(24) % 2
        )
    with pytest.raises(ValueError, match="compares no groups"):
        InnerProductInfluence(frozen).fit(X, y, X_val, y_val, sensitive_val=np.zeros(24))


@pytest.mark.parametrize(
    "method", [InfluenceFunction(), InnerProductInfluence(), MirroredInfluence()], ids=name_of
)
def test_regression_with_and_without_validation_rows(method):
    rng = np.random.default_rng(0)
    X, X_val = rng.normal(size=(80, 4)), rng.normal(size=(40, 4))
    y, y_val = X[:, 0] * 2, X_val[:, 0] * 2
    y[:8] += 10 * np.sign(rng.normal(size=8))
    method = clone(method).set_params(net=regressor(), random_state=0)
    scores = method.fit(X, y, X_val, y_val).detrimentality_
    assert roc_auc_score(np.arange(80) < 8, scores) > 0.7
    assert np.isfinite(method.fit(X, y).detrimentality_).all()
