"""The factored route: one forward and one backward pass, asking for activation gradients only."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from skinfluence.gradients._layers import Layer
from skinfluence.gradients._net_loss import Nested, NetLoss


@dataclass
class LayerCalls:
    """What one forward pass sent through a layer.

    Attributes
    ----------
    inputs, outputs : list of Tensor
        One of each a call.
    versions : list of (int, int)
        In-place counters of both at the time of the call.
    """

    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    versions: list[tuple[int, int]] = field(default_factory=list)

    def overwritten(self) -> bool:
        """Tell whether a later in-place operation changed a recorded tensor.

        Returns
        -------
        bool
        """
        return any(
            (a._version, z._version) != version
            for a, z, version in zip(self.inputs, self.outputs, self.versions, strict=True)
        )


@dataclass(frozen=True)
class Capture:
    """One batch through the net, recorded at some layers.

    Attributes
    ----------
    loss : Tensor
        The summed loss, with its graph.
    calls : dict of str to LayerCalls
        By layer name.
    complete : dict of str to bool
        Whether the recorded calls are all the uses the loss makes of the layer's parameters.
    """

    loss: Tensor
    calls: dict[str, LayerCalls]
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
        outputs = [z for name in names for z in self.calls[name].outputs]
        gradients = (
            torch.autograd.grad(self.loss, outputs, allow_unused=True, materialize_grads=True)
            if outputs
            else ()
        )
        following = iter(gradients)
        return {name: [(a, next(following)) for a in self.calls[name].inputs] for name in names}


def capture(net_loss: NetLoss, layers: Sequence[Layer], X: Nested, y: Tensor) -> Capture:
    """Run a batch forward and record what passes through some layers.

    Only the parameters of `layers` require gradients, so the graph starts at the first of them.
    The recorded tensors are copied only if the net overwrites them in place.

    Parameters
    ----------
    net_loss : NetLoss
    layers : sequence of Layer
    X : nested tensors of shape (n_rows, ...)
    y : Tensor of shape (n_rows, ...)

    Returns
    -------
    Capture
    """
    result = _run(net_loss, layers, X, y, copies=False)
    if any(calls.overwritten() for calls in result.calls.values()):
        return _run(net_loss, layers, X, y, copies=True)
    return result


def _run(
    net_loss: NetLoss, layers: Sequence[Layer], X: Nested, y: Tensor, *, copies: bool
) -> Capture:
    calls = {layer.name: LayerCalls() for layer in layers}
    with require_gradients_of(net_loss.module, layers), _recording(layers, calls, copies):
        loss = net_loss(X, y)
    uses = _parameter_uses(loss)
    complete = {
        layer.name: all(
            uses[id(parameter)] == len(calls[layer.name].outputs)
            for parameter in layer.parameters.values()
        )
        for layer in layers
    }
    return Capture(loss, calls, complete)


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


@contextmanager
def _recording(
    layers: Sequence[Layer], calls: dict[str, LayerCalls], copies: bool
) -> Iterator[None]:
    def hook_for(name: str) -> Any:
        record = calls[name]

        def hook(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
        ) -> Tensor | None:
            a = (args[0] if args else kwargs["input"]).detach()
            a = a.clone() if copies else a
            record.inputs.append(a)
            record.outputs.append(output)
            record.versions.append((a._version, output._version))
            return output.clone() if copies else None

        return hook

    handles = [
        layer.module.register_forward_hook(hook_for(layer.name), with_kwargs=True)
        for layer in layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


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
