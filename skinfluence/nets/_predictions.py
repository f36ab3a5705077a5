"""What a net predicts, in the words of its user."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.frozen import FrozenEstimator

from skinfluence.gradients._net_loss import tensors_in
from skinfluence.gradients._outputs import (
    check_has_classes,
    class_scores,
    mean_over_states,
)
from skinfluence.gradients._skorch import (
    is_net,
    iter_batches,
    net_loss_of,
    shadow_of,
)
from skinfluence.rows._containers import is_table_or_images, n_samples_of
from skinfluence.rows._seeds import preserved_random_state


def class_probabilities(method: Any, inputs: Any) -> NDArray[np.float64]:
    """Predict class probabilities by a fitted method's net, on the mean over its checkpoints.

    Parameters
    ----------
    method : BaseDetrimentality
        Fitted, with one classifier as `net_`; without a trace, the net as it is counts.
    inputs : ndarray, dict of arrays, or torch data set
        Checked.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
        Columns in the order of the net's codes.
    """
    trained, trace = method._trained, getattr(method, "trace_", None)
    check_has_classes(trained.net)
    stand_in = None  # a data set holds its targets; the forward pass does not look at them
    if is_table_or_images(inputs) or isinstance(inputs, Mapping):
        stand_in = np.full(n_samples_of(inputs), trained.labels.classes[0])
    rows = trained.rows(inputs, stand_in)
    states: list[Any] = [None] if trace is None else [c.state for c in trace.checkpoints]

    def read(net_loss: Any, Xi: Any, yi: Any) -> NDArray[np.float64]:
        return np.asarray(softmax(class_scores(trained.net, net_loss.forward(Xi)), axis=1))

    return mean_over_states(trained.net, rows.inputs, rows.targets, states, read, batch_size=256)


def net_predictions(trained: Any, X: Any) -> NDArray[Any]:
    """Predict labels as the user names them, or numbers."""
    inputs = trained.inputs(X)
    if trained.labels is None:
        return predict(trained.net, inputs)
    codes = predict_codes(trained.net, inputs, trained.labels.codes)
    return np.asarray(trained.labels.decode(codes))


def check_given_net_has_classes(net: Any) -> None:
    """Refuse, before it is trained, a net without class probabilities.

    Parameters
    ----------
    net : NeuralNet, FrozenEstimator or None
        The default net shows what it is once it knows the targets.
    """
    candidate = net.estimator if isinstance(net, FrozenEstimator) else net
    if is_net(candidate):
        check_has_classes(candidate)


def predict(net: Any, X: Any) -> NDArray[Any]:
    """Predict like the net itself, leaving its mode and all random generators alone.

    Parameters
    ----------
    net : NeuralNet
    X : what skorch takes

    Returns
    -------
    ndarray of shape (n_samples,) or (n_samples, n_outputs)
    """
    with preserved_random_state():
        return np.asarray(shadow_of(net).predict(X))


def predict_codes(net: Any, X: Any, codes: NDArray[Any]) -> NDArray[Any]:
    """Predict the likeliest of the classes there are.

    Parameters
    ----------
    net : NeuralNet
        A classifier.
    X : what skorch takes
    codes : ndarray of shape (n_classes,)
        What the net calls the classes; it may have outputs beyond these.

    Returns
    -------
    ndarray of shape (n_samples,)
        The net's own predictions, where they are classes.
    """
    predicted = predict(net, X)
    if np.isin(predicted, codes).all():
        return predicted
    known = np.sort(codes)
    with preserved_random_state():
        probabilities = np.asarray(shadow_of(net).predict_proba(X))
    return np.asarray(known[probabilities[:, known].argmax(1)])


def root_mean_squared_error(net: Any, X: Any, y: Any) -> NDArray[Any]:
    """Measure a regression's error on given rows.

    Parameters
    ----------
    net : NeuralNet
    X, y : what skorch takes

    Returns
    -------
    ndarray of shape of a row's output
    """
    total: Any = 0.0
    rows = 0
    with preserved_random_state(), torch.no_grad():
        net_loss = net_loss_of(net)
        for Xi, yi in iter_batches(net, X, y, 256):
            output = tensors_in(net_loss.forward(Xi))[0]
            error = output - yi.to(output.device).reshape(output.shape)
            total = total + error.double().square().sum(0)
            rows += len(yi)
    return np.asarray((total / rows).sqrt().cpu().numpy())
