"""Nets, files and rows that raise KeyboardInterrupt at a chosen moment, as Ctrl-C does."""

import os
from pathlib import Path

import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn


class Trigger:
    """Counts down to an interrupt."""

    # In the environment: what a net's module refers to belongs to the key of its training.
    @staticmethod
    def left():
        """Say how many pulls are left; None: it is not set, or has fired."""
        left = os.environ.get("PULLS_LEFT")
        return None if left is None else int(left)

    @staticmethod
    def set(left):
        os.environ["PULLS_LEFT"] = str(left)

    @classmethod
    def pull(cls):
        left = cls.left()
        if left is None:
            return
        os.environ["PULLS_LEFT"] = str(left - 1)
        if left == 0:
            del os.environ["PULLS_LEFT"]
            raise KeyboardInterrupt


class InterruptedMlp(nn.Module):
    """Interrupts in a training batch."""

    def __init__(self, n_features=4, n_outputs=2):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_features, 6), nn.ReLU())
        self.head = nn.Linear(6, n_outputs)

    def forward(self, X):
        if self.training:
            Trigger.pull()
        return self.head(self.body(X))


class InterruptedMlpInWorkers(InterruptedMlp):
    """Interrupts in every process that finds a file, by which a test pulls the trigger."""

    def __init__(self, path=None, **settings):
        super().__init__(**settings)
        self.path = path

    def forward(self, X):
        if self.training and Path(self.path).exists():
            raise KeyboardInterrupt
        return super().forward(X)


class InterruptsBatch(Callback):
    """Interrupts in a callback, where no callback of skorch's stops a training."""

    def on_batch_begin(self, net, batch=None, training=None, **kwargs):
        if training:
            Trigger.pull()


class StopsAt(Callback):
    """Stops a training after an epoch as skorch's early stopping does: a regular end."""

    def __init__(self, epoch=2):
        self.epoch = epoch

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            self._stop()

    def _stop(self):
        raise KeyboardInterrupt


class AsksToStop(Callback):
    """Leaves it to another callback, which the net does not know, when to stop."""

    def on_train_begin(self, net, **kwargs):
        self.asked_ = StopsAt(2)

    def on_epoch_end(self, net, **kwargs):
        self.asked_.on_epoch_end(net, **kwargs)


class StopsItself(NeuralNetClassifier):
    """Is told of an epoch's end before its callbacks are."""

    def on_epoch_end(self, net, **kwargs):
        super().on_epoch_end(net, **kwargs)
        if len(net.history) == 2:
            raise KeyboardInterrupt


class OwnFitLoop(NeuralNetClassifier):
    """Trains by a loop of its own."""

    def fit_loop(self, X, y=None, epochs=None, **fit_params):
        self.check_data(X, y)
        rows = self.get_dataset(X, y)
        loader = self.get_iterator(rows, training=True)
        for _ in range(self.max_epochs):
            self.notify("on_epoch_begin", dataset_train=rows, dataset_valid=None)
            self.run_single_epoch(loader, training=True, prefix="train", step_fn=self.train_step)
            self.notify("on_epoch_end", dataset_train=rows, dataset_valid=None)
        return self


def interruptible(module=InterruptedMlp, kind=NeuralNetClassifier, **settings):
    given = {
        "criterion": nn.CrossEntropyLoss,
        "optimizer": torch.optim.SGD,
        "lr": 0.1,
        "max_epochs": 3,
        "batch_size": 16,
        "train_split": None,
        "verbose": 0,
        **settings,
    }
    return kind(module, **given)
