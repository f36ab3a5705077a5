"""Nets as scikit-learn's models, and models that are a net or hold one: they take what you give."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from skorch.utils import is_dataset

from skinfluence.gradients._skorch import Net, as_dataset, is_net, kind_of
from skinfluence.nets._arrays import cast_inputs, cast_targets, initialized_copy
from skinfluence.nets._labels import Labels, labels_in
from skinfluence.nets._predictions import predict, predict_codes
from skinfluence.nets._trained_net import TrainedNet, fitting_outputs
from skinfluence.rows._containers import Inputs, is_table_or_images, n_samples_of, select
from skinfluence.rows._rows import Rows
from skinfluence.rows._seeds import preserved_random_state
from skinfluence.rows._targets import check_class_labels, check_targets, one_label_a_row

# What torch says, in a warning, of targets that broadcast against the outputs.
_BROADCASTS = "Using a target size"


class NetClassifier(ClassifierMixin, BaseEstimator):
    """A trained net that predicts the user's labels."""

    def __init__(self, trained: TrainedNet, classes: np.ndarray) -> None:
        self.trained = trained
        self.classes_ = classes

    def predict(self, X: Inputs) -> np.ndarray:
        """Predict labels: (n_rows,)."""
        codes = np.arange(len(self.classes_))
        net = self.trained.net
        codes = predict_codes(net, cast_inputs(net, X), codes).astype(np.intp)
        return np.asarray(self.classes_[codes])


class NetRegressor(RegressorMixin, BaseEstimator):
    """A trained net that predicts targets in the shape of y."""

    def __init__(self, trained: TrainedNet, n_dims: int) -> None:
        self.trained = trained
        self.n_dims = n_dims

    def predict(self, X: Any) -> np.ndarray:
        """Predict numbers: (n_rows,) or (n_rows, n_outputs)."""
        predicted = predict(self.trained.net, cast_inputs(self.trained.net, X))
        return predicted.ravel() if self.n_dims == 1 else predicted


def translator_of(model: Any, rows: Rows, seed: int) -> "Translator | None":
    """Prepare to train a model on rows, and refuse what its net cannot do; None without a net."""
    net = net_in(model)
    if net is None or rows.targets is None:
        return None
    kind = kind_of(net)
    if not rows.is_numeric and (kind == "other" or not one_label_a_row(rows.targets)):
        return None  # it takes targets as they are, such as indicators of labels
    labels = None if rows.is_numeric else labels_in(net, rows.targets)
    translator = Translator(net, labels, rows.targets.shape[1:], seed, is_bare=is_net(model))
    few = np.arange(min(len(rows), 2))
    encoded = translator.encoded(rows.targets)[few]
    if translator.is_bare:
        sketch = initialized_copy(net, seed)
        encoded = cast_targets(sketch, encoded)
        translator.dtype = encoded.dtype
        if not net.callbacks:  # which may make the module fit the rows
            inputs = cast_inputs(sketch, _as_inputs(select(rows.inputs, few)))
            shaped = fitting_outputs(sketch, labels, inputs, encoded)
            translator.is_column = shaped is not None and shaped.shape[1:] == (1,)
    return translator


def net_in(model: Any) -> Net | None:
    """Find the net that a model is or has among its parameters, if any."""
    if is_net(model):
        return model
    known = hasattr(model, "get_params") and not isinstance(model, type)
    parts = model.get_params().values() if known else ()
    return next((part for part in parts if is_net(part)), None)


class Translator:
    """Puts targets as a net takes them, and what it predicts as the user gave them."""

    def __init__(
        self, net: Net, labels: Labels | None, shape: tuple[int, ...], seed: int, *, is_bare: bool
    ) -> None:
        self.labels = labels
        self.is_bare = is_bare
        # one number a row goes to a net in a column, unless that turns out to broadcast
        self.is_column = labels is None and shape in {(), (1,)}
        self._net, self._shape, self._seed = net, shape, seed
        self.dtype = np.dtype(np.int64 if kind_of(net) == "classes" else np.float32)

    def encoded(self, targets: np.ndarray) -> np.ndarray:
        """Turn targets into what the net takes: codes of classes, or numbers."""
        if self.labels is not None:
            return self.labels.encode(check_class_labels(targets)).astype(self.dtype)
        numbers = targets.astype(self.dtype)
        if self._shape in {(), (1,)}:
            return numbers.reshape(-1, 1) if self.is_column else numbers.reshape(-1)
        return numbers

    def train(self, fit: Callable[[Any, Any], Any], X: Any, inputs: Inputs, y: object) -> Any:
        """Train, by ``fit(X, y)``, on rows in the container given and as they were parsed."""
        targets = check_targets(y, n_samples_of(inputs))
        if self.is_bare:  # any other model takes rows in its own way
            X = cast_inputs(initialized_copy(self._net, self._seed), _as_inputs(inputs))
        model, broadcasts = self._train(fit, X, targets)
        if broadcasts and self.is_column:
            self.is_column = False
            model, broadcasts = self._train(fit, X, targets)
        if broadcasts:
            raise ValueError(
                f"The net in {type(model).__name__} compares outputs and targets of different "
                "shapes, with a column or without, so that its loss would take every row against "
                "all others. Let the module give one number a row in shape (n, 1), and put no "
                "model around the net that changes the shape of y."
            )
        return model

    def predict(self, model: Any, X: Any) -> np.ndarray:
        """Predict labels as the user names them, or numbers in the shape of the targets."""
        if self.is_bare:
            X = cast_inputs(model, _as_inputs(X))
            if self.labels is not None:
                return self.labels.decode(predict_codes(model, X, self.labels.codes))
        predicted = np.asarray(model.predict(X))
        if self.labels is not None:
            return self.labels.decode(predicted)
        return predicted.reshape(-1, *self._shape) if self._shape in {(), (1,)} else predicted

    def predict_proba(self, model: Any, X: Any) -> np.ndarray:
        """Predict the probability of every class, in their order."""
        assert self.labels is not None
        X = cast_inputs(model, _as_inputs(X)) if self.is_bare else X
        probabilities = np.asarray(model.predict_proba(X))
        if probabilities.shape[1] > len(self.labels.codes):  # outputs that no label belongs to
            return probabilities[:, self.labels.codes]
        return probabilities

    def _train(
        self, fit: Callable[[Any, Any], Any], X: Any, targets: np.ndarray
    ) -> tuple[Any, bool]:
        """Train, and tell whether targets were broadcast against outputs."""
        y: Any = self.encoded(targets)
        given, few = X, select(X, np.arange(1))
        if self.is_bare and is_dataset(X):  # targets given besides replace its own
            given, y = as_dataset(self._net, X, y), None
        with warnings.catch_warnings(record=True) as caught:
            warnings.filterwarnings("always", _BROADCASTS)
            try:
                model = fit(given, y)
            except (RuntimeError, IndexError) as error:
                if self.is_bare or _remedy(str(error)) is None:
                    raise
                raise ValueError(
                    f"The net within the estimator cannot be trained: {str(error).rstrip('.')}. "
                    f"{_remedy(str(error))}"
                ) from error
        broadcasts = False
        for each in caught:
            if str(each.message).startswith(_BROADCASTS):
                broadcasts = True
            else:
                warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
        with preserved_random_state():
            # not every loss says so
            flat = self.is_column and np.ndim(model.predict(few)) == 1
        return model, broadcasts or flat


def _remedy(message: str) -> str | None:
    """Say what to do about some of torch's errors; None for others."""
    if "must have the same dtype" in message or "expected scalar type" in message:
        return (
            "Rows reach it in the dtype that the steps before give: pass X in float32, or let the "
            "step before the net cast, FunctionTransformer(lambda X: X.astype('float32'))."
        )
    if "out of bounds" in message:
        return "It has fewer outputs than y has classes."
    return None


def _as_inputs(X: Any) -> Inputs:
    if issparse(X) or not is_table_or_images(X):
        inputs: Inputs = X
        return inputs
    # torch warns of arrays that it must not write to
    array: np.ndarray = np.require(X, requirements="W")
    return array
