"""Trainings kept in a joblib.Memory: when one is found again, and that it is the same."""

import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from problems import SmallMlp, classifier, fitted_classifier, noisy_blobs, regressor
from pyod.models.knn import KNN
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch.callbacks import Callback

from skinfluence import NormDetector, OutlierGradientDetector, TraceRecorder
from skinfluence._fingerprint import fingerprint


class CountTrainings(Callback):
    def __init__(self, path):
        self.path = path

    def on_train_begin(self, net, **kwargs):
        with Path(self.path).open("a") as file:
            file.write("x")


def counted(tmp_path, make=classifier, **kwargs):
    return make(max_epochs=6, callbacks=[CountTrainings(str(tmp_path / "count"))], **kwargs)


def n_trainings(tmp_path):
    path = tmp_path / "count"
    return len(path.read_text()) if path.exists() else 0


def cached_method(tmp_path, net=None, **kwargs):
    settings = {"checkpoints": 3, "memory": str(tmp_path / "cache"), "random_state": 0}
    return OutlierGradientDetector(net or counted(tmp_path), **{**settings, **kwargs})


def test_other_detectors_reuse_the_training(tmp_path):
    X, y, _ = noisy_blobs()
    first = cached_method(tmp_path).fit(X, y)
    assert list(tmp_path.rglob("*.pkl"))
    second = cached_method(tmp_path, detector=KNN()).fit(X, y)
    assert n_trainings(tmp_path) == 1
    plain = clone(second).set_params(memory=None).fit(X, y)
    np.testing.assert_array_equal(second.detrimentality_, plain.detrimentality_)
    np.testing.assert_array_equal(second.transform(X), plain.transform(X))
    np.testing.assert_array_equal(second.net_.predict_proba(X), first.net_.predict_proba(X))
    assert second.net_.history[-1]["train_loss"] == first.net_.history[-1]["train_loss"]
    assert len(second.trace_.checkpoints) == 3
    assert second.trace_.checkpoints[-1].state is second.trace_.final_state


@pytest.mark.parametrize(
    "change",
    ["row", "label", "seed", "parameter", "class", "recorder"],
)
def test_another_training_is_not_taken_for_it(tmp_path, change):
    X, y, _ = noisy_blobs()
    method = cached_method(tmp_path).fit(X, y)
    if change == "row":
        X = X.copy()
        X[3, 1] += 1e-3
    elif change == "label":
        y = np.where(np.arange(len(y)) == 5, (y[5] + 1) % 3, y)
    elif change == "seed":
        method.set_params(random_state=1)
    elif change == "parameter":
        method.set_params(net__lr=0.02)
    elif change == "class":

        class SmallMlp2(SmallMlp):
            def forward(self, X):
                return super().forward(X) * 2

        method.set_params(net__module=SmallMlp2)
    else:
        method.set_params(checkpoints=2)
    method.fit(X, y)
    assert n_trainings(tmp_path) == 2


def test_cache_works_for_regressions_folds_and_memory_objects(tmp_path):
    X = noisy_blobs(n=60)[0]
    memory = joblib.Memory(tmp_path / "cache", verbose=0)
    net = counted(tmp_path, make=regressor)
    method = cached_method(tmp_path, net, memory=memory, cv=2)
    target = X[:, 0].astype(np.float32)
    first = method.fit(X, target).detrimentality_
    second = clone(method).set_params(detector=NormDetector()).fit(X, target).detrimentality_
    assert n_trainings(tmp_path) == 2
    np.testing.assert_array_equal(first, second)


def test_frozen_net_bypasses_the_cache(tmp_path):
    X, y, _ = noisy_blobs()
    net = fitted_classifier(X, y, callbacks=[TraceRecorder(checkpoints=3)], max_epochs=3)
    cached_method(tmp_path, FrozenEstimator(net)).fit(X, y)
    assert not list(tmp_path.rglob("*.pkl"))


def test_trace_in_a_folder_bypasses_the_cache(tmp_path):
    X, y, _ = noisy_blobs()
    recorder = TraceRecorder(checkpoints=3, storage=tmp_path / "trace")
    cached_method(tmp_path, classifier(max_epochs=3, callbacks=[recorder])).fit(X, y)
    assert not list(tmp_path.rglob("*.pkl"))


def test_global_generators_are_left_alone_by_a_hit(tmp_path):
    X, y, _ = noisy_blobs()
    method = cached_method(tmp_path).fit(X, y)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    clone(method).fit(X, y)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])


def scaled(factor):
    return lambda X: X * factor


def test_fingerprint_tells_values_apart_and_equal_ones_not():
    import functools

    pairs = [
        (functools.partial(scaled, 1), functools.partial(scaled, 2)),
        (scaled(1), scaled(2)),
        ([1, 2], (1, 2)),
        ({"a": 1}, {"a": 2}),
        (np.zeros(2), np.zeros(2, np.float32)),
        (torch.ones(2), torch.zeros(2)),
        (torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)),
        (np.array(["a", None], object), np.array(["b", None], object)),
        (SmallMlp, classifier),
        (slice(1), slice(2)),
    ]
    for one, other in pairs:
        assert fingerprint(one) != fingerprint(other)
    assert fingerprint(scaled(1)) == fingerprint(scaled(1))
    assert fingerprint({"a", "b", "c"}) == fingerprint({"c", "b", "a"})
    loop = []
    loop_object = type("Loop", (), {})()
    loop_object.self = loop_object
    assert fingerprint([loop, loop_object]) == fingerprint([loop, loop_object])
    with pytest.raises(TypeError, match="set memory=None"):
        fingerprint(i for i in range(2))


SCRIPT = """
import sys, time
from pathlib import Path
import numpy as np, torch
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from pyod.models.pca import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn
from skinfluence import CleanedClassifier, NormDetector, OutlierGradientDetector

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, X):
        return self.layers(X)

class Count(Callback):
    def __init__(self, path):
        self.path = path

    def on_train_begin(self, net, **kwargs):
        with Path(self.path).open("a") as file:
            file.write("x")

if __name__ == "__main__":
    folder, n_jobs, cached = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "cached"
    rng = np.random.default_rng(0)
    y = np.arange(200) % 3
    X = (4 * np.eye(3, 4)[y] + rng.normal(size=(200, 4))).astype("float32")
    net = NeuralNetClassifier(
        Net, criterion=nn.CrossEntropyLoss, max_epochs=int(sys.argv[4]), train_split=None,
        verbose=0, callbacks=[Count(str(folder / "count"))],
    )
    memory = str(folder / "cache") if cached else None
    method = OutlierGradientDetector(net, checkpoints=3, memory=memory, random_state=0)
    detectors = [
        IForest(n_estimators=10), KNN(), KNN(method="mean"), PCA(), NormDetector(), NormDetector(1)
    ]
    search = GridSearchCV(
        CleanedClassifier(LogisticRegression(), method),
        {"method__detector": detectors, "contamination": [0.05, 0.1, 0.2]},
        cv=StratifiedKFold(5), n_jobs=n_jobs, error_score="raise",
    )
    start = time.perf_counter()
    search.fit(X, y)
    print(time.perf_counter() - start, search.best_score_)
"""


def search_in_a_script(folder, n_jobs, cached="cached", n_epochs=4):
    script = folder / "search.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-W", "error", str(script), str(folder), str(n_jobs), cached]
    done = subprocess.run(
        [*command, str(n_epochs)], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    seconds, score = map(float, done.stdout.split())
    return seconds, score, n_trainings(folder)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_grid_search_trains_one_net_a_fold(tmp_path, n_jobs):
    assert search_in_a_script(tmp_path, n_jobs)[2] == 6


@pytest.mark.slow
def test_a_grid_search_finds_the_same_and_is_faster_with_memory(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    fast = search_in_a_script(tmp_path / "one", 1, "cached", 100)
    slow = search_in_a_script(tmp_path / "two", 1, "plain", 100)
    assert slow[2] == 91
    assert fast[2] == 6
    assert fast[1] == slow[1]
    assert slow[0] > 1.5 * fast[0]
