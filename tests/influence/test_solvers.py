"""Solvers against the explicit matrix, in float64, and what they do where there is no answer."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from skinfluence.influence import (
    EKFAC,
    Arnoldi,
    ConjugateGradient,
    DataInf,
    Exact,
    Identity,
    LiSSA,
)
from skinfluence.influence._net_rows import NetRows
from skinfluence.influence.solvers._curvature import Curvature
from skinfluence.influence.solvers._series import lanczos, largest_eigenvalue
from skinfluence.influence.solvers._solvers import damping_of
from skinfluence.rows._rows import ModelRows
from tests._shared.net_zoo import CASES
from tests._shared.problems import blobs, classifier

NAMES = ["mlp", "cnn", "batch_norm", "lstm", "embedding", "prototypes", "regression", "binary"]
DAMPING = 0.2


def curvature_of(name, n=9, kind="ggn", batch_size=4, seed=0):
    case = CASES[name]
    X, y = case.draw(np.random.default_rng(seed), n)
    return Curvature(NetRows(case.fitted(seed), ModelRows(X, y), "all", batch_size), kind)


def directions_for(curvature, k=2):
    generator = torch.Generator().manual_seed(0)
    size = curvature.rows.n_parameters
    return torch.randn(k, size, generator=generator, dtype=torch.float64)


def close(found, expected, tolerance=1e-8):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_exact_and_conjugate_gradient_solve_the_equations(name):
    curvature = curvature_of(name)
    v = directions_for(curvature)
    for solver in (Exact(), ConjugateGradient(tol=1e-12)):
        x = solver.invert(curvature, DAMPING, 0).solve(v)
        back = torch.stack([curvature.product(row) for row in x]) + DAMPING * x
        close(back, v, 1e-7)


@pytest.mark.parametrize("name", ["mlp", "regression", "binary"])
def test_hessian_solvers_agree(name):
    curvature = curvature_of(name, kind="hessian")
    v = directions_for(curvature)
    smallest = float(torch.linalg.eigvalsh(curvature.matrix())[0])
    damping = 0.1 + max(0.0, -smallest)
    expected = Exact().invert(curvature, damping, 0).solve(v)
    close(ConjugateGradient(tol=1e-12).invert(curvature, damping, 0).solve(v), expected, 1e-6)
    close(
        Arnoldi(n_iterations=500, rank=500).invert(curvature, damping, 0).solve(v), expected, 1e-6
    )


def test_hessian_off_a_minimum_is_refused_with_a_damping():
    curvature = curvature_of("mlp", kind="hessian", seed=1)
    smallest = float(torch.linalg.eigvalsh(curvature.matrix())[0])
    assert smallest < -1e-3  # an untrained net
    v = directions_for(curvature)
    for solver in (Exact(), Arnoldi(n_iterations=100), ConjugateGradient()):
        with pytest.raises(ValueError, match="curvature='ggn', or damping above"):
            solver.invert(curvature, -smallest / 10, 0).solve(v)


def test_ekfac_is_exact_where_a_layer_is_a_product():
    """One row: A and B have rank one and C - 1, and the block is their product."""
    case = CASES["mlp"]
    X, y = case.draw(np.random.default_rng(0), 1)
    curvature = Curvature(NetRows(case.fitted(), ModelRows(X, y), ["4"], 4), "ggn")
    v = directions_for(curvature)
    expected = Exact().invert(curvature, DAMPING, 0).solve(v)
    close(EKFAC(n_corrections=0).invert(curvature, DAMPING, 0).solve(v), expected)


@pytest.mark.parametrize("name", ["mlp", "cnn", "batch_norm", "embedding", "partly_frozen"])
def test_ekfac_by_explicit_matrices(name):
    """The definition, from dense gradients of the outputs and unfolded inputs."""
    curvature = curvature_of(name)
    v = directions_for(curvature)
    found = EKFAC(n_corrections=0).invert(curvature, DAMPING, 0)
    matrix = curvature.matrix()
    start = 0
    for layer in curvature.rows.layers:
        part = slice(start, start + layer.n_parameters)
        start += layer.n_parameters
        block = matrix[part, part]
        basis = _basis(found._blocks[layer.name], layer)
        values = (basis.T @ block @ basis).diagonal()  # the exact diagonal in that basis
        expected = (v[:, part] @ basis / (values + DAMPING)) @ basis.T
        close(found.solve(v)[:, part], expected, 1e-7)
        close(basis.T @ basis, torch.eye(len(basis), dtype=torch.float64), 1e-8)


def _basis(block, layer):
    if not hasattr(block, "inputs"):
        return torch.eye(layer.n_parameters, dtype=torch.float64)
    both = torch.einsum("ox,iy->oixy", block.outputs, block.inputs)  # (o, i + bias, x, y)
    n_inputs = len(block.inputs) - block.bias
    weight = both[:, :n_inputs].flatten(0, 1).flatten(1)
    return torch.cat([weight, both[:, -1].flatten(1)]) if block.bias else weight


def test_ekfac_refuses_several_outputs():
    with pytest.raises(ValueError, match=r"several\. Use ConjugateGradient"):
        EKFAC().invert(curvature_of("prototypes"), DAMPING, 0)


@pytest.mark.parametrize("damping", [0.3, None])
def test_datainf_is_the_mean_of_inverses(damping):
    curvature = curvature_of("mlp")
    rows, v = curvature.rows, directions_for(curvature)
    gradients = torch.cat(list(rows.gradients()))
    expected, start = [], 0
    for layer in rows.layers:
        part = slice(start, start + layer.n_parameters)
        start += layer.n_parameters
        g = gradients[:, part]
        d = 0.1 * g.square().mean() if damping is None else damping
        eye = torch.eye(layer.n_parameters, dtype=torch.float64)
        inverses = [torch.linalg.inv(torch.outer(row, row) + d * eye) for row in g]
        expected.append(v[:, part] @ torch.stack(inverses).mean(0))
    close(DataInf().invert(curvature, damping, 0).solve(v), torch.cat(expected, 1))


def test_datainf_of_a_layer_without_gradient_is_zero():
    curvature = curvature_of("root_parameter")
    names = [layer.name for layer in curvature.rows.layers]
    found = DataInf().invert(curvature, None, 0).solve(directions_for(curvature))
    sizes = [layer.n_parameters for layer in curvature.rows.layers]
    unused = torch.split(found, sizes, 1)[names.index("unused")]
    assert (unused == 0).all()
    assert torch.isfinite(found).all()


def test_identity_gives_directions_back():
    curvature = curvature_of("mlp")
    v = directions_for(curvature)
    assert Identity().invert(curvature, None, 0).solve(v) is v


@pytest.mark.parametrize("kind", ["ggn", "hessian"])
def test_eigenvalues(kind):
    curvature = curvature_of("mlp", kind=kind)
    expected = torch.linalg.eigvalsh(curvature.matrix())
    values, vectors = lanczos(curvature, curvature.rows.n_parameters, 0)
    close(values[-3:], expected[-3:], 1e-7)
    image = torch.stack([curvature.product(vector) for vector in vectors.T[-3:]])
    close(image, values[-3:, None] * vectors.T[-3:], 1e-6)
    largest = float(expected.abs().max())
    assert largest_eigenvalue(curvature, 0) == pytest.approx(largest, rel=1e-3)
    assert damping_of(curvature, None) == pytest.approx(0.1 * largest, rel=1e-3)


class Softmax(nn.Linear):
    """A convex problem: the Gauss-Newton matrix is the Hessian."""

    def __init__(self):
        super().__init__(4, 3)


@pytest.fixture(scope="module")
def convex():
    X, y = blobs(n=60, spread=2.0)
    torch.manual_seed(0)
    net = classifier(Softmax, lr=0.05).fit(X, y)
    net.module_.double()
    return Curvature(NetRows(net, ModelRows(X.astype(np.float64), y), "all", 60), "ggn")


BUDGETS = {
    "conjugate_gradient": [ConjugateGradient(max_iter=k) for k in (1, 3, 6, 12)],
    "lissa": [LiSSA(depth=k, batch_size=60) for k in (10, 50, 250, 1250)],
    "arnoldi": [Arnoldi(n_iterations=k, rank=k) for k in (2, 4, 8, 15)],
    "ekfac": [EKFAC(n_corrections=k) for k in (0, 2, 4, 12)],
    "arnoldi_rank": [Arnoldi(n_iterations=15, rank=k) for k in (1, 4, 8, 15)],
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", BUDGETS)
def test_error_falls_with_the_budget(convex, name):
    v = directions_for(convex, 1)
    damping = 0.02 * damping_of(convex, None) / 0.1
    expected = Exact().invert(convex, damping, 0).solve(v)
    errors = [
        float((solver.invert(convex, damping, 0).solve(v) - expected).norm() / expected.norm())
        for solver in BUDGETS[name]
    ]
    assert (np.diff(errors) < 0).all(), errors
    assert errors[-1] < 0.05, errors


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)

    class Mlp(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))

    torch.manual_seed(0)
    net = classifier(Mlp).fit(X[:600], y[:600])
    rows = NetRows(net, ModelRows(X[:600], y[:600]), "all", 600)
    curvature = Curvature(rows, "ggn")
    direction = rows.others(ModelRows(X[600:1000], y[600:1000])).mean_gradient()[None]

    def scores(solver):
        return rows.inner_products(solver.invert(curvature, None, 0).solve(direction)[0])

    return scores, scores(Exact())


@pytest.mark.parametrize(
    ("solver", "bar"),
    [(ConjugateGradient(), 0.95), (LiSSA(), 0.95), (Arnoldi(), 0.95), (EKFAC(), 0.9)],
    ids=repr,
)
def test_defaults_rank_digits_as_exact(digits, solver, bar):
    scores, expected = digits
    assert spearmanr(scores(solver), expected)[0] >= bar
    assert spearmanr(scores(Identity()), expected)[0] < bar  # the curvature counts here


def test_lissa_names_a_scale_that_converges(convex):
    v = directions_for(convex)
    damping = 0.02 * damping_of(convex, None) / 0.1
    with pytest.raises(ValueError, match=r"LiSSA diverges with scale=.*Try scale=") as error:
        LiSSA(scale=1e-3).invert(convex, damping, 0).solve(v)
    named = float(str(error.value).split("Try scale=")[1].split(",")[0])
    found = LiSSA(scale=named).invert(convex, damping, 0).solve(v)
    assert torch.isfinite(found).all()


def test_lissa_adapts_its_scale(convex):
    v = directions_for(convex)
    inverse = LiSSA().invert(convex, 0.1, 0)
    inverse.scale = 1e-3
    expected = Exact().invert(convex, 0.1, 0).solve(v)
    assert float((inverse.solve(v) - expected).norm() / expected.norm()) < 0.2
    assert inverse.scale > 1e-3


@pytest.mark.parametrize("scale", [None, 20.0])
def test_damping_of_lissa_does_not_depend_on_the_scale(convex, scale):
    v = directions_for(convex)
    expected = Exact().invert(convex, 0.5, 0).solve(v)
    found = LiSSA(depth=500, scale=scale).invert(convex, 0.5, 0).solve(v)
    assert float((found - expected).norm() / expected.norm()) < 0.05


def test_lissa_is_linear_and_seeded(convex):
    v = directions_for(convex, 2)
    solver = LiSSA(depth=50, repeats=2, batch_size=5)
    found = solver.invert(convex, 0.5, 3).solve(v)
    close(solver.invert(convex, 0.5, 3).solve(v.mean(0, keepdim=True))[0], found.mean(0))
    other = solver.invert(convex, 0.5, 4).solve(v)
    assert not torch.allclose(other, found)


def test_conjugate_gradient_says_when_it_stops_early(convex):
    with pytest.warns(ConvergenceWarning, match=r"max_iter=2 products at a relative residual of"):
        ConjugateGradient(max_iter=2).invert(convex, 1e-3, 0).solve(directions_for(convex))


def test_exact_refuses_a_matrix_that_is_too_large(convex):
    with pytest.raises(ValueError, match=r"15 x 15 numbers, 1800 bytes.*ConjugateGradient\(\)"):
        Exact(max_bytes=1000).invert(convex, 0.1, 0)


def test_a_loss_without_curvature_needs_a_damping():
    curvature = curvature_of("mlp")
    curvature.product = torch.zeros_like
    with pytest.raises(ValueError, match="Give a damping as a number"):
        damping_of(curvature, None)


@pytest.mark.parametrize(
    "solver",
    [
        Exact(max_bytes=0),
        ConjugateGradient(tol=0),
        ConjugateGradient(max_iter=0),
        LiSSA(depth=0),
        LiSSA(batch_size=-1),
        LiSSA(repeats=True),
        LiSSA(scale=float("nan")),
        Arnoldi(n_iterations=0),
        Arnoldi(rank=1.5),
        Arnoldi(complement="no"),
        EKFAC(n_corrections=-1),
    ],
    ids=repr,
)
def test_parameters_are_checked(solver):
    with pytest.raises(ValueError, match="but expected"):
        clone(solver).check_parameters()
