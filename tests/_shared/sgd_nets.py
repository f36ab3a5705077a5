"""Nets in float64 trained by plain SGD, with all of the training recorded."""

import torch
from skorch import NeuralNetRegressor
from torch import nn

from skinfluence import TraceRecorder
from tests._shared.problems import SmallMlp


class Line(nn.Module):
    def __init__(self, n_inputs=3):
        super().__init__()
        self.line = nn.Linear(n_inputs, 1, dtype=torch.float64)

    def forward(self, X):
        return self.line(X)


class Double(SmallMlp):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.double()


def sgd(net_class=NeuralNetRegressor, module=Line, **kwargs):
    settings = {
        "optimizer": torch.optim.SGD,
        "lr": 0.05,
        "max_epochs": 1,
        "batch_size": 5,
        "iterator_train__shuffle": True,
        "train_split": None,
        "verbose": 0,
        "callbacks": [TraceRecorder(order=True, steps="all", checkpoints="all")],
    }
    return net_class(module, **{**settings, **kwargs})
