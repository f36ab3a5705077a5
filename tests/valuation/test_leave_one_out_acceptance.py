"""SGD-influence ranks rows as really leaving them out does: floors for the mean of five seeds."""

import numpy as np
import pytest

from benchmarks.studies.leave_one_out import Logistic, Perceptron, evaluate
from skinfluence import InnerProductInfluence, SGDInfluence

pytestmark = pytest.mark.slow
SETS = ["digits 1 against 7", "breast cancer, 10 % flips"]  # those that scikit-learn ships


def methods(net):
    return {
        "trajectory": SGDInfluence(net),
        "epoch": SGDInfluence(net, parameters="epoch"),
        "no Hessian": SGDInfluence(net, hessian=False),
        "final": SGDInfluence(net, parameters="final"),
        "inner product": InnerProductInfluence(net),
    }


def mean_taus(module, task):
    runs = [evaluate(module, task, seed, None, methods) for seed in range(5)]
    return {label: float(np.mean([run[label][0] for run in runs])) for label in runs[0]}


def test_perceptron():
    by_set = [mean_taus(Perceptron, task) for task in SETS]
    print("\nKendall tau of an 8-8 perceptron:", dict(zip(SETS, by_set)))
    assert min(taus["trajectory"] for taus in by_set) >= 0.55
    means = {label: np.mean([taus[label] for taus in by_set]) for label in by_set[0]}
    assert means["trajectory"] >= means["no Hessian"] + 0.1
    assert means["trajectory"] > means["final"]
    assert means["trajectory"] > means["inner product"]
    assert means["epoch"] >= means["trajectory"] - 0.05


@pytest.mark.parametrize("task", SETS)
def test_logistic_regression(task):
    taus = mean_taus(Logistic, task)
    print(f"\nKendall tau of logistic regression, {task}: {taus}")
    assert taus["trajectory"] >= 0.9
