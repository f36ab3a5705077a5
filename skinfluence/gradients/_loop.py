"""The one batch loop: every method of the package reads its per-sample gradients here."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skinfluence.gradients._capture import Capture, Recorder
from skinfluence.gradients._factors import DenseGradients, LayerGradients
from skinfluence.gradients._layers import Layer, select_layers
from skinfluence.gradients._net_loss import (
    Nested,
    NetLoss,
    n_rows,
    take_rows,
    tensors_in,
)
from skinfluence.gradients._per_row import functional_gradients, loop_gradients
from skinfluence.gradients._rules import rule_for

# Gradients that no rule factors are dense: rows are taken a few at a time so that they fit.
_DENSE_BYTES = 2**28


@dataclass(frozen=True)
class BatchGradients:
    """The per-sample gradients of one batch, layer by layer.

    Attributes
    ----------
    layers : dict of str to LayerGradients
        In the order of the net's parameters.
    """

    layers: dict[str, LayerGradients]

    def norms(self, ord: int) -> Tensor:
        """Take the norm of each row's whole gradient.

        Parameters
        ----------
        ord : {1, 2}

        Returns
        -------
        Tensor of shape (n_rows,)
        """
        sums = [layer.power_sum(ord) for layer in self.layers.values()]
        total = sums[0] if len(sums) == 1 else torch.stack(sums).sum(0)
        return total if ord == 1 else total.sqrt()

    def dense(self) -> Tensor:
        """Build the matrix of this batch.

        Returns
        -------
        Tensor of shape (n_rows, n_parameters)
        """
        parts = [layer.dense() for layer in self.layers.values()]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


class GradientLoop:
    """Per-sample gradients of a net, batch after batch, each layer by its cheapest exact route.

    Routes, in ``strategy``: "factored" (a rule knows the layer; one backward pass a batch),
    "functional" (vmap over rows) and "loop" (one backward pass a row, for what vmap refuses).
    They give the same numbers. A layer leaves the factored route when its input does not have
    the rows on the first axis, or when its parameters are used where no hook sees it.

    Parameters
    ----------
    net_loss : NetLoss
    X, y : nested tensors of shape (n_rows, ...), Tensor of shape (n_rows, ...)
        A few rows on which the routes are tried out.
    layers : "last", "all", or sequence of str
        See `select_layers`.

    Raises
    ------
    ValueError
        If the net is random in eval mode or couples the rows of a batch, or if `layers` names
        something it does not have.
    """

    def __init__(
        self, net_loss: NetLoss, X: Nested, y: Tensor, layers: str | Sequence[str]
    ) -> None:
        self.net_loss = net_loss
        X, y = take_rows(X, slice(0, 3)), y[:3]
        _check_rows_are_independent(net_loss, X)
        self.layers = select_layers(net_loss, X, layers)
        self.strategy = dict.fromkeys((layer.name for layer in self.layers), "functional")
        self._route_factored(X, y)
        self._route_per_row(X, y)

    @property
    def n_parameters(self) -> int:
        """Count the columns of the dense matrix.

        Returns
        -------
        int
        """
        return sum(layer.n_parameters for layer in self.layers)

    def batches(self, batches: Iterable[tuple[Nested, Tensor]]) -> Iterator[BatchGradients]:
        """Take the gradients of each batch in turn.

        Parameters
        ----------
        batches : iterable of (nested tensors, Tensor)

        Yields
        ------
        BatchGradients
            One a batch, or several for a batch whose dense gradients would not fit.
        """
        with Recorder(self.net_loss, self._on("factored")) as recorder:
            for X, y in batches:
                step = self._rows_at_once()
                if len(y) <= step:
                    yield self._gradients(recorder, X, y)
                    continue
                for start in range(0, len(y), step):
                    part = slice(start, start + step)
                    yield self._gradients(recorder, take_rows(X, part), y[part])

    def _gradients(self, recorder: Recorder, X: Nested, y: Tensor) -> BatchGradients:
        found = self._factored(recorder, X, y) if recorder.layers else {}
        if len(found) == len(self.layers):
            return BatchGradients(found)
        for route, gradients in (("functional", functional_gradients), ("loop", loop_gradients)):
            per_row = self._on(route)
            if per_row:
                dense = gradients(self.net_loss, per_row, X, y)
                found.update({name: DenseGradients(values) for name, values in dense.items()})
        return BatchGradients({layer.name: found[layer.name] for layer in self.layers})

    def _factored(self, recorder: Recorder, X: Nested, y: Tensor) -> dict[str, LayerGradients]:
        record = recorder.record(X, y)
        layers = self._on("factored")
        unseen = [layer for layer in layers if not _has_rows_first(record, layer, len(y))]
        if unseen:  # this batch takes another way through the net than the first rows did
            for layer in unseen:
                self.strategy[layer.name] = "functional"
            self._route_per_row(X, y)
            layers = self._on("factored")
        return _apply_rules(record, layers, len(y))

    def _on(self, route: str) -> list[Layer]:
        return [layer for layer in self.layers if self.strategy[layer.name] == route]

    def _rows_at_once(self) -> int:
        dense = sum(layer.n_parameters for layer in self.layers if self._is_dense(layer))
        if not dense:
            return 2**62
        itemsize = next(iter(self.layers[0].parameters.values())).element_size()
        return max(1, _DENSE_BYTES // (dense * itemsize))

    def _is_dense(self, layer: Layer) -> bool:
        return self.strategy[layer.name] != "factored"

    def _route_factored(self, X: Nested, y: Tensor) -> None:
        candidates = [
            layer
            for layer in self.layers
            if rule_for(layer.module) is not None
            and layer.own_names <= dict(layer.module.named_parameters(recurse=False)).keys()
        ]
        # The axis that follows the number of rows is the batch axis: two sizes tell it from a
        # sequence axis that happens to be as long.
        for size in (2, 3):
            index = [i % len(y) for i in range(size)]
            with Recorder(self.net_loss, candidates) as recorder:
                record = recorder.record(take_rows(X, index), y[index])
            candidates = [c for c in candidates if _has_rows_first(record, c, size)]
        for layer in candidates:
            self.strategy[layer.name] = "factored"

    def _route_per_row(self, X: Nested, y: Tensor) -> None:
        layers = self._on("functional")
        if not layers:
            return
        try:
            functional_gradients(self.net_loss, layers, take_rows(X, slice(0, 2)), y[:2])
        except RuntimeError:  # what vmap has no rule for; if the net itself fails, so will the loop
            for layer in layers:
                self.strategy[layer.name] = "loop"


def _has_rows_first(record: Capture, layer: Layer, rows: int) -> bool:
    calls = record.calls[layer.name]
    return record.complete[layer.name] and all(
        call.a.dim() > 1 and call.a.shape[0] == rows and call.z.shape[0] == rows for call in calls
    )


def _apply_rules(record: Capture, layers: list[Layer], rows: int) -> dict[str, LayerGradients]:
    gradients = record.call_gradients([layer.name for layer in layers])
    found: dict[str, LayerGradients] = {}
    for layer in layers:
        calls, rule = gradients[layer.name], rule_for(layer.module)
        if rule is None or not calls:  # never entered: the loss does not depend on it
            some_parameter = next(iter(layer.parameters.values()))
            zeros = some_parameter.new_zeros(rows, layer.n_parameters, requires_grad=False)
            found[layer.name] = DenseGradients(zeros)
        else:
            found[layer.name] = rule.gradients(layer.module, calls, layer.own_names)
    return found


def _check_rows_are_independent(net_loss: NetLoss, X: Nested) -> None:
    """Refuse nets for which a row's own gradient is not defined."""
    rows = n_rows(X)
    with torch.no_grad():
        together = tensors_in(net_loss.forward(X))
        again = tensors_in(net_loss.forward(X))
        alone = [tensors_in(net_loss.forward(take_rows(X, [i]))) for i in range(rows)]
    if not all(_close(one, two) for one, two in zip(together, again, strict=True)):
        raise ValueError(
            "The net gives different outputs for the same rows in eval mode, so its gradients "
            "would be random. A likely cause is dropout or noise that does not ask self.training; "
            "make it do so."
        )
    for position, output in enumerate(together):
        parts = [single[position] for single in alone]
        if output.dim() and len(output) == rows and not _close(output, torch.cat(parts)):
            raise ValueError(
                "The net's output for a row depends on the other rows of its batch, so a row has "
                "no gradient of its own. A likely cause is batch normalisation without running "
                "statistics, or a forward that averages over the first axis; use "
                "track_running_stats=True or a per-row normalisation such as LayerNorm."
            )


def _close(one: Tensor, two: Tensor) -> bool:
    """Compare to what the order of floating-point sums may change, NaNs being equal."""
    if not one.is_floating_point():
        return bool(torch.equal(one, two))
    scale = float(two.nan_to_num().abs().max()) if two.numel() else 0.0
    tolerance = torch.finfo(one.dtype).eps ** 0.5
    return bool(
        torch.allclose(one, two, rtol=0, atol=max(tolerance * scale, 1e-12), equal_nan=True)
    )
