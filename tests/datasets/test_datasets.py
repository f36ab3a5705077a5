"""Label noise of each kind, and the two synthetic sets."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils import check_random_state

from skinfluence.datasets import (
    make_noisy_blobs,
    make_noisy_labels,
    make_noisy_moons,
)
from skinfluence.datasets._label_noise import draw_columns

NAMED_KINDS = ["symmetric", "pair", "instance"]
EXACT_KINDS = ["symmetric", "pair"]
# Four sorted names for the same four classes, in arrays of many dtypes.
CLASS_NAMES = [
    np.array([0, 1, 2, 3]),
    np.array([-7, -1, 5, 100], dtype=np.int8),
    np.array([0, 1, 128, 255], dtype=np.uint8),
    np.array([-2.0, 0.0, 1.0, 8.0], dtype=np.float32),
    np.array(["a", "bb", "ccc", "d"]),
    np.array(["a", "bb", "ccc", "d"], dtype=object),
    np.array([b"a", b"bb", b"ccc", b"d"]),
    np.array(["2020-01-01", "2020-01-02", "2021-05-01", "2022-01-01"], dtype="datetime64[D]"),
]
T3 = np.array([[0.7, 0.3, 0.0], [0.0, 0.6, 0.4], [0.25, 0.25, 0.5]])

seeds = st.integers(0, 2**32 - 1)
rates = st.floats(0, 1, exclude_max=True)
# Codes of the classes of CLASS_NAMES; the four in front make sure that each class occurs.
codes_of_rows = st.lists(st.integers(0, 3), max_size=60).map(
    lambda rows: np.array([0, 1, 2, 3, *rows])
)


def any_noise(y, kind, random_state, X=None):
    """Noise of any kind, a transition matrix included, at a rate of .4."""
    n_classes = len(np.unique(y))
    if X is None:
        X = np.random.RandomState(0).standard_normal((len(y), 3))
    if kind == "matrix":
        matrix = np.full((n_classes, n_classes), 0.4 / (n_classes - 1))
        np.fill_diagonal(matrix, 0.6)
        return make_noisy_labels(y, kind=matrix, random_state=random_state)
    return make_noisy_labels(y, rate=0.4, kind=kind, X=X, random_state=random_state)


all_kinds = pytest.mark.parametrize("kind", [*NAMED_KINDS, "matrix"])


@pytest.mark.parametrize("kind", EXACT_KINDS)
@given(y=codes_of_rows, rate=rates, seed=seeds)
@settings(deadline=None)
def test_exactly_the_asked_number_of_labels_changes(kind, y, rate, seed):
    y_noisy, is_noisy = make_noisy_labels(y, rate=rate, kind=kind, random_state=seed)
    assert is_noisy.sum() == round(rate * len(y))
    np.testing.assert_array_equal(is_noisy, y_noisy != y)


@all_kinds
@given(y=codes_of_rows, seed=seeds)
@settings(deadline=None)
def test_mask_says_which_labels_changed_and_input_stays(kind, y, seed):
    before = y.copy()
    y_noisy, is_noisy = any_noise(y, kind, seed)
    assert is_noisy.dtype == bool
    np.testing.assert_array_equal(is_noisy, y_noisy != y)
    assert set(y_noisy) <= set(y)
    np.testing.assert_array_equal(y, before)


@all_kinds
@pytest.mark.parametrize("names", CLASS_NAMES, ids=lambda names: names.dtype.str)
@given(codes=codes_of_rows, seed=seeds)
@settings(deadline=None, max_examples=20)
def test_renaming_classes_in_order_renames_the_result(kind, names, codes, seed):
    noisy_codes, is_noisy = any_noise(codes, kind, seed)
    y_noisy, is_noisy_named = any_noise(names[codes], kind, seed)
    np.testing.assert_array_equal(y_noisy, names[noisy_codes])
    np.testing.assert_array_equal(is_noisy_named, is_noisy)
    assert y_noisy.dtype == names.dtype


@all_kinds
@pytest.mark.parametrize(
    "wrap",
    [list, tuple, pd.Series, lambda y: pd.Series(y, index=y[::-1]), pd.Index],
    ids=["list", "tuple", "Series", "Series, other index", "Index"],
)
def test_containers(kind, wrap):
    y = np.arange(60) % 4
    expected = any_noise(y, kind, 0)
    for got, array in zip(any_noise(wrap(y), kind, 0), expected, strict=True):
        assert type(got) is np.ndarray
        np.testing.assert_array_equal(got, array)


@all_kinds
@pytest.mark.parametrize("y", [np.array([True, False] * 30), pd.Series(["no", "yes"] * 30)])
def test_two_classes_swap(kind, y):
    y_noisy, is_noisy = any_noise(y, kind, 0)
    first, second = np.unique(y)
    swapped = np.where(np.asarray(y) == first, second, first)
    np.testing.assert_array_equal(y_noisy, np.where(is_noisy, swapped, np.asarray(y)))
    assert is_noisy.any()
    assert y_noisy.dtype == np.asarray(y).dtype


def test_pandas_input_is_not_modified():
    y = pd.Series(["a", "b", "c"] * 20)
    before = y.copy()
    assert any_noise(y, "symmetric", 0)[1].any()
    pd.testing.assert_series_equal(y, before)


@all_kinds
def test_an_int_gives_the_same_result_every_time(kind):
    y = np.arange(200) % 4
    first, again, other = (any_noise(y, kind, seed)[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(again, first)
    assert (other != first).any()


@all_kinds
def test_a_random_state_instance_is_used_and_advanced(kind):
    y = np.arange(200) % 4
    rng = np.random.RandomState(3)
    first, second = any_noise(y, kind, rng)[0], any_noise(y, kind, rng)[0]
    np.testing.assert_array_equal(first, any_noise(y, kind, 3)[0])
    assert (second != first).any()


@all_kinds
def test_none_gives_new_results(kind):
    # 400 labels at a rate of .4: two equal draws have a chance far below 1e-30.
    y = np.arange(400) % 4
    assert (any_noise(y, kind, None)[0] != any_noise(y, kind, None)[0]).any()


@pytest.mark.parametrize("random_state", [None, 0], ids=["None", "int"])
@pytest.mark.parametrize(
    "call",
    [
        *[lambda seed, kind=kind: any_noise(np.arange(40) % 4, kind, seed) for kind in NAMED_KINDS],
        lambda seed: any_noise(np.arange(40) % 4, "matrix", seed),
        lambda seed: make_noisy_blobs(random_state=seed),
        lambda seed: make_noisy_moons(random_state=seed),
    ],
    ids=[*NAMED_KINDS, "matrix", "blobs", "moons"],
)
def test_global_generator_is_untouched(call, random_state):
    global_generator = check_random_state(None)
    # Not a freshly seeded state, which a call that seeds it would leave as it was.
    global_generator.standard_normal()
    before = global_generator.get_state(legacy=False)
    call(random_state)
    after = global_generator.get_state(legacy=False)
    np.testing.assert_array_equal(after["state"].pop("key"), before["state"].pop("key"))
    assert after == before


def test_symmetric_noise_draws_rows_and_other_classes_evenly():
    y = np.repeat([0, 1, 2, 3], 5000)
    y_noisy, is_noisy = make_noisy_labels(y, rate=0.5, random_state=0)
    counts = np.array([np.bincount(y_noisy[y == label], minlength=4) for label in range(4)])
    # Of 5,000 rows, 2,500 keep the label and 833 go to each of the others; 5 standard deviations.
    expected = np.where(np.eye(4, dtype=bool), 2500, 2500 / 3)
    np.testing.assert_allclose(counts, expected, atol=5 * np.sqrt(1250))
    assert is_noisy[:1000].sum() == pytest.approx(500, abs=5 * np.sqrt(250))


@given(y=codes_of_rows, rate=rates, seed=seeds)
@settings(deadline=None)
def test_pair_noise_goes_to_the_next_class(y, rate, seed):
    y_noisy, is_noisy = make_noisy_labels(y, rate=rate, kind="pair", random_state=seed)
    np.testing.assert_array_equal(y_noisy, np.where(is_noisy, (y + 1) % 4, y))


@pytest.mark.parametrize("convert", [np.asarray, np.ndarray.tolist, pd.DataFrame, np.float32])
def test_transition_matrix_frequencies(convert):
    y = np.arange(20_000) % 3
    y_noisy, _ = make_noisy_labels(y, kind=convert(T3), random_state=0)
    frequencies = np.array(
        [np.bincount(y_noisy[y == label], minlength=3) / (y == label).sum() for label in range(3)]
    )
    # The standard deviation of one frequency is at most sqrt(.25 / 6,667) = .006.
    np.testing.assert_allclose(frequencies, T3, atol=0.025)
    assert frequencies[0, 2] == frequencies[1, 0] == 0


@given(y=codes_of_rows, seed=seeds, order=st.permutations(range(4)))
@settings(deadline=None)
def test_permutation_matrix_leaves_nothing_to_chance(y, seed, order):
    matrix = np.eye(4)[order]
    y_noisy, _ = make_noisy_labels(y, kind=matrix, random_state=seed)
    np.testing.assert_array_equal(y_noisy, np.array(order)[y])


@pytest.mark.parametrize(("draw", "column"), [(0.0, 1), (1 - 2**-53, 2)])
def test_extreme_draws_miss_the_columns_of_probability_zero(draw, column):
    class ConstantDraws(np.random.RandomState):
        def random_sample(self, size=None):
            return np.full(size, draw)

    # The second row sums to a little less than 1, as rounding can have it.
    probabilities = np.array([[0.0, 0.5, 0.5, 0.0], [0.0, 0.5, 0.5 - 1e-7, 0.0]])
    np.testing.assert_array_equal(draw_columns(probabilities, ConstantDraws()), [column] * 2)


@pytest.mark.parametrize("kind", NAMED_KINDS)
def test_rate_zero_flips_nothing(kind):
    y = np.arange(1000) % 4
    X = np.random.RandomState(0).standard_normal((1000, 3))
    y_noisy, is_noisy = make_noisy_labels(y, rate=0, kind=kind, X=X, random_state=0)
    np.testing.assert_array_equal(y_noisy, y)
    assert not is_noisy.any()


@pytest.fixture(scope="module")
def features():
    """5,000 rows of 8 features, and 3 classes that have nothing to do with them."""
    rng = np.random.RandomState(0)
    return rng.standard_normal((5000, 8)), rng.randint(3, size=5000)


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.4, 0.6, 0.9])
def test_instance_noise_is_near_its_rate(features, rate):
    X, y = features
    _, is_noisy = make_noisy_labels(y, rate=rate, kind="instance", X=X, random_state=0)
    assert is_noisy.mean() == pytest.approx(rate, abs=0.05)


def auc_of_direction_given_features(kind, X, y, label):
    """How well the features tell where flipped rows of one class went, on held-out rows."""
    y_noisy, is_noisy = make_noisy_labels(y, rate=0.4, kind=kind, X=X, random_state=0)
    flipped = is_noisy & (y == label)
    rows, directions = X[flipped], y_noisy[flipped]
    half = len(rows) // 2
    model = LogisticRegression().fit(rows[:half], directions[:half])
    return roc_auc_score(directions[half:], model.predict_proba(rows[half:])[:, 1])


@pytest.mark.parametrize("label", [0, 1, 2])
def test_direction_of_instance_noise_depends_on_the_features(features, label):
    assert auc_of_direction_given_features("instance", *features, label) > 0.8
    # The control: noise that knows nothing of the features.
    assert auc_of_direction_given_features("symmetric", *features, label) < 0.6


def test_classes_have_their_own_projections(features):
    X, y = features
    y_noisy, is_noisy = make_noisy_labels(y, rate=0.6, kind="instance", X=X, random_state=0)

    def direction(clean, wrong):
        flipped = is_noisy & (y == clean)
        return LogisticRegression().fit(X[flipped], y_noisy[flipped] == wrong).coef_[0]

    # With one projection W for all classes the directions would be w2 - w1, w2 - w0 and w1 - w0,
    # and the last the difference of the first two.
    from_0, from_1, from_2 = direction(0, 2), direction(1, 2), direction(2, 1)
    difference = from_1 - from_0
    cosine = from_2 @ difference / np.linalg.norm(from_2) / np.linalg.norm(difference)
    assert abs(cosine) < 0.8


def test_instance_noise_ignores_units_and_shape_of_features(features):
    X, y = features
    expected, _ = make_noisy_labels(y, rate=0.4, kind="instance", X=X, random_state=0)
    # Powers of two scale without rounding.
    for same in (X * 1024, X.reshape(-1, 2, 2, 2), pd.DataFrame(X)):
        got, _ = make_noisy_labels(y, rate=0.4, kind="instance", X=same, random_state=0)
        np.testing.assert_array_equal(got, expected)
    shuffled, _ = make_noisy_labels(y, rate=0.4, kind="instance", X=X[::-1], random_state=0)
    assert (shuffled != expected).any()


def test_instance_noise_takes_constant_and_one_dimensional_features(features):
    X, y = features
    for odd in (np.ones((5000, 2)), X[:, 0], X[:, 0] > 0):
        _, is_noisy = make_noisy_labels(y, rate=0.4, kind="instance", X=odd, random_state=0)
        assert is_noisy.mean() == pytest.approx(0.4, abs=0.05)


def test_features_are_not_modified(features):
    X, y = features
    before = X.copy()
    make_noisy_labels(y, rate=0.4, kind="instance", X=X, random_state=0)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate": None}, r"rate is None; kind='symmetric' expects .* pass rate"),
        ({"rate": None, "kind": "pair"}, r"rate is None; kind='pair' expects"),
        ({"rate": 20}, r"rate=20; expected .*\[0, 1\).*percentage"),
        ({"rate": 1.0}, r"rate=1\.0; expected"),
        ({"rate": -0.1}, r"rate=-0\.1; expected"),
        ({"rate": np.nan}, r"rate=nan; expected"),
        ({"kind": T3}, r"rate=0\.2 was given together with a transition matrix.*rate=None"),
        ({"kind": "uniform"}, r"kind='uniform' .* one of 'symmetric', 'pair', 'instance', or a"),
        ({"kind": "instance"}, r"X is None; kind='instance' expects .* Pass X="),
        ({"kind": "instance", "X": np.ones((5, 2))}, r"X has 5 rows and y has 6; expected the"),
        (
            {"kind": "instance", "X": [[1], [2], [np.nan], [4], [np.inf], [6]]},
            r"X has NaN or infinite values in 2 row\(s\), the first is row 2; expected finite",
        ),
        (
            {"kind": np.eye(2), "rate": None},
            r"shape \(2, 2\) and y has 3 classes; .*'instance', or .* shape \(3, 3\)",
        ),
        ({"kind": np.ones(3), "rate": None}, r"kind is an array of shape \(3,\)"),
        ({"kind": None, "rate": None}, r"kind is an array of shape \(\)"),
        (
            {"kind": [[1, 0, 0], [-0.5, 1.5, 0], [0, 0, 1]], "rate": None},
            r"negative or NaN entries in row 1 \(class 'b'\); expected probabilities",
        ),
        (
            {"kind": [[1, 0, 0], [0, 1, 0], [0, np.nan, 1]], "rate": None},
            r"negative or NaN entries in row 2 \(class 'c'\); expected probabilities",
        ),
        (
            {"kind": [[1, 0.5, 0], [0, 1, 0], [0, 0, 0.5]], "rate": None},
            r"in row 0 \(class 'a'\), row 2 \(class 'c'\); the first sums to 1\.5\. Expected",
        ),
    ],
)
def test_errors_about_the_noise(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_noisy_labels(["a", "b", "c"] * 2, **{"rate": 0.2, "random_state": 0, **arguments})


def test_error_about_many_rows_names_the_first_five():
    with pytest.raises(ValueError, match=r"row 4 \(class 4\) and 3 more; the first sums to 2\.0"):
        make_noisy_labels(np.arange(8), kind=2 * np.eye(8))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([["a"], ["b"]], r"y has shape \(2, 1\); expected one label for each row.*y\.ravel\(\)"),
        ("a", r"y has shape \(\); expected one label for each row"),
        ([0.5, 1.0, 2.0], r"y holds 0\.5; expected class labels.*regression"),
        (np.array([1.0, 1.5], dtype=np.float32), r"y holds 1\.5; expected class labels"),
        (pd.Series([1.5, "a"], dtype=object)[:1], r"y holds 1\.5; expected class labels"),
        ([1.0, np.inf], r"y holds inf; expected class labels"),
        (["a", "a"], r"y has 1 class\(es\) in 2 rows: \['a'\]; expected at least 2"),
        ([], r"y has 0 class\(es\) in 0 rows"),
        ([0.0, 1.0, np.nan], r"y has 1 missing label\(s\), the first in row 2; expected a label"),
        (np.array([1, np.nan, 2], dtype=object), r"y has 1 missing label\(s\), .* row 1"),
        (["a", None, "b"], r"labels of type NoneType, str that cannot be sorted; .*drop those"),
        (pd.Series(["a", None, "b"]), r"labels of type float, str that cannot be sorted"),
    ],
)
def test_errors_about_the_labels(y, message):
    with pytest.raises(ValueError, match=message):
        make_noisy_labels(y, rate=0.2, random_state=0)


both_sets = pytest.mark.parametrize(
    ("make", "n_rows", "n_flips"),
    [(make_noisy_blobs, 150, 10), (make_noisy_moons, 250, 20)],
    ids=["blobs", "moons"],
)


@both_sets
@given(seed=seeds)
@settings(deadline=None)
def test_synthetic_sets_have_the_papers_sizes(make, n_rows, n_flips, seed):
    data = make(random_state=seed)
    assert data.X.shape == (n_rows, 2)
    assert data.X_test.shape == (100, 2)
    assert data.X.dtype == data.X_test.dtype == np.float64
    assert data.is_noisy.sum() == n_flips
    np.testing.assert_array_equal(data.is_noisy, data.y != data.y_clean)
    np.testing.assert_array_equal(np.bincount(data.y_clean), [n_rows / 2, n_rows / 2])
    np.testing.assert_array_equal(np.bincount(data.y_test), [50, 50])


@both_sets
def test_synthetic_sets_follow_the_seed(make, n_rows, n_flips):
    first, again, other = make(random_state=0), make(random_state=0), make(random_state=1)
    assert set(first) == {"X", "y", "y_clean", "is_noisy", "X_test", "y_test"}
    for name in first:
        np.testing.assert_array_equal(again[name], first[name])
        assert (other[name] != first[name]).any()
    # Test rows are rows of their own, not training rows seen twice.
    assert not set(first.X[:, 0]) & set(first.X_test[:, 0])
    rng = np.random.RandomState(0)
    np.testing.assert_array_equal(make(random_state=rng).X, first.X)
    assert (make(random_state=rng).X != first.X).any()
    assert (make().X != make().X).any()


@pytest.mark.parametrize("seed", range(20))
def test_a_line_separates_the_blobs(seed):
    data = make_noisy_blobs(random_state=seed)
    model = LogisticRegression().fit(data.X, data.y_clean)
    assert model.score(data.X, data.y_clean) == 1
    assert model.score(data.X_test, data.y_test) == 1
    # Flipped rows lie deep in the other class, where the clean model contradicts each of them.
    np.testing.assert_array_equal(model.predict(data.X) != data.y, data.is_noisy)


@pytest.mark.parametrize("seed", range(5))
def test_a_curve_but_no_line_separates_the_moons(seed):
    data = make_noisy_moons(random_state=seed)
    line = LogisticRegression().fit(data.X, data.y_clean)
    curve = KNeighborsClassifier(5).fit(data.X, data.y_clean)
    assert line.score(data.X, data.y_clean) < 0.95
    assert curve.score(data.X_test, data.y_test) > 0.97


def test_moons_without_noise_lie_on_half_circles():
    data = make_noisy_moons(noise=0, random_state=0)
    outer = data.X[data.y_clean == 0]
    np.testing.assert_allclose(np.linalg.norm(outer, axis=1), 1)
    with pytest.raises(ValueError, match="noise"):
        make_noisy_moons(noise=-1)
