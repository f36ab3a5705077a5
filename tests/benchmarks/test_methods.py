"""Methods of the comparison: what they are given, and the scores of others by hand."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.metrics import roc_auc_score

from benchmarks.data import Problem, load
from benchmarks.methods import METHODS, Parts, methods_named, peers
from benchmarks.methods.peers import suspicion

# The rest trains nets; `test_running` and the acceptance tests run these.
CHEAP = [
    "CG-score",
    "Data-OOB",
    "KNN-Shapley",
    "forest out of bag",
    "logistic out of fold",
    "nearest inputs",
]
FOR_NUMBERS = [
    "boosted residual out of fold",
    "forest residual out of bag",
    "linear residual out of fold",
    "nearest residual",
]


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    monkeypatch.setattr(peers, "N_TREES", 50)


@pytest.fixture(scope="module")
def iris():
    return load("iris", "symmetric 10 %", 0)


def columns(name, problem, seed=0):
    found = METHODS[name].score(problem, seed)
    return found.scores if isinstance(found, Parts) else {name: found}


def test_suspicion_of_probabilities():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [0.3, 0.3, 0.4]])
    found = suspicion(probabilities, np.array([5, 7, 9]))
    np.testing.assert_allclose(found["confidence"], [0.3, 0.8, 0.6])
    # cleanlab's normalized margin is (1 + p of the label - p of the best other) / 2
    np.testing.assert_allclose(found["margin"], [0.25, 0.75, 0.45])
    assert (probabilities >= 0).all()


def test_suspicion_is_cleanlabs():
    rank = pytest.importorskip("cleanlab.rank")
    rng = np.random.default_rng(0)
    probabilities, y = rng.dirichlet(np.ones(4), 50), rng.integers(4, size=50)
    found = suspicion(probabilities, y)
    for kind, name in {"confidence": "self_confidence", "margin": "normalized_margin"}.items():
        quality = rank.get_label_quality_scores(y, probabilities, method=name)
        np.testing.assert_allclose(found[kind], 1 - quality, atol=1e-12)


@pytest.mark.parametrize("name", CHEAP)
def test_methods_find_flips(name, iris):
    found = columns(name, iris)
    assert tuple(found) == METHODS[name].lines
    for line, scores in found.items():
        assert roc_auc_score(iris.is_error, scores) > 0.9, line
        np.testing.assert_array_equal(scores, columns(name, iris)[line])


@pytest.mark.parametrize("name", FOR_NUMBERS)
def test_methods_find_shifted_numbers(name):
    problem = load("diabetes", "shifted 10 %", 0)
    assert METHODS[name].takes(problem)
    assert not METHODS["nearest inputs"].takes(problem)
    assert roc_auc_score(problem.is_error, columns(name, problem)[name]) > 0.6


def test_one_training_gives_a_line_for_each_score(iris, brief_nets):
    parts = METHODS["one training"].score(iris, 0)
    assert tuple(parts.scores) == tuple(parts.seconds) == METHODS["one training"].lines
    assert all(scores.shape == iris.y.shape for scores in parts.scores.values())


@pytest.mark.parametrize("name", ["logistic out of fold", "forest out of bag", "nearest inputs"])
def test_sparse_words_and_images_are_taken(name, iris):
    words = Problem(csr_matrix(iris.X), iris.y, iris.is_error, needs_scaling=False)
    images = Problem(iris.X.reshape(-1, 1, 2, 2), iris.y, iris.is_error)
    for problem in (words, images):
        for scores in columns(name, problem).values():
            assert scores.shape == iris.y.shape


def test_methods_are_found_by_name_line_or_group():
    assert [m.name for m in methods_named(["loss, last", "oracle"])] == [
        "one training",
        "one training, numbers",
        "oracle",
    ]
    assert {m.name for m in methods_named(["control"])} == {"random", "oracle"}
    with pytest.raises(ValueError, match=r"No method is named 'los'; there are .*loss, last"):
        methods_named(["los"])


def test_lines_are_named_once_for_a_task():
    for task in ("classes", "numbers"):
        lines = [line for m in METHODS.values() if task in m.tasks for line in m.lines]
        assert len(lines) == len(set(lines))
