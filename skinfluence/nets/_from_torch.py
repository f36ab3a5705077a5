"""Modules that were trained without skorch, put as every method takes them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from skorch.utils import is_dataset
from torch import Tensor, nn

from skinfluence.gradients._net_loss import tensors_in
from skinfluence.gradients._outputs import output_shape
from skinfluence.gradients._skorch import iter_batches, kind_of, net_loss_of
from skinfluence.nets._arrays import cast_inputs
from skinfluence.nets._labels import Labels, name_classes
from skinfluence.rows._containers import n_samples_of
from skinfluence.rows._seeds import preserved_random_state
from skinfluence.rows._targets import check_targets, listed, one_label_a_row
from skinfluence.trace._recorder import TraceRecorder
from skinfluence.trace._training_trace import Checkpoint, State, TrainingTrace

_OF_NUMBERS = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)
# So many rows show whether outputs are log-probabilities.
_ROWS_READ = 64


def from_torch(
    module: nn.Module,
    criterion: nn.Module,
    X: Any,
    y: Any,
    *,
    classes: ArrayLike | None = None,
    states: Sequence[Mapping[str, Tensor]] | None = None,
    learning_rates: Sequence[float] | None = None,
    initial_state: Mapping[str, Tensor] | None = None,
) -> FrozenEstimator:
    """Put a module that plain PyTorch trained as every method takes it, without training it again.

    Parameters
    ----------
    module : torch.nn.Module
        Trained. It is looked at, never changed: parameters, gradients, mode and device stay.
    criterion : torch.nn.Module
        The loss it was trained with, such as ``nn.CrossEntropyLoss()``: a mean or sum over rows.
        With ``CrossEntropyLoss``, and with ``NLLLoss`` of log-probabilities, the net is a
        classifier, with ``BCEWithLogitsLoss`` of one output a binary one; with ``MSELoss``,
        ``L1Loss``, ``SmoothL1Loss`` and ``HuberLoss`` it predicts numbers. Any other loss has
        gradients, but nothing that needs predicted labels.
    X : array, tensor, dict of arrays or torch data set of n_samples rows
        The rows it was trained on, or some of them, as the module takes them.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Their targets.
    classes : array-like of shape (n_classes,), optional
        The label of each output, in order; of a binary net the negative and the positive one. Not
        needed where y holds the outputs' numbers from 0 on.
    states : sequence of state dicts, optional
        What ``module.state_dict()`` gave along the training, in order, copied or saved each time;
        the last one is the end of training. Methods that follow a training need them, such as
        `TracIn` or those with `checkpoints` of more than one.
    learning_rates : sequence of float, optional
        The learning rate at each of the states, which `TracIn` weighs by. None weighs all alike.
    initial_state : state dict, optional
        That of the module before its training, for what compares with it.

    Returns
    -------
    FrozenEstimator
        A frozen skorch net, for `net` of any method: ``TracIn(net).fit(X, y)``.

    Raises
    ------
    TypeError
        If module or criterion is no instance of `torch.nn.Module`.
    ValueError
        If the last state is not the module's own, states do not fit the module, learning rates are
        as many as states or not above zero, or labels are not the outputs' numbers and `classes`
        does not name them.

    Notes
    -----
    What needs the order of the batches, such as `SGDInfluence`, cannot be had of states: train the
    net through skorch, with a `TraceRecorder`.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> from skinfluence import TracIn
    >>> from skinfluence.nets import from_torch
    >>> X, y = load_iris(return_X_y=True)
    >>> X, y = torch.tensor(X).float(), torch.tensor(y)
    >>> _ = torch.manual_seed(0)
    >>> module = torch.nn.Linear(4, 3)
    >>> optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    >>> criterion, states = torch.nn.CrossEntropyLoss(), []
    >>> for _ in range(20):
    ...     optimizer.zero_grad()
    ...     criterion(module(X), y).backward()
    ...     optimizer.step()
    ...     states.append({name: p.clone() for name, p in module.state_dict().items()})
    >>> net = from_torch(
    ...     module, criterion, X.numpy(), y.numpy(), states=states, learning_rates=[0.1] * 20
    ... )
    >>> TracIn(net, checkpoints="all").fit(X.numpy(), y.numpy()).detrimentality_.shape
    (150,)
    """
    for name, part in (("module", module), ("criterion", criterion)):
        if not isinstance(part, nn.Module):
            raise TypeError(f"Got {name}={part!r}, but expected an instance of torch.nn.Module.")
    targets = check_targets(y, n_samples_of(X))
    named = None if classes is None else np.asarray(classes)
    kind, criterion = _kind_and_criterion(module, criterion, X, targets)
    recorder = TraceRecorder()
    if states is not None:
        trace = _trace(module, states, learning_rates, initial_state, len(targets))
    net = _initialized(kind, module, criterion, callbacks=[] if states is None else [recorder])
    if states is not None:
        recorder.trace_ = trace
    shape = output_shape(net, cast_inputs(net, X), _placeholders(X))
    _name_outputs(net, shape, targets, named)
    return FrozenEstimator(net)


def _initialized(
    kind: type[NeuralNet], module: nn.Module, criterion: nn.Module, **more: Any
) -> Any:
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    net = kind(module, criterion=criterion, train_split=None, verbose=0, device=str(device), **more)
    with preserved_random_state():
        return net.initialize()


def _placeholders(X: Any) -> np.ndarray | None:
    """Give targets for a forward pass, which does not look at them."""
    return None if is_dataset(X) else np.zeros(n_samples_of(X), dtype=np.int64)


def _kind_and_criterion(
    module: nn.Module, criterion: nn.Module, X: Any, targets: np.ndarray
) -> tuple[type[NeuralNet], nn.Module]:
    """Choose the net that reads outputs as the loss does, and the same loss as it is put there."""
    if isinstance(criterion, nn.CrossEntropyLoss) and one_label_a_row(targets):
        return NeuralNetClassifier, criterion
    if isinstance(criterion, nn.NLLLoss) and _gives_log_probabilities(module, criterion, X):
        # skorch would take the logarithm once more; of log-probabilities, the two losses are one
        same = nn.CrossEntropyLoss(
            criterion.weight, ignore_index=criterion.ignore_index, reduction=criterion.reduction
        )
        return NeuralNetClassifier, same
    if isinstance(criterion, nn.BCEWithLogitsLoss) and one_label_a_row(targets):
        return NeuralNetBinaryClassifier, criterion
    return NeuralNetRegressor if isinstance(criterion, _OF_NUMBERS) else NeuralNet, criterion


def _gives_log_probabilities(module: nn.Module, criterion: nn.Module, X: Any) -> bool:
    net = _initialized(NeuralNet, module, criterion)
    with preserved_random_state(), torch.no_grad():
        Xi, _ = next(iter_batches(net, cast_inputs(net, X), _placeholders(X), _ROWS_READ))
        output = tensors_in(net_loss_of(net).forward(Xi))[0]
    total = output.double().logsumexp(1)
    return bool(torch.allclose(total, torch.zeros_like(total), atol=1e-3))


def _name_outputs(
    net: Any, shape: tuple[int, ...], targets: np.ndarray, classes: np.ndarray | None
) -> None:
    """Say which label each output stands for."""
    kind = kind_of(net)
    if kind not in {"classes", "binary"}:
        if classes is not None:
            raise ValueError(
                f"Got classes with {type(net.criterion_).__name__}, whose outputs are no classes."
            )
        return
    n_classes = 2 if kind == "binary" else int(shape[0])
    names = np.arange(n_classes) if classes is None else classes
    unknown = np.setdiff1d(targets, names)
    if len(names) != n_classes or len(unknown):
        raise ValueError(
            f"The module tells {n_classes} classes apart and y holds the labels "
            f"{listed(np.unique(targets))}, but classes={names.tolist()}. Give the label of each "
            "output, in the order of the outputs."
        )
    if kind == "binary":
        name_classes(net, Labels(names, np.arange(2)))
    else:
        net.classes = names


def _trace(
    module: nn.Module,
    states: Sequence[Mapping[str, Tensor]],
    learning_rates: Sequence[float] | None,
    initial_state: Mapping[str, Tensor] | None,
    n_samples: int,
) -> TrainingTrace:
    """Put states as a recorder of checkpoints does."""
    rates = np.ones(len(states)) if learning_rates is None else np.asarray(learning_rates, float)
    if not len(states) or rates.shape != (len(states),) or not (rates > 0).all():
        raise ValueError(
            f"Got {len(states)} states and learning_rates of shape {rates.shape}, but expected at "
            "least one state and a positive learning rate for each, or None."
        )
    own = module.state_dict()
    checked = [_state(own, state, f"states[{i}]") for i, state in enumerate(states)]
    moved = [name for name, p in own.items() if not torch.equal(p.cpu(), checked[-1][name])]
    if moved:
        raise ValueError(
            f"The last of the states is not the module's own: they differ in {moved[0]}. Copy "
            "every tensor of a state_dict when it is taken, which else follows the training, and "
            "end with the state that the module is in."
        )
    if len(states) > 1 and all(
        torch.equal(checked[0][name], checked[-1][name]) for name in checked[0]
    ):
        raise ValueError(
            "The first of the states is the last one: state_dict() gives the parameters "
            "themselves, which training goes on to change. Copy every tensor when a state is taken."
        )
    return TrainingTrace(
        n_samples=n_samples,
        initial_state={} if initial_state is None else _state(own, initial_state, "initial_state"),
        final_state=checked[-1],
        checkpoints=[
            Checkpoint(i + 1, np.array([rate]), state)
            for i, (rate, state) in enumerate(zip(rates, checked, strict=True))
        ],
        learning_rates=np.zeros((0, 1)),
        planned_epochs=(len(states),),
        parameter_groups=(tuple(name for name, _ in module.named_parameters()),),
    )


def _state(own: Mapping[str, Tensor], state: Mapping[str, Tensor], name: str) -> State:
    """Check a state against the module's own, and bring it to the processor."""
    if not isinstance(state, Mapping) or {k: v.shape for k, v in state.items()} != {
        k: v.shape for k, v in own.items()
    }:
        raise ValueError(
            f"{name} is not a state of the module: expected a dict of tensors with the names and "
            "shapes of module.state_dict()."
        )
    return {key: tensor.detach().cpu() for key, tensor in state.items()}
