"""Second derivatives of a loss: products with a direction, and whole matrices for small nets.

With f the net's outputs, J their derivative in the parameters and H_f the Hessian of the loss in
the outputs, a row's Gauss-Newton matrix is ``J^T H_f J``. It leaves out what bends the outputs
themselves, is positive semi-definite for convex losses, and sees no term of the loss that does not
pass through the outputs, such as a weight penalty inside `get_loss`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from skinfluence.gradients._directional import (
    _along,
    _as_parameters,
    hessian_vector_product,
    plain_kernels,
)
from skinfluence.gradients._layers import Layer
from skinfluence.gradients._net_loss import Nested, NetLoss, map_tensors, n_rows, tensors_in
from skinfluence.gradients._readings import Dense, Kept
from skinfluence.gradients.factors._layer_gradients import LayerGradients
from skinfluence.gradients.routes._capture import require_gradients_of
from skinfluence.gradients.routes._loop import GradientLoop
from skinfluence.influence._net_rows import Direction, NetRows

# A product with one direction, summed (not averaged) over the rows of a batch.
BatchProduct: TypeAlias = Callable[[NetLoss, Sequence[Layer], Nested, Tensor, Direction], Direction]


class Curvature:
    """The mean curvature matrix, "ggn" or "hessian", of a net's loss over its training rows."""

    def __init__(self, rows: NetRows, kind: str) -> None:
        self.rows = rows
        self.kind = kind
        self._product: BatchProduct = (
            gauss_newton_vector_product if kind == "ggn" else hessian_vector_product
        )

    def product(self, direction: Direction) -> Direction:
        """Multiply with one direction, in one pass over the rows."""
        total = torch.zeros_like(direction)
        for batch in self.rows.weighted_batches():
            total += self.batch_sum(*batch, direction)
        return total / self.rows.n_rows

    def batch_sum(self, net_loss: NetLoss, X: Nested, y: Tensor, direction: Direction) -> Direction:
        """Multiply the curvature, summed over the rows of one batch, with one direction."""
        rows = self.rows
        found = self._product(net_loss, rows.layers, X, y, direction.to(rows.parameters[0]))
        return found.to(direction)

    def matrix(self) -> Tensor:
        """Build the whole matrix: (n_parameters, n_parameters)."""
        rows = self.rows
        total = rows.zero.new_zeros(rows.n_parameters, rows.n_parameters)
        roots = self.root_loop() if self.kind == "ggn" else None
        for net_loss, X, y in rows.weighted_batches():
            if self.kind == "ggn":
                total += gauss_newton_matrix(net_loss, rows.layers, X, y, roots)
            else:
                total += hessian_matrix(net_loss, rows.layers, X, y)
        return total / rows.n_rows

    def root_loop(self) -> GradientLoop | None:
        """Set up gradients of the Gauss-Newton roots; None for a net with several outputs."""
        rows = self.rows
        if not has_one_output(rows.net_loss, rows.trial.batches[0][0]):
            return None
        roots = rows.trial.with_targets(lambda X, y: curvature_roots(rows.net_loss, X, y)[0][0])
        return GradientLoop(root_loss(rows.net_loss), roots, rows.layer_names)

    def kept_roots(
        self, loop: GradientLoop
    ) -> Iterator[tuple[dict[str, LayerGradients], Tensor, Tensor | None]]:
        """Yield gradients of `root_loop` by layer, their rows' signs and weights, by blocks."""
        start = 0
        at_once = min(self.rows.rows_at_once, loop.rows_at_once)
        for net_loss, X, y in self.rows.weighted_batches(at_once):
            weights = self.rows.weights_of(slice(start, start + len(y)))
            start += len(y)
            for batch, sign in root_batches(net_loss, X, y):
                (kept,) = loop.batches([batch], Kept())  # these rows come in one part
                yield kept, sign, weights


def gauss_newton_vector_product(
    net_loss: NetLoss, layers: Sequence[Layer], X: Nested, y: Tensor, direction: Direction
) -> Direction:
    """Multiply the Gauss-Newton matrix of a batch's summed loss with a direction."""
    # one graph of the outputs serves three times: backward twice for J v, and once for J^T;
    # the Hessian in the outputs costs no pass through the net
    tangents = _as_parameters(layers, direction)
    parameters = [p for layer in layers for p in layer.parameters.values()]
    with plain_kernels(), require_gradients_of(net_loss.module, layers):
        output = net_loss.forward(X)
        outputs = [tensor for tensor in tensors_in(output) if tensor.requires_grad]
        if not outputs:
            return torch.zeros_like(direction)
        pushed = _push_forward(outputs, layers, tangents)
        curved = _curve(net_loss, output, X, y, pushed)
        parts = torch.autograd.grad(
            outputs, parameters, curved, allow_unused=True, materialize_grads=True
        )
    return torch.cat([part.flatten() for part in parts])


def _push_forward(
    outputs: list[Tensor], layers: Sequence[Layer], tangents: dict[str, Tensor]
) -> Sequence[Tensor]:
    """Compute ``J v`` as the derivative of ``<J^T w, v>`` by w."""
    weights = [torch.zeros_like(tensor, requires_grad=True) for tensor in outputs]
    pairs = zip(weights, outputs, strict=True)
    combined = torch.stack([(weight * tensor).sum() for weight, tensor in pairs]).sum()
    along = _along(combined, layers, tangents)
    if not along.requires_grad:
        return [torch.zeros_like(tensor) for tensor in outputs]
    return torch.autograd.grad(
        along, weights, retain_graph=True, allow_unused=True, materialize_grads=True
    )


def _curve(
    net_loss: NetLoss, output: Nested, X: Nested, y: Tensor, pushed: Sequence[Tensor]
) -> Sequence[Tensor]:
    """Multiply the Hessian of the loss in the outputs with one vector for each output."""
    leaves: list[Tensor] = []

    def cut(tensor: Tensor) -> Tensor:
        if not tensor.requires_grad:
            return tensor
        leaves.append(tensor.detach().requires_grad_())
        return leaves[-1]

    loss = net_loss.losses(map_tensors(cut, output), y, X).sum()
    slopes = torch.autograd.grad(
        loss, leaves, create_graph=True, allow_unused=True, materialize_grads=True
    )
    along = torch.stack([(s * v).sum() for s, v in zip(slopes, pushed, strict=True)]).sum()
    if not along.requires_grad:  # the loss is linear in the outputs
        return [torch.zeros_like(leaf) for leaf in leaves]
    return torch.autograd.grad(along, leaves, allow_unused=True, materialize_grads=True)


def has_one_output(net_loss: NetLoss, X: Nested) -> bool:
    """Tell whether the net gives one tensor with the rows on its first axis."""
    with torch.no_grad():
        output = net_loss.forward(X)
    return isinstance(output, Tensor) and tuple(output.shape[:1]) == (n_rows(X),)


def root_loss(net_loss: NetLoss) -> NetLoss:
    """Replace the loss by ``<output, y>``; y holds weights (n_rows, n_outputs), axes flattened."""
    # Per-sample gradients of this loss, at the weights that `curvature_roots` gives, are columns
    # g_c of a root of each row's Gauss-Newton matrix, sum_c sign_c g_c g_c^T: the routes and
    # readings that serve gradients then serve curvature too.

    def losses(output: Nested, y: Tensor, X: Nested) -> Tensor:
        assert isinstance(output, Tensor)
        return (output.reshape(len(y), -1) * y).sum(1)

    return NetLoss(net_loss.module, net_loss.forward, losses, net_loss.originals)


def curvature_roots(net_loss: NetLoss, X: Nested, y: Tensor) -> tuple[Tensor, Tensor]:
    """Factor the rows' H_f: roots (rank, n_rows, n_outputs), and their signs (rank, n_rows)."""
    # row i: sum_c signs[c, i] r_ci r_ci^T; -1 only where the loss is not convex in the outputs.
    # The rank is the largest of the batch: cross-entropy with C classes has C - 1.
    with torch.no_grad():
        output = net_loss.forward(X)
    assert isinstance(output, Tensor)
    with torch.enable_grad():
        leaf = output.detach().clone().requires_grad_()
        loss = net_loss.losses(leaf, y, X).sum()
        (slope,) = torch.autograd.grad(loss, leaf, create_graph=True)
        slope = slope.reshape(len(y), -1)
        rows = [_derivative(slope[:, c].sum(), leaf) for c in range(slope.shape[1])]
    values, vectors = torch.linalg.eigh(_wide(torch.stack(rows, 1)))
    size = values.abs()
    order = size.argsort(dim=1, descending=True)
    values, size = values.gather(1, order), size.gather(1, order)
    vectors = vectors.gather(2, order[:, None, :].expand_as(vectors))
    kept = int((size > 1e-12 * size.amax().clamp_min(1e-300)).sum(1).max())
    roots = (vectors * size.sqrt()[:, None, :])[:, :, : max(kept, 1)]
    return roots.permute(2, 0, 1).to(output.dtype), values.sign()[:, : max(kept, 1)].mT


def _derivative(value: Tensor, leaf: Tensor) -> Tensor:
    if not value.requires_grad:
        return torch.zeros_like(leaf).reshape(len(leaf), -1)
    (gradient,) = torch.autograd.grad(
        value, leaf, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return gradient.reshape(len(leaf), -1)


def _wide(tensor: Tensor) -> Tensor:
    """Give it in float64 where its device has that."""
    return tensor if tensor.device.type == "mps" else tensor.double()


def root_batches(
    net_loss: NetLoss, X: Nested, y: Tensor
) -> Iterator[tuple[tuple[Nested, Tensor], Tensor]]:
    """Yield a batch for a `GradientLoop` over `root_loss`, root by root, and the rows' signs."""
    roots, signs = curvature_roots(net_loss, X, y)
    for root, sign in zip(roots, signs, strict=True):
        yield (X, root), sign


def gauss_newton_matrix(
    net_loss: NetLoss, layers: Sequence[Layer], X: Nested, y: Tensor, roots: GradientLoop | None
) -> Tensor:
    """Build the Gauss-Newton matrix of a batch's summed loss, from a loop over `root_loss`."""
    if roots is None:  # with every unit vector instead, which serves several output tensors
        return _by_columns(gauss_newton_vector_product, net_loss, layers, X, y)
    n_parameters = sum(layer.n_parameters for layer in layers)
    matrix = _wide(_some_parameter(layers).new_zeros(n_parameters, n_parameters))
    for batch, sign in root_batches(net_loss, X, y):
        start = 0
        for part in roots.batches([batch], Dense()):
            gradients = _wide(part.detach())
            weights = sign[start : start + len(part), None].to(gradients)
            matrix += gradients.mT @ (weights * gradients)
            start += len(part)
    return _symmetric(matrix)


def hessian_matrix(net_loss: NetLoss, layers: Sequence[Layer], X: Nested, y: Tensor) -> Tensor:
    """Build the Hessian of a batch's summed loss, a Hessian product for every column."""
    return _by_columns(hessian_vector_product, net_loss, layers, X, y)


def _by_columns(
    product: BatchProduct, net_loss: NetLoss, layers: Sequence[Layer], X: Nested, y: Tensor
) -> Tensor:
    unit = _some_parameter(layers).new_zeros(sum(layer.n_parameters for layer in layers))
    columns = []
    for i in range(len(unit)):
        unit.zero_()[i] = 1.0
        columns.append(product(net_loss, layers, X, y, unit))
    return _symmetric(_wide(torch.stack(columns, 1)))


def _some_parameter(layers: Sequence[Layer]) -> Tensor:
    return next(iter(layers[0].parameters.values())).detach()


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.mT) / 2
