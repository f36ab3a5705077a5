"""Small nets are trained and asked on one thread, which leaves the threads as they were."""

import threading

import numpy as np
import pytest
import torch
from sklearn.base import clone
from threadpoolctl import threadpool_info
from torch import nn

from skinfluence import GradientEmbedding, LossScore, OutlierGradientDetector, TracIn
from skinfluence.gradients._outputs import multiply_adds
from skinfluence.nets import _trained_net, default_net
from skinfluence.nets._arrays import initialized_copy
from skinfluence.rows._threads import one_thread
from tests._shared.problems import SmallMlp, classifier, noisy_blobs

X, Y, _ = noisy_blobs(n=60)
SEEN: list[int] = []


class WatchedMlp(SmallMlp):
    """Notes how many threads there are."""

    fails_after = 10**9

    def forward(self, X):
        SEEN.append(torch.get_num_threads())
        if self.training and len(SEEN) > self.fails_after:
            raise RuntimeError("stopped in the middle")
        return super().forward(X)


class FailingMlp(WatchedMlp):
    fails_after = 6


NET = classifier(WatchedMlp, max_epochs=3)


def threads():
    blas = [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]
    return blas, torch.get_num_threads()


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    SEEN.clear()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("method", "small"),
    [
        (LossScore(classifier(WatchedMlp, max_epochs=1)), False),
        (LossScore(NET, cv=2), True),
        (TracIn(NET, checkpoints=2, layers="all"), True),
        (TracIn(NET, reference="validation"), True),
        (OutlierGradientDetector(NET), True),
        (GradientEmbedding(NET), True),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_small_nets_compute_on_one_thread_and_others_on_those_there_are(method, small, monkeypatch):
    if not small:
        monkeypatch.setattr(_trained_net, "_SMALL", 100)
    before = threads()
    method = clone(method).fit(X, Y)
    n_sketched = SEEN.index(1) if small else 0  # passes before a training, to learn the work
    if hasattr(method, "transform"):
        method.transform(X)
    if hasattr(method, "score_detrimentality"):
        method.score_detrimentality(X, Y)
    if hasattr(method, "influence"):
        method.influence(X[:3], Y[:3])
    assert threads() == before
    if small:
        assert n_sketched < 5
        # a fold's net is looked at, too; what else there is are passes over all rows
        assert SEEN.count(1) > 5 * SEEN.count(2)
    else:
        assert set(SEEN) == {2}


def test_threads_are_restored_where_a_training_fails():
    before = threads()
    with pytest.raises(RuntimeError, match="stopped in the middle"):
        LossScore(classifier(FailingMlp)).fit(X, Y)
    assert SEEN[-1] == 1
    assert threads() == before


@pytest.mark.usefixtures("brief_nets")
@pytest.mark.parametrize("method", [OutlierGradientDetector(committee=None), TracIn()])
def test_scores_do_not_depend_on_the_threads_there_are(method):
    rows = np.random.default_rng(0).normal(size=(300, 200))
    labels = np.arange(300) % 3
    found = []
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        fitted = clone(method).set_params(random_state=0).fit(rows, labels)
        found.append([fitted.detrimentality_, fitted.score_detrimentality(rows, labels)])
    np.testing.assert_array_equal(*found)


def test_the_work_of_a_row_is_counted():
    table = initialized_copy(default_net(X, Y), 0)
    assert multiply_adds(table, X, Y) == 64 * 4 + 64 * 64 + 64 * 3 + 64 + 64 + 3  # its parameters
    images = np.zeros((6, 1, 8, 8), dtype=np.float32)
    net = initialized_copy(default_net(images, np.arange(6) % 2), 0)
    products = 64 * 9 * 32 + 16 * 9 * 32 * 64 + 16 * 64 * 64 + 64 * 2
    assert multiply_adds(net, images, np.arange(6) % 2) == products
    assert products * 64 < _trained_net._SMALL

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.LSTM(1, 8, batch_first=True), nn.Linear(8, 3)

        def forward(self, X):
            return self.head(self.body(X[:, :, None])[0][:, -1])

    net = initialized_copy(classifier(Recurrent), 0)
    assert multiply_adds(net, X, Y) >= sum(p.numel() for p in net.module_.parameters())


def test_blocks_in_several_threads_leave_each_as_it_was():
    torch.rand(10_000).sum()
    begun, ended, found = threading.Event(), threading.Event(), []

    def other(before_torch):
        if before_torch:
            torch.set_num_threads(2)
        with one_thread():
            found.append(torch.get_num_threads())
            begun.set()
            assert ended.wait(timeout=20)
            found.append(torch.get_num_threads())
        found.append(torch.get_num_threads())

    before = threads()
    for before_torch in (True, False):
        begun.clear(), ended.clear(), found.clear()
        thread = threading.Thread(target=other, args=(before_torch,))
        with one_thread():
            thread.start()
            assert begun.wait(timeout=20)
            with one_thread():
                pass
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        ended.set()
        thread.join(timeout=20)
        assert found == [1, 1, 2]
        assert threads() == before
