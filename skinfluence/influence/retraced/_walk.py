"""Training retraced backwards: what leaving a row out of its steps would have changed.

A step of SGD maps parameters (and momentum) to the next ones. Its derivative transports a
direction backwards, from the validation gradient at the end of training to every earlier step;
on the way the direction meets the gradients of the rows that were used there. One pass back
through a doubly differentiated batch gives both products a step needs.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skinfluence.gradients._directional import plain_kernels, refuse_wrong_second_derivatives
from skinfluence.gradients._layers import Layer
from skinfluence.gradients._net_loss import Nested, NetLoss
from skinfluence.gradients._skorch import StepScale
from skinfluence.gradients.routes._capture import require_gradients_of

# Parameter name -> tensor.
Direction = dict[str, Tensor]


@dataclass(frozen=True)
class Step:
    """One step of the optimiser.

    Attributes
    ----------
    rows : ndarray of int
        S_t, the rows of its batch.
    state : mapping of str to Tensor
        theta_t, the parameters at which to differentiate.
    rates : mapping of str to float
        eta_t of every parameter.
    first : bool
        Whether the optimiser had no momentum buffer yet, which it then fills undampened.
    """

    rows: NDArray[np.int64]
    state: Mapping[str, Tensor]
    rates: Mapping[str, float]
    first: bool = False


@dataclass(frozen=True)
class Update:
    """The optimiser's rule, as far as it does not change with the step.

    Attributes
    ----------
    decay, momentum, dampening : mapping of str to float
        Of every parameter.
    nesterov : mapping of str to bool
    """

    decay: Mapping[str, float]
    momentum: Mapping[str, float]
    dampening: Mapping[str, float]
    nesterov: Mapping[str, bool]


@dataclass
class Walk:
    """How far a training is retraced.

    Attributes
    ----------
    u, w : dict of str to Tensor
        The objective's derivatives by the parameters and by the momentum, at the step reached.
    influence : ndarray of shape (n_samples,)
        What the steps so far add up to; see `Retracer.run`.
    n_steps : int
        How many steps are done, counted from the last.
    is_whole : bool
        False in the moment in which a step is entered, when an interrupt may leave half of it.
    """

    u: Direction
    w: Direction
    influence: NDArray[np.float64]
    n_steps: int = 0
    is_whole: bool = True


class Retracer:
    """Walks back through the steps of a training.

    Parameters
    ----------
    net_loss : NetLoss
        Of a private copy of the net, whose parameters are set to those of each step.
    layers : sequence of Layer
        All that hold trainable parameters.
    read_rows : callable
        ``read_rows(rows) -> (X, y)``, a batch of tensors.
    update : Update
    step_scale : callable
        The loss of a step as a multiple of the sum of its rows' losses; see `step_scale_of`.
    hessian : bool
        Whether to transport the direction; without, every step meets the one it starts with.
    renormalize : bool
        Whether leaving a row out divides its batch's loss by one row less.
    """

    def __init__(
        self,
        net_loss: NetLoss,
        layers: Sequence[Layer],
        read_rows: Callable[[NDArray[np.int64]], tuple[Nested, Tensor]],
        update: Update,
        step_scale: StepScale,
        *,
        hessian: bool,
        renormalize: bool,
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
        self._checked = False

    def validation_gradient(
        self, state: Mapping[str, Tensor], batches: Iterable[tuple[Nested, Tensor]]
    ) -> Direction:
        """Average the gradients of validation rows, ``u_T = grad L_val(theta_T)``.

        Parameters
        ----------
        state : mapping of str to Tensor
        batches : iterable of (nested tensors, Tensor)

        Returns
        -------
        dict of str to Tensor
        """
        self._set(state)
        total = {name: torch.zeros_like(p) for name, p in self._parameters.items()}
        rows = 0
        with require_gradients_of(self._net_loss.module, self._layers):
            for X, y in batches:
                loss = self._net_loss(X, y)
                found = torch.autograd.grad(
                    loss, list(self._parameters.values()), allow_unused=True, materialize_grads=True
                )
                for name, gradient in zip(total, found, strict=True):
                    total[name] += gradient
                rows += len(y)
        return {name: gradient / rows for name, gradient in total.items()}

    def begin(self, u: Direction, n_samples: int) -> Walk:
        """Stand at the end of training.

        Parameters
        ----------
        u : dict of str to Tensor
            The gradient of the objective there; not changed.
        n_samples : int

        Returns
        -------
        Walk
        """
        w = {name: torch.zeros_like(value) for name, value in u.items()}
        return Walk(dict(u), w, np.zeros(n_samples))

    def run(
        self,
        walk: Walk,
        steps: Iterable[Step],
        watch: Callable[[Walk], None] = lambda walk: None,
    ) -> NDArray[np.float64]:
        """Add up what every row's steps did, from the last step to the first.

        Parameters
        ----------
        walk : Walk
            From `begin`, or of a run that was stopped; it is where the walk stands at any time.
        steps : iterable of Step
            Those that are not done, the last one first.
        watch : callable, optional
            ``watch(walk)``, called after every step.

        Returns
        -------
        ndarray of shape (n_samples,)
            Linear influence ``<u_T, theta_-j - theta_T>``: the change of the objective if the
            row's loss had been left out.
        """
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

    def _adjoint_of_update(
        self, u: Direction, w: Direction, step: Step
    ) -> tuple[Direction, Direction]:
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

    def _products(self, step: Step, v: Direction) -> tuple[NDArray[np.float64], Direction]:
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
            c = torch.ones_like(losses, requires_grad=True)
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
        products: NDArray[np.float64] = found[0].double().cpu().numpy()
        scale = self._step_scale(output, y, X, losses)
        hessian_v = dict(zip(self._parameters, (h * scale for h in found[1:]), strict=False))
        return self._effects(products, scale), hessian_v

    def _set(self, state: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.data = state[name].to(parameter)


def interpolated(one: Mapping[str, Tensor], two: Mapping[str, Tensor], share: float) -> Any:
    """Give the state a share of the way from one state to another; parameters only."""
    return {
        name: torch.lerp(value, two[name], share) if value.is_floating_point() else value
        for name, value in one.items()
    }
