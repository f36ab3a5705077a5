"""The factored route: one forward and one backward pass, asking for activation gradients only."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from skinfluence.gradients._layers import Layer
from skinfluence.gradients._net_loss import Nested, NetLoss


class Call(NamedTuple):
    """What one call of a layer took and gave, with the in-place counters of both at that time."""

    a: Tensor
    z: Tensor
    version: int

    def overwritten(self) -> bool:
        """Tell whether a later in-place operation changed one of them."""
        return self.a._version + self.z._version != self.version


@dataclass(frozen=True)
class Capture:
    """One batch through the net, recorded at some layers.

    Attributes
    ----------
    loss : Tensor
        The summed loss, with its graph.
    calls : dict of str to list of Call
        By layer name.
    complete : dict of str to bool
        Whether the recorded calls are all the uses the loss makes of the layer's parameters.
    """

    loss: Tensor
    calls: dict[str, list[Call]]
    complete: dict[str, bool]

    def call_gradients(self, names: Sequence[str]) -> dict[str, list[tuple[Tensor, Tensor]]]:
        """Differentiate the loss with respect to recorded outputs; frees the graph.

        Parameters
        ----------
        names : sequence of str
            Layers whose record is complete.

        Returns
        -------
        dict of str to list of (Tensor, Tensor)
            For each layer and call, the input and the output's gradient.
        """
        outputs = [call.z for name in names for call in self.calls[name]]
        if not outputs:
            return {name: [] for name in names}
        gradients = iter(torch.autograd.grad(self.loss, outputs, allow_unused=True))
        return {name: [_pair(call, next(gradients)) for call in self.calls[name]] for name in names}


def _pair(call: Call, gradient: Tensor | None) -> tuple[Tensor, Tensor]:
    return call.a, torch.zeros_like(call.z) if gradient is None else gradient


class Recorder:
    """Records what passes through some layers, batch after batch, while it is entered.

    Only the parameters of the layers require gradients meanwhile, so graphs start at the first of
    them. What is recorded is copied only if the net overwrites it in place.

    Parameters
    ----------
    net_loss : NetLoss
    layers : sequence of Layer
    """

    def __init__(self, net_loss: NetLoss, layers: Sequence[Layer]) -> None:
        self.net_loss = net_loss
        self.layers = layers
        self._copies = False
        self._calls: dict[str, list[Call]] | None = None
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        """Set hooks and `requires_grad` on the private module."""
        self._undo.enter_context(require_gradients_of(self.net_loss.module, self.layers))
        for layer in self.layers:
            handle = layer.module.register_forward_hook(self._hook(layer.name), with_kwargs=True)
            self._undo.callback(handle.remove)
        return self

    def __exit__(self, *exception: object) -> None:
        """Take them away again."""
        self._undo.close()

    def record(self, X: Nested, y: Tensor) -> Capture:
        """Run a batch forward.

        Parameters
        ----------
        X : nested tensors of shape (n_rows, ...)
        y : Tensor of shape (n_rows, ...)

        Returns
        -------
        Capture
        """
        result = self._run(X, y)
        if not self._copies and any(
            call.overwritten() for calls in result.calls.values() for call in calls
        ):
            self._copies = True
            result = self._run(X, y)
        return result

    def _run(self, X: Nested, y: Tensor) -> Capture:
        calls: dict[str, list[Call]] = {layer.name: [] for layer in self.layers}
        self._calls = calls
        try:
            loss = self.net_loss(X, y)
        finally:
            self._calls = None
        uses = _parameter_uses(loss)
        complete = {
            layer.name: all(
                uses[id(parameter)] == len(calls[layer.name])
                for parameter in layer.parameters.values()
            )
            for layer in self.layers
        }
        return Capture(loss, calls, complete)

    def _hook(self, name: str) -> Any:
        def hook(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
        ) -> Tensor | None:
            if self._calls is None:  # a pass of another route
                return None
            a = (args[0] if args else kwargs["input"]).detach()
            a = a.clone() if self._copies else a
            self._calls[name].append(Call(a, output, a._version + output._version))
            return output.clone() if self._copies else None

        return hook


@contextmanager
def require_gradients_of(module: nn.Module, layers: Sequence[Layer]) -> Iterator[None]:
    """Let only some layers' parameters require gradients, with gradients enabled.

    Parameters
    ----------
    module : Module
        A private copy: its flags are set here and given back.
    layers : sequence of Layer

    Yields
    ------
    None
    """
    wanted = {id(parameter) for layer in layers for parameter in layer.parameters.values()}
    before = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    try:
        for parameter, _ in before:
            parameter.requires_grad_(id(parameter) in wanted)
        with torch.enable_grad():
            yield
    finally:
        for parameter, flag in before:
            parameter.requires_grad_(flag)


def _parameter_uses(loss: Tensor) -> Counter[int]:
    """Count the places where the graph of the loss reads each parameter."""
    # A Linear layer's forward reads its weight once. More reads than recorded calls mean that the
    # weight is also used elsewhere (tied to another layer, passed to a function, penalised in the
    # loss), where no hook sees it.
    uses: Counter[int] = Counter()
    seen: set[Any] = set()
    stack = [loss.grad_fn] if loss.grad_fn is not None else []
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        for following, _ in node.next_functions:
            if following is None:
                continue
            parameter = getattr(following, "variable", None)
            if parameter is not None:
                uses[id(parameter)] += 1
            else:
                stack.append(following)
    return uses
