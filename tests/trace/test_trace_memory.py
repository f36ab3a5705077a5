"""Memory of a walk back through a training on disk: it does not follow the trajectory."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from torch import nn

from skinfluence import TraceRecorder
from skinfluence.influence.retraced._retracing import retraced_influence
from skinfluence.rows._rows import ModelRows

STATUS = Path("/proc/self/status")


class Wide(nn.Module):
    """A million parameters, four megabytes a state."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(512, 2000), nn.ReLU(), nn.Linear(2000, 2))

    def forward(self, X):
        return self.body(X)


def resident():
    """Megabytes of this process in memory, pages of files among them."""
    (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


class Sampled:
    """Takes the place of the file that a walk is kept in, and looks at memory instead."""

    def __init__(self):
        self.seen = []

    def read(self):
        return None

    def keeping(self, state):
        return nullcontext()

    def watch(self, state):
        self.seen.append(resident())


@pytest.mark.skipif(not STATUS.exists(), reason="reads /proc")
def test_memory_does_not_follow_the_trajectory(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 512)).astype(np.float32)
    rows = ModelRows(X, rng.integers(0, 2, 60))
    recorder = TraceRecorder(steps="all", storage=tmp_path / "t")
    settings = {"optimizer": torch.optim.SGD, "batch_size": 2, "max_epochs": 1, "verbose": 0}
    net = NeuralNetClassifier(Wide, criterion=nn.CrossEntropyLoss, train_split=None, **settings)
    net.set_params(callbacks=[recorder]).fit(*rows)
    trace = recorder.trace_
    assert trace.step_states.path.stat().st_size > 120e6
    sampled = Sampled()
    influence = retraced_influence(
        net,
        trace,
        rows,
        ModelRows(X[:5], rows.targets[:5]),
        parameters="trajectory",
        first_step=0,
        hessian=True,
        renormalize=False,
        batch_size=5,
        each=False,
        file=sampled,
    )
    assert np.abs(influence).min() > 0
    assert len(sampled.seen) == trace.n_steps
    assert max(sampled.seen) - sampled.seen[1] < 60
