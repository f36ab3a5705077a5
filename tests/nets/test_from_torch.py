"""Modules that plain PyTorch trained: the same scores as through skorch, and nothing changed."""

import copy

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from torch import nn

from skinfluence import (
    LossScore,
    OutlierGradientDetector,
    SelfConfidence,
    SGDInfluence,
    TraceRecorder,
    TracIn,
)
from skinfluence.nets import from_torch
from tests._shared.problems import blobs, fitted_classifier, regressor

X, Y = blobs()
WORDS = np.array(["ant", "bee", "cat"])


def through_skorch(y=Y):
    """A net that skorch trained and a recorder followed, and its states."""
    net = fitted_classifier(X, y, max_epochs=4, callbacks=[TraceRecorder(checkpoints="all")])
    trace = dict(net.callbacks_)["TraceRecorder"].trace_
    states = [checkpoint.state for checkpoint in trace.checkpoints]
    rates = [float(checkpoint.learning_rate[0]) for checkpoint in trace.checkpoints]
    return net, trace, {"states": states, "learning_rates": rates}


NET, TRACE, ALONG = through_skorch()
CRITERION = nn.CrossEntropyLoss()


@pytest.mark.parametrize(
    "method",
    [
        TracIn(checkpoints="all"),
        SelfConfidence(checkpoints=2),
        LossScore(),
        OutlierGradientDetector(random_state=0),
    ],
)
def test_scores_are_those_of_the_same_net_through_skorch(method):
    expected = method.set_params(net=FrozenEstimator(NET)).fit(X, Y).detrimentality_
    module = copy.deepcopy(NET.module_).train()
    before = copy.deepcopy(module.state_dict())
    state = torch.random.get_rng_state()
    net = from_torch(module, CRITERION, X, Y, **ALONG, initial_state=TRACE.initial_state)
    found = method.set_params(net=net).fit(X, Y).detrimentality_
    np.testing.assert_array_equal(found, expected)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert module.training
    assert all(p.requires_grad and p.grad is None for p in module.parameters())
    assert all(torch.equal(p, before[name]) for name, p in module.state_dict().items())


def test_labels_are_those_that_the_outputs_stand_for():
    order = np.array([2, 0, 1])  # outputs are not in the order of the names
    names = WORDS[order]
    words = names[Y]
    net = from_torch(NET.module_, CRITERION, X, words, classes=names)
    found = SelfConfidence(net).fit(X, words)
    expected = SelfConfidence(FrozenEstimator(NET)).fit(X, Y)
    np.testing.assert_array_equal(found.detrimentality_, expected.detrimentality_)
    assert set(found.classes_) == set(WORDS)


def test_log_probabilities_are_read_as_such():
    module = nn.Sequential(NET.module_, nn.LogSoftmax(1))
    net = from_torch(module, nn.NLLLoss(), X, Y)
    expected = SelfConfidence(FrozenEstimator(NET)).fit(X, Y).detrimentality_
    np.testing.assert_allclose(SelfConfidence(net).fit(X, Y).detrimentality_, expected, atol=1e-6)
    # what are none have gradients, and no predictions
    other = from_torch(NET.module_, nn.NLLLoss(), X, Y)
    with pytest.raises(ValueError, match="needs class probabilities"):
        SelfConfidence(other).fit(X, Y)


def test_binary_and_numeric_targets():
    torch.manual_seed(0)
    binary = nn.Linear(4, 1)
    yes = np.array(["no", "yes"])[(Y > 0).astype(int)]
    net = from_torch(binary, nn.BCEWithLogitsLoss(), X, yes, classes=["no", "yes"])
    loss = LossScore(net).fit(X, yes).detrimentality_
    logit = binary(torch.tensor(X)).detach().numpy().ravel()
    expected = np.logaddexp(0, np.where(yes == "yes", -logit, logit))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)

    numeric = regressor(max_epochs=3).fit(X, X[:, :1])
    net = from_torch(numeric.module_, nn.MSELoss(), X, X[:, 0])
    expected = LossScore(FrozenEstimator(numeric)).fit(X, X[:, 0]).detrimentality_
    np.testing.assert_allclose(LossScore(net).fit(X, X[:, 0]).detrimentality_, expected, rtol=1e-5)


def test_without_states_what_follows_a_training_says_so():
    net = from_torch(NET.module_, CRITERION, X, Y)
    assert np.isfinite(LossScore(net).fit(X, Y).detrimentality_).all()
    with pytest.raises(ValueError, match="frozen net brings no"):
        TracIn(net, checkpoints=2).fit(X, Y)
    net = from_torch(NET.module_, CRITERION, X, Y, **ALONG)
    with pytest.raises(ValueError, match="no state from before its training"):
        OutlierGradientDetector(net).fit(X, Y)
    assert OutlierGradientDetector(net, n_neighbors=None).fit(X, Y).detrimentality_.shape == Y.shape
    with pytest.raises(ValueError, match="frozen net brings no"):
        SGDInfluence(net).fit(X, Y, X_val=blobs(seed=1)[0], y_val=Y)


LAST = ALONG["states"][-1]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"module": nn.Linear}, TypeError, "module"),
        ({"module": NET}, TypeError, "module"),
        ({"criterion": nn.CrossEntropyLoss}, TypeError, "criterion"),
        ({"y": WORDS[Y]}, ValueError, "Give the label of each output"),
        ({"classes": ["a", "b"]}, ValueError, "Give the label of each output"),
        ({"y": Y[:-1]}, ValueError, "inconsistent numbers of samples"),
        ({"states": []}, ValueError, "at least one state"),
        ({"states": [LAST], "learning_rates": [0.1, 0.1]}, ValueError, "a positive learning rate"),
        ({"states": [LAST], "learning_rates": [0.0]}, ValueError, "a positive learning rate"),
        ({"states": ALONG["states"][:-1]}, ValueError, "not the module's own"),
        ({"states": [LAST, LAST]}, ValueError, "Copy every tensor"),
        ({"states": [{"weight": torch.ones(2)}]}, ValueError, r"states\[0\] is not a state"),
        ({"states": [LAST], "initial_state": {}}, ValueError, "initial_state is not a state"),
        ({"criterion": nn.MSELoss(), "classes": ["a"]}, ValueError, "outputs are no classes"),
    ],
)
def test_what_does_not_fit_together_is_refused(settings, error, message):
    given = {"module": NET.module_, "criterion": CRITERION, "X": X, "y": Y, **settings}
    with pytest.raises(error, match=message):
        from_torch(**given)
