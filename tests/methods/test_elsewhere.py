"""Fits and scores in other processes: joblib's backends and dask give what one process gives."""

import subprocess
import sys

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinfluence import (
    CalibratedDetrimentality,
    DetrimentalityUnion,
    GradientEmbedding,
    GraNd,
    InfluenceFunction,
    LossScore,
    OutlierGradientDetector,
    SelfConfidence,
    score_detrimentality,
)

dask = pytest.importorskip("dask", reason="dask comes with the dask extra")
pytest.importorskip("dask.bag")
da = pytest.importorskip("dask.array")

X, y = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[y]
# not the training rows, whose places among themselves hang on the last digit
NEW = X + np.random.default_rng(0).normal(scale=0.05, size=X.shape)
LAZY = da.from_array(NEW, chunks=(37, 3))  # blocks of columns, too
LAZY_NAMES = da.from_array(NAMES, chunks=50)

METHODS = {
    "committee": OutlierGradientDetector(random_state=0),
    "one net": OutlierGradientDetector(committee=None, random_state=0),
    "loss": LossScore(random_state=0),
    "folds": SelfConfidence(cv=3, random_state=0),
    "p-values": CalibratedDetrimentality(LossScore(random_state=0), cv=3),
}


def fitted(name):
    return METHODS[name].fit(X, NAMES)


@pytest.mark.parametrize("name", METHODS)
def test_blocks_of_rows_are_scored_as_all_at_once(name, brief_nets):
    method = fitted(name)
    expected = method.score_detrimentality(NEW, NAMES)
    for labels in (LAZY_NAMES, NAMES):
        found = method.score_detrimentality(LAZY, labels)
        assert found.chunks == ((37, 37, 37, 37, 2),)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found.compute(scheduler="sync"), expected, rtol=1e-6)


def test_columns_are_made_of_blocks(brief_nets):
    union = DetrimentalityUnion(
        [("loss", LossScore(random_state=0)), ("norm", GraNd(random_state=0))]
    ).fit(X, NAMES)
    embedding = GradientEmbedding(random_state=0).fit(X, NAMES)
    for method in (union, embedding, fitted("loss")):
        lazy, expected = method.transform(LAZY), method.transform(NEW)
        assert lazy.shape == expected.shape
        assert lazy.dtype == expected.dtype
        np.testing.assert_allclose(lazy.compute(scheduler="sync"), expected, rtol=1e-5, atol=1e-6)
    lazy = embedding.embed(LAZY, LAZY_NAMES)
    np.testing.assert_allclose(
        lazy.compute(scheduler="sync"), embedding.embed(NEW, NAMES), rtol=1e-5, atol=1e-6
    )


def test_nothing_is_run_before_it_is_asked_for(brief_nets):
    method = fitted("loss")

    def block(values):
        raise AssertionError("a block was read")

    never = LAZY.map_blocks(block, dtype=float, meta=np.empty((0, 0)))
    method.score_detrimentality(never, LAZY_NAMES)
    method.transform(never)


def test_a_pipeline_scores_blocks(brief_nets):
    pipeline = make_pipeline(StandardScaler(), LossScore(random_state=0)).fit(X, NAMES)
    found = score_detrimentality(pipeline, LAZY, LAZY_NAMES)
    expected = score_detrimentality(pipeline, NEW, NAMES)
    np.testing.assert_allclose(found.compute(scheduler="sync"), expected, rtol=1e-6)


def test_images_keep_their_axes(brief_nets):
    images = np.random.default_rng(0).normal(size=(24, 1, 8, 8)).astype(np.float32)
    labels = np.arange(24) % 2
    method = LossScore(random_state=0).fit(images, labels)
    lazy = method.score_detrimentality(da.from_array(images, chunks=(10, 1, 4, 8)), labels)
    assert lazy.chunks == ((10, 10, 4),)
    expected = method.score_detrimentality(images, labels)
    np.testing.assert_allclose(lazy.compute(scheduler="sync"), expected, rtol=1e-5, atol=1e-6)


def test_what_dask_cannot_tell_is_refused(brief_nets):
    method = fitted("loss")
    some = LAZY[LAZY[:, 0] > 5]
    with pytest.raises(ValueError, match="compute_chunk_sizes"):
        method.transform(some)
    with pytest.raises(ValueError, match="for 150 rows of a dask array"):
        method.score_detrimentality(LAZY, LAZY_NAMES[:40])
    with pytest.raises(TypeError, match="to_dask_array"):
        method.transform(dask.bag.from_sequence(X))  # as little as a data frame
    with pytest.raises(ValueError, match="3 features"):
        method.transform(LAZY[:, :3]).compute(scheduler="sync")
    with pytest.raises(ValueError, match="never trained on"):
        method.score_detrimentality(LAZY, np.full(150, "rose")).compute(scheduler="sync")


def fit(name):
    if name == "halves":  # nets that validate each other
        return InfluenceFunction(random_state=0).fit(X, NAMES)
    return fitted(name)


@pytest.mark.parametrize("name", ["committee", "folds", "halves"])
def test_threads_fit_the_same(name, brief_nets):
    expected = fit(name)
    with parallel_config(backend="threading", n_jobs=2):
        found = fit(name)
    np.testing.assert_array_equal(found.detrimentality_, expected.detrimentality_)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["committee", "folds", "halves"])
def test_processes_fit_the_same(name):
    expected = fit(name)
    with parallel_config(backend="loky", n_jobs=2):
        found = fit(name)
    np.testing.assert_allclose(found.detrimentality_, expected.detrimentality_, rtol=1e-6)
    if name == "committee":  # models that other processes fitted
        scores, again = (each.score_detrimentality(X, NAMES) for each in (expected, found))
        np.testing.assert_allclose(again, scores, rtol=1e-6)


# A script whose module other processes cannot import.
BEGINNING = """
import os
import signal
import sys

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster
from joblib import parallel_config
from sklearn.datasets import load_iris
from skorch import NeuralNetClassifier
from torch import nn

from skinfluence import LossScore, OutlierGradientDetector


class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, X):
        return self.layer(X)


if __name__ == "__main__":
    X, y = load_iris(return_X_y=True)
    X = X.astype(np.float32)
    net = NeuralNetClassifier(
        Mine, criterion=nn.CrossEntropyLoss, max_epochs=3, train_split=None, verbose=0
    )
"""

FOLDS = """
    committee = OutlierGradientDetector(
        committee=["neighbors", ("mine", net)], random_state=0
    )
    for method in (LossScore(net, cv=3, random_state=0), committee):
        expected = method.fit(X, y).detrimentality_
        with parallel_config(backend="loky", n_jobs=2):
            found = method.fit(X, y).detrimentality_
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
    print("same")
"""


@pytest.mark.slow
def test_a_net_of_the_script_itself_is_trained_in_other_processes(tmp_path):
    pytest.importorskip("distributed", reason="distributed comes with the dask extra")
    script = tmp_path / "script.py"
    script.write_text(BEGINNING + FOLDS)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "same"


CLUSTER = """
    method = LossScore(net, random_state=0).fit(X, y)
    expected = method.score_detrimentality(X, y)
    marker = sys.argv[1]

    def once_dying(block):
        # the first worker that reads a block dies of it
        try:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return block
        os.kill(os.getpid(), signal.SIGKILL)

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster, Client(cluster) as client:
        lazy = method.score_detrimentality(da.from_array(X, chunks=(20, 4)), y)
        np.testing.assert_allclose(lazy.compute(), expected, rtol=1e-6, atol=1e-8)
        dying = da.from_array(X, chunks=(20, 4)).map_blocks(once_dying, dtype=X.dtype, meta=X[:0])
        found = method.score_detrimentality(dying, y).compute()
        assert os.path.exists(marker)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
        print("same")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_cluster_scores_the_same_though_a_worker_dies(tmp_path):
    pytest.importorskip("distributed", reason="distributed comes with the dask extra")
    script = tmp_path / "script.py"
    script.write_text(BEGINNING + CLUSTER)
    done = subprocess.run(
        [sys.executable, script, tmp_path / "marker"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "same"
