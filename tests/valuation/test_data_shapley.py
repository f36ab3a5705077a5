"""Data Shapley of estimators: going on after a crash, workers, nets, and what is refused."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.ensemble import BaggingClassifier
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skinfluence import DataShapley
from skinfluence.rows._rows import ModelRows
from skinfluence.valuation.shapley._utility import ModelUtility
from tests._shared.problems import Centroids, blobs, classifier, noisy_blobs, regressor
from tests._shared.valuation_references import shapley_over_all_subsets
from tests._shared.work_files import kept

SMALL = {"max_permutations": 20, "random_state": 0}


def problem(n=12, **kwargs):
    X, y = blobs(n, n_features=3, **kwargs)
    X_val, y_val = blobs(20, n_features=3, seed=1)
    return X, y, X_val, y_val


# Not of the class: what a class holds is part of what an estimator is.
FITS = SimpleNamespace(left=None)


class Interrupted(Centroids):
    """Stops the process's work after some fits."""

    def fit(self, X, y):
        if FITS.left is not None:
            FITS.left -= 1
            if FITS.left < 0:
                raise KeyboardInterrupt
        return super().fit(X, y)


def test_values_come_close_to_those_over_all_subsets():
    X, y, X_val, y_val = problem(n=6, n_classes=2, spread=2.0)
    utility = ModelUtility(
        Centroids(),
        ModelRows(X, y),
        ModelRows(X_val, y_val % 2),
        np.arange(2),
        lambda model, X, y: accuracy_score(y, model.predict(X)),
        0,
    )
    of_subset = functools.cache(lambda rows: utility(np.array(rows, dtype=int)))
    exact = shapley_over_all_subsets(lambda rows: of_subset(tuple(sorted(rows))), 6)
    method = DataShapley(
        Centroids(), truncation=None, max_permutations=100, tolerance=None, random_state=0
    ).fit(X, y, X_val, y_val % 2)
    np.testing.assert_allclose(-method.detrimentality_, exact, atol=0.06)
    total = utility(np.arange(6)) - utility(np.arange(0))
    assert -method.detrimentality_.sum() == pytest.approx(total)


def test_empty_and_one_class_subsets_need_no_estimator():
    X, y, X_val, y_val = problem(n=13)
    y = np.array(["b", "a", "c"])[y]
    seen = []
    utility = ModelUtility(
        Centroids(),
        ModelRows(X, y),
        ModelRows(X_val, y_val),
        np.unique(y),
        lambda model, X, y: seen.append(model.predict(X)) or 0.0,
        0,
    )
    utility(np.arange(0))
    utility(np.flatnonzero(y == "c"))
    assert set(seen[0]) == {"b"}  # the most frequent

    assert set(seen[1]) == {"c"}


@pytest.mark.parametrize("method", ["tmc", "beta"])
def test_workers_change_nothing(method):
    X, y, X_val, y_val = problem()
    values = [
        DataShapley(Centroids(), method=method, n_jobs=n_jobs, **SMALL)
        .fit(X, y, X_val, y_val)
        .detrimentality_
        for n_jobs in (1, 2)
    ]
    np.testing.assert_array_equal(*values)


def test_a_stopped_run_goes_on_to_the_same_values(tmp_path):
    X, y, X_val, y_val = problem()
    path = tmp_path / "run.npz"
    method = DataShapley(Interrupted(), truncation=None, **SMALL)
    expected = clone(method).fit(X, y, X_val, y_val).detrimentality_
    method.set_params(checkpoint=path)
    FITS.left = 170  # in the second ten of permutations of 12 rows
    try:
        with pytest.raises(KeyboardInterrupt):
            method.fit(X, y, X_val, y_val)
    finally:
        FITS.left = None
    assert not hasattr(method, "detrimentality_")
    assert kept(path)["n_permutations"] == 10
    resumed = clone(method).fit(X, y, X_val, y_val)
    np.testing.assert_array_equal(resumed.detrimentality_, expected)
    assert resumed.n_permutations_ == [20]
    FITS.left = 0  # all is there: nothing is fitted any more
    try:
        again = clone(method).fit(X, y, X_val, y_val).detrimentality_
    finally:
        FITS.left = None
    np.testing.assert_array_equal(again, expected)


def test_a_finished_run_goes_on_with_more_permutations(tmp_path):
    X, y, X_val, y_val = problem()
    path = tmp_path / "run.npz"
    short = DataShapley(Centroids(), checkpoint=path, max_permutations=13, random_state=0)
    short.fit(X, y, X_val, y_val)
    longer = clone(short).set_params(max_permutations=25).fit(X, y, X_val, y_val)
    fresh = clone(longer).set_params(checkpoint=None).fit(X, y, X_val, y_val)
    np.testing.assert_allclose(longer.detrimentality_, fresh.detrimentality_, rtol=1e-12)
    assert longer.n_permutations_ == [25]


@pytest.mark.parametrize(
    "change",
    [
        {"estimator": Centroids(shrink=0.5)},
        {"method": "beta"},
        {"truncation": None},
        {"scoring": "f1_macro"},
        {"random_state": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_file_of_other_parameters_is_refused(tmp_path, change):
    X, y, X_val, y_val = problem()
    method = DataShapley(Centroids(), checkpoint=tmp_path / "run.npz", **SMALL)
    method.fit(X, y, X_val, y_val)
    with pytest.raises(ValueError, match="belongs to other data or parameters"):
        clone(method).set_params(**change).fit(X, y, X_val, y_val)


def test_a_file_of_other_data_is_refused(tmp_path):
    X, y, X_val, y_val = problem()
    method = DataShapley(Centroids(), checkpoint=tmp_path / "run.npz", **SMALL)
    method.fit(X, y, X_val, y_val)
    for data in ((X + 1, y, X_val, y_val), (X, y[::-1], X_val, y_val), (X, y, X_val, y_val[::-1])):
        with pytest.raises(ValueError, match="belongs to other data or parameters"):
            clone(method).fit(*data)


def test_two_folds_have_a_file_each(tmp_path):
    X, y, is_noisy = noisy_blobs(n=30)
    method = DataShapley(Centroids(), checkpoint=str(tmp_path / "run.npz"), **SMALL).fit(X, y)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run-0.npz", "run-1.npz"]
    assert method.n_permutations_ == [20, 20]
    again = clone(method).fit(X, y).detrimentality_
    np.testing.assert_array_equal(again, method.detrimentality_)
    assert ((again > 0) & (again < 1)).all()
    assert roc_auc_score(is_noisy, again) > 0.7


def test_sampling_stops_when_the_chains_agree(capsys):
    X, y, X_val, y_val = problem()
    method = DataShapley(Centroids(), tolerance=1.5, verbose=1, random_state=0)
    method.fit(X, y, X_val, y_val)
    (drawn,), (statistics,) = method.n_permutations_, method.gelman_rubin_
    assert 50 <= drawn < 500
    assert len(statistics) == drawn // 10 - 4
    assert statistics[-1] <= 1.5 < min([*statistics[:-1], np.inf])
    assert "permutations" in capsys.readouterr().err


def test_regression_and_names_of_labels():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(15, 2))
    y = X @ [2.0, -1.0] + 0.1 * rng.normal(size=15)
    y[:2] += 20
    X_val = rng.normal(size=(30, 2))
    method = DataShapley(Ridge(), scoring="neg_mean_squared_error", truncation=None, **SMALL)
    method.fit(X, y, X_val, X_val @ [2.0, -1.0])
    assert set(method.ranking_[:2]) == {0, 1}
    assert not hasattr(method, "classes_")
    X, y, X_val, y_val = problem()
    named = np.array(["a", "b", "c"])
    plain = DataShapley(Centroids(), **SMALL).fit(X, y, X_val, y_val)
    found = DataShapley(Centroids(), **SMALL).fit(X, named[y], X_val, named[y_val])
    np.testing.assert_array_equal(found.detrimentality_, plain.detrimentality_)
    assert list(found.classes_) == ["a", "b", "c"]


def test_integer_targets_of_a_regressor_are_numbers():
    X, _, X_val, _ = problem()
    method = DataShapley(Ridge(), max_permutations=2, random_state=0)
    method.fit(X, np.arange(12), X_val, np.arange(20))
    assert not hasattr(method, "classes_")


@pytest.mark.filterwarnings("ignore:R.2 score is not well-defined")
def test_a_score_that_is_not_finite_is_refused():
    X, _, X_val, _ = problem()
    with pytest.raises(ValueError, match="two validation rows"):
        DataShapley(LinearRegression(), **SMALL).fit(X, X[:, 0], X_val[:1], X_val[:1, 0])


def test_nets_are_retrained_with_an_output_for_every_class(tmp_path):
    X, y = blobs(9, n_features=4)
    X_val, y_val = blobs(12, n_features=4, seed=1)
    named = np.array(["a", "b", "c"])
    net = classifier(max_epochs=3, batch_size=4)
    method = DataShapley(net, max_permutations=2, checkpoint=tmp_path / "a.npz", random_state=0)
    first = method.fit(X, named[y], X_val, named[y_val]).detrimentality_
    np.testing.assert_array_equal(
        clone(method).fit(X, named[y], X_val, named[y_val]).detrimentality_, first
    )
    method.set_params(checkpoint=None)
    np.testing.assert_array_equal(
        method.fit(X, named[y], X_val, named[y_val]).detrimentality_, first
    )
    assert np.isfinite(first).all()
    assert first.any()
    assert net.classes is None
    assert not getattr(net, "initialized_", False)
    numeric = DataShapley(regressor(max_epochs=2), max_permutations=1, random_state=0)
    assert np.isfinite(numeric.fit(X, X[:, 0], X_val, X_val[:, 0]).detrimentality_).all()


def test_generators_and_threads_are_left_alone_and_the_seed_decides():
    X, y, X_val, y_val = problem()
    method = DataShapley(DecisionTreeClassifier(max_features=1), **SMALL)
    np.random.seed(3)
    state, threads = np.random.get_state()[1].copy(), torch.get_num_threads()
    first = method.fit(X, y, X_val, y_val).detrimentality_
    assert np.array_equal(np.random.get_state()[1], state)
    assert torch.get_num_threads() == threads
    assert method.estimator.random_state is None
    np.random.seed(4)
    np.testing.assert_array_equal(clone(method).fit(X, y, X_val, y_val).detrimentality_, first)
    other = clone(method).set_params(random_state=1).fit(X, y, X_val, y_val).detrimentality_
    assert not np.array_equal(other, first)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"method": "shapley"}, "method='shapley'.*'tmc' or 'beta'"),
        ({"alpha": 0}, "alpha=0.*> 0"),
        ({"beta": -1.0}, "beta=-1.0"),
        ({"truncation": -0.1}, "truncation=-0.1.*>= 0"),
        ({"tolerance": 0.9}, "tolerance=0.9.*>= 1"),
        ({"max_permutations": 0}, "max_permutations=0"),
        ({"validation": "half"}, "validation='half'"),
        ({"checkpoint": "no/such/folder/run.npz"}, "a file in a folder that exists"),
        ({"checkpoint": "run.npz", "random_state": None}, "random_state=None.*an integer"),
        ({"scoring": "no scorer"}, "scoring"),
    ],
)
def test_parameters_are_checked_at_fit(parameters, message):
    X, y, X_val, y_val = problem()
    with pytest.raises(ValueError, match=message):
        DataShapley(Centroids()).set_params(**{**SMALL, **parameters}).fit(X, y, X_val, y_val)


@pytest.mark.parametrize("estimator", [StandardScaler(), 3, "tree"])
def test_what_predicts_nothing_is_refused(estimator):
    X, y, X_val, y_val = problem()
    with pytest.raises(TypeError, match="classifier or regressor"):
        DataShapley(estimator).fit(X, y, X_val, y_val)


def test_an_ensemble_as_the_model_has_no_length_before_it_is_fitted():
    X, y = blobs(n=18)
    model = DataShapley(BaggingClassifier(Centroids(), 2), max_permutations=1, random_state=0)
    assert model.fit(X, y).detrimentality_.shape == y.shape
