"""The errors that are planted: how many, where, and that a seed gives them again."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.datasets import load_diabetes, load_iris, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import scale

from benchmarks.data.noise import plant

KINDS = ("symmetric", "pair", "unsure", "instance")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("percent", [5, 20])
def test_rate_and_seed(kind, percent):
    X, y = load_wine(return_X_y=True)
    before = y.copy()
    given, is_error = plant(f"{kind} {percent} %", X, y, 3)
    # Xia's noise draws a rate a row, about .08 where .05 is asked for
    assert is_error.mean() == pytest.approx(percent / 100, abs=0.08 if kind == "instance" else 0.01)
    np.testing.assert_array_equal(is_error, given != y)
    np.testing.assert_array_equal(y, before)
    assert set(given) <= set(y)
    np.testing.assert_array_equal(given, plant(f"{kind} {percent} %", X, y, 3)[0])
    assert (given != plant(f"{kind} {percent} %", X, y, 4)[0]).any()


def test_pair_noise_goes_to_the_next_class():
    X, y = load_wine(return_X_y=True)
    given, is_error = plant("pair 20 %", X, y, 0)
    np.testing.assert_array_equal(given[is_error], (y[is_error] + 1) % 3)


def test_unsure_noise_lies_where_a_linear_model_hesitates():
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression().fit(scale(X), y)
    doubt = 1 - model.predict_proba(scale(X))[np.arange(len(y)), y]
    rows = np.concatenate([np.flatnonzero(plant("unsure 20 %", X, y, s)[1]) for s in range(5)])
    assert doubt[rows].mean() > 1.5 * doubt.mean()


def test_unsure_noise_takes_sparse_rows_and_images():
    X, y = load_wine(return_X_y=True)
    X = scale(X[:, :12])
    assert plant("unsure 20 %", csr_matrix(X), y, 0)[1].sum() == 36
    images = X.reshape(-1, 3, 2, 2)
    np.testing.assert_array_equal(
        plant("unsure 20 %", images, y, 0)[0], plant("unsure 20 %", X, y, 0)[0]
    )


def test_shifted_and_permuted_targets():
    X, y = load_diabetes(return_X_y=True)
    shifted, is_error = plant("shifted 10 %", X, y, 0)
    assert is_error.sum() == 44
    np.testing.assert_allclose(np.abs(shifted - y)[is_error], y.std())
    permuted, is_error = plant("permuted 10 %", X, y, 0)
    assert 40 <= is_error.sum() <= 44  # equal targets may change places
    np.testing.assert_array_equal(np.sort(permuted), np.sort(y))


def test_an_unknown_kind_is_named():
    X, y = load_wine(return_X_y=True)
    with pytest.raises(ValueError, match="'parir' is not a known kind of noise"):
        plant("parir 20 %", X, y, 0)
