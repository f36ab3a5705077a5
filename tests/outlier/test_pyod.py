"""Every PyOD detector: same seed, same scores; nothing global touched; a new row's own score."""

import os
import random
import warnings
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch

from skinfluence.outlier._detectors import FittedDetector
from tests._shared.pyod_zoo import SLOW, detectors

DETECTORS = detectors()
rng = np.random.default_rng(0)
X, NEW = rng.normal(size=(70, 6)), rng.normal(size=(12, 6))
X[:7] *= 6
NEW[::4] *= 6

# Their score of a row alone says nothing.
REFUSED = {"ALAD", "CD", "COF", "DIF", "LMDD", "LOCI", "ROD", "SOD", "SOS"}
each = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in DETECTORS]


def state():
    return [
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),
        random.getstate(),
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_grad_enabled(),
        np.geterr(),
        os.getcwd(),
        sorted(os.listdir()),
    ]


@pytest.fixture(autouse=True)
def quiet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some would write files
    with (
        open(os.devnull, "w") as nothing,
        redirect_stdout(nothing),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("name", each)
def test_a_detector_is_repeatable_and_judges_a_row_by_itself(name):
    made = DETECTORS[name]()
    before = state()
    fits = [FittedDetector(made, seed=0) for _ in range(2)]
    first, second = (fitted.fit(X) for fitted in fits)
    np.testing.assert_array_equal(first, second)
    assert state() == before
    if name in REFUSED:
        with pytest.raises(ValueError, match=f"{name} scores a row by the rows that it is scored"):
            fits[0].score(NEW)
        with pytest.raises(ValueError, match="new rows have no score of their own"):
            fits[1].score(NEW[:1])
        assert state() == before
        return
    whole = fits[0].score(NEW)
    scale = np.abs(whole).max()
    np.testing.assert_array_equal(fits[1].score(NEW), whole)
    for size in (1, 5):
        parts = [fits[0].score(NEW[i : i + size]) for i in range(0, len(NEW), size)]
        np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5 * scale)
    order = np.random.default_rng(1).permutation(len(NEW))
    np.testing.assert_allclose(fits[1].score(NEW[order]), whole[order], atol=1e-5 * scale)
    assert state() == before


def test_the_table_is_of_all_detectors():
    assert len(DETECTORS) >= 30
    assert set(DETECTORS) >= SLOW | REFUSED


def test_a_detector_that_nobody_listed_is_found_out():
    class RanksTheBatch:
        """Scores by the rank within the batch, so that a row alone is always the first."""

        def get_params(self, deep=True):
            return {}

        def set_params(self, **parameters):
            return self

        def fit(self, X):
            self.decision_scores_ = self.decision_function(X)
            return self

        def decision_function(self, X):
            return np.abs(X).sum(1).argsort().argsort().astype(float)

    fitted = FittedDetector(RanksTheBatch(), seed=0)
    fitted.fit(X)
    with pytest.raises(ValueError, match="RanksTheBatch scores a row by the rows"):
        fitted.score(NEW)


def test_generators_are_given_back_when_a_detector_raises():
    class Fails(DETECTORS["KNN"]):
        def fit(self, X, y=None):
            np.random.rand(3)
            torch.rand(3)
            raise ZeroDivisionError

    before = state()
    with pytest.raises(ZeroDivisionError):
        FittedDetector(Fails(), seed=0).fit(X)
    assert state() == before
