"""Trainings that went wrong, and nets that cannot be trained as they are, are named before use."""

import importlib
import sys
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from skorch.callbacks import Checkpoint, EarlyStopping, EpochScoring
from torch import nn

from skinfluence import (
    CleanedClassifier,
    DataShapley,
    DetrimentalityUnion,
    GraNd,
    InfluenceFunction,
    LeaveOneOut,
    LossScore,
    OutlierGradientDetector,
    SelfConfidence,
    TraceRecorder,
    TracIn,
)
from skinfluence.gradients import gradient_norms
from skinfluence.storage._fingerprint import fingerprint
from skinfluence.trace._training_trace import Checkpoint as TracedCheckpoint
from skinfluence.trace._training_trace import TrainingTrace
from tests._shared.problems import SmallMlp, blobs, classifier, fitted_classifier, noisy_blobs

X, Y, _ = noisy_blobs(n=60)


class LogProbabilities(SmallMlp):
    def forward(self, X):
        return torch.log_softmax(super().forward(X), 1)


class Explodes(nn.Module):
    """A criterion that is infinite from some batch on."""

    def forward(self, output, target):
        return nn.functional.cross_entropy(output, target) * float("inf")


DIVERGING = {
    "log_of_log": {"module": LogProbabilities, "criterion": nn.NLLLoss},
    "step_too_large": {"optimizer": torch.optim.SGD, "lr": 1e30},
    "infinite": {"criterion": Explodes},
    "no_callbacks": {"module": LogProbabilities, "criterion": nn.NLLLoss, "callbacks": "disable"},
}


def diverging(kind):
    return classifier(**{"max_epochs": 3, **DIVERGING[kind]})


@pytest.mark.parametrize("kind", DIVERGING)
def test_a_diverged_training_is_named_by_every_method(kind, tmp_path):
    net = diverging(kind)
    memory = str(tmp_path / "m")
    for method in (
        OutlierGradientDetector(net, memory=memory, random_state=0),
        TracIn(net, random_state=0),
        GraNd(net, epoch=2, n_seeds=1, random_state=0),
        InfluenceFunction(net, random_state=0),
        SelfConfidence(net, cv=2, random_state=0),
        DetrimentalityUnion([("loss", LossScore())], net=net, random_state=0),
        LeaveOneOut(net, random_state=0),
        DataShapley(net, max_permutations=1, random_state=0),
        CleanedClassifier(classifier(), LossScore(net), contamination=0.1, random_state=0),
    ):
        with pytest.raises(ValueError, match="training diverged") as caught:
            method.fit(X, Y)
        assert "impute" not in str(caught.value)
    assert not list((tmp_path / "m").rglob("*.pkl"))


def test_a_frozen_net_that_diverged_is_named():
    net = diverging("log_of_log").fit(X, Y)
    with pytest.raises(ValueError, match=r"training diverged: its loss is nan from epoch 1 of 3"):
        LossScore(FrozenEstimator(net)).fit(X, Y)
    net = fitted_classifier(X, Y, max_epochs=1)
    with torch.no_grad():
        net.module_.head.bias[0] = torch.nan
    with pytest.raises(ValueError, match=r"diverged: head.bias .* not finite"):
        LossScore(FrozenEstimator(net)).fit(X, Y)


def test_statistics_of_batch_normalisation_that_are_not_finite_are_named():
    class Normalised(SmallMlp):
        def __init__(self):
            super().__init__()
            self.body.append(nn.BatchNorm1d(16))
            self.register_buffer("mask", torch.full((2, 2), -torch.inf))

    net = fitted_classifier(X, Y, module=Normalised, max_epochs=1)
    assert LossScore(FrozenEstimator(net)).fit(X, Y)
    net.module_.body[-1].running_mean[0] = torch.nan
    with pytest.raises(ValueError, match=r"diverged: body.*running_mean .* not finite"):
        LossScore(FrozenEstimator(net)).fit(X, Y)


def test_a_training_that_recovered_is_whole():
    class SkipsOneBatch(nn.Module):
        n_calls = 0

        def forward(self, output, target):
            SkipsOneBatch.n_calls += 1
            loss = nn.functional.cross_entropy(output, target)
            return loss + torch.nan if SkipsOneBatch.n_calls == 2 else loss

    class SkipsNaN(NeuralNetClassifier):
        def train_step_single(self, batch, **fit_params):
            step = super().train_step_single(batch, **fit_params)
            for parameter in self.module_.parameters():
                parameter.grad.nan_to_num_(0.0)
            return step

    net = SkipsNaN(SmallMlp, criterion=SkipsOneBatch, max_epochs=4, train_split=None, verbose=0)
    assert np.isfinite(LossScore(net, random_state=0).fit(X, Y).detrimentality_).all()


def test_a_training_that_went_back_to_its_best_epoch_is_whole(tmp_path):
    class ExplodesLater(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, output, target):
            self.calls += self.training
            loss = nn.functional.cross_entropy(output, target)
            return loss + torch.inf if self.calls > 4 else loss

    best = Checkpoint(monitor="train_loss_best", dirname=tmp_path, load_best=True)
    net = classifier(criterion=ExplodesLater, max_epochs=4)
    with pytest.raises(ValueError, match="its loss is inf from epoch 3 of 4"):
        LossScore(net, random_state=0).fit(X, Y)
    fitted = classifier(criterion=ExplodesLater, max_epochs=4, callbacks=[best]).fit(X, Y)
    fitted.criterion_.calls = 0
    assert np.isfinite(LossScore(FrozenEstimator(fitted)).fit(X, Y).detrimentality_).all()


@pytest.mark.parametrize(
    ("callback", "name"),
    [
        (EarlyStopping(sink=str), "EarlyStopping"),
        (("stop", EarlyStopping()), "EarlyStopping"),
        (EarlyStopping, "EarlyStopping"),
        (Checkpoint(dirname="never_made"), "Checkpoint"),
    ],
)
def test_a_callback_that_watches_rows_that_are_not_there_is_named(callback, name):
    net = classifier(callbacks=[callback], train_split=None)
    with pytest.raises(ValueError, match=f"{name} watches 'valid_loss.*train_split=None"):
        LossScore(net).fit(X, Y)
    for scored in (EpochScoring("accuracy"), EpochScoring("accuracy", name="own")):
        watching = EarlyStopping(monitor=scored.name or "accuracy", sink=str)
        net = classifier(callbacks=[scored, watching], max_epochs=2)
        with pytest.raises(ValueError, match=r"EarlyStopping watches '.*train_split=None"):
            LossScore(net).fit(X, Y)
    scored = EpochScoring("accuracy", name="valid_like", on_train=True)
    watching = EarlyStopping(monitor="train_loss", sink=str)
    net = classifier(callbacks=[scored, watching], max_epochs=2)
    assert LossScore(net, random_state=0).fit(X, Y)


def test_a_net_whose_weights_come_from_elsewhere_is_taken_as_it_is():
    net = NeuralNetClassifier(SmallMlp, criterion=nn.CrossEntropyLoss)
    with pytest.raises(ValueError, match=r"net.initialize\(\) if its weights come from elsewhere"):
        LossScore(FrozenEstimator(net)).fit(X, Y)
    net.initialize()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing was held out of a training that never was
        LossScore(FrozenEstimator(net)).fit(X, Y)


def test_lazy_layers_are_named():
    def lazy():
        return nn.Sequential(nn.LazyLinear(5), nn.ReLU(), nn.LazyLinear(3))

    net = NeuralNetClassifier(lazy, criterion=nn.CrossEntropyLoss, verbose=0, train_split=None)
    with pytest.raises(ValueError, match=r"0.weight.* have no size yet.*nn.Linear"):
        LossScore(net).fit(X, Y)
    with pytest.raises(ValueError, match="have no size yet"):
        gradient_norms(net.initialize(), X, Y)

    recorded = clone(net).set_params(callbacks=[TraceRecorder(checkpoints=2)])
    with pytest.raises(ValueError, match=r"have no size yet.*nn.Linear"):
        recorded.fit(X.astype(np.float32), Y)

    def lazy_statistics():
        return nn.Sequential(nn.Linear(4, 3), nn.LazyBatchNorm1d(affine=False))

    with pytest.raises(ValueError, match=r"1.running_mean.* have no size yet"):
        LossScore(clone(net).set_params(module=lazy_statistics)).fit(X, Y)

    class Dry(nn.Sequential):
        def __init__(self):
            super().__init__(*lazy())
            self(torch.zeros(2, 4))

    assert LossScore(net.set_params(module=Dry), random_state=0).fit(X, Y)


def test_a_last_batch_of_one_row_is_named():
    class Normalised(SmallMlp):
        def __init__(self):
            super().__init__()
            self.body.append(nn.BatchNorm1d(16))

    net = classifier(Normalised, batch_size=59, max_epochs=1)
    with pytest.raises(ValueError, match=r"last batch of 60 rows .* has one.*drop_last"):
        LossScore(net).fit(X, Y)
    net.set_params(iterator_train__drop_last=True)
    assert LossScore(net, random_state=0).fit(X, Y)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_half_nets_take_any_numbers(dtype):
    class Half(SmallMlp):
        def __init__(self):
            super().__init__()
            self.half()

    inputs, targets = blobs()
    inputs = (10 * inputs).astype(dtype)
    net = classifier(Half, optimizer=torch.optim.SGD, lr=0.01, max_epochs=2)
    method = OutlierGradientDetector(net, random_state=0).fit(inputs, targets)
    assert np.isfinite(method.detrimentality_).all()
    assert np.isfinite(method.transform(inputs[:5])).all()


def test_a_net_in_a_precision_that_numpy_lacks_is_named():
    class Brain(SmallMlp):
        def __init__(self):
            super().__init__()
            self.bfloat16()

    with pytest.raises(ValueError, match=r"bfloat16.*Cast in its forward"):
        LossScore(classifier(Brain, max_epochs=1)).fit(X, Y)


def handmade(**changes):
    recorder = TraceRecorder(checkpoints=2)
    net = fitted_classifier(X, Y, max_epochs=2, callbacks=[recorder])
    trace = recorder.trace_
    fields = {name: getattr(trace, name) for name in trace.__dataclass_fields__ if name[0] != "_"}
    recorder.trace_ = TrainingTrace(**{**fields, **changes})
    return net


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rates": np.zeros(4)}, "learning_rates of shape"),
        ({"learning_rates": np.zeros((4, 2))}, "row of learning_rates has 2 entries"),
        ({"batch_indices": [np.arange(3)]}, "has 1 batch_indices, but 4 were expected"),
        ({"step_states": [{}], "first_step": 2}, "has 1 step_states, but 2 were expected"),
        ({"momentum": (0.1, 0.2)}, "momentum has 2 entries"),
        ({"checkpoints": []}, "no checkpoints"),
        (
            {"checkpoints": [TracedCheckpoint(1, np.zeros(3), {})]},
            "learning_rate of the checkpoint of epoch 1 has 3 entries",
        ),
    ],
)
def test_a_trace_made_by_hand_must_belong_together(changes, message):
    with pytest.raises(ValueError, match=message):
        handmade(**changes)


def test_a_trace_without_parameter_groups_says_so_in_tracin():
    net = handmade(parameter_groups=(), weight_decay=(), momentum=(), dampening=())
    with pytest.raises(ValueError, match="does not say which parameters"):
        TracIn(FrozenEstimator(net), checkpoints=2).fit(X, Y)


def test_modules_imported_by_name_belong_to_the_key(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "by_name.py").write_text("scale = 1.0\n")
    (tmp_path / "named.py").write_text(
        "import importlib\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def forward(self, X):\n"
        "        return X * importlib.import_module('by_name').scale\n"
    )

    def key():
        for name in ("by_name", "named"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return fingerprint(importlib.import_module("named").Net)

    before = key()
    assert key() == before
    (tmp_path / "by_name.py").write_text("scale = 2.0\n")
    assert key() != before
    for name in ("by_name", "named"):
        sys.modules.pop(name, None)
