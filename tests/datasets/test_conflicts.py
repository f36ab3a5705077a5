"""Conflicting rows against all pairs, one by one."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.datasets import load_digits

from skinfluence.datasets import conflicting_rows


def brute_force(X, y, tolerance):
    X = np.asarray(X, dtype=np.float64)
    flat = X.reshape(len(X), -1)
    if X.ndim == 2:
        flat = flat[:, np.ptp(flat, axis=0) > 0]
        flat = flat / flat.std(0)
    n = len(flat)
    distances = np.array([[np.linalg.norm(a - b) for b in flat] for a in flat])
    distinct = np.unique(flat, axis=0)
    radius = 0.0
    if len(distinct) > 1:
        nearest = [
            min(np.linalg.norm(a - b) for b in distinct if not np.array_equal(a, b))
            for a in distinct
        ]
        radius = tolerance * np.median(nearest)
    return [
        [i, j]
        for i in range(n)
        for j in range(i + 1, n)
        if y[i] != y[j] and distances[i, j] <= radius
    ]


def with_near_duplicates(seed, n=40, shape=(3,), n_copies=5):
    """Rows, some of them copied, some nearly, with labels drawn anew."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, *shape)) * np.geomspace(0.01, 100, shape[-1])
    X[rng.choice(n, n_copies, replace=False)] = X[rng.choice(n, n_copies)]
    near = rng.choice(n, n_copies, replace=False)
    X[near] = X[rng.choice(n, n_copies)] + 1e-4 * rng.normal(size=X[near].shape) * X.std(0)
    return X, rng.integers(0, 3, n)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**16), st.sampled_from([(3,), (20,), (1, 4, 4)]), st.sampled_from([0, 0.1, 1.3])
)
def test_pairs_are_those_of_brute_force(seed, shape, tolerance):
    X, y = with_near_duplicates(seed, shape=shape)
    found = conflicting_rows(X, y, tolerance=tolerance)
    assert found.tolist() == brute_force(X, y, tolerance)
    assert found.dtype == np.intp
    assert found.shape[1] == 2


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=25
    ),
    st.sampled_from([0, 0.5, 1.0001]),
)
def test_many_equal_rows(rows, tolerance):
    X, y = np.array([row[:2] for row in rows]), np.array([row[2] for row in rows])
    found = conflicting_rows(X, y, tolerance=tolerance).tolist()
    assert found == brute_force(X, y, tolerance)


def test_planted_pairs_are_found():
    X, y = load_digits(return_X_y=True)
    X, y = X[:300].copy(), y[:300].copy()
    assert conflicting_rows(X, y).tolist() == []
    X[200], X[250] = X[10], 1.005 * X[11]
    y[200], y[250] = (y[10] + 1) % 10, (y[11] + 1) % 10
    assert conflicting_rows(X, y).tolist() == [[10, 200], [11, 250]]
    assert conflicting_rows(X, y, tolerance=0).tolist() == [[10, 200]]
    images = X.reshape(-1, 1, 8, 8)
    assert conflicting_rows(images, y.astype(str)).tolist() == [[10, 200], [11, 250]]


def test_order_of_rows_and_units_do_not_count():
    X, y = with_near_duplicates(0)
    expected = conflicting_rows(X, y)
    assert len(expected) > 3
    shuffled = np.random.default_rng(1).permutation(len(X))
    found = shuffled[conflicting_rows(X[shuffled], y[shuffled])]
    assert {frozenset(pair) for pair in found.tolist()} == {
        frozenset(pair) for pair in expected.tolist()
    }
    for other in (
        X * [2.0, 1e-3, 1e5],
        X + np.array([1.0, -5.0, 300.0]),
        np.c_[X, np.full(len(X), 0.1)],
        X[:, ::-1],
        pd.DataFrame(X, index=np.arange(len(X))[::-1]),
    ):
        np.testing.assert_array_equal(conflicting_rows(other, y), expected)
    np.testing.assert_array_equal(conflicting_rows(X, np.array(["u", "v", "w"])[y]), expected)
    images = X.reshape(-1, 1, 1, 3)
    np.testing.assert_array_equal(
        conflicting_rows(1e4 * images + 7, y), conflicting_rows(images, y)
    )


def test_wide_rows_far_from_the_origin_are_compared_exactly():
    rng = np.random.default_rng(0)
    images = (1e4 + rng.normal(size=(60, 1, 16, 16))).astype(np.float64)
    images[1], images[3] = images[0], images[2] + 1e-7
    y = np.arange(60) % 2
    assert conflicting_rows(images, y, tolerance=1e-6).tolist() == [[0, 1], [2, 3]]
    assert conflicting_rows(images, y, tolerance=1e-9).tolist() == [[0, 1]]


def test_data_frames_of_mixed_columns_take_equal_rows_only():
    frame = pd.DataFrame(
        {
            "city": ["Bonn", "Ulm", "Bonn", "Bonn"],
            "size": [1.0, 1.0, 1.0, 2.0],
            "kind": pd.Categorical(["a", "a", "a", "b"]),
        }
    )
    assert conflicting_rows(frame, [0, 0, 1, 1], tolerance=0).tolist() == [[0, 2]]
    assert conflicting_rows(frame, [0, 0, 0, 1], tolerance=0).tolist() == []
    with pytest.raises(ValueError, match=r"columns \['city', 'kind'\].*Set tolerance=0"):
        conflicting_rows(frame, [0, 0, 1, 1])
    frame.loc[2, "city"] = None
    with pytest.raises(ValueError, match="missing values in 1 of 4 rows, the first is row 2"):
        conflicting_rows(frame, [0, 0, 1, 1], tolerance=0)
    flags = pd.DataFrame({"a": [True, False, True], "b": [1, 2, 1]})
    assert conflicting_rows(flags, ["x", "x", "y"]).tolist() == [[0, 2]]


def test_all_rows_equal_or_a_single_row():
    assert conflicting_rows(np.ones((3, 2)), [0, 1, 1]).tolist() == [[0, 1], [0, 2]]
    assert conflicting_rows(np.ones((1, 2)), [0]).shape == (0, 2)


@pytest.mark.parametrize("tolerance", [-0.1, np.nan, np.inf, "near", None, True, False])
def test_tolerance_is_checked(tolerance):
    with pytest.raises(ValueError, match=f"tolerance={tolerance!r}, but expected"):
        conflicting_rows(np.eye(3), [0, 1, 1], tolerance=tolerance)


@pytest.mark.parametrize(
    ("X", "y", "error", "message"),
    [
        ([[1.0], [np.nan]], [0, 1], ValueError, "X holds NaN.*rows: 1"),
        ([[1.0], [2.0]], [0.5, 1], ValueError, "numbers that have a fraction"),
        ([[1.0], [2.0]], [[0], [1]], ValueError, r"y of shape \(2, 1\)"),
        ([[1.0], [2.0]], [0], ValueError, "inconsistent numbers of samples"),
        ([[1.0], [2.0]], None, ValueError, "requires y"),
        ({"a": np.eye(2)}, [0, 1], TypeError, "X of type dict"),
    ],
)
def test_bad_input_is_refused(X, y, error, message):
    with pytest.raises(error, match=message):
        conflicting_rows(X, y)


def test_large_integers_that_differ_are_not_equal():
    X = np.array([[2**60, 0], [2**60 + 1, 0], [3, 1], [2**60, 0]])
    assert conflicting_rows(X, [0, 1, 0, 1], tolerance=0).tolist() == [[0, 3]]
    assert conflicting_rows(pd.DataFrame(X), [0, 1, 0, 1], tolerance=0).tolist() == [[0, 3]]


def test_a_sparse_matrix_is_refused_by_name():
    with pytest.raises(TypeError, match=r"X of type csr_matrix.*X\.toarray\(\)"):
        conflicting_rows(csr_matrix(np.ones((4, 2))), [0, 1, 0, 1])
