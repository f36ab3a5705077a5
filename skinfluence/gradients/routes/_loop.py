"""The one batch loop: every method of the package reads its per-sample gradients here."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from skinfluence.gradients._closeness import all_close
from skinfluence.gradients._layers import Layer, call_order, rows_in_cache, select_layers
from skinfluence.gradients._net_loss import (
    Batch,
    Nested,
    NetLoss,
    take_rows,
    tensors_in,
)
from skinfluence.gradients._readings import Kept, Part, Reading, Result
from skinfluence.gradients._trial import Trial, check_rows_are_independent, precision_of
from skinfluence.gradients._verdicts import Verdict
from skinfluence.gradients.factors._layer_gradients import DenseGradients, LayerGradients
from skinfluence.gradients.factors._rules import rule_for
from skinfluence.gradients.factors._tied import joined
from skinfluence.gradients.routes._capture import (
    Capture,
    Flows,
    Recorder,
    counting_saved,
    explore_graph,
    require_gradients_of,
)
from skinfluence.gradients.routes._per_row import (
    functional_gradients,
    gradients_or_zeros,
    loop_gradients,
)

# Gradients that no rule factors are dense: rows are taken a few at a time so that they fit.
_DENSE_BYTES = 2**28
# What autograd saves of a forward pass is held until the backward pass, as in training. For a small
# net it is kilobytes a row; for 128 tokens through a language model 10 MiB and more, however few
# the parameters that are asked for. Rows are taken so many at a time that it fits beside the rest
# of a program in a few gigabytes, and so that a pass is large enough for any processor.
_SAVED_BYTES = 2**29


class BatchLoop(ABC):
    """Per-sample gradients of a net, batch after batch: what is read off each batch in turn."""

    net_loss: NetLoss
    layers: list[Layer]
    strategy: dict[str, str]  # the route of each layer, by name

    @property
    def n_parameters(self) -> int:
        """Count the columns of the dense matrix."""
        return sum(layer.n_parameters for layer in self.layers)

    @property
    @abstractmethod
    def rows_at_once(self) -> int:
        """Say how many rows may be read together so that they fit into memory."""

    @property
    @abstractmethod
    def rows_in_cache(self) -> int:
        """Say how many rows a pass takes fastest together, as far as processor caches tell."""

    @abstractmethod
    def leave_factored(self) -> None:
        """Take each row's gradient alone from now on."""

    def tried(self, trial: Trial, reading: Reading[Part, Result]) -> Iterator[Result]:
        """Read the second batch of the trial, alone."""
        return self.batches(trial.batches[1:], reading)

    @abstractmethod
    def opened(self) -> AbstractContextManager[Sequence[Recorder]]:
        """Set the hooks that `read` needs, and take them away again."""

    @abstractmethod
    def read(
        self,
        recorders: Sequence[Recorder],
        X: Nested,
        y: Tensor,
        reading: Reading[Part, Result],
    ) -> Result:
        """Read one quantity off a batch of at most `rows_at_once`."""

    def batches(self, batches: Iterable[Batch], reading: Reading[Part, Result]) -> Iterator[Result]:
        """Read each batch, in several parts where it would not fit into memory at once."""
        with self.opened() as recorders:
            for X, y in batches:
                for rows in slices(len(y), self.rows_at_once):
                    yield self.read(recorders, take_rows(X, rows), y[rows], reading)


class GradientLoop(BatchLoop):
    """Gradients of a net as it is, each layer by its cheapest exact route."""

    # Routes, in `strategy`: "factored" (a rule knows the layer; one backward pass a batch),
    # "functional" (vmap over rows) and "loop" (one backward pass a row, for what vmap refuses).
    # They give the same numbers. A layer leaves the factored route when its input does not have
    # the rows on the first axis, or when its parameters are used where no hook sees it.

    def __init__(
        self,
        net_loss: NetLoss,
        trial: Trial,
        layers: str | Sequence[str],
        known: Verdict | None = None,  # of the same trial
    ) -> None:
        self.net_loss = net_loss
        X, y = trial.batches[0]
        X, y = self._some = take_rows(X, slice(0, 2)), y[:2]
        self._kept: list[dict[str, LayerGradients]] | None = None
        if known is not None:
            self._order, self.strategy = known.order, dict(known.strategy)
            self._saved_a_row = known.saved_a_row
            self.layers = select_layers(net_loss, self._order, layers)
            self._is_tried = True
            return
        check_rows_are_independent(net_loss, trial)
        order = self._order = call_order(net_loss, X)
        entered = set(order.names)
        self.layers = select_layers(net_loss, order, layers)
        few, n_few = trial.batches[1], min(2, len(trial.batches[1][1]))
        few = take_rows(few[0], slice(0, 2)), few[1][:2]
        saved_of_few = _check_graph_reaches(net_loss, self.layers, entered, *few)
        self._saved = self._saved_a_row = 0  # while it is tried nothing is cut
        self.strategy = {
            layer.name: "factored" if _may_factor(layer, entered) else "functional"
            for layer in self.layers
        }
        self._route_per_row(X, y)
        self._is_tried = False
        # the second is out of order for whatever sorts rows, unless it is a part of the first
        is_part = set(trial.rows[1].tolist()) <= set(trial.rows[0].tolist())
        for batch in trial.batches if is_part else trial.batches[1:]:
            kept = self._try_routes(*batch)
        self._is_tried = True
        # of rows beyond the first: weights that a forward computes anew are saved once a pass
        more = len(trial.batches[1][1]) - n_few
        self._saved_a_row = max(0, self._saved - saved_of_few) // more if more else 0
        # of the second batch; not what is large
        self._kept = None if any(map(self._is_dense, self.layers)) else kept

    @property
    def verdict(self) -> Verdict:
        """Say what the trial found, which holds for the same trial of the same net."""
        return Verdict(self._order, dict(self.strategy), self._saved_a_row)

    def at(self, net_loss: NetLoss) -> "GradientLoop":
        """Give the loop of the same net at other parameters, whose routes need no other trial."""
        # Which route is right follows from the module's code. What a batch does otherwise at these
        # parameters shows in its own graph, and in the results of the rows that are tried.
        other = copy.copy(self)
        other.net_loss, other.strategy, other._kept = net_loss, dict(self.strategy), None
        with torch.no_grad():  # watched before anything is recorded
            net_loss.forward(self._some[0])
        names = [layer.name for layer in self.layers]
        other.layers = select_layers(net_loss, self._order, names)
        return other

    @property
    def rows_at_once(self) -> int:
        """See `BatchLoop`."""
        return min(self.dense_at_once, self.saved_at_once)

    @property
    def saved_at_once(self) -> int:
        """Say how many rows may pass together so that what autograd saves of them fits."""
        return max(1, _SAVED_BYTES // self._saved_a_row) if self._saved_a_row else 2**62

    @property
    def dense_at_once(self) -> int:
        """Say how many rows may be read together so that dense gradients fit."""
        dense = sum(layer.n_parameters for layer in self.layers if self._is_dense(layer))
        if not dense:
            return 2**62
        itemsize = next(iter(self.layers[0].parameters.values())).element_size()
        return max(1, _DENSE_BYTES // (dense * itemsize))

    @property
    def rows_in_cache(self) -> int:
        """See `BatchLoop`."""
        return rows_in_cache(self.net_loss, self._order)

    def leave_factored(self) -> None:
        """See `BatchLoop`."""
        for layer in self._on("factored"):
            self._leave_route(layer)
        self._route_per_row(*self._some)
        self._kept = None

    def tried(self, trial: Trial, reading: Reading[Part, Result]) -> Iterator[Result]:
        """See `BatchLoop`; what the trial of the routes found is not computed again."""
        if self._kept is None:
            yield from super().tried(trial, reading)
            return
        for kept in self._kept:
            parts = [reading.layer(layer, kept[layer.name]) for layer in self.layers]
            yield reading.total(self.layers, parts)

    @contextmanager
    def opened(self) -> Iterator[Sequence[Recorder]]:
        """See `BatchLoop`."""
        with Recorder(self.net_loss, self._on("factored")) as recorder:
            yield [recorder]

    def read(
        self,
        recorders: Sequence[Recorder],
        X: Nested,
        y: Tensor,
        reading: Reading[Part, Result],
    ) -> Result:
        """See `BatchLoop`; here there is one recorder."""
        (recorder,) = recorders
        versions = _versions(X, y)
        found = self._factored(recorder, X, y, reading) if recorder.layers else {}
        for route, gradients in (("functional", functional_gradients), ("loop", loop_gradients)):
            layers = self._on(route)
            if not layers:
                continue
            dense = gradients(self.net_loss, layers, X, y)
            for layer in layers:
                values = DenseGradients(dense.pop(layer.name), _why_dense(layer))
                found[layer.name] = reading.layer(layer, values)
        result = reading.total(self.layers, [found[layer.name] for layer in self.layers])
        if _versions(X, y) != versions:
            raise ValueError(
                "The net's forward or loss wrote into its input on this batch, though not on the "
                "first rows, so the rows given as X or y may have been changed. Make it work on a "
                "copy."
            )
        return result

    def _factored(
        self, recorder: Recorder, X: Nested, y: Tensor, reading: Reading[Part, object]
    ) -> dict[str, Part]:
        record = recorder.record(X, y)
        layers, rows = self._on("factored"), y.shape[0]
        unseen = [layer for layer in layers if not _has_rows_first(record, layer, rows)]
        if unseen:  # this batch takes another way through the net than the first rows did
            for layer in unseen:
                self.strategy[layer.name] = "functional"
            self._route_per_row(X, y)
            layers = self._on("factored")
        if layers and self._is_tried and record.moves_rows:
            # this batch's rows go through the net in another order, whatever the tried rows did
            part = copy.copy(self)
            part.layers, part._is_tried = layers, False
            part._try_routes(X, y)
            layers = self._on("factored")
        by_name = {layer.name: layer for layer in layers}
        found: dict[str, Part] = {}

        def done(name: str, flows: Flows) -> None:
            found[name] = reading.layer(by_name[name], _apply_rule(by_name[name], flows, rows))

        record.backward(list(by_name), done)
        return found

    def _on(self, route: str) -> list[Layer]:
        return [layer for layer in self.layers if self.strategy[layer.name] == route]

    def _is_dense(self, layer: Layer) -> bool:
        return self.strategy[layer.name] != "factored"

    def _try_routes(self, X: Nested, y: Tensor) -> list[dict[str, LayerGradients]]:
        """Leave the routes that differ from one backward pass; give the gradients, part by part."""
        while True:  # at most three times
            kept = list(self.batches([(X, y)], Kept()))
            wrong = self._wrong_layers(X, y, kept)
            if not wrong:
                return kept
            for layer in wrong:
                self._leave_route(layer)
            self._route_per_row(X, y)

    def _leave_route(self, layer: Layer) -> None:
        """Take a slower route for a layer."""
        route = self.strategy[layer.name]
        if route == "loop":
            raise ValueError(
                f"The gradient of a row's loss by the parameters of {layer.name} depends on the "
                "other rows of its batch, though the loss itself does not, so a row has no "
                "gradient of its own. Make the forward treat each row alone."
            )
        self.strategy[layer.name] = "functional" if route == "factored" else "loop"

    def _wrong_layers(
        self, X: Nested, y: Tensor, parts: list[dict[str, LayerGradients]]
    ) -> list[Layer]:
        """Find the layers whose gradients, weighted at random, do not add up to the batch's."""
        # A sum of all rows' gradients is the same in any order of the rows, which random weights
        # tell. Rows the net is sure of would count for nothing: each gets about the same weight.
        by_part = [torch.stack([kept.power_sum(2) for kept in part.values()]) for part in parts]
        squares = torch.cat(by_part, 1).double().cpu().nan_to_num(0.0, 0.0)  # (n_layers, n_rows)
        norms = squares.sum(0).sqrt()
        norms = norms.clamp_min(1e-3 * float(norms.max()))
        signs = torch.randn(len(y), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        weights = signs / torch.where(norms > 0, norms, 1.0)
        scales = (squares @ weights.square()).sqrt().tolist()
        expected = self._weighted_sum(X, y, weights)
        wrong = []
        for layer, scale in zip(self.layers, scales, strict=True):
            pieces = zip(
                parts, torch.split(weights, [part.shape[1] for part in by_part]), strict=True
            )
            sums = [part[layer.name].scaled(own).summed() for part, own in pieces]
            found = sums[0] if len(sums) == 1 else torch.stack(sums).sum(0)
            entry = scale / layer.n_parameters**0.5
            starts = torch.split(found, [len(part) for part in expected[layer.name]])
            pairs = list(zip(starts, expected[layer.name], strict=True))
            if not all(all_close(one, two, entry) for one, two in pairs):
                wrong.append((layer, pairs, entry))
        if not wrong:
            return []
        dtype = precision_of(self.net_loss, X)
        # what is not finite tells nothing, and is named by its row when it is read
        return [
            layer
            for layer, pairs, entry in wrong
            if not all(
                all_close(one.to(dtype), two.to(dtype), entry) or not two.isfinite().all()
                for one, two in pairs
            )
        ]

    def _weighted_sum(self, X: Nested, y: Tensor, weights: Tensor) -> dict[str, list[Tensor]]:
        """Add up the rows' gradients, by (n_rows,) weights, with one backward pass."""
        parameters = [p for layer in self.layers for p in layer.parameters.values()]
        with require_gradients_of(self.net_loss.module, self.layers):
            losses, self._saved = counting_saved(
                lambda: self.net_loss.row_losses(X, y), self.net_loss.module, (X, y)
            )
            total = (weights.to(losses) * losses).sum()
        parts = iter(gradients_or_zeros(total, parameters))
        return {
            layer.name: [next(parts).flatten() for _ in layer.parameters] for layer in self.layers
        }

    def _route_per_row(self, X: Nested, y: Tensor) -> None:
        layers = self._on("functional")
        if not layers:
            return
        try:
            functional_gradients(self.net_loss, layers, take_rows(X, slice(0, 2)), y[:2])
        except RuntimeError:  # what vmap has no rule for; if the net itself fails, so will the loop
            for layer in layers:
                self.strategy[layer.name] = "loop"


def slices(n: int, size: int) -> Iterator[slice]:
    """Cut n rows into slices of at most `size`."""
    return (slice(start, start + size) for start in range(0, n, size))


def _may_factor(layer: Layer, entered: set[str]) -> bool:
    """Tell whether a rule knows the layer, the first rows enter it, and it runs as written."""
    return rule_for(layer.module) is not None and layer.name in entered and _runs_as_written(layer)


def _why_dense(layer: Layer) -> str:
    """Say why the gradient of a layer has no factor that is the layer's input."""
    kind = type(layer.module).__name__
    if is_parametrized(layer.module) or _is_hooked(layer.module):
        why = "a hook or a reparametrisation such as weight_norm changes what it computes"
    elif rule_for(layer.module) is None:
        why = f"no rule is known for {kind}"
    else:
        why = (
            "its parameters are used outside of it too, as by a penalty in get_loss or by tied "
            "weights, or its rows come in another order or on another axis"
        )
    return f"that of {layer.name}, a {kind}, has none: {why}"


def _runs_as_written(layer: Layer) -> bool:
    """Tell a plain layer from one that a hook, a patch or a reparametrization makes another."""
    modules = layer.modules
    as_named = layer.own_names <= {"weight", "bias"}
    return as_named and all(rule_for(m) is not None and not _is_hooked(m) for m in modules)


def _is_hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def _versions(X: Nested, y: Tensor) -> list[int]:
    """Read the in-place counters, which a forward that works on a copy leaves alone."""
    return [tensor._version for tensor in (*tensors_in(X), y)]


def _has_rows_first(record: Capture, layer: Layer, rows: int) -> bool:
    calls = record.calls[layer.name]
    return record.complete[layer.name] and all(
        call.a.dim() > 1 and call.a.shape[0] == rows and call.shape[:1] == (rows,) for call in calls
    )


def _apply_rule(layer: Layer, flows: Flows, rows: int) -> LayerGradients:
    some_parameter = next(iter(layer.parameters.values()))
    if not flows:  # not entered this time: the loss does not depend on it
        return DenseGradients(some_parameter.detach().new_zeros(rows, layer.n_parameters))
    dtype = some_parameter.dtype  # under autocast what flows may be less precise
    if any(b.dtype != dtype for _, _, b in flows):
        flows = [(m, a.to(dtype) if a.is_floating_point() else a, b.to(dtype)) for m, a, b in flows]
    parts = []
    for module in layer.modules:
        pairs = [(a, b) for entered, a, b in flows if entered is module]
        rule = rule_for(module)
        if pairs and rule is not None:
            parts.append(rule.gradients(module, pairs, layer.own_names))
    return parts[0] if len(parts) == 1 else joined(parts)


def _check_graph_reaches(
    net_loss: NetLoss, layers: list[Layer], entered: set[str], X: Nested, y: Tensor
) -> int:
    """Refuse nets whose loss does not come from the layers; count the bytes that autograd saves."""
    with require_gradients_of(net_loss.module, layers):
        loss, saved = counting_saved(lambda: net_loss(X, y), net_loss.module, (X, y))
    uses, _ = explore_graph(loss, [])
    if not net_loss.originals.isdisjoint(uses):
        raise ValueError(
            "The net's forward uses parameters that are not those of its submodules, as a lambda "
            "or a hook does that was made with the module and holds on to it. A copy of the "
            "module cannot follow; make it a method or a submodule."
        )
    if not loss.requires_grad and any(layer.name in entered for layer in layers):
        names = ", ".join(layer.name for layer in layers)
        raise ValueError(
            f"The forward pass enters {names}, but the loss does not depend on them as far as "
            "autograd sees. Likely causes are torch.no_grad, detach, and checkpointing with "
            "use_reentrant=True; use use_reentrant=False."
        )
    return saved
