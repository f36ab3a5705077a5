"""The study of nets on images: from one fit, the scores that each method gives by its own."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from benchmarks.data import Problem
from benchmarks.studies.image_nets import DEFAULT, member_outputs, scores
from skinfluence import EL2N, AreaUnderMargin, LossScore, OutlierGradientDetector


@pytest.mark.slow
def test_scores_are_those_of_the_methods(brief_nets):
    X, y = load_digits(return_X_y=True)
    X, y = X[:200].reshape(-1, 1, 8, 8).astype(np.float32), y[:200]
    found = scores(member_outputs(Problem(X, y, y == 0), 3))
    methods = {
        DEFAULT: OutlierGradientDetector(random_state=3),
        "area under the margin": AreaUnderMargin(random_state=3),
        "EL2N, mean": EL2N(checkpoints=10, random_state=3),
        "loss, mean": LossScore(checkpoints=10, random_state=3),
    }
    for name, method in methods.items():
        expected = method.fit(X, y).detrimentality_
        np.testing.assert_allclose(found[name], expected, atol=1e-5, err_msg=name)
