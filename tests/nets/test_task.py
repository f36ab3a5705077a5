"""What targets are: numbers in any array are numbers, and a task overrules their looks."""

import inspect
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from skorch.helper import SliceDataset
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import skinfluence
from skinfluence import (
    CleanedClassifier,
    CleanedRegressor,
    DataShapley,
    DetrimentalityUnion,
    DetrimentalSampleCleaner,
    GradientEmbedding,
    KNNShapley,
    LossScore,
    OutlierGradientDetector,
    RandomScore,
    SelfConfidence,
)
from skinfluence.exceptions import ManyClassesWarning
from skinfluence.nets import default_net
from skinfluence.rows._targets import check_targets
from tests._shared.instances import SMALLEST
from tests._shared.problems import SmallMlp, classifier, noisy_blobs, regressor

pytestmark = pytest.mark.usefixtures("brief_nets")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
PRICES = np.round(1000 * (5 + X @ [1.0, 0.5, -1.0])).astype(int)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(-(10**6), 10**6), min_size=2, max_size=30),
    divisor=st.sampled_from([1, 4, 100]),
    kind=st.sampled_from([int, float, Decimal, Fraction, np.float32, "mixed"]),
)
def test_numbers_in_an_array_of_objects_are_numbers(values, divisor, kind):
    if divisor == 1 and kind in {int, "mixed"}:
        given_values = [int(v) if i % 2 else np.int64(v) for i, v in enumerate(values)]
        expected = np.array(values)
    else:
        numbers = [v / divisor for v in values]
        make = float if kind in {int, "mixed"} else kind
        given_values = [make(v) for v in numbers]
        expected = np.array([float(v) for v in given_values])
    objects = np.empty(len(values), object)
    objects[:] = given_values
    found = check_targets(objects, len(values))
    assert found.dtype.kind == expected.dtype.kind
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("labels", [["a", "b"], [True, False], [1, "a"], [True, 2]])
def test_other_objects_stay_what_they_are(labels):
    objects = np.array(labels * 3, object)
    assert check_targets(objects, 6) is objects


@pytest.mark.parametrize("container", [lambda y: y.astype(object), pd.Series, list])
def test_a_regression_is_one_in_any_container(container):
    y = X[:, 0] * 3 + 0.5
    expected = LossScore(random_state=0).fit(X, y)
    found = LossScore(random_state=0).fit(X, container(y))
    assert isinstance(found.net_, NeuralNetRegressor)
    np.testing.assert_array_equal(found.detrimentality_, expected.detrimentality_)


TAKES_TASK = [kind for kind in SMALLEST if "task" in inspect.signature(kind.__init__).parameters]


def test_every_method_that_may_make_its_own_model_takes_a_task():
    for name in skinfluence.__all__:
        kind = getattr(skinfluence, name)
        if not inspect.isclass(kind) or kind not in SMALLEST:
            continue
        parameters = inspect.signature(kind.__init__).parameters
        models = {DataShapley, DetrimentalSampleCleaner}
        assert ("task" in parameters) == ("net" in parameters or kind in models)


@pytest.mark.parametrize("kind", TAKES_TASK)
def test_a_task_is_checked_and_must_suit_the_model(kind):
    method = clone(SMALLEST[kind]).set_params(task="classes")
    with pytest.raises(ValueError, match=r"task='classes'.*classification"):
        method.fit(X, np.arange(60) % 2)
    model = "net" if "net" in method.get_params() else "estimator"
    method.set_params(task="regression", **{model: classifier()})
    with pytest.raises(ValueError, match=r"task='regression' is for numbers, but .*=NeuralNetCl"):
        method.fit(X, np.arange(60) % 2)


def test_whole_prices_are_warned_of_and_a_task_makes_them_numbers():
    for method in (LossScore(random_state=0), GradientEmbedding(random_state=0)):
        with pytest.warns(ManyClassesWarning, match=r"task='regression'"):
            fitted = clone(method).fit(X, PRICES)
        assert isinstance(fitted.net_, NeuralNetClassifier)
        fitted = clone(method).set_params(task="regression").fit(X, PRICES)
        assert isinstance(fitted.net_, NeuralNetRegressor)
    with pytest.warns(ManyClassesWarning):
        KNNShapley(random_state=0).fit(X, [f"id{i}" for i in range(60)])
    RandomScore(random_state=0).fit(X, PRICES)
    LossScore(regressor(SmallMlp, module__n_inputs=3), random_state=0).fit(X, PRICES)


def test_float_classes_are_classes_if_a_task_says_so():
    y = np.repeat(np.arange(30.0), 4)
    inputs = np.random.default_rng(1).normal(size=(120, 3))
    assert isinstance(LossScore(random_state=0).fit(inputs, y).net_, NeuralNetRegressor)
    told = SelfConfidence(task="classification", random_state=0).fit(inputs, y)
    assert len(told.classes_) == 30


def test_parts_cleaners_and_models_agree_on_the_task():
    union = DetrimentalityUnion(
        [("loss", LossScore()), ("outlier", OutlierGradientDetector())],
        task="regression",
        random_state=0,
    ).fit(X, PRICES)
    assert isinstance(union.net_, NeuralNetRegressor)
    told = LossScore(task="regression", random_state=0)
    cleaner = DetrimentalSampleCleaner(told, contamination=3)
    cleaner.fit_resample(X, PRICES)
    assert isinstance(cleaner.method_.net_, NeuralNetRegressor)
    model = CleanedRegressor(Ridge(), LossScore(random_state=0), contamination=3).fit(X, PRICES)
    assert isinstance(model.method_.net_, NeuralNetRegressor)
    with pytest.raises(ValueError, match="but method__task='regression' is for numbers"):
        CleanedClassifier(LogisticRegression(), told).fit(X, np.arange(60) % 2)
    with pytest.raises(ValueError, match="but method__task='classification' is for classes"):
        CleanedRegressor(Ridge(), LossScore(task="classification")).fit(X, PRICES)


@pytest.mark.parametrize("model", [Ridge(), make_pipeline(StandardScaler(), Ridge()), regressor()])
def test_a_model_of_the_other_kind_is_named_before_training(model):
    with pytest.raises(ValueError, match="CleanedClassifier is for targets that are classes, but "):
        CleanedClassifier(model, LossScore(classifier())).fit(X, np.arange(60) % 2)


def test_a_classifier_cannot_be_a_cleaned_regressor():
    for model in (LogisticRegression(), classifier()):
        with pytest.raises(ValueError, match="CleanedRegressor is for targets that are numbers"):
            CleanedRegressor(model, RandomScore()).fit(X, PRICES)


class OneOutput(SmallMlp):
    def __init__(self):
        super().__init__(n_outputs=1)

    def forward(self, X):
        return super().forward(X)[:, 0]


def binary(**settings):
    given = {"max_epochs": 30, "lr": 0.5, "train_split": None, "verbose": 0, **settings}
    return NeuralNetBinaryClassifier(OneOutput, **given)


@pytest.mark.parametrize("names", [[0, 1], [1.0, 2.0], ["no", "yes"], [True, False], [7, -7]])
@pytest.mark.parametrize(
    "make",
    [
        lambda net: net,
        lambda net: make_pipeline(StandardScaler(), net),
        lambda net: GridSearchCV(net, {"lr": [0.5]}, cv=2, refit=True),
    ],
    ids=["net", "pipeline", "search"],
)
@pytest.mark.parametrize("net", [binary(), classifier(lr=0.05, module__n_outputs=2)])
def test_a_net_as_the_model_that_is_cleaned_learns_labels_of_any_kind(names, make, net):
    inputs, y, _ = noisy_blobs(n=80, n_classes=2, rate=0.05)
    labels = np.array(names)[y]
    method = LossScore(classifier(max_epochs=3, module__n_outputs=2), random_state=0)
    model = CleanedClassifier(make(net), method, contamination=0.05, random_state=0)
    model.fit(inputs, labels)
    assert model.score(inputs, labels) > 0.9
    assert set(model.predict(inputs).tolist()) <= set(names)
    assert sorted(model.classes_.tolist()) == sorted(names)
    chances = model.predict_proba(inputs)
    assert chances.shape == (80, 2)
    picked = model.classes_[chances.argmax(1)]
    assert (picked == model.predict(inputs)).all()


def test_a_net_as_a_cleaned_regressor_is_not_broadcast():
    inputs, _, _ = noisy_blobs(n=80)
    y = inputs[:, 0] * 2
    net = regressor(lr=0.05, max_epochs=40)
    model = CleanedRegressor(net, LossScore(regressor(), random_state=0), contamination=2)
    model.fit(inputs.astype(np.float64), y)
    assert model.predict(inputs.astype(np.float64)).shape == (80,)
    assert model.score(inputs, y) > 0.9


def test_a_column_far_from_zero_counts_as_it_does_when_standardised():
    rng = np.random.default_rng(0)
    seconds = 1.7e9 + rng.uniform(0, 600, 200)
    y = (seconds > 1.7e9 + 300).astype(int)
    is_noisy = np.zeros(200, bool)
    is_noisy[rng.choice(200, 20, replace=False)] = True
    table = np.c_[seconds, rng.normal(size=200)]
    scaled = StandardScaler().fit_transform(table)
    flipped = np.where(is_noisy, 1 - y, y)
    nets = [default_net(values, flipped, random_state=0) for values in (table, scaled)]
    outputs = [
        net.initialize().forward(values).numpy()
        for net, values in zip(nets, (table, scaled), strict=True)
    ]
    np.testing.assert_allclose(*outputs, atol=1e-5)
    areas = [
        roc_auc_score(
            is_noisy, OutlierGradientDetector(random_state=0).fit(v, flipped).detrimentality_
        )
        for v in (table, pd.DataFrame(table, columns=["t", "x"]), table.astype(object), scaled)
    ]
    assert min(areas) > max(areas) - 0.01


@pytest.mark.parametrize(
    "missing", [np.datetime64("NaT"), pd.NaT, None, np.nan, pd.NA, Decimal("NaN")], ids=repr
)
def test_a_missing_target_of_any_kind_is_no_class(missing):
    if isinstance(missing, np.datetime64):
        y = np.array(["2020-01-01", "2021-01-01"] * 5, "datetime64[D]")
    else:
        y = np.array([1, 2] * 5, object)
    y[7] = missing
    with pytest.raises(ValueError, match=r"y contains NaN, NaT or None in 1 of 10 rows: 7"):
        check_targets(y, 10)


def test_data_sets_with_labels_of_their_own():
    inputs, y, _ = noisy_blobs(n=60, n_classes=2)
    tensors = torch.tensor(inputs)
    net = classifier(max_epochs=1, module__n_outputs=2)
    for labels in (np.where(y, 15, 5), -1 - y):
        with pytest.raises(ValueError, match=r"own labels hold .*fit\(dataset, y\)"):
            LossScore(net).fit(TensorDataset(tensors, torch.tensor(labels)), None)
    named = [(x, "ab"[t]) for x, t in zip(tensors, y, strict=True)]

    class Named(torch.utils.data.Dataset):
        def __len__(self):
            return len(named)

        def __getitem__(self, i):
            return named[i]

    with pytest.raises(ValueError, match=r"own labels hold \['a'.*fit\(dataset, y\)"):
        LossScore(net).fit(Named(), None)
    fitted = LossScore(net, random_state=0).fit(Named(), np.array(list("ab"))[y])
    expected = LossScore(net, random_state=0).fit(inputs, y)
    np.testing.assert_allclose(fitted.detrimentality_, expected.detrimentality_, rtol=1e-5)


def test_views_of_a_data_set_may_be_split():
    inputs, y, _ = noisy_blobs(n=60, n_classes=2)
    whole = TensorDataset(torch.tensor(inputs), torch.tensor(y))
    views = SliceDataset(whole, 0), SliceDataset(whole, 1)
    net = classifier(max_epochs=2, module__n_outputs=2)
    for cv in (None, 2):
        method = LossScore(net, cv=cv, random_state=0)
        found = clone(method).fit(*views).detrimentality_
        np.testing.assert_allclose(found, clone(method).fit(inputs, y).detrimentality_, rtol=1e-5)
    kept, labels = DetrimentalSampleCleaner(
        LossScore(net, random_state=0), contamination=0.1
    ).fit_resample(*views)
    assert len(kept) == len(labels) == 54
    CleanedClassifier(net, LossScore(net), contamination=0.1, random_state=0).fit(*views)


def test_a_loader_as_X_is_named():
    inputs, y, _ = noisy_blobs(n=30)
    loader = DataLoader(TensorDataset(torch.tensor(inputs), torch.tensor(y)))
    for targets in (y, None):
        with pytest.raises(TypeError, match=r"Got a DataLoader as X.*X\.dataset"):
            LossScore(classifier()).fit(loader, targets)


def test_weights_of_another_length_are_named_before_training():
    inputs, y, _ = noisy_blobs(n=80, n_classes=2)
    model = CleanedClassifier(LogisticRegression(), LossScore(classifier()))
    with pytest.raises(ValueError, match="sample_weight for 72 rows, but X and y have 80"):
        model.fit(inputs, y, sample_weight=np.ones(72))


def test_errors_list_few_of_many_classes():
    inputs = np.random.default_rng(0).normal(size=(400, 3))
    y = np.repeat(np.arange(200), 2)
    net = classifier(max_epochs=1, module__n_inputs=3, module__n_outputs=200)
    fitted = LossScore(net, random_state=0).fit(inputs, y)
    with pytest.raises(
        ValueError, match=r"trained on: \[200, .*\(150 in all\).*\(200 in all\)"
    ) as e:
        fitted.score_detrimentality(inputs[:150], np.arange(200, 350))
    assert len(str(e.value)) < 400


def test_criteria_of_ones_own_take_all_rows_at_once():
    calls = []

    class Focal(nn.Module):
        def forward(self, output, target):
            calls.append(len(target))
            log_p = torch.log_softmax(output, 1)[torch.arange(len(target)), target]
            return (-((1 - log_p.exp()) ** 2) * log_p).mean()

    inputs, y, _ = noisy_blobs(n=90)
    net = classifier(criterion=Focal, max_epochs=1)
    fitted = LossScore(net, random_state=0).fit(inputs, y)
    calls.clear()
    found = fitted.score_detrimentality(inputs, y)
    assert len(calls) < 60  # a few rows in a loop, to compare; not 90 and more
    probabilities = fitted.net_.predict_proba(inputs)
    p = torch.softmax(torch.tensor(fitted.net_.forward(inputs).numpy()), 1).numpy()[range(90), y]
    assert probabilities.shape == (90, 3)
    np.testing.assert_allclose(found, -((1 - p) ** 2) * np.log(p), rtol=1e-4, atol=1e-7)
