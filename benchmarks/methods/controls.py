"""What no method should fall below, and what none can exceed."""

import numpy as np

from benchmarks.methods.method import method


@method("random", group="control")
def _random(problem, seed):
    return np.random.default_rng([seed, 1]).random(len(problem.y))


@method("oracle", group="control")
def _oracle(problem, seed):
    return problem.is_error.astype(float)
