"""Every public estimator is saved fitted, and says on load if another version saved it."""

import io
import pickle
import re
import warnings

import joblib
import numpy as np
import pytest
from sklearn.base import clone

from skinfluence import BaseDetrimentality
from skinfluence.exceptions import VersionWarning
from skinfluence.rows import _saved
from tests._shared.instances import SMALLEST, fitted_example


def said_of(method, X, y):
    """Give what a fitted estimator says, of its rows and of others."""
    said = [
        getattr(method, name)
        for name in ("detrimentality_", "embedding_", "sample_indices_", "decision_scores_")
        if hasattr(method, name)
    ]
    for ask in ("transform", "predict", "decision_function"):
        if hasattr(method, ask):
            said.append(getattr(method, ask)(X))
    if hasattr(method, "score_detrimentality"):
        said.append(method.score_detrimentality(X, y))
    return said


@pytest.mark.usefixtures("brief_nets")
@pytest.mark.parametrize("cls", SMALLEST, ids=lambda cls: cls.__name__)
def test_a_fitted_estimator_is_saved_with_its_version(cls, monkeypatch):
    method, X, y = fitted_example(cls)
    expected = said_of(method, X, y)
    assert expected
    for library in (pickle, joblib):
        file = io.BytesIO()
        library.dump(method, file)
        file.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("error", VersionWarning)
            restored = library.load(file)
        for before, after in zip(expected, said_of(restored, X, y), strict=True):
            np.testing.assert_array_equal(after, before)
        assert vars(restored).keys() == vars(method).keys()
    monkeypatch.setattr(_saved, "_own_version", lambda: "99.0")
    file.seek(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        library.load(file)
    texts = [str(w.message) for w in caught if w.category is VersionWarning]
    assert any(
        re.match(rf"{type(method).__name__} was saved by .* loaded by 99\.0", t) for t in texts
    )


def test_what_an_earlier_version_saved_is_of_an_unknown_one():
    method, _, _ = fitted_example(next(c for c in SMALLEST if issubclass(c, BaseDetrimentality)))
    state = method.__getstate__()
    del state["_skinfluence_version"]
    fresh = clone(method)
    with pytest.warns(VersionWarning, match="saved by skinfluence unknown"):
        fresh.__setstate__(state)


def test_copies_do_not_warn():
    method, *_ = fitted_example(next(iter(SMALLEST)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clone(method)
        pickle.loads(pickle.dumps(clone(method)))
