"""Trainings kept in a joblib.Memory: when one is found again, and that it is the same."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
from pyod.models.knn import KNN
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch.callbacks import Freezer

from skinfluence import (
    EL2N,
    AreaUnderMargin,
    BaseDetrimentality,
    ConfidenceWeightedEntropy,
    ForgettingEvents,
    GradientEmbedding,
    GraNd,
    InfluenceFunction,
    InnerProductInfluence,
    LeaveOneOut,
    LossScore,
    MirroredInfluence,
    NormalizedMargin,
    NormDetector,
    OutlierGradientDetector,
    SelfConfidence,
    SGDInfluence,
    TraceRecorder,
    TracIn,
)
from skinfluence.nets._cache import computed_once
from skinfluence.outlier import _outlier_gradients
from skinfluence.storage._fingerprint import fingerprint
from tests._shared.counted import counted, n_trainings
from tests._shared.instances import SMALLEST
from tests._shared.problems import SmallMlp, classifier, fitted_classifier, noisy_blobs, regressor

# Every estimator that trains a net on the rows, in a setting that records something where it can;
# those that want validation rows get none, so that they train a net a half.
CACHED = [
    AreaUnderMargin(),
    ConfidenceWeightedEntropy(checkpoints=3),
    EL2N(cv=2),
    ForgettingEvents(),
    GradientEmbedding(checkpoints=2, combine="concat"),
    GraNd(epoch=2, n_seeds=2),
    GraNd(epoch=2, n_seeds=2, cv=2),
    InfluenceFunction(),
    InfluenceFunction(reference="self"),
    InnerProductInfluence(n_ensemble=2),
    LossScore(checkpoints="all", cv=2),
    MirroredInfluence(),
    NormalizedMargin(),
    OutlierGradientDetector(cv=2),
    SelfConfidence(),
    SGDInfluence(epochs=2),
    SGDInfluence(parameters="epoch"),
    TracIn(),
    TracIn(reference="validation"),
]
every_cached = pytest.mark.parametrize("method", CACHED, ids=repr)


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


@pytest.mark.parametrize("detector", [KNN(), NormDetector()], ids=["knn", "norm"])
@pytest.mark.parametrize("n_neighbors", [None, 5])
def test_features_out_of_the_cache_judge_all_rows_alike(
    tmp_path, monkeypatch, detector, n_neighbors
):
    X, y, _ = noisy_blobs()
    method = cached_method(tmp_path, detector=detector, n_neighbors=n_neighbors)
    method.fit(X, y)
    again = clone(method)
    with monkeypatch.context() as patch:
        patch.setattr(_outlier_gradients, "training_features", None)  # not to be computed
        again.fit(X, y)
    plain = clone(method).set_params(memory=None).fit(X, y)
    np.testing.assert_array_equal(again.detrimentality_, plain.detrimentality_)
    new = X[::3] + 0.1
    np.testing.assert_array_equal(
        again.score_detrimentality(new, y[::3]), plain.score_detrimentality(new, y[::3])
    )
    np.testing.assert_array_equal(again.transform(new), plain.transform(new))
    assert again.strategy_ == plain.strategy_


@pytest.mark.parametrize(
    "change",
    [
        {"layers": "all"},
        {"checkpoints": "all"},
        {"normalize": None},
        {"n_neighbors": 4},
        {"n_neighbors": None},
        {"n_components": 5},
        {"random_state": 1},
        {"detector": NormDetector(ord=1), "n_neighbors": None},
    ],
    ids=str,
)
def test_other_features_are_not_taken_for_them(tmp_path, change):
    X, y, _ = noisy_blobs()
    cached_method(tmp_path).fit(X, y)
    cached_method(tmp_path, n_neighbors=None).fit(X, y)
    cached = cached_method(tmp_path, **change).fit(X, y)
    plain = clone(cached).set_params(memory=None).fit(X, y)
    np.testing.assert_array_equal(cached.detrimentality_, plain.detrimentality_)


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


def outcome(fitted):
    return fitted.embedding_ if hasattr(fitted, "embedding_") else fitted.detrimentality_


def with_cache(method, tmp_path):
    # plain SGD, so that retracing it warns of nothing
    net = counted(tmp_path, optimizer=torch.optim.SGD)
    return clone(method).set_params(net=net, memory=str(tmp_path / "cache"), random_state=0)


@every_cached
def test_every_method_finds_its_training_again(tmp_path, method):
    X, y, _ = noisy_blobs(n=60)
    method = with_cache(method, tmp_path)
    first = clone(method).fit(X, y)
    n_first = n_trainings(tmp_path)
    assert n_first > 0
    second = clone(method).fit(X.copy(), y.copy())
    assert n_trainings(tmp_path) == n_first
    np.testing.assert_array_equal(outcome(second), outcome(first))
    plain = clone(method).set_params(memory=None).fit(X, y)
    assert n_trainings(tmp_path) == 2 * n_first
    np.testing.assert_array_equal(outcome(second), outcome(plain))
    if hasattr(plain, "score_detrimentality"):
        again = second.score_detrimentality(X[:5], y[:5])
        np.testing.assert_array_equal(again, plain.score_detrimentality(X[:5], y[:5]))


@pytest.mark.slow
@every_cached
def test_every_method_trains_again_where_something_else_is_trained(tmp_path, method):
    X, y, _ = noisy_blobs(n=60)
    method = with_cache(method, tmp_path).fit(X, y)
    n_each = n_trainings(tmp_path)
    X_changed = X.copy()
    X_changed[3, 1] += 1e-3  # a row that is in some folds, not in others
    clone(method).fit(X_changed, y)
    n_with_row = n_trainings(tmp_path)
    assert n_with_row > n_each
    clone(method).set_params(random_state=1).fit(X, y)
    assert n_trainings(tmp_path) == n_with_row + n_each
    clone(method).set_params(net__lr=0.02).fit(X, y)
    assert n_trainings(tmp_path) == n_with_row + 2 * n_each


def test_every_estimator_that_trains_on_the_rows_has_the_parameter():
    listed = {type(method) for method in CACHED}
    assert listed <= {cls for cls in SMALLEST if "memory" in SMALLEST[cls].get_params()}
    by_the_base = {
        cls
        for cls in SMALLEST
        if issubclass(cls, BaseDetrimentality)
        and cls._prepare is BaseDetrimentality._prepare
        and "net" in SMALLEST[cls].get_params()
    }
    assert by_the_base - listed <= {LeaveOneOut}  # it trains once a row, and keeps a file


def test_a_recorder_of_the_users_own_has_the_trace_after_a_hit(tmp_path):
    X, y, _ = noisy_blobs(n=60)
    net = classifier(max_epochs=4, callbacks=[TraceRecorder(checkpoints="all")])
    first = cached_method(tmp_path, net).fit(X, y)
    net_found = cached_method(tmp_path, net).fit(X, y).net_
    frozen = cached_method(tmp_path, FrozenEstimator(net_found), checkpoints=4).fit(X, y)
    assert len(frozen.trace_.checkpoints) == 4
    frozen.set_params(checkpoints=3).fit(X, y)
    np.testing.assert_array_equal(frozen.detrimentality_, first.detrimentality_)


def test_who_wants_the_same_waits_for_it(tmp_path):
    computed = []

    def compute():
        time.sleep(0.2)
        computed.append(0)
        return len(computed)

    with ThreadPoolExecutor(4) as threads:
        waiting = [
            threads.submit(computed_once, str(tmp_path), "key", [], compute) for _ in range(4)
        ]
    assert [one.result() for one in waiting] == [1] * 4
    assert len(computed) == 1


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


class Drifting(SmallMlp):
    """Counts its calls in a buffer that no state dict holds, and that its output depends on."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, X):
        if self.training:
            self.calls += 1
        return super().forward(X) * (1 + self.calls / 10)


@pytest.mark.parametrize("kind", ["frozen layer", "hidden buffer"])
def test_a_hit_gives_all_that_training_left(tmp_path, kind):
    X, y, _ = noisy_blobs()
    if kind == "frozen layer":
        net = classifier(max_epochs=3, callbacks=[Freezer("body.*")])
    else:
        net = classifier(Drifting, max_epochs=3)
    cached_method(tmp_path, net, layers="last").fit(X, y)
    found = cached_method(tmp_path, net, layers="all").fit(X, y)
    plain = clone(found).set_params(memory=None).fit(X, y)
    assert found.strategy_ == plain.strategy_
    np.testing.assert_array_equal(found.detrimentality_, plain.detrimentality_)


SCRIPT = """
import sys
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
    folder, n_jobs, n_folds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    rng = np.random.default_rng(0)
    y = np.arange(200) % 3
    X = (4 * np.eye(3, 4)[y] + rng.normal(size=(200, 4))).astype("float32")
    net = NeuralNetClassifier(
        Net, criterion=nn.CrossEntropyLoss, max_epochs=4, train_split=None,
        verbose=0, callbacks=[Count(str(folder / "count"))],
    )
    memory = str(folder / "cache") if sys.argv[4] == "cached" else None
    method = OutlierGradientDetector(net, checkpoints=3, memory=memory, random_state=0)
    detectors = [
        IForest(n_estimators=10), KNN(), KNN(method="mean"), PCA(), NormDetector(), NormDetector(1)
    ]
    search = GridSearchCV(
        CleanedClassifier(LogisticRegression(), method),
        {"method__detector": detectors, "contamination": [0.05, 0.1, 0.2]},
        cv=StratifiedKFold(n_folds), n_jobs=n_jobs, error_score="raise",
    )
    print(search.fit(X, y).best_score_)
"""


def search_in_a_script(folder, n_jobs, n_folds, cached="cached"):
    script = folder / "search.py"
    script.write_text(SCRIPT)
    arguments = [str(folder), str(n_jobs), str(n_folds), cached]
    command = [sys.executable, "-W", "error", str(script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return float(done.stdout), n_trainings(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_jobs", "n_folds"),
    [
        pytest.param(1, 5, marks=pytest.mark.slow),
        pytest.param(2, 5, marks=pytest.mark.slow),
        (1, 2),
    ],
)
def test_a_grid_search_trains_one_net_a_fold(tmp_path, n_jobs, n_folds):
    assert search_in_a_script(tmp_path, n_jobs, n_folds)[1] == n_folds + 1


@pytest.mark.slow
def test_a_grid_search_finds_the_same_with_memory(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    cached = search_in_a_script(tmp_path / "one", 1, 5, "cached")
    plain = search_in_a_script(tmp_path / "two", 1, 5, "plain")
    assert plain[1] == 91
    assert cached[1] == 6
    assert cached[0] == plain[0]
