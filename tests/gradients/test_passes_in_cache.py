"""Passes take no more rows at once than a processor's caches hold, and give what they did."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from skinfluence import (
    EL2N,
    InfluenceFunction,
    InnerProductInfluence,
    KNNShapley,
    LossScore,
    MirroredInfluence,
    OutlierGradientDetector,
)
from skinfluence.gradients import _layers
from tests._shared.problems import SmallMlp, blobs, fitted_classifier

METHODS = [
    EL2N(),
    InfluenceFunction(),
    InnerProductInfluence(),
    KNNShapley(features="penultimate"),
    LossScore(),
    MirroredInfluence(random_state=0),
    OutlierGradientDetector(n_neighbors=None, checkpoints="last"),
]
ASK_VALIDATION = (InfluenceFunction, InnerProductInfluence, KNNShapley, MirroredInfluence)
SEEN = []


class Noting(SmallMlp):
    """Notes how many rows it is given; `SEEN` is the module's own, as it is copied."""

    def forward(self, X):
        SEEN.append(len(X))
        return super().forward(X)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_passes_are_cut_to_what_caches_hold(method, monkeypatch):
    X, y = blobs(n=60)
    frozen = FrozenEstimator(fitted_classifier(X, y, module=Noting))
    trusted = dict(zip(("X_val", "y_val"), blobs(n=40, seed=3), strict=True))
    validation = trusted if isinstance(method, ASK_VALIDATION) else {}

    def scores():
        SEEN.clear()
        return clone(method).set_params(net=frozen).fit(X, y, **validation).detrimentality_

    whole = scores()
    assert max(SEEN) >= 40  # all rows at once
    monkeypatch.setattr(_layers, "_CACHED_BYTES", 1)
    # the trial's own batches have 16 rows
    np.testing.assert_allclose(scores(), whole, rtol=1e-4, atol=1e-6)
    assert max(SEEN) == _layers._LEAST_CACHED_ROWS
