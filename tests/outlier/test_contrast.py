"""The contrast of gradients before training with those of neighbors, against a plain loop."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from skorch.helper import SliceDict

from skinfluence import OutlierGradientDetector
from skinfluence.outlier._features import NeighborContrast
from tests._shared.problems import classifier, noisy_blobs, paper_method


def draw(n, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2, 3)) * [1.0, 10.0, 0.1]
    X[:, 0, 0] = 5.0  # a constant column
    return X, rng.random((n, 4)), rng.normal(size=(n, 7))


def by_hand(X, H, G, k, others):
    """Contrast the rows of `others` with the k nearest rows of (X, H, G), never with themselves."""
    table = X.reshape(len(X), -1)
    scale = np.where(table.std(0) > 1e-6, table.std(0), 1.0)

    def features(X, H):
        left = (X.reshape(len(X), -1) - table.mean(0)) / scale
        return np.hstack([part / np.linalg.norm(part, axis=1)[:, None] for part in (left, H)])

    own, found = features(X, H), []
    for f, g in zip(features(*others[:2]), others[2], strict=True):
        distances = np.linalg.norm(own - f, axis=1)
        order = [i for i in np.argsort(distances) if distances[i] > 1e-9]
        found.append(g - G[order[:k]].mean(0))
    return np.array(found)


@pytest.mark.parametrize("k", [1, 5])
def test_contrast_is_that_of_a_plain_loop(k):
    X, H, G = draw(30)
    contrast = NeighborContrast(k, X, H, G)
    expected = by_hand(X, H, G, k, (X, H, G))
    np.testing.assert_allclose(contrast.of_training_rows(), expected, atol=1e-10)
    np.testing.assert_allclose(contrast.of_rows(X[3:9], H[3:9], G[3:9]), expected[3:9], atol=1e-10)
    others = draw(8, seed=1)
    np.testing.assert_allclose(contrast.of_rows(*others), by_hand(X, H, G, k, others), atol=1e-10)


def test_all_other_rows_at_most_are_neighbors():
    X, H, G = draw(6)
    few, many = NeighborContrast(5, X, H, G), NeighborContrast(100, X, H, G)
    np.testing.assert_array_equal(many.of_training_rows(), few.of_training_rows())
    mean_of_others = (G.sum(0) - G) / 5
    np.testing.assert_allclose(few.of_training_rows(), G - mean_of_others, atol=1e-12)


def test_inputs_that_are_no_numbers_leave_the_activations():
    _, H, G = draw(20)
    alone = NeighborContrast(3, None, H, G).of_training_rows()
    np.testing.assert_allclose(
        alone, NeighborContrast(3, np.zeros((20, 2)), H, G).of_training_rows(), atol=1e-12
    )


def test_wrong_labels_learnt_by_heart_are_found():
    X, y, is_noisy = noisy_blobs(n=150, rate=0.2, spread=1.0)
    net = classifier(max_epochs=150, module__n_hidden=128)
    method = OutlierGradientDetector(net, random_state=0).fit(X, y)
    last = paper_method(FrozenEstimator(method.net_)).fit(X, y)
    found, missed = (roc_auc_score(is_noisy, m.detrimentality_) for m in (method, last))
    assert found > 0.95
    assert found > missed
    np.testing.assert_allclose(
        method.score_detrimentality(X, y), method.detrimentality_, rtol=1e-4, atol=1e-6
    )


def test_frozen_net_needs_its_beginning():
    X, y, _ = noisy_blobs(n=60)
    net = paper_method(classifier(), random_state=0).fit(X, y).net_
    with pytest.raises(ValueError, match=r"brings no trace.*TraceRecorder\(checkpoints=10\)"):
        OutlierGradientDetector(FrozenEstimator(net)).fit(X, y)
    with pytest.raises(ValueError, match="n_neighbors=0"):
        OutlierGradientDetector(n_neighbors=0).fit(X, y)


def tensors(X):
    return torch.utils.data.TensorDataset(torch.tensor(X), torch.zeros(len(X), dtype=torch.int64))


@pytest.mark.parametrize(
    "container",
    [
        lambda X: {"X": X},
        lambda X: {"X": X.astype(np.float64)},
        lambda X: SliceDict(X=X),
        tensors,
        lambda X: torch.utils.data.Subset(tensors(X), range(len(X))),
        lambda X: pd.DataFrame(X, columns=list("abcd")),
        lambda X: X.tolist(),
        torch.tensor,
    ],
    ids=["dict", "doubles", "slice_dict", "data_set", "subset", "table", "list", "tensor"],
)
def test_same_rows_same_scores_in_any_container(container):
    X, y, _ = noisy_blobs()
    expected = OutlierGradientDetector(classifier(max_epochs=4), random_state=0).fit(X, y)
    found = OutlierGradientDetector(classifier(max_epochs=4), random_state=0)
    found.fit(container(X), y)
    np.testing.assert_allclose(found.detrimentality_, expected.detrimentality_, rtol=1e-5)
    for batch_size in (7, 256):
        new = found.set_params(batch_size=batch_size).score_detrimentality(container(X[:9]), y[:9])
        np.testing.assert_allclose(new, expected.score_detrimentality(X[:9], y[:9]), rtol=1e-4)


def test_inputs_too_large_to_keep_are_named():
    X, y, _ = noisy_blobs()
    net = classifier(max_epochs=2)
    method = OutlierGradientDetector(net, max_bytes=1000, n_components=2, random_state=0)
    with pytest.raises(ValueError, match="n_neighbors compares rows by their inputs, which take"):
        method.fit({"X": X}, y)
