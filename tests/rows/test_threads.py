"""Fits in threads give what they give one after the other, and leave the generators alone."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skinfluence import (
    CleanedClassifier,
    DataShapley,
    GradientEmbedding,
    LeaveOneOut,
    LossScore,
    MirroredInfluence,
    OutlierGradientDetector,
    SelfConfidence,
    TracIn,
)
from skinfluence.rows._seeds import preserved_random_state, seeded
from tests._shared.problems import Centroids, SmallMlp, classifier, noisy_blobs

X, Y, _ = noisy_blobs(n=45)


def net():
    return classifier(SmallMlp, max_epochs=3, module__n_hidden=4)


METHODS = [
    LossScore(net(), random_state=0),
    SelfConfidence(net(), cv=2, random_state=1),
    OutlierGradientDetector(net(), random_state=2),
    TracIn(net(), random_state=3),
    MirroredInfluence(net(), random_state=4),
    DataShapley(max_permutations=1, random_state=5),
    LeaveOneOut(net(), retrain="replay", n_jobs=2, random_state=6),
]


def state():
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()


def scores_of(method):
    return clone(method).fit(X, Y).detrimentality_


def test_fits_in_threads_equal_those_one_by_one():
    expected = [scores_of(method) for method in METHODS]
    before = state()
    order = np.random.default_rng(0).permutation(2 * len(METHODS)) % len(METHODS)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(scores_of, [METHODS[i] for i in order]))
    for i, scores in zip(order, found, strict=True):
        np.testing.assert_array_equal(scores, expected[i])
    with joblib.parallel_config("threading", n_jobs=2):
        again = joblib.Parallel()(joblib.delayed(scores_of)(method) for method in METHODS)
    for one, two in zip(again, expected, strict=True):
        np.testing.assert_array_equal(one, two)
    assert state() == before


# the gradients are there for their trainings
@pytest.mark.filterwarnings("ignore::skinfluence.exceptions.LeakyFeaturesWarning")
@pytest.mark.parametrize("cached", [False, True])
def test_searches_in_threads(cached, tmp_path):
    memory = str(tmp_path) if cached else None
    model = CleanedClassifier(
        make_pipeline(GradientEmbedding(net(), memory=memory, random_state=0), Centroids()),
        LossScore(net(), memory=memory, random_state=0),
        random_state=0,
    )
    grid = {"contamination": [0.05, 0.1, 0.2]}
    before = state()
    results = []
    for n_jobs in (1, 2):
        with joblib.parallel_config("threading"):
            search = GridSearchCV(model, grid, cv=2, n_jobs=n_jobs).fit(X, Y)
        results.append(search.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(*results)
    assert state() == before


def test_threads_that_a_turn_begins_and_waits_for_do_not_wait_for_it():
    def draw(i):
        with seeded(i):
            return torch.rand(3).tolist()

    expected = [draw(i) for i in range(4)]
    with preserved_random_state():
        found = joblib.Parallel(n_jobs=2, backend="threading")(
            joblib.delayed(draw)(i) for i in range(4)
        )
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(draw, 2).result(timeout=20) == expected[2]
        thread = threading.Thread(target=draw, args=(1,))
        thread.start()
        thread.join(timeout=20)
        assert not thread.is_alive()
    assert found == expected


def test_a_thread_waits_for_the_turn_of_another():
    began, log = threading.Event(), []

    def hold():
        with seeded(0):
            began.set()
            end = time.monotonic() + 0.4
            while time.monotonic() < end:
                torch.rand(10)
            log.append("first")

    def follow():
        with seeded(0):
            log.append("second")

    first = threading.Thread(target=hold)
    first.start()
    began.wait()
    second = threading.Thread(target=follow)  # begun in the turn, but by another
    second.start()
    for thread in (first, second):
        thread.join()
    assert log == ["first", "second"]


def test_a_thread_of_others_waits_while_the_holder_of_a_turn_waits_for_its_own():
    """A service may fit in one thread while another thread's fit stands still in a pool."""
    began, log = threading.Event(), []

    def work(i):
        began.set()
        with seeded(i):
            time.sleep(0.2)
            return torch.rand(3).tolist()

    def hold():
        with seeded(0), ThreadPoolExecutor(2) as pool:
            log.append([*pool.map(work, range(3)), torch.rand(3).tolist()])
            log.append("first")

    def follow():
        with seeded(5):
            log.append("second")

    before, start = state(), threading.Thread.start
    first = threading.Thread(target=hold)
    first.start()
    began.wait()
    second = threading.Thread(target=follow)
    second.start()
    for thread in (first, second):
        thread.join(timeout=20)
    assert log[1:] == ["first", "second"]
    assert state() == before
    assert threading.Thread.start is start
    with seeded(0):
        assert log[0][-1] == torch.rand(3).tolist()


def test_generators_are_restored_when_all_that_a_turn_was_lent_to_have_ended():
    taken = threading.Event()

    def linger():
        with seeded(1):
            taken.set()
            time.sleep(0.3)
            torch.rand(3)

    before = state()
    with seeded(0):
        thread = threading.Thread(target=linger)
        thread.start()
        assert taken.wait(timeout=20)  # which is to wait for the thread, too
    assert state() == before
    thread.join()
    assert state() == before
