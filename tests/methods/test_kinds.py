"""The kind of the targets: one rule for methods, cleaners and models, said once."""

import inspect
import warnings
from decimal import Decimal

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier, NeuralNetRegressor

import skinfluence
from skinfluence import (
    CalibratedDetrimentality,
    CleanedClassifier,
    CleanedRegressor,
    ComplexityGap,
    DataShapley,
    DetrimentalityUnion,
    DetrimentalSampleCleaner,
    GradientEmbedding,
    KNNShapley,
    LossScore,
    RandomScore,
    SelfConfidence,
)
from skinfluence.exceptions import ManyClassesWarning
from skinfluence.nets import default_net, sgd_net
from tests._shared.instances import SMALLEST
from tests._shared.problems import blobs, classifier, regressor

TAKING = {
    name: cls
    for name in skinfluence.__all__
    if inspect.isclass(cls := getattr(skinfluence, name))
    and {"net", "estimator"} & set(inspect.signature(cls).parameters)
    and not name.startswith("Cleaned")
    and name != "AnnotatorConsensus"  # labels are classes to it
}
every_class = pytest.mark.parametrize("cls", TAKING.values(), ids=TAKING)


def prices(n=120, seed=0):
    """Prices, whole, nearly all distinct."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3)).astype(np.float32)
    y = np.round(1000 + X @ [100.0, -200.0, 50.0] + rng.normal(size=n))
    return X, y.astype(int)


@every_class
def test_what_may_have_no_net_takes_a_task_and_checks_it_at_fit(cls):
    estimator = clone(SMALLEST[cls])
    assert estimator.task is None
    X, y = blobs(n=20)
    for task in ("regresion", 1, True, ["regression"]):
        with pytest.raises(ValueError, match=r"Got task=.* expected None or 'classification' or"):
            clone(estimator).set_params(task=task).fit(X, y)


@every_class
def test_a_net_or_model_of_the_other_kind_contradicts_the_task(cls):
    X, y = blobs(n=20)
    model = "net" if "net" in SMALLEST[cls].get_params() else "estimator"
    for task, net in {"classification": regressor(), "regression": classifier()}.items():
        estimator = clone(SMALLEST[cls]).set_params(**{"task": task, model: net})
        for_classes = "class probabilities" if task == "classification" else "$^"
        contradiction = rf"task='{task}' is for .*{model}=NeuralNet.* agree|{for_classes}"
        with pytest.raises(ValueError, match=contradiction):
            estimator.fit(X, y)


def test_a_net_of_the_kind_that_is_said_is_no_contradiction():
    X, y = blobs(n=30)
    net = classifier(max_epochs=1).fit(X, y)
    LossScore(FrozenEstimator(net), task="classification").fit(X, y)
    with pytest.raises(ValueError, match=r"task='regression' is for numbers, but net=NeuralNetC"):
        LossScore(FrozenEstimator(net), task="regression").fit(X, y)


@pytest.mark.usefixtures("brief_nets")
@pytest.mark.parametrize("kind", [Decimal, float, int, np.float64])
@pytest.mark.parametrize(
    "method",
    [
        LossScore(random_state=0),
        LossScore(cv=3, random_state=0),
        ComplexityGap(),
        DataShapley(max_permutations=1, random_state=0),
        DetrimentalityUnion([("loss", LossScore()), ("random", RandomScore())], random_state=0),
    ],
    ids=lambda method: type(method).__name__,
)
def test_numbers_as_objects_are_scored_as_the_numbers_they_are(method, kind):
    X, y = prices(n=60)
    y = y + 0.0 if kind is int else y + 0.5
    stored = np.array([kind(value) for value in y.tolist()], dtype=object)
    task = "regression" if kind is int else None
    expected = clone(method).set_params(task="regression").fit(X, y).detrimentality_
    found = clone(method).set_params(task=task).fit(X, stored)
    np.testing.assert_array_equal(found.detrimentality_, expected)
    assert not hasattr(found, "classes_")


@pytest.mark.parametrize("kind", [int, str, np.datetime64])
def test_nearly_as_many_classes_as_rows_are_doubted(kind):
    X, y = prices(n=60)
    y = np.array([kind(v, "s") if kind is np.datetime64 else kind(v) for v in y.tolist()])
    with pytest.warns(ManyClassesWarning, match=r"has a class of its own.*task='class"):
        ComplexityGap().fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ComplexityGap(task="classification").fit(X, y)


@pytest.mark.usefixtures("brief_nets")
def test_an_embedding_takes_numbers_if_it_is_said():
    X, y = prices(n=30)
    embedding = GradientEmbedding(task="regression", random_state=0).fit(X, y)
    assert isinstance(embedding.net_, NeuralNetRegressor)


def test_many_whole_floats_are_classes_if_it_is_said():
    y = np.repeat(np.arange(24.0), 6)
    X = np.eye(24, dtype=np.float32)[y.astype(int)]
    with pytest.raises(ValueError, match=r"numeric target.*task='classification'"):
        KNNShapley().fit(X, y)
    assert len(KNNShapley(task="classification").fit(X, y).classes_) == 24
    assert len(ComplexityGap(task="classification").fit(X, y).classes_) == 24
    method = SelfConfidence(classifier(module__n_inputs=24, module__n_outputs=24, max_epochs=1))
    assert len(method.fit(X, y).classes_) == 24  # the net's own kind
    with pytest.raises(ValueError, match="numeric target"):
        CalibratedDetrimentality(LossScore(), cv=2).fit(X, y)
    calibrated = CalibratedDetrimentality(LossScore(method_net(24), task="classification"), cv=2)
    assert len(calibrated.fit(X, y).classes_) == 24


def method_net(n):
    return classifier(module__n_inputs=n, module__n_outputs=n, max_epochs=1)


@pytest.mark.usefixtures("brief_nets")
def test_cleaners_and_methods_agree():
    X, y = prices(n=60)
    for model in (
        CleanedRegressor(Ridge(), LossScore(), contamination=5),
        DetrimentalSampleCleaner(LossScore(task="regression"), contamination=5),
        DetrimentalSampleCleaner(LossScore(), task="regression", contamination=5),
        DetrimentalSampleCleaner(LossScore(), estimator=Ridge(), contamination=5),
        DetrimentalSampleCleaner(
            LossScore(), estimator=make_pipeline(StandardScaler(), Ridge()), contamination=5
        ),
        DetrimentalSampleCleaner(
            DetrimentalityUnion([("one", LossScore()), ("other", LossScore(task="regression"))]),
            contamination=5,
        ),
    ):
        for targets in (y, y.astype(object), [Decimal(value) for value in y.tolist()]):
            fitted = clone(model).set_params(random_state=0).fit(X, targets)
            assert not hasattr(fitted.method_, "classes_")
            assert len(fitted.removed_indices_) == 5  # classes of one row could spare none
    cleaner = DetrimentalSampleCleaner(RandomScore(), contamination=5, task="regression")
    assert len(cleaner.fit(X, y).removed_indices_) == 5


CONTRADICTIONS = {
    "a regressor's method": CleanedRegressor(Ridge(), LossScore(task="classification")),
    "a classifier's method": CleanedClassifier(
        LogisticRegression(), LossScore(task="regression"), contamination=5
    ),
    "a cleaner's method": DetrimentalSampleCleaner(
        LossScore(task="classification"), task="regression"
    ),
    "a cleaner's estimator": DetrimentalSampleCleaner(
        LossScore(task="classification"), estimator=Ridge()
    ),
    "a union's methods": DetrimentalityUnion(
        [("one", LossScore(task="classification")), ("two", LossScore(task="regression"))]
    ),
    "a union's net": DetrimentalityUnion([("one", LossScore(task="regression"))], classifier()),
    "a value's model": DataShapley(LinearRegression(), task="classification"),
}


@pytest.mark.parametrize("estimator", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_contradictions_are_named_before_anything_is_trained(estimator, monkeypatch):
    for kind in (NeuralNetClassifier, NeuralNetRegressor):
        monkeypatch.setattr(kind, "fit", lambda *_: pytest.fail("a net was trained"))
    X, y = blobs(n=30)
    with pytest.raises(ValueError, match=r"is for .*, but .* is for"):
        clone(estimator).fit(X, y)


class Own(LossScore):
    """A user's method with a fit of its own."""

    def fit(self, X, y=None, X_val=None, y_val=None):
        return super().fit(X, y, X_val, y_val)


@pytest.mark.usefixtures("brief_nets")
def test_a_method_with_a_fit_of_its_own_is_told():
    X, y = prices(n=60)
    fitted = CleanedRegressor(Ridge(), Own(), contamination=5, random_state=0).fit(X, y)
    assert isinstance(fitted.method_.net_, NeuralNetRegressor)


@pytest.mark.parametrize("make", [default_net, sgd_net])
def test_the_default_net_tells_numbers_as_the_methods_do(make):
    X = np.zeros((40, 2), dtype=np.float32)
    y = np.linspace(0, 1, 40)
    assert isinstance(make(X, y.astype(object)), NeuralNetRegressor)
    assert isinstance(make(X, [Decimal(v) for v in y.tolist()]), NeuralNetRegressor)
    assert isinstance(make(X, (y > 0.5).astype(object)), NeuralNetClassifier)
    with pytest.warns(ManyClassesWarning):
        assert isinstance(make(X, np.arange(40)), NeuralNetClassifier)
    assert isinstance(make(X, np.arange(40), task="regression"), NeuralNetRegressor)
    with pytest.raises(ValueError, match="NaT or None in 1 of 3 rows: 2"):
        make(X[:3], [1.5, 2.5, None])
