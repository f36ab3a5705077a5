"""Curvature products and matrices against explicit ones by plain autograd, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skinfluence.gradients._directional import plain_kernels
from skinfluence.gradients._net_loss import map_tensors, take_rows, tensors_in
from skinfluence.gradients._passes import start
from skinfluence.gradients._trial import Trial
from skinfluence.gradients.routes._loop import GradientLoop
from skinfluence.influence.solvers._curvature import (
    curvature_roots,
    gauss_newton_matrix,
    gauss_newton_vector_product,
    has_one_output,
    hessian_matrix,
    root_loss,
)
from tests._shared.by_hand import WEIGHT_NORM, close, flat_gradient, row_losses_by_hand
from tests._shared.net_zoo import CASES

# Every kind of loss and of parameter use; the larger nets add nothing but time.
NAMES = [
    "mlp",
    "cnn",
    "batch_norm",
    "embedding",
    "lstm",
    "attention",
    "tied",
    "weight_norm",
    "data_dependent",
    "root_parameter",
    "partly_frozen",
    "dict_input",
    "prototypes",
    "combined_loss",
    "positions",
    "class_weights",
    "own_criterion",
    "own_get_loss",
    "nll_of_softmax",
    "binary",
    "regression",
    "squeezed_regression",
    "multilabel",
]
every_net = pytest.mark.parametrize("name", NAMES)


def problem(name, n, seed=0):
    case = CASES[name]
    X, y = case.draw(np.random.default_rng(seed), n)
    loop, batches, _ = start(case.fitted(seed), X, y, layers="all", batch_size=n)
    return loop, next(batches), case.fitted(seed), (X, y)


def matrix_by_hand(loop, X, y):
    """Sum ``J^T H_f J`` over rows, J a gradient for every output, H_f by autograd."""
    parameters = [p for layer in loop.layers for p in layer.parameters.values()]
    total = 0.0
    for i in range(len(y)):
        x, target = take_rows(X, slice(i, i + 1)), y[i : i + 1]
        with torch.enable_grad(), plain_kernels():
            output = loop.net_loss.forward(x)
            flat = torch.cat([t.flatten() for t in tensors_in(output)])
            jacobian = torch.stack(
                [
                    torch.cat(
                        [
                            g.flatten()
                            for g in torch.autograd.grad(
                                value,
                                parameters,
                                retain_graph=True,
                                allow_unused=True,
                                materialize_grads=True,
                            )
                        ]
                    )
                    for value in flat
                ]
            )

        def loss(flat_outputs, x=x, target=target, output=output):
            parts = iter(torch.split(flat_outputs, [t.numel() for t in tensors_in(output)]))
            rebuilt = map_tensors(lambda t: next(parts).view_as(t), output)
            return loop.net_loss.losses(rebuilt, target, x).sum()

        hessian = torch.autograd.functional.hessian(loss, flat.detach())
        total = total + jacobian.T @ hessian @ jacobian
    return total


@every_net
@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(n=st.integers(1, 4), seed=st.integers(0, 2**16))
def test_gauss_newton_vector_product(name, n, seed):
    loop, (X, y), _, _ = problem(name, n, seed)
    expected = matrix_by_hand(loop, X, y)
    direction = torch.randn(len(expected), dtype=torch.float64)
    found = gauss_newton_vector_product(loop.net_loss, loop.layers, X, y, direction)
    close(found, expected @ direction)


@every_net
def test_gauss_newton_matrix(name):
    loop, (X, y), _, _ = problem(name, 4)
    expected = matrix_by_hand(loop, X, y)
    roots = None
    if has_one_output(loop.net_loss, X):
        weights = curvature_roots(loop.net_loss, X, y)[0][0]
        names = [layer.name for layer in loop.layers]
        rows = np.arange(len(weights))
        trial = Trial(((X, weights), (X, weights)), (rows, rows), torch.float64)
        roots = GradientLoop(root_loss(loop.net_loss), trial, names)
    assert (roots is None) == (name == "prototypes")
    close(gauss_newton_matrix(loop.net_loss, loop.layers, X, y, roots), expected)


@pytest.mark.parametrize("name", ["mlp", "batch_norm", "binary", "own_get_loss", "embedding"])
def test_hessian_matrix(name):
    loop, (X, y), net, (X_rows, y_rows) = problem(name, 3)
    expected = 0.0
    for loss in row_losses_by_hand(net, X_rows, y_rows):
        gradient = flat_gradient(loss, net.module_, create_graph=True)
        expected = expected + torch.stack(
            [flat_gradient(g, net.module_, retain_graph=True) for g in gradient]
        )
    close(hessian_matrix(loop.net_loss, loop.layers, X, y), expected)


def test_roots_multiply_to_the_hessian_in_the_outputs():
    loop, (X, y), _, _ = problem("own_criterion", 6, seed=3)  # not convex: signs of both kinds
    roots, signs = curvature_roots(loop.net_loss, X, y)
    output = loop.net_loss.forward(X).detach()
    for i in range(len(y)):
        row = slice(i, i + 1)
        expected = torch.autograd.functional.hessian(
            lambda o, row=row: loop.net_loss.losses(o[None], y[row], X[row]).sum(), output[i]
        )
        close(
            torch.einsum("c,co,cp->op", signs[:, i].to(roots), roots[:, i], roots[:, i]), expected
        )


def test_rank_of_cross_entropy_is_one_less_than_the_classes():
    loop, (X, y), _, _ = problem("mlp", 5)
    roots, signs = curvature_roots(loop.net_loss, X, y)
    assert roots.shape == (2, 5, 3)
    assert (signs == 1).all()


def test_hessian_matrix_refuses_weight_normalisation():
    loop, (X, y), _, _ = problem(next(iter(sorted(WEIGHT_NORM))), 2)
    with pytest.raises(ValueError, match="second derivative is wrong in torch"):
        hessian_matrix(loop.net_loss, loop.layers, X, y)
