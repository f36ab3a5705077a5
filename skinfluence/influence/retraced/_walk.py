"""Training retraced backwards: what leaving a row out of its steps would have changed.

A step of SGD maps parameters (and momentum) to the next ones. Its derivative transports a
direction backwards, from the validation gradient at the end of training to every earlier step;
on the way the direction meets the gradients of the rows that were used there. One pass back
through a doubly differentiated batch gives both products a step needs.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skinfluence.gradients._directional import plain_kernels, refuse_wrong_second_derivatives
from skinfluence.gradients._layers import Layer
from skinfluence.gradients._net_loss import Nested, NetLoss
from skinfluence.gradients._skorch import StepScale
from skinfluence.gradients.routes._capture import require_gradients_of
from skinfluence.rows._weights import Weights

# A direction in parameter space, by the names of its parameters.
ByName: TypeAlias = dict[str, Tensor]


@dataclass(frozen=True)
class Step:
    """One step of the optimiser."""

    rows: NDArray[np.int64]  # S_t, the rows of its batch
    state: Mapping[str, Tensor]  # theta_t, the parameters at which to differentiate
    rates: Mapping[str, float]  # eta_t of every parameter
    first: bool = False  # no momentum buffer was there yet, and it is filled undampened


@dataclass(frozen=True)
class Update:
    """The optimiser's rule for every parameter, as far as it does not change with the step."""

    decay: Mapping[str, float]
    momentum: Mapping[str, float]
    dampening: Mapping[str, float]
    nesterov: Mapping[str, bool]


@dataclass
class Walk:
    """How far a training is retraced."""

    u: ByName  # the objective's derivatives by the parameters, at the step reached
    w: ByName  # and by the momentum
    influence: NDArray[np.float64]  # (n_samples,), what the steps so far add up to
    n_steps: int = 0  # done, counted from the last
    is_whole: bool = True  # not while a step is entered: an interrupt may leave half of it


class Retracer:
    """Walks back through the steps of a training."""

    def __init__(
        self,
        net_loss: NetLoss,  # of a private copy, whose parameters are set to those of each step
        layers: Sequence[Layer],  # all that hold trainable parameters
        read_rows: Callable[[NDArray[np.int64]], tuple[Nested, Tensor]],
        update: Update,
        step_scale: StepScale,  # a step's loss as a multiple of the sum of its rows' losses
        *,
        hessian: bool,  # without, every step meets the direction that the walk begins with
        renormalize: bool,  # leaving a row out divides its batch's loss by one row less
        weights: Weights = None,  # of the rows in the training loss
    ) -> None:
        self._net_loss = net_loss
        self._layers = layers
        self._parameters = {
            name: parameter for layer in layers for name, parameter in layer.parameters.items()
        }
        self._read_rows = read_rows
        self._update = update
        self._step_scale = step_scale
        self._hessian = hessian
        self._renormalize = renormalize
        self._weights = weights
        self._checked = False

    def validation_gradient(
        self,
        state: Mapping[str, Tensor],
        batches: Iterable[tuple[Nested, Tensor]],
        weights: Weights = None,  # of these rows, one on the mean
    ) -> ByName:
        """Average the gradients of validation rows, ``u_T = grad L_val(theta_T)``."""
        self._set(state)
        total = {name: torch.zeros_like(p) for name, p in self._parameters.items()}
        rows = 0
        with require_gradients_of(self._net_loss.module, self._layers):
            for X, y in batches:
                losses = self._net_loss.row_losses(X, y)
                if weights is not None:
                    losses = losses * torch.as_tensor(weights[rows : rows + len(y)]).to(losses)
                loss = losses.sum()
                found = torch.autograd.grad(
                    loss, list(self._parameters.values()), allow_unused=True, materialize_grads=True
                )
                for name, gradient in zip(total, found, strict=True):
                    total[name] += gradient
                rows += len(y)
        return {name: gradient / rows for name, gradient in total.items()}

    def begin(self, u: ByName, n_samples: int) -> Walk:
        """Stand at the end of training, with u the gradient of the objective there."""
        w = {name: torch.zeros_like(value) for name, value in u.items()}
        return Walk(dict(u), w, np.zeros(n_samples))

    def run(
        self,
        walk: Walk,  # from `begin`, or of a run that was stopped; kept up to date
        steps: Iterable[Step],  # those that are not done, the last one first
        watch: Callable[[Walk], None] = lambda walk: None,  # called after every step
    ) -> NDArray[np.float64]:
        """Add up each row's linear influence ``<u_T, theta_-j - theta_T>``: (n_samples,)."""
        # the change of the objective, to first order, if row j's loss had been left out
        walk.u = {name: u.to(self._parameters[name]) for name, u in walk.u.items()}
        walk.w = {name: w.to(self._parameters[name]) for name, w in walk.w.items()}
        with plain_kernels():
            for step in steps:
                v, a = self._adjoint_of_update(walk.u, walk.w, step)
                effects, hessian_v = self._products(step, v)
                u, w = walk.u, walk.w
                if self._hessian:
                    decay, momentum = self._update.decay, self._update.momentum
                    u = {n: u[n] + (hessian_v[n] + decay[n] * v[n]) for n in u}
                    w = {n: momentum[n] * a[n] for n in u}
                walk.is_whole = False
                # unlike -=, counts a row that a batch holds twice
                np.subtract.at(walk.influence, step.rows, effects)
                walk.u, walk.w, walk.n_steps = u, w, walk.n_steps + 1
                walk.is_whole = True
                watch(walk)
        return walk.influence

    def _adjoint_of_update(self, u: ByName, w: ByName, step: Step) -> tuple[ByName, ByName]:
        """Give the weights of the step's gradient (v) and new momentum buffer (a)."""
        # m' = mu m + (1 - tau) g;  theta' = theta - eta m', or theta - eta (g + mu m') (Nesterov)
        v, a = {}, {}
        for name in u:
            eta, mu = step.rates[name], self._update.momentum[name]
            nesterov = self._update.nesterov[name]
            a[name] = w[name] - (eta * mu if nesterov else eta) * u[name]
            share = 1 - self._update.dampening[name] if mu and not step.first else 1.0
            v[name] = share * a[name] - (eta * u[name] if nesterov else 0.0)
        return v, a

    def _effects(self, products: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
        """Say by how much the step's gradient would lose along v if each row were left out."""
        rows = len(products)
        if not self._renormalize or rows == 1:
            return products * scale
        # the scale of a mean over one row less is scale * rows / (rows - 1)
        difference: NDArray[np.float64] = products - products.mean()
        return difference * (scale * rows / (rows - 1))

    def _products(self, step: Step, v: ByName) -> tuple[NDArray[np.float64], ByName]:
        """Give the effects of the step's rows along v, and ``H_t v`` of its loss."""
        self._set(step.state)
        X, y = self._read_rows(step.rows)
        parameters = list(self._parameters.values())
        with require_gradients_of(self._net_loss.module, self._layers):
            output = self._net_loss.forward(X)
            losses = self._net_loss.losses(output, y, X)
            if not self._checked:
                refuse_wrong_second_derivatives(losses)
                self._checked = True
            # the derivative of <v, grad sum_i c_i l_i> by c_i is <v, grad l_i>, by theta it is H v
            c = torch.ones_like(losses)
            if self._weights is not None:
                c = torch.as_tensor(self._weights[step.rows]).to(losses)
            c.requires_grad_()
            gradients = torch.autograd.grad(
                torch.dot(c, losses),
                parameters,
                create_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            along = torch.stack(
                [
                    (gradient * v[name]).sum()
                    for name, gradient in zip(self._parameters, gradients, strict=True)
                ]
            ).sum()
            inputs = [c, *parameters] if self._hessian else [c]
            found = torch.autograd.grad(along, inputs, allow_unused=True, materialize_grads=True)
        products: NDArray[np.float64] = (found[0] * c.detach()).double().cpu().numpy()
        scale = self._step_scale(output, y, X, losses)
        hessian_v = dict(zip(self._parameters, (h * scale for h in found[1:]), strict=False))
        return self._effects(products, scale), hessian_v

    def _set(self, state: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.data = state[name].to(parameter)


def interpolated(
    one: Mapping[str, Tensor], two: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """Give the state a share of the way from one state to another; parameters only."""
    return {
        name: torch.lerp(value, two[name], share) if value.is_floating_point() else value
        for name, value in one.items()
    }
