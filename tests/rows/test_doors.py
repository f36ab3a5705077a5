"""What cannot be taken is named at the door, with what to do instead."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, LeaveOneOut

from skinfluence import CleanedClassifier, KNNShapley, LossScore, RandomScore, SelfConfidence
from skinfluence.exceptions import PrecisionWarning
from skinfluence.nets import default_net
from skinfluence.nets._arrays import cast_inputs, initialized_copy
from skinfluence.rows._containers import center_and_scale, check_inputs
from skinfluence.rows._folds import folds_of
from skinfluence.rows._targets import check_targets
from tests._shared.problems import blobs, classifier

X, Y = blobs(n=40, n_classes=2)
SPARSE = {
    "X.to_dense()": torch.tensor(X).to_sparse(),
    "X.sparse.to_dense()": pd.DataFrame.sparse.from_spmatrix(sparse.csr_matrix(X)),
    "X['a'].toarray()": {"a": sparse.coo_array(X)},
}


@pytest.mark.parametrize("way_out", SPARSE)
def test_sparse_rows_of_any_kind_name_the_call_that_makes_them_dense(way_out):
    few = SPARSE[way_out]
    for door in (
        lambda: check_inputs(BaseEstimator(), few, reset=True),
        lambda: RandomScore().fit(few, Y),
        lambda: KNNShapley().fit(X, Y, few, Y),
        lambda: default_net(few, Y),
    ):
        with pytest.raises(TypeError) as error:
            door()
        assert f"Call {way_out}, or make fewer columns" in str(error.value)


def test_sparse_targets_are_named_as_such():
    with pytest.raises(TypeError, match=r"Got y as a sparse .* Call y\.toarray\(\)\.$"):
        check_targets(sparse.csr_matrix(Y[:, np.newaxis]), 40)


DAYS = pd.date_range("2020-01-01", periods=40)


@pytest.mark.parametrize(
    "dates",
    [
        pd.DataFrame({"x": X[:, 0], "t": DAYS}),
        pd.DataFrame({"x": X[:, 0], "t": DAYS.tz_localize("UTC")}),
        pd.DataFrame({"x": X[:, 0], "t": DAYS - DAYS[0]}),
        pd.DataFrame({"x": X[:, 0], "t": DAYS.where(DAYS.day > 3)}),
        pd.DataFrame({"x": X[:, 0], "t": pd.Series(DAYS.date, dtype=object)}),
        DAYS.to_numpy()[:, np.newaxis],
    ],
    ids=["dates", "zones", "durations", "missing", "objects", "array"],
)
def test_columns_of_dates_are_named(dates):
    columns = r" in the columns \['t'\]" if isinstance(dates, pd.DataFrame) else ""
    with pytest.raises(TypeError, match=rf"^X holds dates or durations{columns}, but nets take"):
        LossScore().fit(dates, Y)


@settings(max_examples=60, deadline=None)
@given(
    far=st.floats(-1e18, 1e18),
    spread=st.floats(1e-12, 1e12),
    dtype=st.sampled_from([np.float64, np.int64, np.float32]),
)
def test_a_column_is_scaled_if_it_says_more_than_rounding_does(far, spread, dtype):
    column = (far + spread * np.linspace(-1, 1, 50)).astype(dtype)[:, np.newaxis]
    _, scale = center_and_scale(column)
    exact = column.astype(np.float64)
    step = np.finfo(np.float32 if dtype is np.float32 else np.float64).eps * np.abs(exact).max()
    if (exact.max() - exact.min()) > 4000 * step:
        np.testing.assert_allclose(scale, exact.std(0), rtol=1e-3)
    if exact.max() == exact.min():
        assert scale == 1


def test_a_long_constant_column_is_constant():
    column = np.full((300_000, 2), 0.1)  # its sum rounds, row by row
    np.testing.assert_array_equal(center_and_scale(column)[1], [1, 1])


def test_a_class_of_one_row_is_named_where_folds_hold_it_out():
    names = np.array(["rare", *np.where(Y, "yes", "no")])
    for cv in (LeaveOneOut(), KFold(3)):
        with pytest.raises(ValueError, match=r"^Class 'rare' has one row, 0, which fold 0 of cv"):
            folds_of(names, cv=cv, seed=0)
    with pytest.raises(ValueError, match=r"Class 'rare' has one row"):
        SelfConfidence(cv=LeaveOneOut()).fit(np.r_[X[:1], X], names)


@pytest.mark.parametrize("weights", [np.ones(36), np.ones((40, 2)), [1.0] * 36, pd.Series([1.0])])
@pytest.mark.parametrize("name", ["sample_weight", "logisticregression__sample_weight"])
def test_weights_that_are_not_one_a_row_are_named_for_a_step_too(name, weights):
    # 36 rows are kept: as many weights would be taken for theirs
    model = CleanedClassifier(LogisticRegression(), LossScore(classifier()), contamination=4)
    with pytest.raises(ValueError, match=rf"^Got {name} (for|of shape) .*X and y have 40\. Expec"):
        model.fit(X, Y, **{name: weights})


def test_one_weight_for_all_rows_is_no_error():
    model = CleanedClassifier(LogisticRegression(), RandomScore(random_state=0), contamination=4)
    assert model.fit(X, Y, sample_weight=2.0).score(X, Y) > 0.9


def test_data_frames_by_the_names_of_inputs_are_arrays():
    net = classifier()
    of_frames = LossScore(net, random_state=0).fit({"X": pd.DataFrame(X)}, Y)
    of_arrays = LossScore(net, random_state=0).fit({"X": X}, Y)
    np.testing.assert_array_equal(of_frames.detrimentality_, of_arrays.detrimentality_)


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_columns_that_rounding_makes_coarse_are_named(dtype):
    times = 1.7e9 + 30_000 * X[:, 0]
    coarse = np.column_stack([X[:, 1:], times]).astype(dtype)
    with pytest.warns(PrecisionWarning, match=r"^The net computes in float32, .* in column 3 only"):
        LossScore(classifier()).fit(coarse, Y)


@settings(max_examples=40, deadline=None)
@given(far=st.floats(0, 1e12), spread=st.floats(1e-3, 1e6))
def test_rounding_is_named_where_it_counts(far, spread):
    column = (far + spread * np.random.default_rng(0).standard_normal(50))[:, np.newaxis]
    net = initialized_copy(classifier(), 0)
    off = np.abs(column.astype(np.float32) - column).max() / column.std()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cast_inputs(net, column)
    if off > 1e-3:
        assert [each.category for each in caught] == [PrecisionWarning]
    if off < 1e-4:
        assert not caught


def test_a_constant_column_and_single_precision_lose_nothing():
    net = initialized_copy(classifier(), 0)
    cast_inputs(net, np.full((5, 2), 1.7e9 + 0.3))
    cast_inputs(net, (1.7e9 + np.arange(10.0)[:, np.newaxis]).astype(np.float32))


# Data frames


def test_polars_frames_are_taken_as_arrays_are():
    names = np.array(["no", "yes"])[Y]
    frame, labels = pl.DataFrame(X, schema=[*"abcd"][: X.shape[1]]), pl.Series("label", names)
    method = SelfConfidence(LogisticRegression(), cv=2, random_state=0)
    expected = method.fit(X, names).detrimentality_
    fitted = method.fit(frame, labels)
    np.testing.assert_allclose(fitted.detrimentality_, expected, rtol=1e-6)
    assert list(fitted.feature_names_in_) == frame.columns
    assert fitted.score_detrimentality(frame[:3], labels[:3]).shape == (3,)
    cleaned = CleanedClassifier(LogisticRegression(), method, contamination=3).fit(frame, labels)
    assert len(cleaned.sample_indices_) == len(X) - 3


@pytest.mark.parametrize("frames", [pd, pl], ids=["pandas", "polars"])
def test_columns_of_words_are_named_with_what_helps(frames):
    words = ["u", "v"] * 20
    column = pd.Categorical(words) if frames is pd else pl.Series(words, dtype=pl.Categorical)
    frame = frames.DataFrame({"size": X[:, 0], "kind": column})
    with pytest.raises(ValueError, match=r"words in the columns \['kind'\].*TableVectorizer"):
        LossScore().fit(frame, Y)


def test_categories_that_are_numbers_are_numbers():
    codes = np.arange(len(X)) % 3
    frame = pd.DataFrame({"size": X[:, 0], "kind": pd.Categorical(codes.astype(str))})
    table = check_inputs(LossScore(), frame, reset=True)
    np.testing.assert_array_equal(table, np.column_stack([X[:, 0], codes]))


def test_dates_of_polars_are_refused_as_those_of_pandas_are():
    frame = pl.DataFrame({"size": X[:, 0], "day": np.full(len(X), "2020-01-01", "datetime64[D]")})
    with pytest.raises(TypeError, match=r"dates or durations in the columns \['day'\]"):
        LossScore().fit(frame, Y)


def test_a_frame_that_is_not_yet_read_says_so():
    with pytest.raises(TypeError, match=r"LazyFrame as X.*X\.collect\(\)"):
        LossScore().fit(pl.DataFrame(X).lazy(), Y)
