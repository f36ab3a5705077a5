"""What the default net says of itself."""

import numpy as np
import pytest
from sklearn.base import clone

from skinfluence.nets import default_net
from tests._shared.problems import blobs


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_its_repr_counts_columns_and_lists_none(task):
    X, y = blobs(n_features=300)
    targets = y if task == "classification" else X[:, :200]
    net = default_net(X, targets, random_state=0, task=task)
    shown = repr(net)
    assert len(shown) < 800
    assert "module__center=<300 numbers>" in shown
    # they are still what the module gets
    module = clone(net).initialize().module_
    np.testing.assert_allclose(module.center, X.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(module.scale, X.std(0), rtol=1e-5, atol=1e-6)
    if task == "regression":
        np.testing.assert_allclose(module.output_center, targets.mean(0), rtol=1e-5, atol=1e-6)
