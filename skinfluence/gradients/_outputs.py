"""What is read off a net's outputs: row losses and class scores, at one state or several."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skinfluence.gradients._layers import call_order, last_module, rows_in_cache
from skinfluence.gradients._net_loss import (
    Batch,
    Nested,
    NetLoss,
    map_tensors,
    n_rows,
    take_rows,
    tensors_in,
)
from skinfluence.gradients._passes import prepare
from skinfluence.gradients._skorch import (
    Net,
    array_of,
    as_dataset,
    collated,
    iter_batches,
    kind_of,
    net_loss_of,
    rows_made_dense,
    shadow_of,
    takes_one_output,
)
from skinfluence.gradients._states import State, net_losses_at
from skinfluence.gradients._trial import (
    check_outputs_are_independent,
    check_results_follow_rows,
    check_rows_are_independent,
    draw_trial,
    rows_that_differ,
)
from skinfluence.rows._containers import n_samples_of
from skinfluence.rows._seeds import preserved_random_state

# read(net_loss, X, y): one float64 number for every row of a batch.
Read: TypeAlias = Callable[[NetLoss, Nested, Tensor], NDArray[np.float64]]

_LOGIT_LOSSES = (nn.CrossEntropyLoss, nn.BCEWithLogitsLoss)


def mean_over_states(
    net: Net,
    X: object,
    y: object,
    states: Sequence[State | None],
    read: Read,
    *,
    batch_size: int,
) -> NDArray[np.float64]:
    """Average over states what is read off a forward pass of every row."""
    with preserved_random_state(), torch.no_grad():
        trial, dataset = prepare(net, X, y, batch_size)
        losses = net_losses_at(net, states)
        check_rows_are_independent(losses[-1], trial)
        order = call_order(losses[-1], take_rows(trial.batches[0][0], slice(0, 2)))
        size = rows_made_dense(dataset, min(batch_size, rows_in_cache(losses[-1], order)))
        batches = iter_batches(net, dataset, None, size)

        def read_mean(batch: Batch) -> NDArray[np.float64]:
            return np.asarray(np.mean([read(loss, *batch) for loss in losses], axis=0))

        values = np.concatenate([read_mean(batch) for batch in batches])
        check_results_follow_rows(trial, losses[-1], values, read_mean(trial.batches[1]))
    return values


def row_losses(net_loss: NetLoss, X: Nested, y: Tensor) -> NDArray[np.float64]:
    """Compute the loss of every row of a batch, as a `Read`."""
    return _as_doubles(net_loss.row_losses(X, y))


def check_has_classes(net: Net) -> None:
    """Refuse a net whose outputs are no class probabilities."""
    if kind_of(net) not in {"classes", "binary"}:
        raise ValueError(
            f"Got a {type(net).__name__}, but the score needs class probabilities. Use a "
            "NeuralNetClassifier or NeuralNetBinaryClassifier, or a method that takes any net, "
            "such as LossScore or GraNd."
        )


def class_scores(net: Net, output: Nested) -> NDArray[np.float64]:
    """Turn outputs into (n_rows, n_classes) logits, whose softmax are the class probabilities."""
    # Outputs under CrossEntropyLoss and BCEWithLogitsLoss are logits; one logit z a row stands for
    # (0, z). Under any other criterion outputs are probabilities, as skorch has it for NLLLoss, and
    # their logs are taken. A function given as the net's `predict_nonlinearity` makes probabilities
    # of outputs, whatever the criterion.
    check_has_classes(net)
    first = tensors_in(output)[0]
    if first.shape[1:] == (1,):
        first = first[:, 0]
    criterion = getattr(net.criterion_, "_orig_mod", net.criterion_)
    if callable(net.predict_nonlinearity):
        scores = _logs(net, _as_doubles(net.predict_nonlinearity(first)))
    elif isinstance(criterion, _LOGIT_LOSSES):
        scores = _as_doubles(first)
        scores = np.stack([np.zeros_like(scores), scores], 1) if scores.ndim == 1 else scores
    else:
        scores = _logs(net, _as_doubles(first))
    if scores.ndim != 2:
        raise ValueError(
            f"The net's outputs have shape {tuple(first.shape)} for {len(first)} rows, but the "
            "score needs one label a row: outputs of shape (n_rows, n_classes), or (n_rows,) of a "
            "NeuralNetBinaryClassifier."
        )
    return scores


def class_codes(y: Tensor, n_classes: int) -> NDArray[np.int64]:
    """Check the labels of a batch, as the net codes them: 0, 1, ..., n_classes - 1."""
    values = _as_doubles(y)
    codes = values.astype(np.int64)
    wrong = (codes != values) | (codes < 0) | (codes >= n_classes)
    if values.size != len(values) or wrong.any():
        shown = values.ravel()[wrong.ravel()].tolist()[:3]
        raise ValueError(
            f"Got targets of shape {values.shape} with {shown} among them, but the score needs one "
            f"label a row from 0 to {n_classes - 1}, as the net codes its classes. Leave out rows "
            "without a label, and pass classes instead of their probabilities."
        )
    return codes.reshape(-1)


def labels_of(net: Net, X: object, y: object) -> Tensor:
    """Read the targets of all rows, which a data set may hold."""
    with preserved_random_state():
        return torch.cat([yi for _, yi in iter_batches(net, X, y, 256)])


def _logs(net: Net, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    if probabilities.ndim == 1:
        probabilities = np.stack([1 - probabilities, probabilities], 1)
    total = probabilities.sum(-1)
    # NaN passes: whoever reads the scores refuses it by its own name
    if (probabilities < 0).any() or (np.abs(total - 1) > 1e-2).any():
        raise ValueError(
            f"The net's outputs are no class probabilities, as {type(net.criterion_).__name__} "
            f"asks of a {type(net).__name__}: they lie in [{probabilities.min():.3g}, "
            f"{probabilities.max():.3g}]. Use CrossEntropyLoss with logits or NLLLoss with "
            "probabilities, or tell skorch what makes probabilities of your outputs, such as "
            "predict_nonlinearity=torch.nn.Softmax(-1)."
        )
    # finite: a probability of 0 counts as the smallest normal float32
    return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))


def _as_doubles(values: Tensor) -> NDArray[np.float64]:
    return np.asarray(values.detach().cpu().double().numpy())


def output_shape(net: Net, X: object, y: object) -> tuple[int, ...]:
    """Run two rows through an initialised net; the shape of one row's (first) output."""
    with preserved_random_state(), torch.no_grad():
        Xi, _ = next(iter_batches(net, X, y, 2))
        try:
            outputs = net_loss_of(net).forward(Xi)
            output = tensors_in(outputs)[0]
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            shapes = ", ".join(f"{tuple(x.shape)} {x.dtype}" for x in tensors_in(Xi))
            raise ValueError(
                f"The net's module cannot take a batch of shape {shapes}: {error}. "
                "Make its first layer fit the features of X, or change X."
            ) from error
    if isinstance(outputs, Mapping) and takes_one_output(net):
        raise ValueError(
            f"The net's module gives {type(outputs).__name__} with {', '.join(outputs)}, but "
            f"{type(net.criterion_).__name__} takes one tensor. Wrap the module in one whose "
            "forward returns the part that the loss is of, such as model(**X).logits; "
            "nets.text_net puts an output layer on a model of transformers."
        )
    return tuple(output.shape[1:])


def multiply_adds(net: Net, X: object, y: object) -> float:
    """Count a row's products and sums in an initialised net's forward pass on a processor."""
    from torch.utils.flop_counter import FlopCounterMode

    parameters = list(net.module_.parameters())
    if any(parameter.device.type != "cpu" for parameter in parameters):
        return np.inf
    with preserved_random_state(), torch.no_grad():
        Xi, _ = next(iter_batches(net, X, y, 2))
        shadow = shadow_of(net)
        with FlopCounterMode(display=False) as counter:
            shadow.infer(map_tensors(torch.clone, Xi))  # a forward may overwrite its input
    # it knows products of matrices and convolutions; others use a parameter once, at the least
    counted = counter.get_total_flops() / 2 / n_rows(Xi)
    return float(max(counted, sum(parameter.numel() for parameter in parameters)))


def input_table(
    net: Net, X: object, y: object, batch_size: int, max_bytes: int
) -> np.ndarray | None:
    """Read what the net takes of every row, flattened: (n_samples, n_numbers); None if ragged."""
    with preserved_random_state():
        dataset = as_dataset(net, X, y)
        array = array_of(dataset)
        if array is not None:
            return array
        tried = [row for rows in draw_trial(net, dataset).rows for row in rows.tolist()]
        widths = {_flat(collated(net, [dataset[row]])[0]).shape[1] for row in tried}
        if len(widths) > 1:  # padded to the longest of a batch, which is another in every batch
            return None
        n_bytes = len(dataset) * widths.pop() * torch.float32.itemsize
        if n_bytes > max_bytes:
            raise ValueError(
                f"n_neighbors compares rows by their inputs, which take {n_bytes} bytes in all, "
                f"more than max_bytes={max_bytes}. Raise max_bytes, or set n_neighbors=None."
            )
        parts = [_flat(Xi) for Xi, _ in iter_batches(net, dataset, None, batch_size)]
    if len({part.shape[1] for part in parts}) > 1:
        return None
    return np.asarray(torch.cat(parts).numpy())


def _flat(X: Nested) -> Tensor:
    parts = [tensor.detach().cpu().reshape(len(tensor), -1) for tensor in tensors_in(X)]
    return torch.cat(parts, 1)


def penultimate_features(net: Net, X: object, *, batch_size: int) -> np.ndarray:
    """Read the input of the trainable layer entered last, flattened: (n_samples, n_features)."""
    with preserved_random_state(), torch.no_grad():
        y = np.zeros(n_samples_of(X), np.int64)
        trial, dataset = prepare(net, X, y, batch_size)
        net_loss = net_loss_of(net)
        check_outputs_are_independent(net_loss, trial)
        order = call_order(net_loss, take_rows(trial.batches[0][0], slice(0, 2)))
        name, last = last_module(net_loss, order)
        seen: list[object] = []
        last.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[:1]))

        def read(batch: Batch) -> np.ndarray | None:
            seen.clear()
            net_loss.forward(batch[0])
            return _as_rows(seen[-1] if seen else None, n_rows(batch[0]))

        size = rows_made_dense(dataset, min(batch_size, rows_in_cache(net_loss, order)))
        batches = iter_batches(net, dataset, None, size)
        parts = [*map(read, batches), read(trial.batches[1])]
        found = [part for part in parts if part is not None]
        if len(found) == len(parts):
            values = np.concatenate(found[:-1])
            if not rows_that_differ(trial, net_loss, values, found[-1]):
                return values
        # the layer sees the rows in another order than they came in, or not each: one at a time
        alone = [read(batch) for batch in iter_batches(net, X, y, 1)]
        if any(part is None for part in alone):
            raise ValueError(
                f"The net's last layer, {name!r}, takes {_kind_of(seen)} for one row; expected a "
                "tensor with one entry a row as its first argument. Use features='raw'."
            )
    return np.concatenate([part for part in alone if part is not None])


def _as_rows(inputs: object, rows: int) -> np.ndarray | None:
    """Flatten a layer's input; None if it does not have the rows on its first axis."""
    if not isinstance(inputs, Tensor) or inputs.ndim < 2 or len(inputs) != rows:
        return None
    values = inputs.detach().flatten(1).cpu()
    return (values if values.dtype == torch.float64 else values.float()).numpy()


def _kind_of(seen: list[object]) -> str:
    inputs = seen[-1] if seen else None
    return str(tuple(inputs.shape)) if isinstance(inputs, Tensor) else type(inputs).__name__
