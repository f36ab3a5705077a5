"""A trained net, and rows put as it takes them."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from skorch.utils import is_dataset
from torch import Tensor

from skinfluence.gradients._net_loss import Nested, NetLoss
from skinfluence.gradients._outputs import (
    check_has_classes,
    class_scores,
    mean_over_states,
    multiply_adds,
    output_shape,
)
from skinfluence.gradients._skorch import (
    Net,
    check_is_not_lazy,
    compares_elementwise,
    is_fitted,
    is_net,
    kind_of,
    takes_class_indices,
)
from skinfluence.nets._arrays import cast_inputs, cast_targets, initialized_copy
from skinfluence.nets._cache import train_once
from skinfluence.nets._default import default_net
from skinfluence.nets._labels import Labels, labels_in, labels_of_fitted
from skinfluence.nets._predictions import predict, predict_codes, root_mean_squared_error
from skinfluence.nets._task import task_of_model
from skinfluence.nets._training import (
    check_converged,
    fit_net,
    warn_of_cut_training,
    warn_of_rows_kept_out,
)
from skinfluence.rows._containers import Inputs, n_samples_of
from skinfluence.rows._rows import ModelRows, Rows
from skinfluence.rows._seeds import preserved_random_state
from skinfluence.rows._targets import check_class_labels
from skinfluence.rows._threads import one_thread
from skinfluence.trace._callbacks import records_as_much, trace_of
from skinfluence.trace._needs import TraceNeeds
from skinfluence.trace._recorder import recorder_for
from skinfluence.trace._training_trace import State, TrainingTrace

# So many of a data set's own targets, spread over it, are looked at before a training.
_TARGETS_READ = 256
# Multiply-adds of a batch's forward pass. Below, two threads that have a processor each save a few
# milliseconds a step at most; where others compute, too, they take ten times as long as one.
_SMALL = 1e8


@dataclass(frozen=True)
class TrainedNet:
    """A fitted net, and how inputs, targets and predicted targets are put to it."""

    net: Net  # the user's own object when it was frozen
    labels: Labels | None  # of a classifier whose labels are known
    residual: np.ndarray | None  # root mean squared error on the training rows, (n_outputs,)
    trace: TrainingTrace | None = None
    key: str | None = None  # names the training, if it is cached
    is_small: bool = False  # so that several threads would wait for one another

    def threads(self) -> AbstractContextManager[None]:
        """Compute with the net, within the block: on one thread if it is small."""
        return one_thread() if self.is_small else nullcontext()

    @property
    def can_predict_targets(self) -> bool:
        """Whether `predicted_rows` means something for this kind of net."""
        kind = kind_of(self.net)
        return kind != "other" and (kind != "regression" or self.residual is not None)

    @property
    def predicts_numbers(self) -> bool:
        """Whether the outputs are predictions of numeric targets."""
        return self.residual is not None

    @property
    def has_probabilities(self) -> bool:
        """Whether `class_probabilities` are those of labels that are known."""
        return self.labels is not None

    def coded(self, rows: Rows) -> ModelRows:
        """Put rows with given targets as the net takes them."""
        inputs = cast_inputs(self.net, rows.inputs)
        given = rows.targets
        return ModelRows(inputs, None if given is None else _encoded(self.net, self.labels, given))

    def predicted_rows(self, inputs: Inputs) -> ModelRows:
        """Put checked inputs as the net takes them, with predicted targets for given ones."""
        inputs = cast_inputs(self.net, inputs)
        with self.threads():
            predicted = predict(self.net, inputs)
        if self.residual is not None:  # at the prediction itself, a regression's residual is zero
            return ModelRows(inputs, np.asarray(predicted - self.residual, dtype=predicted.dtype))
        return ModelRows(inputs, cast_targets(self.net, predicted))

    def predict(self, inputs: Inputs) -> np.ndarray:
        """Predict labels as the user names them, or numbers."""
        inputs = cast_inputs(self.net, inputs)
        with self.threads():
            if self.labels is None:
                return predict(self.net, inputs)
            return self.labels.decode(predict_codes(self.net, inputs, self.labels.codes))

    def class_probabilities(
        self, inputs: Inputs, trace: TrainingTrace | None
    ) -> NDArray[np.float64]:
        """Predict class probabilities, on the mean over checkpoints: (n_rows, n_outputs)."""
        states = [None] if trace is None else [point.state for point in trace.checkpoints]
        return self.probabilities_at(inputs, states)

    def probabilities_at(
        self, inputs: Inputs, states: Sequence[State | None]
    ) -> NDArray[np.float64]:
        """Predict class probabilities, on the mean over states: (n_rows, n_outputs)."""
        check_has_classes(self.net)
        assert self.labels is not None
        targets = None  # a data set holds them; the forward pass does not look at them
        if not is_dataset(inputs):
            targets = np.full(n_samples_of(inputs), self.labels.classes[0])
        X, y = self.coded(Rows(inputs, targets, is_numeric=False))

        def read(net_loss: NetLoss, Xi: Nested, yi: Tensor) -> NDArray[np.float64]:
            return np.asarray(softmax(class_scores(self.net, net_loss.forward(Xi)), axis=1))

        with self.threads():
            return mean_over_states(self.net, X, y, states, read, batch_size=256)


def fit_net_of(estimator: Any, rows: Rows, seed: int, needs: TraceNeeds | None = None) -> ModelRows:
    """Train the net of an estimator, set what every estimator with a net has, code the rows."""
    trained = train_net(
        estimator.net,
        rows,
        seed,
        needs=needs,
        default=getattr(estimator, "_default_net", default_net),
        memory=getattr(estimator, "memory", None),
    )
    hand_over(trained, estimator, traced=needs is not None)
    return trained.coded(rows)


def hand_over(trained: TrainedNet, estimator: Any, *, traced: bool) -> None:
    """Set `net_`, `classes_` for a classifier and `trace_` if something is recorded."""
    estimator._trained = trained
    estimator.net_ = trained.net
    for name in ("classes_", "trace_"):  # of an earlier fit
        vars(estimator).pop(name, None)
    if traced:
        estimator.trace_ = trained.trace
    if trained.labels is not None:
        estimator.classes_ = trained.labels.classes


def can_predict_targets(estimator: object) -> bool:
    """Tell whether predicted labels can stand in for given ones, for `available_if`."""
    if hasattr(estimator, "_trained") and not estimator._trained.can_predict_targets:
        raise AttributeError(
            f"{type(estimator).__name__} has no transform for a net whose outputs are neither "
            "classes nor predictions of the target to take gradients at. Use the method that takes "
            "labels: embed(X, y) or score_detrimentality(X, y)."
        )
    return True


def train_net(
    net: object,
    rows: Rows,
    seed: int,
    *,
    needs: TraceNeeds | None = None,
    default: Callable[..., Net] = default_net,
    max_epochs: int | None = None,
    memory: Any = None,
) -> TrainedNet:
    """Train a clone of a net or the default net, or take a frozen one as it is."""
    if isinstance(net, FrozenEstimator):
        return _frozen(net.estimator, rows, needs)
    net = unfitted_net(net, rows, seed, default)
    if max_epochs is not None:
        net.set_params(max_epochs=max_epochs)
    return _trained(net, rows, seed, needs=needs, memory=memory)


def no_net(model: Any, method: str = "this method") -> str:
    """Say what takes a scikit-learn model in place of a net, and what does not."""
    model = model.estimator if isinstance(model, FrozenEstimator) else model
    return (
        f"Got net={type(model).__name__}, but {method} needs the parameters of a net, along its "
        "training or at its end, which that model has none of. SelfConfidence, NormalizedMargin, "
        "ConfidenceWeightedEntropy, EL2N and LossScore take any classifier, LossScore any "
        "regressor, and OutlierGradientDetector takes them as "
        "committee=[('model', model)]. Use one of these, or a skorch net."
    )


def unfitted_net(
    net: object, rows: Rows, seed: int, default: Callable[..., Net] = default_net
) -> Net:
    """Clone a net, or make the default one for these rows."""
    if is_net(net):
        copy: Net = clone(net)
        return copy
    if task_of_model(net) is not None:
        raise TypeError(no_net(net))
    if net is not None:
        raise TypeError(
            f"Got net={net!r}, but expected a skorch net, a FrozenEstimator of a fitted one, or "
            "None for the default net. Wrap a torch module in skorch.NeuralNetClassifier or "
            "NeuralNetRegressor."
        )
    check_are_arrays(rows)
    task = "regression" if rows.is_numeric else "classification"
    return default(rows.inputs, rows.targets, random_state=seed, task=task)


def check_are_arrays(rows: Rows) -> None:
    """Refuse what models that are made here do not take."""
    if rows.targets is None or not rows.has_arrays:
        raise ValueError(
            f"Got X of type {type(rows.inputs).__name__} and no net; the default net takes arrays. "
            "Pass a skorch net whose module takes these inputs; to a cleaner, an estimator that "
            "does."
        )


def _trained(
    net: Net, rows: Rows, seed: int, *, needs: TraceNeeds | None, memory: Any
) -> TrainedNet:
    labels = labels_in(net, rows.targets)
    sketch = initialized_copy(net, seed)
    check_is_not_lazy(sketch)
    X, target = TrainedNet(sketch, labels, None).coded(rows)
    if target is None:
        _check_own_targets(sketch, X)
    target = fitting_outputs(sketch, labels, X, target)
    if isinstance(X, np.ndarray):  # torch takes no negative strides and warns of read-only arrays
        X = np.require(X, requirements=["C", "W"])
    recorder = None if needs is None or records_as_much(net, needs) else recorder_for(needs)

    weights = rows.training_weights

    def train() -> TrainingTrace | None:
        fit_net(net, X, target, seed, recorder, weights=weights)
        return trace_of(net) if recorder is None else recorder.trace_

    is_small = _is_small(sketch, X, target)
    with one_thread() if is_small else nullcontext():
        trace, key = train_once(
            memory, net, X, target, seed=seed, recorder=recorder, weights=weights, train=train
        )
        residual = _residual(net, X, target)
    return TrainedNet(net, labels, residual, trace, key, is_small)


def _is_small(net: Net, X: Inputs, target: np.ndarray | None) -> bool:
    """Tell whether a batch of training is too little work for several threads."""
    size = net.get_params_for("iterator_train").get("batch_size", net.batch_size)
    size = n_samples_of(X) if size == -1 else size
    return multiply_adds(net, X, target) * size < _SMALL


def _check_own_targets(net: Net, X: Any) -> None:
    """Refuse a data set whose own targets are not what a net that classifies takes."""
    if kind_of(net) not in {"classes", "binary"}:
        return
    some = np.unique(np.linspace(0, len(X) - 1, _TARGETS_READ).astype(int)).tolist()
    with preserved_random_state():
        labels = [np.asarray(_on_cpu(X[i][1])) for i in some]
    # shares of the classes, or whatever a loss of one's own takes, are none of these
    labels = [label for label in labels if label.size == 1 and label.dtype.kind != "O"]
    kinds = "biu" if takes_class_indices(net) else "biuf"
    wrong = [label.item() for label in labels if label.dtype.kind not in kinds]
    if not wrong:
        shape = output_shape(net, X, None)
        n_outputs = 2 if kind_of(net) == "binary" else shape[0] if len(shape) == 1 else None
        codes = [label.item() for label in labels]
        wrong = [c for c in codes if n_outputs is not None and not 0 <= c <= n_outputs - 1]
    if wrong:
        raise ValueError(
            f"The data set's own labels hold {sorted(set(wrong), key=str)[:5]}, but the net takes "
            "whole numbers from 0 on as integers, one for each of its outputs. Pass the labels as "
            "y besides the data set, fit(dataset, y), where any are coded."
        )


def _on_cpu(label: Any) -> Any:
    return label.detach().cpu() if isinstance(label, Tensor) else label


def _frozen(net: Any, rows: Rows, needs: TraceNeeds | None) -> TrainedNet:
    if not is_net(net) and task_of_model(net) is not None:
        raise TypeError(no_net(net))
    if not is_net(net):
        raise TypeError(
            f"Got FrozenEstimator({net!r}) as net, but expected a frozen skorch net. In a "
            "pipeline, freeze the net alone and leave the other steps to the pipeline."
        )
    if not is_fitted(net):
        raise NotFittedError(
            f"The frozen {type(net).__name__} is not fitted. Call net.fit(X, y) before "
            "FrozenEstimator(net), or net.initialize() if its weights come from elsewhere and must "
            "not be trained; or pass the net itself to have it trained."
        )
    check_converged(net)
    warn_of_cut_training(net)
    warn_of_rows_kept_out(net)
    labels = labels_of_fitted(net)
    X, target = TrainedNet(net, labels, None).coded(rows)
    target = fitting_outputs(net, labels, X, target)
    trace = trace_of(net)
    if needs is not None:
        needs.check_trace(trace, X, target)
    is_small = _is_small(net, X, target)
    return TrainedNet(net, labels, _residual(net, X, target), trace, is_small=is_small)


def _encoded(net: Net, labels: Labels | None, y: np.ndarray) -> np.ndarray:
    if labels is not None:
        return cast_targets(net, labels.encode(check_class_labels(y)))
    if y.dtype.kind not in "biuf":
        raise ValueError(
            f"Got y of dtype {y.dtype} with values such as {y.ravel().tolist()[0]!r}, but "
            f"{type(net).__name__} takes numbers. Use NeuralNetClassifier, whose labels are "
            "encoded, or encode them yourself."
        )
    return cast_targets(net, y)


def fitting_outputs(
    net: Net, labels: Labels | None, X: Inputs, target: np.ndarray | None
) -> np.ndarray | None:
    """Refuse a net whose outputs do not suit the targets; give targets the outputs' shape."""
    shape = output_shape(net, X, target)
    if kind_of(net) == "classes" and labels is not None and len(shape) > 0:
        needed = int(labels.codes.max()) + 1
        if shape[0] < needed:
            raise ValueError(
                f"The net has {shape[0]} outputs, but y holds {needed} classes. Set the module's "
                f"number of outputs to {needed}, for example module__n_outputs={needed}."
            )
    if target is None or target.shape[1:] == shape:
        return target
    if int(np.prod(target.shape[1:])) == int(np.prod(shape)):
        # (n,) against (n, 1) would broadcast to (n, n)
        same_meaning = compares_elementwise(net) or kind_of(net) == "regression"
        return target.reshape(len(target), *shape) if same_meaning else target
    if compares_elementwise(net):
        raise ValueError(
            f"The net's output has shape (n, {', '.join(map(str, shape))}), but y has shape "
            f"{target.shape}. The loss compares them element by element: make the module's "
            "number of outputs the number of columns of y."
        )
    return target


def _residual(net: Net, X: Inputs, target: np.ndarray | None) -> np.ndarray | None:
    """Measure a regression's error, where its outputs are predictions of the targets."""
    if kind_of(net) != "regression":
        return None
    if target is not None and output_shape(net, X, target) != target.shape[1:]:
        return None  # such as a mean and a variance for one target
    return root_mean_squared_error(net, X, target)
