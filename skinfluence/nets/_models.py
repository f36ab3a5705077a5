"""Trained nets as scikit-learn's models: they take and give what the user does."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from skinfluence.gradients._skorch import is_net, kind_of, shadow_of
from skinfluence.nets._arrays import cast_inputs
from skinfluence.nets._labels import Labels, class_labels
from skinfluence.nets._predictions import predict, predict_codes
from skinfluence.nets._trained_net import TrainedNet, train_net
from skinfluence.rows._containers import Inputs, n_samples_of
from skinfluence.rows._interrupts import fit_whole
from skinfluence.rows._rows import Rows
from skinfluence.rows._seeds import preserved_random_state
from skinfluence.rows._targets import check_targets
from skinfluence.trace._callbacks import without_recorders


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

    def predict_proba(self, X: Inputs) -> np.ndarray:
        """Predict the probability of every class: (n_rows, n_classes)."""
        net = self.trained.net
        with preserved_random_state():
            found = np.asarray(shadow_of(net).predict_proba(cast_inputs(net, X)))
        return found[:, : len(self.classes_)]


class NetRegressor(RegressorMixin, BaseEstimator):
    """A trained net that predicts targets in the shape of y."""

    def __init__(self, trained: TrainedNet, n_dims: int) -> None:
        self.trained = trained
        self.n_dims = n_dims

    def predict(self, X: Any) -> np.ndarray:
        """Predict numbers: (n_rows,) or (n_rows, n_outputs)."""
        predicted = predict(self.trained.net, cast_inputs(self.trained.net, X))
        return predicted.ravel() if self.n_dims == 1 else predicted


class DecodingClassifier(ClassifierMixin, BaseEstimator):
    """A model that was fitted on codes, because a net within it takes no labels."""

    def __init__(self, model: Any, labels: Labels) -> None:
        self.model = model
        self.classes_ = labels.classes
        self._labels = labels

    def predict(self, X: Any) -> np.ndarray:
        """Predict labels: (n_rows,)."""
        return self._labels.decode(np.asarray(self.model.predict(X)))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "model":
            raise AttributeError(name)
        return getattr(self.model, name)


def fit_decoding(model: Any, X: Any, y: Any, **fit_params: Any) -> Any:
    """Fit a model; one whose innermost part is a net that classifies gets codes for labels."""
    net = _net_within(model)
    if net is None or kind_of(net) not in {"classes", "binary"}:
        return fit_whole(model, X, y, **fit_params)
    targets = check_targets(y, n_samples_of(X))
    labels = class_labels(targets)
    codes = labels.encode(targets.reshape(-1))
    codes = codes.astype(np.float32 if kind_of(net) == "binary" else np.int64)
    return DecodingClassifier(fit_whole(model, X, codes, **fit_params), labels)


def fit_net_model(net: Any, X: Any, y: Any, seed: int, *, classifies: bool) -> Any:
    """Train a net as methods do: labels coded, inputs cast, targets in the outputs' shape."""
    rows = Rows.parse(BaseEstimator(), X, y, is_numeric=not classifies)
    trained = train_net(without_recorders(net), rows, seed)
    if trained.labels is not None:
        return NetClassifier(trained, trained.labels.classes)
    return NetRegressor(trained, rows.known_targets().ndim)


def fitted_part(model: Any) -> Any:
    """Give what was fitted, out of what makes it take and give labels."""
    if isinstance(model, NetClassifier | NetRegressor):
        return model.trained.net
    return model.model if isinstance(model, DecodingClassifier) else model


def _net_within(model: Any) -> Any:
    while not is_net(model):
        if hasattr(model, "steps"):
            model = model.steps[-1][1]
        elif hasattr(model, "estimator"):
            model = model.estimator
        else:
            return None
    return model
