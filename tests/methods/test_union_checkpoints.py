"""A method of a union reads the checkpoints that it would have kept alone, whatever others need."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch.callbacks import Callback, EarlyStopping

from skinfluence import (
    AreaUnderMargin,
    DetrimentalityUnion,
    LossScore,
    OutlierGradientDetector,
    SelfConfidence,
    TraceRecorder,
    TracIn,
)
from tests._shared.problems import classifier, noisy_blobs

X, Y, _ = noisy_blobs(n=12)


class StopAfter(Callback):
    """Ends training after a number of epochs, as Ctrl-C does."""

    def __init__(self, n_epochs):
        self.n_epochs = n_epochs

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.n_epochs:
            raise KeyboardInterrupt


class TwoPhases(type(classifier())):
    """A net whose `fit` trains in two calls."""

    def fit(self, X, y=None, **fit_params):
        return super().fit(X, y, **fit_params).partial_fit(X, y)


def epochs_of(method):
    return [checkpoint.epoch for checkpoint in method.trace_.checkpoints]


def net_of(n_epochs, **kwargs):
    return classifier(**{"max_epochs": n_epochs, "batch_size": 6, "lr": 0.05, **kwargs})


def assert_each_scores_as_alone(net, *methods):
    named = [(f"method{i}", method) for i, method in enumerate(methods)]
    union = DetrimentalityUnion(named, net, aggregate=None, random_state=0).fit(X, Y)
    for column, method in zip(union.scores_.T, methods, strict=True):
        alone = clone(method).set_params(net=net, random_state=0).fit(X, Y)
        np.testing.assert_array_equal(column, alone.detrimentality_)
    return union


def test_two_of_seven_epochs_are_the_same_two_in_a_union():
    methods = LossScore(checkpoints=2), LossScore(checkpoints="all"), LossScore(checkpoints=3)
    union = assert_each_scores_as_alone(net_of(7), *methods)
    assert epochs_of(union.methods_["method0"]) == list(range(1, 8))
    union = assert_each_scores_as_alone(net_of(7), methods[0], methods[2], AreaUnderMargin())
    # no more is recorded than any of them needs
    assert epochs_of(union.methods_["method0"]) == [2, 4, 5, 7]


NUMBERS = st.one_of(st.integers(1, 9), st.sampled_from(["last", "all"]))


@settings(max_examples=15, deadline=None)
@given(NUMBERS, NUMBERS, st.integers(1, 8), st.none() | st.integers(1, 8))
def test_each_method_reads_what_it_would_have_kept_alone(k1, k2, n_epochs, stop):
    callbacks = None if stop is None else [StopAfter(stop)]
    methods = LossScore(checkpoints=k1), TracIn(checkpoints=k2)
    assert_each_scores_as_alone(net_of(n_epochs, callbacks=callbacks), *methods)


@pytest.mark.parametrize("load_best", [True, False])
def test_early_stopping_changes_no_methods_plan(load_best):
    stopping = EarlyStopping("train_loss", patience=2, load_best=load_best)
    net = net_of(12, lr=30.0, callbacks=[stopping])
    methods = LossScore(checkpoints=4), SelfConfidence(checkpoints=9), TracIn(checkpoints=2)
    union = assert_each_scores_as_alone(net, *methods)
    assert len(union.net_.history) < 12
    assert_each_scores_as_alone(net, methods[0], LossScore(checkpoints=4))


def test_a_net_that_trains_in_two_calls_is_read_alike():
    net = TwoPhases(**net_of(5).get_params(deep=False))
    methods = LossScore(checkpoints=2), TracIn(checkpoints=3), LossScore(checkpoints=7)
    union = assert_each_scores_as_alone(net, *methods)
    assert union.methods_["method0"].trace_.planned_epochs == (5, 5)


def test_gradients_and_their_detectors_read_alike():
    methods = [
        OutlierGradientDetector(committee=None, checkpoints=k, n_neighbors=2)
        for k in ("last", 2, 3)
    ]
    union = assert_each_scores_as_alone(net_of(7), *methods)
    assert epochs_of(union.methods_["method0"]) == [2, 4, 5, 7]


@pytest.mark.parametrize("callbacks", ["disable", None])
@pytest.mark.parametrize("own", [{}, {"checkpoints": 2}, {"checkpoints": "all", "logits": True}])
def test_a_recorder_of_the_users_own_takes_nothing_from_the_methods(own, callbacks):
    net = net_of(7, callbacks=[TraceRecorder(**own)] if callbacks is None else callbacks)
    methods = LossScore(checkpoints=2), TracIn(checkpoints=3), AreaUnderMargin()
    assert_each_scores_as_alone(net, *methods)


def test_a_frozen_net_that_was_stopped_early_brings_what_it_could():
    net = net_of(40, callbacks=[TraceRecorder(checkpoints=4), StopAfter(21)])
    frozen = FrozenEstimator(net.fit(X, Y))
    method = LossScore(frozen, checkpoints=4).fit(X, Y)
    assert epochs_of(method) == [10, 20, 21]
    with pytest.raises(ValueError, match=r"no 9 checkpoints .its trace holds 3"):
        LossScore(frozen, checkpoints=9).fit(X, Y)
