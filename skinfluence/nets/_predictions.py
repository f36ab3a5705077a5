"""What a net predicts, and how far off it is."""

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator

from skinfluence.gradients._net_loss import tensors_in
from skinfluence.gradients._outputs import check_has_classes
from skinfluence.gradients._skorch import (
    Net,
    check_loader_keeps_order,
    is_net,
    iter_batches,
    net_loss_of,
    shadow_of,
)
from skinfluence.rows._containers import Inputs
from skinfluence.rows._seeds import preserved_random_state


def check_given_net_has_classes(net: object) -> None:
    """Refuse, before it is trained, a net without class probabilities; None passes."""
    candidate = net.estimator if isinstance(net, FrozenEstimator) else net
    if is_net(candidate):
        check_has_classes(candidate)


def predict(net: Net, X: Inputs) -> np.ndarray:
    """Predict like the net itself, leaving its mode and all random generators alone."""
    with preserved_random_state():
        check_loader_keeps_order(net, X)
        return np.asarray(shadow_of(net).predict(X))


def predict_codes(net: Net, X: Inputs, codes: np.ndarray) -> np.ndarray:
    """Predict the likeliest of the classes there are; the net may have outputs beyond these."""
    predicted = predict(net, X)
    if np.isin(predicted, codes).all():
        return predicted
    known = np.sort(codes)
    with preserved_random_state():
        probabilities = np.asarray(shadow_of(net).predict_proba(X))
    return np.asarray(known[probabilities[:, known].argmax(1)])


def root_mean_squared_error(net: Net, X: Inputs, y: np.ndarray | None) -> np.ndarray:
    """Measure a regression's error on given rows, in the shape of a row's output."""
    total, n_rows = torch.zeros(()), 0
    with preserved_random_state(), torch.no_grad():
        net_loss = net_loss_of(net)
        for Xi, yi in iter_batches(net, X, y, 256):
            output = tensors_in(net_loss.forward(Xi))[0]
            error = output - yi.to(output.device).reshape(output.shape)
            total = total + error.double().square().sum(0)
            n_rows += len(yi)
    return np.asarray((total / n_rows).sqrt().cpu().numpy())
