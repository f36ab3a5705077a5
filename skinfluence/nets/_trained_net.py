"""A trained net, and inputs and targets in the form in which it takes them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator

from skinfluence.gradients._outputs import output_shape
from skinfluence.gradients._skorch import compares_elementwise, is_fitted, is_net, kind_of
from skinfluence.nets._arrays import cast_inputs, cast_targets, initialized_copy
from skinfluence.nets._cache import train_once
from skinfluence.nets._default import default_net
from skinfluence.nets._labels import Labels, labels_in, labels_of_fitted
from skinfluence.nets._predictions import predict, root_mean_squared_error
from skinfluence.nets._training import fit_net, warn_of_rows_kept_out
from skinfluence.rows._containers import check_inputs, is_table_or_images, n_samples_of
from skinfluence.rows._rows import Rows
from skinfluence.rows._targets import check_class_labels, check_targets, is_regression_target
from skinfluence.trace._callbacks import records_as_much, trace_of
from skinfluence.trace._needs import TraceNeeds
from skinfluence.trace._recorder import recorder_for
from skinfluence.trace._training_trace import TrainingTrace


@dataclass(frozen=True)
class TrainedNet:
    """A fitted net, and how inputs, targets and predicted targets are put to it.

    Attributes
    ----------
    net : NeuralNet
        Fitted; the user's own object when it was frozen.
    labels : Labels or None
        For a classifier whose labels are known.
    residual : ndarray of shape (n_outputs,) or None
        Root mean squared error on the training rows, for a regression.
    trace : TrainingTrace or None
        What was recorded of its training.
    key : str or None
        Names the training, if it is cached.
    """

    net: Any
    labels: Labels | None
    residual: NDArray[Any] | None
    trace: TrainingTrace | None = None
    key: str | None = None

    @property
    def can_predict_targets(self) -> bool:
        """Whether `predicted_targets` means something for this kind of net."""
        kind = kind_of(self.net)
        return kind != "other" and (kind != "regression" or self.residual is not None)

    def inputs(self, X: Any) -> Any:
        """Cast inputs to what the module computes in.

        Parameters
        ----------
        X : ndarray, dict of arrays, or torch data set
            Checked.

        Returns
        -------
        ndarray, or `X` itself if it is none
        """
        return cast_inputs(self.net, X)

    def targets(self, X: Any, y: Any) -> Any:
        """Encode given targets.

        Parameters
        ----------
        X : what `inputs` returns
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), or None
            None only if `X` is a torch data set.

        Returns
        -------
        ndarray or None
            As the net's criterion takes them.

        Raises
        ------
        ValueError
            If `y` is missing, unsuited, or holds a label the net does not know.
        """
        if y is None and not is_table_or_images(X):
            return None
        return _encoded(self.net, self.labels, check_targets(y, n_samples_of(X)))

    def rows(self, X: Any, y: Any) -> Rows:
        """Put checked inputs and given targets as the net takes them; see `inputs`, `targets`."""
        inputs = self.inputs(X)
        return Rows(inputs, self.targets(inputs, y))

    def predicted_rows(self, X: Any) -> Rows:
        """Put checked inputs and predicted targets as the net takes them."""
        inputs = self.inputs(X)
        return Rows(inputs, self.predicted_targets(inputs))

    def predicted_targets(self, X: Any) -> NDArray[Any]:
        """Predict what stands in for targets that are not given.

        Parameters
        ----------
        X : what `inputs` returns

        Returns
        -------
        ndarray
            Predicted classes as the net codes them; for a regression the prediction less the
            training error, because the residual at the prediction itself is zero.
        """
        predicted = predict(self.net, X)
        if self.residual is not None:
            return np.asarray(predicted - self.residual, dtype=predicted.dtype)
        return cast_targets(self.net, predicted)


def fit_net_of(estimator: Any, X: Any, y: Any, seed: int, needs: TraceNeeds | None = None) -> Rows:
    """Train the net of an estimator and set what every estimator with a net has.

    Parameters
    ----------
    estimator : estimator
        With `net`; gets `net_`, `classes_` for a classifier, `trace_` if something is recorded,
        and `n_features_in_` and `feature_names_in_` where scikit-learn would set them.
    X, y : what the user gave
    seed : int
    needs : TraceNeeds, optional
        What to record of the training.

    Returns
    -------
    Rows
    """
    X = check_inputs(estimator, X, reset=True)
    default = getattr(estimator, "_default_net", default_net)
    memory = getattr(estimator, "memory", None)
    trained = train_net(estimator.net, X, y, seed, needs=needs, default=default, memory=memory)
    hand_over(trained, estimator, traced=needs is not None)
    return trained.rows(X, y)


def hand_over(trained: TrainedNet, estimator: Any, *, traced: bool) -> None:
    """Set what every estimator with a net has; see `fit_net_of`."""
    estimator._trained = trained
    estimator.net_ = trained.net
    for name in ("classes_", "trace_"):  # of an earlier fit
        vars(estimator).pop(name, None)
    if traced:
        estimator.trace_ = trained.trace
    if trained.labels is not None:
        estimator.classes_ = trained.labels.classes


def targets_and_strata(net: Any, X: Any, y: Any) -> tuple[Any, NDArray[Any]]:
    """Check the targets of rows that will be split into folds, and say which rows are alike.

    Parameters
    ----------
    net : NeuralNet or None
        Unfitted.
    X : ndarray, dict of arrays, or torch data set
        Checked.
    y : array-like or None

    Returns
    -------
    targets : ndarray
    strata : ndarray of shape (n_samples,)
        Labels for a classifier, else zeros.

    Raises
    ------
    ValueError
        If there are no targets to split by.
    """
    if y is None and not is_table_or_images(X):
        raise ValueError(
            "Got y=None, but splitting the rows into folds needs the targets as y. Pass them "
            "besides the data set, or give X_val and y_val and leave cv=None."
        )
    checked = check_targets(y, n_samples_of(X))
    classifies = (
        not is_regression_target(checked) if net is None else kind_of(net) in {"classes", "binary"}
    )
    one_label = checked.ndim == 1 or checked.shape[1:] == (1,)
    if classifies and one_label:
        return checked, checked.reshape(-1)
    return checked, np.zeros(len(checked), dtype=np.int64)


def can_predict_targets(estimator: Any) -> bool:
    """Tell whether predicted labels can stand in for given ones, for `available_if`.

    Parameters
    ----------
    estimator : estimator

    Returns
    -------
    bool
        True before fit.

    Raises
    ------
    AttributeError
        If the net is neither a classifier nor a regressor.
    """
    if hasattr(estimator, "_trained") and not estimator._trained.can_predict_targets:
        raise AttributeError(
            f"{type(estimator).__name__} has no transform for a net whose outputs are neither "
            "classes nor predictions of the target to take gradients at. Use the method that takes "
            "labels: embed(X, y) or score_detrimentality(X, y)."
        )
    return True


def train_net(
    net: Any,
    X: Any,
    y: Any,
    seed: int,
    *,
    needs: TraceNeeds | None = None,
    default: Callable[..., Any] = default_net,
    max_epochs: int | None = None,
    memory: Any = None,
) -> TrainedNet:
    """Train a clone of a net or the default net, or take a frozen one as it is.

    Parameters
    ----------
    net : NeuralNet, FrozenEstimator of a fitted NeuralNet, or None
        None for `default`.
    X : ndarray, dict of arrays, or torch data set
        Checked.
    y : array-like or None
        None only for a torch data set, which holds its targets.
    seed : int
    needs : TraceNeeds, optional
        What to record of the training, unless a recorder among the net's own callbacks records as
        much. A frozen net must bring that much.
    default : callable, default=default_net
        Makes the net where there is none.
    max_epochs : int, optional
        Train for so many epochs, whatever the net says; a frozen net is not trained.
    memory : joblib.Memory, str or None, default=None
        Where to look for an equal training, and to keep this one; see `train_once`.

    Returns
    -------
    TrainedNet

    Raises
    ------
    TypeError
        If `net` is no skorch net.
    ValueError
        If the targets do not suit the net, or the net not the inputs.
    """
    checked = None if y is None and not is_table_or_images(X) else check_targets(y, n_samples_of(X))
    if isinstance(net, FrozenEstimator):
        return _frozen(net.estimator, X, checked, needs)
    if net is None:
        if checked is None or not is_table_or_images(X):
            raise ValueError(
                f"Got X of type {type(X).__name__} and no net; the default net takes arrays. "
                "Pass a skorch net whose module takes these inputs."
            )
        net = default(X, checked, random_state=seed)
    elif not is_net(net):
        raise TypeError(
            f"Got net={net!r}, but expected a skorch net, a FrozenEstimator of a fitted one, or "
            "None for the default net. Wrap a torch module in skorch.NeuralNetClassifier or "
            "NeuralNetRegressor."
        )
    net = clone(net)
    if max_epochs is not None:
        net.set_params(max_epochs=max_epochs)
    return _trained(net, X, checked, seed, needs=needs, memory=memory)


def _trained(
    net: Any,
    X: Any,
    y: NDArray[Any] | None,
    seed: int,
    *,
    needs: TraceNeeds | None,
    memory: Any,
) -> TrainedNet:
    labels = labels_in(net, y)
    sketch = initialized_copy(net, seed)
    X = cast_inputs(sketch, X)
    target = None if y is None else _encoded(sketch, labels, y)
    target = fitting_outputs(sketch, labels, X, target)
    if isinstance(X, np.ndarray):  # torch takes no negative strides and warns of read-only arrays
        X = np.require(X, requirements=["C", "W"])
    recorder = None if needs is None or records_as_much(net, needs) else recorder_for(needs)

    def train() -> TrainingTrace | None:
        fit_net(net, X, target, seed, recorder)
        return trace_of(net) if recorder is None else recorder.trace_

    trace, key = train_once(memory, net, X, target, seed=seed, recorder=recorder, train=train)
    return TrainedNet(net, labels, _residual(net, X, target), trace, key)


def _frozen(net: Any, X: Any, y: NDArray[Any] | None, needs: TraceNeeds | None) -> TrainedNet:
    if not is_net(net):
        raise TypeError(
            f"Got FrozenEstimator({net!r}) as net, but expected a frozen skorch net. In a "
            "pipeline, freeze the net alone and leave the other steps to the pipeline."
        )
    if not is_fitted(net):
        raise NotFittedError(
            f"The frozen {type(net).__name__} is not fitted. Call net.fit(X, y) before "
            "FrozenEstimator(net), or pass the net itself to have it trained."
        )
    warn_of_rows_kept_out(net)
    labels = labels_of_fitted(net)
    X = cast_inputs(net, X)
    target = None if y is None else _encoded(net, labels, y)
    target = fitting_outputs(net, labels, X, target)
    trace = trace_of(net)
    if needs is not None:
        needs.check_trace(trace, X, target)
    return TrainedNet(net, labels, _residual(net, X, target), trace)


def _encoded(net: Any, labels: Labels | None, y: NDArray[Any]) -> NDArray[Any]:
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
    net: Any, labels: Labels | None, X: Any, target: NDArray[Any] | None
) -> NDArray[Any] | None:
    """Refuse a net whose outputs do not suit the targets; give targets the outputs' shape.

    Parameters
    ----------
    net : NeuralNet
        Initialised.
    labels : Labels or None
        For a classifier.
    X : what `TrainedNet.inputs` returns
    target : ndarray or None
        As `TrainedNet.targets` returns it.

    Returns
    -------
    ndarray or None
        As the net is trained on it.

    Raises
    ------
    ValueError
        If there are too few outputs, or another number than the targets have columns.
    """
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


def _residual(net: Any, X: Any, target: NDArray[Any] | None) -> NDArray[Any] | None:
    """Measure a regression's error, where its outputs are predictions of the targets."""
    if kind_of(net) != "regression":
        return None
    if target is not None and output_shape(net, X, target) != target.shape[1:]:
        return None  # such as a mean and a variance for one target
    return root_mean_squared_error(net, X, target)
