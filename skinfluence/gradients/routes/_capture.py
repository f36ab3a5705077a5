"""The factored route: one forward and one backward pass, asking for activation gradients only."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge, saved_tensors_hooks
from torch.utils.hooks import RemovableHandle

from skinfluence.gradients._layers import Layer
from skinfluence.gradients._net_loss import Batch, Nested, NetLoss, tensors_in

# For each call of a layer: the module, its input and the gradient of the loss by its output.
Flows: TypeAlias = list[tuple[nn.Module, Tensor, Tensor]]

# The kind of node where a graph ends at a parameter.
_LEAF = type(get_gradient_edge(torch.zeros((), requires_grad=True)).node)


class Call:
    """One call of a layer: what flowed in and, after the backward pass, what flows back."""

    def __init__(self, module: nn.Module, a: Tensor, output: Tensor) -> None:
        self.module = module
        # The output itself is not kept: the gradient with respect to it is asked of the graph as
        # it is now, before a later in-place operation, such as an activation, gives the tensor
        # another value.
        self.a = a
        self.shape = output.shape
        self.b: Tensor | None = None
        self.edge: GradientEdge | None = None
        self.arrived: Callable[[], None] | None = None
        self._version = a._version
        self._dtype, self._device = output.dtype, output.device
        self._handle: RemovableHandle | None = None
        if output.requires_grad:
            self.edge = get_gradient_edge(output)
            self._handle = output.register_hook(self._arrive)  # type: ignore[no-untyped-call]

    def overwritten(self) -> bool:
        """Tell whether a later in-place operation changed the input."""
        return self.a._version != self._version

    def flow(self) -> tuple[nn.Module, Tensor, Tensor]:
        """Give the input and the output's gradient, zero if the loss does not depend on it."""
        b = self.b
        if b is None:
            b = torch.zeros(self.shape, dtype=self._dtype, device=self._device)
        return self.module, self.a, b

    def release(self) -> None:
        """Let go of the tensors and of the graph, which else would hold on to each other."""
        self.b = self.arrived = self.edge = None
        del self.a
        if self._handle is not None:
            self._handle.remove()

    def _arrive(self, gradient: Tensor) -> None:
        if self.arrived is not None:
            self.b = gradient
            self.arrived()


@dataclass(frozen=True)
class Capture:
    """One batch through the net, recorded at some layers."""

    loss: Tensor  # summed, with its graph
    calls: dict[str, list[Call]]  # by layer name
    # whether the recorded calls are all the uses the loss makes of the layer's parameters
    complete: dict[str, bool]
    # Recorded outputs that no other recorded output leads to: a backward pass to these passes all
    # the others.
    roots: list[GradientEdge]
    # whether rows may lie elsewhere in a recorded output than in the net's
    moves_rows: bool

    def backward(self, names: Sequence[str], done: Callable[[str, Flows], None]) -> None:
        """Run one backward pass and hand over each layer whose record is complete."""
        # A layer is handed over as soon as it has been passed: the gradients of activations are
        # not kept together, so that memory peaks as in training. Frees the graph and the record.
        waiting = {name: _Waiting(name, self.calls.pop(name), done) for name in names}
        if self.roots:
            torch.autograd.grad(self.loss, self.roots, allow_unused=True)
        for layer in waiting.values():
            layer.finish()


class _Waiting:
    """The calls of a layer whose output gradients are still to come."""

    def __init__(self, name: str, calls: list[Call], done: Callable[[str, Flows], None]) -> None:
        self._name = name
        self._done = done
        self._calls = calls
        self._missing = len(calls)
        self._finished = False
        for call in calls:
            call.arrived = self._arrive

    def _arrive(self) -> None:
        self._missing -= 1
        if not self._missing:
            self.finish()

    def finish(self) -> None:
        """Hand over what has come, and let go of it."""
        if self._finished:
            return
        self._finished = True
        calls, self._calls = self._calls, []
        flows = [call.flow() for call in calls]
        for call in calls:
            call.release()
        self._done(self._name, flows)


class Recorder:
    """Records what passes through some layers, batch after batch, while it is entered."""

    # Only the parameters of the layers require gradients meanwhile, so graphs start at the first
    # of them.
    def __init__(self, net_loss: NetLoss, layers: Sequence[Layer]) -> None:
        self.net_loss = net_loss
        self.layers = layers
        self._copies = False  # what is recorded is copied only if the net overwrites it in place
        self._spreads = True  # vectors of positions are one for each row, unless the net minds
        self._rows = 0
        self._calls: dict[str, list[Call]] | None = None
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        """Set hooks and `requires_grad` on the private module."""
        self._undo.enter_context(require_gradients_of(self.net_loss.module, self.layers))
        for layer in self.layers:
            for module in layer.modules:
                handle = module.register_forward_hook(self._hook(layer.name), with_kwargs=True)
                self._undo.callback(handle.remove)
        return self

    def __exit__(self, *exception: object) -> None:
        """Take them away again."""
        self._undo.close()

    def record(self, X: Nested, y: Tensor) -> Capture:
        """Run a batch forward."""
        try:
            result = self._run(X, y)
        except RuntimeError:
            if not self._spreads:
                raise
            self._spreads = False  # if it was another matter, it comes again
            result = self._run(X, y)
        if not self._copies and any(
            call.overwritten() for calls in result.calls.values() for call in calls
        ):
            self._copies = True
            result = self._run(X, y)
        return result

    def _run(self, X: Nested, y: Tensor) -> Capture:
        calls: dict[str, list[Call]] = {layer.name: [] for layer in self.layers}
        self._calls, self._rows = calls, len(y)
        try:
            output = self.net_loss.forward(X)
            loss = self.net_loss.losses(output, y, X).sum()
        finally:
            self._calls = None
        edges = [call.edge for recorded in calls.values() for call in recorded if call.edge]
        uses, roots = explore_graph(loss, edges)
        # of a layer whose output the loss does not depend on, as a pooler's, nothing flows back
        complete = {
            layer.name: {uses[id(parameter)] for parameter in layer.parameters.values()}
            in ({len(calls[layer.name])}, {0})
            for layer in self.layers
        }
        return Capture(loss, calls, complete, roots, moves_rows(tensors_in(output), len(y)))

    def _hook(self, name: str) -> Callable[..., Tensor | None]:
        def hook(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
        ) -> Tensor | None:
            # a pass of another route, or one to look at, which no gradient flows through
            if self._calls is None or not torch.is_grad_enabled():
                return None
            a = (args[0] if args else kwargs["input"]).detach()
            spread = self._spreads and _is_one_for_all(module, a, self._rows)
            if spread:
                a, output = (_spread(t, a.dim() > 1, self._rows) for t in (a, output))
            self._calls[name].append(Call(module, a.clone() if self._copies else a, output))
            return output if spread else None

        return hook


def _is_one_for_all(module: nn.Module, a: Tensor, rows: int) -> bool:
    """Tell vectors looked up once for all rows, as those of positions are, (1, t) or (t,)."""
    return type(module) is nn.Embedding and (
        (a.dim() == 2 and len(a) == 1 < rows) or (a.dim() == 1 and len(a) != rows)
    )


def _spread(tensor: Tensor, has_axis: bool, rows: int) -> Tensor:
    """Repeat a tensor for every row, so that what flows back comes row by row."""
    return (tensor if has_axis else tensor[None]).expand(rows, *(-1,) * (tensor.dim() - has_axis))


@contextmanager
def require_gradients_of(module: nn.Module, layers: Sequence[Layer]) -> Iterator[None]:
    """Let only some layers' parameters of a private copy require gradients, and enable them."""
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


def counting_saved(
    run: Callable[[], Tensor], module: nn.Module, batch: Batch
) -> tuple[Tensor, int]:
    """Run a forward pass; count the bytes that autograd saves of it for the backward pass."""
    # Not what is there anyway: the batch, and the tensors that the module holds.
    X, y = batch
    known: dict[int, int] = {}
    found: dict[int, int] = {}  # by storage: a tensor is saved by each operation that reads it

    def note(tensor: Tensor, places: dict[int, int] = found) -> Tensor:
        if tensor.layout is torch.strided:
            storage = tensor.untyped_storage()
            places[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # itself would hold on to the graph, and the graph to it

    for tensor in (*tensors_in(X), y, *module.parameters(), *module.buffers()):
        note(tensor, known)
    try:
        with saved_tensors_hooks(note, lambda tensor: tensor):
            output = run()
    except RuntimeError:  # torch.func, within a forward, refuses hooks; or it comes again
        return run(), 0
    return output, sum(size for place, size in found.items() if place not in known)


def explore_graph(
    loss: Tensor, edges: list[GradientEdge]
) -> tuple[Counter[int], list[GradientEdge]]:
    """Count the places where the graph of the loss reads each parameter; find the roots."""
    # A Linear layer's forward reads its weight once. More reads than recorded calls mean that the
    # weight is also used elsewhere (tied to another layer, passed to a function, penalised in the
    # loss), where no hook sees it.
    uses: Counter[int] = Counter()
    # the nodes that take up what a node gives
    readers: dict[Node, list[Node]] = {} if loss.grad_fn is None else {loss.grad_fn: []}
    nodes = list(readers)
    for node in nodes:  # grows on the way
        for child, _ in node.next_functions:
            if child is None:
                continue
            if type(child) is _LEAF:
                uses[id(child.variable)] += 1  # type: ignore[attr-defined]
            elif child in readers:
                readers[child].append(node)
            else:
                readers[child] = [node]
                nodes.append(child)
    recorded = {edge.node: edge for edge in edges if edge.node in readers}
    before_another: set[Node] = set()  # nodes from which a backward pass comes to a recorded one
    above = [reader for node in recorded for reader in readers[node]]
    while above:
        node = above.pop()
        if node not in before_another:
            before_another.add(node)
            above += readers[node]
    return uses, [edge for node, edge in recorded.items() if node not in before_another]


def moves_rows(outputs: Sequence[Tensor], n_rows: int) -> bool:
    """Tell whether the graph of a batch's outputs may put rows elsewhere than they came in."""
    # What sorts, drops, buckets or loops over rows by their content shows here in every batch,
    # whatever it did to the rows that were tried.
    above = [output.grad_fn for output in outputs if output.grad_fn is not None]
    seen = set(above)
    while above:
        node = above.pop()
        if _moves_rows(node, n_rows):
            return True
        for child, _ in node.next_functions:
            if child is not None and child not in seen:
                seen.add(child)
                above.append(child)
    return False


# What picks along one axis, by the kind of node.
_PICKS = frozenset(
    f"{name}Backward0"
    for name in (
        *("Cat", "Gather", "Index", "IndexAdd", "IndexCopy", "IndexSelect", "Scatter"),
        *("ScatterAdd", "ScatterReduce", "Select", "Slice", "Sort", "Split", "SplitWithSizes"),
        *("Stack", "Topk", "Unbind"),
    )
)
# What picks along several axes, or anywhere.
_PICKS_ANYWHERE = frozenset(
    f"{name}Backward0"
    for name in ("Flip", "IndexPut", "MaskedScatter", "MaskedSelect", "Put", "Roll", "Take")
)


def _moves_rows(node: Node, n_rows: int) -> bool:
    name = node.name()
    if name in _PICKS_ANYWHERE:
        dims = getattr(node, "_saved_dims", ())
        return not dims or 0 in {_axis(node, dim) for dim in dims}
    if name not in _PICKS or _rows_in(node) not in {None, n_rows}:
        return False
    if name == "IndexBackward0":
        index = node._saved_indices[0]  # type: ignore[attr-defined]
        return index is not None and not _is_all(index, n_rows)
    if _axis(node, node._saved_dim):  # type: ignore[attr-defined]
        return False
    if name == "SliceBackward0":
        return bool(node._saved_start or node._saved_end < n_rows)  # type: ignore[attr-defined]
    # the index that Select saves is a number
    by_index = name == "IndexSelectBackward0"
    return not (by_index and _is_all(node._saved_index, n_rows))  # type: ignore[attr-defined]


def _axis(node: Node, dim: int) -> int:
    """Count an axis from the front; torch keeps a negative one as an unsigned number."""
    if dim < 2**63:
        return dim
    sizes = getattr(node, "_saved_self_sym_sizes", None)
    n_axes = len(sizes or node._input_metadata[0].shape)
    if node.name() == "UnbindBackward0":
        n_axes += 1
    return (dim - 2**64) % n_axes


def _rows_in(node: Node) -> int | None:
    """Read how many entries the first axis has that a node picks from; None if it is not known."""
    sizes = getattr(node, "_saved_self_sym_sizes", None)
    return int(sizes[0]) if sizes else None


def _is_all(index: Tensor, n_rows: int) -> bool:
    """Tell an index that takes every row in order."""
    if index.dtype in {torch.bool, torch.uint8}:
        return bool(index.all())
    every = torch.arange(n_rows, device=index.device)
    return index.numel() == n_rows and bool(torch.equal(index.reshape(-1).long(), every))
