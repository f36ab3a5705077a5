"""Exact influences against independent implementations, on the same net and damping."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from torch import nn

from skinfluence.influence import EKFAC, Exact, InfluenceFunction
from skinfluence.influence._net_rows import NetRows
from skinfluence.influence.solvers._curvature import Curvature
from skinfluence.rows._rows import ModelRows
from tests._shared.net_zoo import CASES
from tests._shared.problems import classifier

STORED = Path(__file__).parent / "data" / "pydvl_influence.npz"


class TanhMlp(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


@pytest.fixture
def stored():
    return dict(np.load(STORED))


def net_of(stored):
    net = classifier(TanhMlp).initialize()
    net.module_.double()
    state = {k.removeprefix("state."): v for k, v in stored.items() if k.startswith("state.")}
    net.module_.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    net.classes_inferred_ = np.arange(3)
    return net


def influence_of(net, stored):
    """Ours, undone of its 1 / n_train, which the others leave out."""
    X, y = stored["X"], stored["y"]
    method = InfluenceFunction(
        FrozenEstimator(net),
        solver=Exact(),
        curvature="hessian",
        damping=float(stored["damping"]),
    )
    fitted = method.fit(X[:30], y[:30], X_val=X[30:], y_val=y[30:])
    return fitted.influence(X[30:], y[30:]) * 30


def close(found, expected, rtol):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


def test_pydvl(stored):
    close(influence_of(net_of(stored), stored), stored["influence"], 1e-4)


def test_hessian_by_hand(stored):
    net = net_of(stored)
    module, n = net.module_.eval(), 30
    names = [name for name, _ in module.named_parameters()]
    shapes = [p.shape for p in module.parameters()]
    flat = torch.cat([p.detach().flatten() for p in module.parameters()])
    X, y = torch.tensor(stored["X"]), torch.tensor(stored["y"])

    def losses(flat, rows):
        parts = torch.split(flat, [s.numel() for s in shapes])
        parameters = {k: v.view(s) for k, v, s in zip(names, parts, shapes)}
        output = torch.func.functional_call(module, parameters, X[rows])
        return nn.functional.cross_entropy(output, y[rows], reduction="none")

    train, query = slice(0, n), slice(n, None)
    hessian = torch.autograd.functional.hessian(lambda p: losses(p, train).mean(), flat)
    gradients = [
        torch.autograd.functional.jacobian(partial(losses, rows=rows), flat)
        for rows in (query, train)
    ]
    damped = hessian + float(stored["damping"]) * torch.eye(len(flat), dtype=torch.float64)
    expected = gradients[0] @ torch.linalg.solve(damped, gradients[1].T)
    close(influence_of(net, stored), expected.numpy(), 1e-8)


def test_dattri(stored):
    pytest.importorskip("dattri", reason="dattri comes with the bench extra")
    from dattri.algorithm.influence_function import IFAttributorExplicit
    from dattri.task import AttributionTask
    from torch.utils.data import DataLoader, TensorDataset

    net = net_of(stored)
    module = net.module_.eval()

    def loss(parameters, data):
        inputs, targets = data
        return nn.functional.cross_entropy(
            torch.func.functional_call(module, parameters, inputs), targets
        )

    data = TensorDataset(torch.tensor(stored["X"]), torch.tensor(stored["y"]))
    train = DataLoader(torch.utils.data.Subset(data, range(30)), batch_size=30)
    query = DataLoader(torch.utils.data.Subset(data, range(30, 37)), batch_size=7)
    task = AttributionTask(loss, module, module.state_dict())
    attributor = IFAttributorExplicit(task, regularization=float(stored["damping"]))
    attributor.cache(train)
    close(influence_of(net, stored), attributor.attribute(train, query).T.detach().numpy(), 1e-4)


@pytest.mark.parametrize("name", ["mlp", "cnn", "regression"])
def test_curvlinops_ekfac(name):
    curvlinops = pytest.importorskip("curvlinops", reason="curvlinops comes with the bench extra")
    case = CASES[name]
    X, y = case.draw(np.random.default_rng(0), 12)
    net = case.fitted()
    rows = NetRows(net, ModelRows(X, y), "all", 12)
    damping = 0.3
    targets = torch.tensor(y)
    criterion = nn.MSELoss() if name == "regression" else nn.CrossEntropyLoss()
    module = case.fitted().module_.eval()
    operator = curvlinops.EKFACLinearOperator(
        module,
        criterion,
        list(module.parameters()),
        [(torch.tensor(X), targets.reshape(-1, 1) if name == "regression" else targets)],
        fisher_type="type-2",
        separate_weight_and_bias=False,
        check_deterministic=False,
    )
    inverse = EKFAC(n_corrections=0).invert(Curvature(rows, "ggn"), damping, 0)
    direction = torch.randn(2, rows.n_parameters, dtype=torch.float64)
    solved = inverse.solve(direction)
    # multiplying back with the damped operator gives the direction again
    for given, found in zip(direction, solved):
        product = operator @ found + damping * found
        torch.testing.assert_close(product, given, rtol=1e-6, atol=1e-6)
