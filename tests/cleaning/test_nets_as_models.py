"""A skorch net as the model of a cleaner: it is trained on its own labels, and asked for yours."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import IsolationForest, VotingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn

from skinfluence import (
    CleanedClassifier,
    CleanedRegressor,
    ComplexityGap,
    DetrimentalSampleCleaner,
    RandomScore,
)
from tests._shared.problems import SmallMlp, blobs, classifier, regressor


class OneLogit(SmallMlp):
    def __init__(self):
        super().__init__(n_outputs=1)


class Squeezed(SmallMlp):
    """One number a row, without a column."""

    def __init__(self):
        super().__init__(n_outputs=1)

    def forward(self, X):
        return super().forward(X)[:, 0]


def binary(**kwargs):
    return NeuralNetBinaryClassifier(
        OneLogit,
        optimizer=torch.optim.Adam,
        lr=0.05,
        max_epochs=20,
        train_split=None,
        verbose=0,
        **kwargs,
    )


def multi(**kwargs):
    return classifier(lr=0.05, max_epochs=20, **kwargs)


def as_floats(X):
    return np.asarray(X, dtype=np.float32)


def within(net):
    return make_pipeline(StandardScaler(), FunctionTransformer(as_floats), net)


MODELS = {
    "net": multi,
    "pipeline": lambda: within(multi()),
    "search": lambda: GridSearchCV(multi(), {"lr": [0.05]}, cv=2),
    "search of a pipeline": lambda: GridSearchCV(
        within(multi()), {"neuralnetclassifier__lr": [0.05]}, cv=2
    ),
    "binary": binary,
    "binary in a pipeline": lambda: within(binary()),
}
LABELS = {
    "words": ["no", "yes", "maybe"],
    "words as objects": np.array(["no", "yes", "maybe"], dtype=object),
    "whole floats from one": [1.0, 2.0, 3.0],
    "signs": [-1, 1, 2],
    "tens": [5, 15, 25],
    "truth": [False, True, None],
}


@pytest.mark.parametrize("names", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_labels_of_any_kind_are_learnt_and_given_back(make, names):
    two = "binary" in str(make()).lower() or names[2] is None
    X, codes = blobs(n=60, n_classes=2 if two else 3)
    y = np.asarray(names[: 2 if two else 3])[codes]
    method = RandomScore(random_state=0)
    model = CleanedClassifier(make(), method, contamination=6, random_state=0).fit(X, y)
    assert model.classes_.tolist() == sorted(set(y.tolist()))
    assert (model.predict(X) == y).mean() > 0.95
    assert model.score(X, y) > 0.95
    probabilities = model.predict_proba(X)
    assert probabilities.shape == (60, len(model.classes_))
    assert (model.classes_[probabilities.argmax(1)] == y).mean() > 0.95
    order = {label: code for code, label in enumerate(model.classes_.tolist())}
    coded = np.array([order[label] for label in y.tolist()])
    other = clone(model).fit(X, coded).predict(X)
    np.testing.assert_array_equal(model.predict(X), model.classes_[other])


@pytest.mark.parametrize("make", [multi, binary])
def test_held_out_losses_and_new_labels_are_of_yours(make):
    X, codes = blobs(n=60, n_classes=2)
    y = np.array(["no", "yes"])[codes]
    y[:3] = np.array(["yes", "no"])[codes[:3]]
    method = ComplexityGap()
    model = CleanedClassifier(make(), method, cv=2, random_state=0).fit(X, y)
    assert model.losses_[0.0] < 0.5
    for cleaner in (
        DetrimentalSampleCleaner(method, estimator=make(), action="relabel", contamination=3),
        CleanedClassifier(make(), method, action="relabel", contamination=3),
    ):
        fitted = cleaner.set_params(random_state=0).fit(X, y)
        assert set(fitted.relabelled_) <= {0, 1, 2}
        assert len(fitted.relabelled_) > 0


def test_a_net_with_names_of_its_own_keeps_their_order():
    X, codes = blobs(n=60, n_classes=2)
    y = np.array(["no", "yes"])[codes]
    net = multi(classes=["yes", "no"], module__n_outputs=2)
    model = CleanedClassifier(net, RandomScore(), contamination=1, random_state=0).fit(X, y)
    assert model.classes_.tolist() == ["yes", "no"]
    assert model.score(X, y) > 0.95
    assert (np.array(["yes", "no"])[model.estimator_.predict(X)] == y).mean() > 0.95


@pytest.mark.parametrize("container", [np.float64, np.float16, pd.DataFrame, list])
def test_rows_reach_a_net_in_its_own_precision(container):
    X, y = blobs(n=40)
    if isinstance(container, type) and issubclass(container, np.generic):
        given = X.astype(container)
    else:
        given = container(X.astype(np.float64).tolist())
    model = CleanedClassifier(multi(), RandomScore(), contamination=1, random_state=0)
    assert model.fit(given, y).score(given, y) > 0.9


def targets_of(X):
    return X.astype(np.float64) @ [1.0, -2.0, 0.5, 0.0] + 3


SETTINGS = (
    "optimizer",
    "lr",
    "max_epochs",
    "batch_size",
    "train_split",
    "verbose",
    "callbacks",
    "criterion",
)


def net_of(module, **kwargs):
    net = regressor(lr=0.05, max_epochs=60, **kwargs)
    if module is SmallMlp:
        return net
    settings = net.get_params(deep=False)
    return type(net)(Squeezed, **{k: settings[k] for k in SETTINGS})


REGRESSORS = {
    "net": net_of,
    "net with a callback": lambda module: net_of(module, callbacks=[Callback()]),
    "pipeline": lambda module: within(net_of(module)),
    "search": lambda module: GridSearchCV(net_of(module), {"lr": [0.05]}, cv=2),
}


@pytest.mark.parametrize("criterion", [nn.MSELoss, nn.PoissonNLLLoss])
@pytest.mark.parametrize("module", [SmallMlp, Squeezed])
@pytest.mark.parametrize("make", REGRESSORS.values(), ids=REGRESSORS)
def test_targets_are_never_broadcast(make, module, criterion):
    X, _ = blobs(n=40)
    y = targets_of(X)
    y = y if criterion is nn.MSELoss else np.exp((y - y.mean()) / y.std())
    model = make(module)
    name = next(k for k in model.get_params() if k.split("__")[-1] == "criterion")
    model.set_params(**{name: criterion})
    for shape in ((40,), (40, 1)):
        cleaned = CleanedRegressor(model, RandomScore(), contamination=2, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            predicted = cleaned.fit(X, y.reshape(shape)).predict(X)
        assert predicted.shape == shape
        found = predicted.ravel() if criterion is nn.MSELoss else np.exp(predicted.ravel())
        assert np.corrcoef(found, y)[0, 1] > 0.8  # broadcast, all predictions are about the mean


@pytest.mark.filterwarnings("ignore:A column-vector y")
def test_a_model_that_flattens_targets_around_a_net_is_refused():
    X, _ = blobs(n=40)
    model = VotingRegressor([("net", net_of(SmallMlp))])
    cleaned = CleanedRegressor(model, RandomScore(), contamination=2, random_state=0)
    with pytest.raises(ValueError, match="compares outputs and targets of different shapes"):
        cleaned.fit(X, targets_of(X))


class Untrained(RandomScore):
    def fit(self, *_):
        pytest.fail("the method was trained")


CLASSIFIERS_REFUSED = {
    "three classes for a binary net": (binary(), "tells two classes apart, but y holds 3"),
    "in a pipeline": (within(binary()), "tells two classes apart, but y holds 3"),
    "too few outputs": (multi(module__n_outputs=2), "2 outputs, but y holds 3 classes"),
    "names that lack a class": (multi(classes=[0, 1]), r"labels the net was never .* \[2\]"),
    "regressor": (Ridge(), "CleanedClassifier is for .* classes, but estimator=Ridge is for num"),
    "pipeline of one": (make_pipeline(StandardScaler(), Ridge()), "estimator=Pipeline is for num"),
    "search of one": (GridSearchCV(Ridge(), {"alpha": [1]}), "estimator=GridSearchCV is for num"),
    "net of one": (regressor(), "estimator=NeuralNetRegressor is for numbers"),
    "clusterer": (KMeans(2), "expected a classifier or regressor"),
    "detector": (IsolationForest(), "expected a classifier or regressor"),
    "transformer": (StandardScaler(), "expected a classifier or regressor"),
    "class": (LogisticRegression, "expected a classifier or regressor"),
    "word": ("logistic", "expected a classifier or regressor"),
}
REGRESSORS_REFUSED = {
    "classifier": (LogisticRegression(), "numbers, but estimator=LogisticRegression is for class"),
    "pipeline of one": (within(multi()), "estimator=Pipeline is for classes"),
    "net of one": (multi(), "estimator=NeuralNetClassifier is for classes"),
    "clusterer": (KMeans(2), "expected a classifier or regressor"),
    "two outputs": (regressor(module__n_outputs=2), r"shape \(n, 2\), but y has shape"),
}


@pytest.mark.parametrize(
    ("estimator", "message"), CLASSIFIERS_REFUSED.values(), ids=CLASSIFIERS_REFUSED
)
def test_what_cannot_learn_the_classes_is_refused_before_a_training(estimator, message):
    X, y = blobs(n=30)
    for contamination in ("auto", 3):
        model = CleanedClassifier(estimator, Untrained(), contamination=contamination)
        with pytest.raises((ValueError, TypeError), match=message):
            model.fit(X, y)


@pytest.mark.parametrize(
    ("estimator", "message"), REGRESSORS_REFUSED.values(), ids=REGRESSORS_REFUSED
)
def test_what_cannot_learn_the_numbers_is_refused_before_a_training(estimator, message):
    X, _ = blobs(n=30)
    with pytest.raises((ValueError, TypeError), match=message):
        CleanedRegressor(estimator, Untrained(), contamination=3).fit(X, targets_of(X))


def test_a_cleaner_refuses_them_too():
    X, y = blobs(n=30)
    for estimator in (binary(), KMeans(2)):
        with pytest.raises((ValueError, TypeError), match=r"two classes|expected a classifier"):
            DetrimentalSampleCleaner(Untrained(), estimator=estimator).fit(X, y)


def test_what_predicts_no_probabilities_has_none():
    X, y = blobs(n=30)
    model = CleanedClassifier(LinearSVC(), RandomScore(), contamination=1).fit(X, y)
    assert not hasattr(model, "predict_proba")
    assert model.decision_function(X).shape == (30, 3)
    for plain in (KNeighborsClassifier(1), NeuralNetClassifier):
        assert hasattr(CleanedClassifier(plain, RandomScore()), "predict_proba")


def test_models_without_a_net_are_left_as_they_are():
    X, _ = blobs(n=30)
    y = targets_of(X)
    model = CleanedRegressor(DummyRegressor(), RandomScore(), contamination=1, random_state=0)
    np.testing.assert_array_equal(model.fit(X, y).predict(X), model.estimator_.predict(X))


NOT_TRAINABLE = {
    "double": (np.float64, 3, "Rows reach it in the dtype that the steps before give"),
    "outputs": (np.float32, 2, "It has fewer outputs than y has classes"),
}


@pytest.mark.parametrize(("dtype", "n_outputs", "message"), NOT_TRAINABLE.values())
def test_what_a_net_within_cannot_take_is_named(dtype, n_outputs, message):
    X, y = blobs(n=30)
    model = make_pipeline(StandardScaler(), multi(module__n_outputs=n_outputs))
    with pytest.raises(ValueError, match=rf"^The net within the estimator.*{message}"):
        CleanedClassifier(model, RandomScore(), contamination=1).fit(X.astype(dtype), y)


@pytest.mark.parametrize("container", [np.asarray, pd.Series])
@pytest.mark.parametrize("contamination", ["auto", 2])
def test_numbers_in_objects_are_numbers_to_other_models_too(container, contamination):
    X, y = blobs(n=30)
    for values, model in ((y, LogisticRegression()), (targets_of(X), Ridge())):
        kind = CleanedRegressor if model.__class__ is Ridge else CleanedClassifier
        cleaned = kind(model, RandomScore(), contamination=contamination, random_state=0)
        plain = cleaned.fit(X, container(values)).predict(X)
        objects = cleaned.fit(X, container(values.astype(object))).predict(X)
        np.testing.assert_array_equal(objects, plain)


def test_predictions_of_a_data_frame_are_those_of_its_values():
    X, y = blobs(n=30)
    frame = pd.DataFrame(X)
    model = CleanedClassifier(multi(), RandomScore(), contamination=1, random_state=0)
    model.fit(frame, y)
    np.testing.assert_array_equal(model.predict(frame), model.predict(X))
