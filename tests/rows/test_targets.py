"""Targets are the numbers or labels that they are, whatever they are stored in."""

import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator

from skinfluence.exceptions import ManyClassesWarning
from skinfluence.rows._rows import Rows
from skinfluence.rows._targets import check_targets


class Anything(BaseEstimator):
    task = None


def parsed(y, task=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ManyClassesWarning)
        return Rows.parse(Anything(), np.zeros((len(y), 2)), y, task=task)


def objects(values, kind):
    stored = np.empty(len(values), dtype=object)
    stored[:] = [kind(value) for value in values]
    return stored


# Ways to store numbers with a fraction that floats hold exactly, and whole ones.
FRACTIONS = {
    "floats": lambda v: objects(v, float),
    "numpy scalars": lambda v: objects(v, np.float64),
    "decimals": lambda v: objects(v, Decimal),
    "fractions": lambda v: objects(v, Fraction),
    "mixed": lambda v: objects(v, lambda x: int(x) if x == int(x) else Decimal(x)),
    "list of decimals": lambda v: [Decimal(x) for x in v],
    "series of objects": lambda v: pd.Series(objects(v, float), index=range(5, 5 + len(v))),
    "nullable series": lambda v: pd.Series(v, dtype="Float64"),
    "column of objects": lambda v: pd.DataFrame({"y": objects(v, float)}),
    "row of a mixed frame": lambda v: pd.DataFrame({"y": v, "name": "a"}).to_numpy()[:, 0],
}
WHOLE = {
    "integers": lambda v: objects(v, int),
    "numpy scalars": lambda v: objects(v, np.int32),
    "nullable series": lambda v: pd.Series(v, dtype="Int64"),
    "small integers": lambda v: np.array(v, dtype=np.int8),
    "row of a mixed frame": lambda v: pd.DataFrame({"y": v, "name": "a"}).to_numpy()[:, 0],
}
eighths = st.lists(st.integers(-40, 400).map(lambda i: i / 8), min_size=2, max_size=40)


@pytest.mark.parametrize("store", FRACTIONS.values(), ids=FRACTIONS)
@given(values=eighths)
def test_numbers_are_what_they_are_as_floats(store, values):
    expected, found = parsed(np.array(values)), parsed(store(values))
    assert found.is_numeric == expected.is_numeric
    assert found.targets.dtype == np.float64 or set(values) <= set(map(int, values))
    np.testing.assert_array_equal(found.targets.reshape(-1), expected.targets)


@pytest.mark.parametrize("store", WHOLE.values(), ids=WHOLE)
@given(values=st.lists(st.integers(-99, 99), min_size=2, max_size=60))
def test_whole_numbers_are_what_they_are_as_integers(store, values):
    found = parsed(store(values))
    assert not found.is_numeric
    assert found.targets.dtype.kind == "i"
    np.testing.assert_array_equal(found.targets, values)


def test_integers_beyond_64_bits_stay_apart_as_classes_and_become_numbers_if_asked():
    y = [2**70, 2**70 + 1, 3]
    assert parsed(y).targets.tolist() == y
    assert parsed(y, task="regression").targets.dtype == np.float64


MISSING = {
    "NaT": (np.array(["2020-01-01", "NaT", "2020-01-02"], dtype="M8[D]")),
    "a time that is missing": pd.to_timedelta([1, None, 2], unit="s"),
    "NaT among objects": np.array([pd.Timestamp(0), pd.NaT, pd.Timestamp(1)], dtype=object),
    "None": np.array(["a", None, "b"], dtype=object),
    "NA": np.array(["a", pd.NA, "b"], dtype=object),
    "NA of a series": pd.Series(["a", pd.NA, "b"], dtype="string"),
    "NA of nullable labels": pd.Series(["a", pd.NA, "b"]).astype("category"),
    "NaN among words": np.array(["a", np.nan, "b"], dtype=object),
    "NaN in a list of words": ["a", float("nan"), "b"],
    "NaN in a tuple of words": ("a", np.nan, "b"),
    "NaN as a decimal": [Decimal(1), Decimal("NaN"), Decimal(2)],
    "a signaling one": [Decimal(1), Decimal("sNaN"), Decimal(2)],
    "None among numbers": [1.5, None, 2.5],
    "NaN in a word array that knows it": np.array(
        ["a", np.nan, "b"], dtype=np.dtypes.StringDType(na_object=np.nan)
    ),
    "two columns": np.array([["a", "b"], ["a", None], ["b", "b"]], dtype=object),
}


@pytest.mark.parametrize("y", MISSING.values(), ids=MISSING)
@pytest.mark.parametrize("task", [None, "classification", "regression"])
def test_a_missing_target_is_no_class(y, task):
    with pytest.raises(ValueError, match=r"y contains NaN, NaT or None in 1 of 3 rows: 1\."):
        parsed(y, task)


@pytest.mark.parametrize("y", [[1, Decimal("Infinity")], pd.Series([1.0, np.nan], dtype="Float64")])
def test_numbers_that_are_not_finite_are_named(y):
    with pytest.raises(ValueError, match=r"y holds NaN or infinity in 1 of 2 rows: 1\."):
        check_targets(y, 2)


def test_words_that_mean_nothing_are_labels():
    y = np.array(["nan", "None", "NaT", "NA"])
    assert parsed(y).targets.tolist() == y.tolist()
    assert parsed(y.tolist()).targets.tolist() == y.tolist()


@pytest.mark.parametrize(
    "y", [["1.5", "2.5"], np.array(["2020-01-01", "2020-01-02"], dtype="M8[D]"), [1j, 2j]]
)
def test_what_is_no_number_is_no_target_of_a_regression(y):
    with pytest.raises(ValueError, match=r"for a regression, but expected numbers\. Convert y"):
        parsed(y, "regression")


@given(st.integers(2, 60), st.integers(1, 12), st.sampled_from([int, str, pd.Timestamp]))
def test_the_warning_is_for_many_classes_of_few_rows(n_classes, n_rows_each, kind):
    y = [kind(i) for i in range(n_classes)] * n_rows_each
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Rows.parse(Anything(), np.zeros((len(y), 1)), y)
        for task in ("classification", "regression") if kind is int else ("classification",):
            n_caught = len(caught)
            Rows.parse(Anything(), np.zeros((len(y), 1)), y, task=task)
            assert len(caught) == n_caught
    many = n_rows_each == 1 and n_classes >= 10
    doubtful = many or (n_classes > 20 and n_rows_each < 5)
    assert [each.category for each in caught] == [ManyClassesWarning] * doubtful
    if doubtful:
        assert "task='classification'" in str(caught[0].message)
        assert ("written as text" in str(caught[0].message)) is (kind is not int)
        assert len(str(caught[0].message)) < 900


def test_several_columns_of_numbers_as_objects():
    values = np.random.default_rng(0).normal(size=(5, 2))
    assert parsed(values.astype(object)).is_numeric
    indicator = np.eye(3, dtype=int)
    assert not parsed(indicator.astype(object)).is_numeric
