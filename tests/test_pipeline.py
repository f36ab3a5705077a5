"""What a scikit-learn user does: pipelines, grid searches, output containers, frozen nets."""

import numpy as np
import pandas as pd
import pytest
import torch
from pyod.models.hbos import HBOS
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNet, NeuralNetBinaryClassifier
from skorch.callbacks import EarlyStopping
from skorch.dataset import ValidSplit
from skorch.helper import SliceDict, predefined_split
from torch import nn

from skinfluence import GradientEmbedding, NormDetector, OutlierGradientDetector
from skinfluence.exceptions import HeldOutRowsWarning, LeakyModuleWarning
from tests._shared.problems import (
    SmallMlp,
    blobs,
    classifier,
    fitted_classifier,
    noisy_blobs,
    paper_method,
    regressor,
)


def test_pipeline_gives_the_scores_of_its_last_step():
    X, y, is_noisy = noisy_blobs(n=120)
    pipeline = make_pipeline(StandardScaler(), OutlierGradientDetector(random_state=0))
    scores = pipeline.fit_transform(X, y)
    assert scores.shape == (len(X), 1)
    np.testing.assert_array_equal(scores[:, 0], pipeline[-1].detrimentality_)
    assert roc_auc_score(is_noisy, scores[:, 0]) > 0.95
    new = blobs(n=30, seed=5)[0]
    expected = pipeline[-1].transform(pipeline[0].transform(new))
    np.testing.assert_array_equal(pipeline.transform(new), expected)
    assert not np.allclose(pipeline.transform(X), scores)  # predicted labels, not the given ones


@pytest.mark.parametrize("detector", [KNN(), IForest(random_state=3), HBOS()], ids=repr)
def test_literal_pipeline_gives_the_same_scores(detector):
    X, y, _ = noisy_blobs()
    literal = Pipeline(
        [
            ("scale", StandardScaler()),
            ("embed", GradientEmbedding(classifier(), random_state=0)),
            ("detect", clone(detector)),
        ]
    ).fit(X, y)
    short = make_pipeline(
        StandardScaler(),
        paper_method(classifier(), detector=detector, random_state=0),
    ).fit(X, y)
    np.testing.assert_array_equal(literal[-1].decision_scores_, short[-1].detrimentality_)
    np.testing.assert_allclose(literal.decision_function(X[:7]), short.transform(X[:7])[:, 0])


@pytest.mark.usefixtures("brief_nets")
def test_grid_search_over_the_last_step():
    X, y, _ = noisy_blobs(n=90)
    pipeline = Pipeline(
        [
            ("scale", StandardScaler()),
            ("embed", GradientEmbedding(random_state=0)),
            ("detect", KNN()),
        ]
    )

    def spread(fitted, X, y):
        scores = fitted.decision_function(X)
        assert np.isfinite(scores).all()
        return float(np.std(scores) / np.abs(scores).mean())

    grid = {"detect": [KNN(), IForest(random_state=0), NormDetector()]}
    search = GridSearchCV(
        pipeline, grid, scoring=spread, cv=StratifiedKFold(3), error_score="raise"
    )
    search.fit(X, y)
    assert len(set(search.cv_results_["mean_test_score"])) == 3
    assert search.best_estimator_[-1].decision_scores_.shape == (90,)


def test_grid_search_over_detectors_and_nested_parameters():
    X, y, is_noisy = noisy_blobs(n=90)
    truth = {x.tobytes(): noisy for x, noisy in zip(X, is_noisy)}

    def finds_flips(method, X, y):
        scores = method.score_detrimentality(X, y)
        return roc_auc_score([truth[x.tobytes()] for x in X], scores)

    method = paper_method(classifier(), detector=KNN(), random_state=0)
    grid = [
        {"detector": [IForest(), NormDetector()]},
        {"detector__n_neighbors": [3, 10], "net__module__n_hidden": [8, 16]},
    ]
    folds = list(StratifiedKFold(3).split(X, is_noisy))
    search = GridSearchCV(method, grid, scoring=finds_flips, cv=folds, error_score="raise")
    assert search.fit(X, y).best_score_ > 0.9


@pytest.mark.usefixtures("brief_nets")
def test_output_containers():
    X, y, _ = noisy_blobs()
    table = pd.DataFrame(X, columns=list("abcd"), index=np.arange(len(X)) + 1000)
    method = OutlierGradientDetector(random_state=0).set_output(transform="pandas")
    frame = method.fit_transform(table, pd.Series(y, index=table.index))
    assert list(frame.columns) == ["outliergradientdetector0"]
    assert (frame.index == table.index).all()
    assert list(method.feature_names_in_) == list("abcd")
    embedding = GradientEmbedding(random_state=0).set_output(transform="pandas")
    assert embedding.fit_transform(table, y).shape == (len(X), 195)
    assert embedding.get_feature_names_out()[0] == "gradientembedding0"
    assert isinstance(embedding.transform(table), pd.DataFrame)


@pytest.mark.parametrize(
    "convert",
    [
        lambda X: X.astype(np.float64),
        lambda X: (X * 10).round().astype(np.int32),
        lambda X: X.tolist(),
        torch.tensor,
        np.asfortranarray,
        lambda X: pd.DataFrame(X).astype({0: "float64"}),
        lambda X: X[:, ::-1],
    ],
    ids=["float64", "int32", "list", "tensor", "fortran", "frame", "negative_strides"],
)
def test_inputs_of_any_numeric_kind(convert):
    X, y, is_noisy = noisy_blobs()
    converted = convert(X)
    for net in (None, classifier(max_epochs=60)):
        method = paper_method(net, detector=NormDetector(), random_state=0)
        assert roc_auc_score(is_noisy, method.fit(converted, y).detrimentality_) > 0.9


@pytest.mark.parametrize(
    "labels", [np.array(["no", "yes"]), np.array([-1, 1]), np.array([False, True])]
)
def test_labels_of_any_kind(labels):
    X, y, is_noisy = noisy_blobs(n=80, n_classes=2)
    named = labels[y]
    binary = NeuralNetBinaryClassifier(
        SmallMlp,
        module__n_outputs=1,
        optimizer=torch.optim.Adam,
        lr=0.01,
        max_epochs=30,
        batch_size=32,
        train_split=None,
        verbose=0,
    )
    for net in (None, classifier(module__n_outputs=2), binary):
        method = paper_method(net, detector=NormDetector(), random_state=0)
        method.fit(X, named)
        assert roc_auc_score(is_noisy, method.detrimentality_) > 0.9
        np.testing.assert_array_equal(method.classes_, labels)
        np.testing.assert_allclose(
            method.score_detrimentality(X, named), method.detrimentality_, rtol=1e-5
        )
        assert np.isfinite(method.transform(X)).all()


@pytest.mark.usefixtures("brief_nets")
def test_images():
    images, y = load_digits(return_X_y=True)
    images, y = images.reshape(-1, 1, 8, 8)[:120], y[:120]
    embedding = GradientEmbedding(random_state=0)
    net = clone(embedding).fit(images, y).net_
    assert type(net.module_).__name__ == "ImageCNN"
    assert embedding.fit_transform(images, y).shape == (120, 650)
    assert np.isfinite(embedding.transform(images[:3])).all()


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = SmallMlp()

    def forward(self, left, right):
        return self.net(torch.cat([left, right], 1))


@pytest.mark.parametrize("container", [SliceDict, dict])
def test_dict_of_inputs(container):
    X, y, is_noisy = noisy_blobs()
    X = container(left=X[:, :2], right=X[:, 2:])
    method = paper_method(classifier(TwoInputs), detector=NormDetector(), random_state=0)
    assert roc_auc_score(is_noisy, method.fit(X, y).detrimentality_) > 0.9
    assert method.transform(X).shape == (len(y), 1)
    assert not hasattr(method, "n_features_in_")


class Pairs(torch.utils.data.Dataset):
    def __init__(self, X, y):
        self.X, self.y = torch.tensor(X), torch.tensor(y)

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i], self.y[i]


def test_torch_data_set():
    X, y, is_noisy = noisy_blobs()
    method = paper_method(classifier(), detector=NormDetector(), random_state=0)
    own_targets = clone(method).fit(Pairs(X, y)).detrimentality_
    assert roc_auc_score(is_noisy, own_targets) > 0.9
    clean = Pairs(X, np.zeros_like(y))
    given_targets = clone(method).fit(clean, y)
    np.testing.assert_allclose(given_targets.detrimentality_, own_targets, rtol=1e-5)
    assert given_targets.transform(clean).shape == (len(X), 1)


def test_embedding_module_takes_integers_as_indices():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.head = nn.Embedding(9, 4), nn.Linear(4, 2)

        def forward(self, X):
            return self.head(self.words(X).mean(1))

    rng = np.random.default_rng(0)
    y = np.arange(80) % 2
    X = rng.integers(0, 4, (80, 6)) + 4 * y[:, None]
    embedding = GradientEmbedding(classifier(Words), layers="all", random_state=0)
    assert embedding.fit_transform(X.astype(np.int32), y).shape == (80, 9 * 4 + 10)


def test_regression():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 4)).astype(np.float32)
    y = X @ [1.0, -2.0, 0.5, 0.0]
    is_wrong = np.arange(120) < 8
    y[is_wrong] += 6
    for net in (None, regressor(max_epochs=60)):
        method = paper_method(net, detector=NormDetector(), random_state=0).fit(X, y)
        assert roc_auc_score(is_wrong, method.detrimentality_) > 0.9
        assert not hasattr(method, "classes_")
        column = clone(method).fit(X, y[:, None]).detrimentality_
        np.testing.assert_allclose(column, method.detrimentality_, rtol=1e-4)


def test_regression_without_labels_is_judged_at_the_training_error():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)).astype(np.float32)
    y = X.sum(1) + rng.normal(size=60)
    embedding = GradientEmbedding(regressor(), random_state=0).fit(X, y)
    prediction = embedding.net_.predict(X)[:, 0]
    error = np.sqrt(np.mean((prediction - y) ** 2))
    with torch.no_grad():
        hidden = embedding.net_.module_.body(torch.tensor(X)).numpy()
    jacobian = np.c_[hidden, np.ones(60)]
    np.testing.assert_allclose(embedding.transform(X), 2 * error * jacobian, rtol=1e-3, atol=1e-5)


def test_plain_net_with_many_labels_has_no_transform():
    X, y = blobs()
    indicator = np.eye(3, dtype=int)[y] | (np.random.default_rng(0).random((len(y), 3)) < 0.2)
    wrong = np.arange(len(y)) < 5
    indicator[wrong] = 1 - indicator[wrong]
    net = NeuralNet(
        SmallMlp,
        criterion=nn.BCEWithLogitsLoss,
        optimizer=torch.optim.Adam,
        lr=0.01,
        max_epochs=30,
        train_split=None,
        verbose=0,
    )
    for candidate in (net, None):
        method = paper_method(candidate, detector=NormDetector(), random_state=0)
        assert hasattr(method, "transform")  # not known before fit
        scores = method.fit(X, indicator).detrimentality_
        assert roc_auc_score(wrong, scores) > 0.9
        assert not hasattr(method, "transform")
        np.testing.assert_allclose(method.score_detrimentality(X, indicator), scores, rtol=1e-5)
        embedding = GradientEmbedding(candidate, random_state=0).fit(X, indicator)
        assert not hasattr(embedding, "transform")
        assert embedding.embed(X[:4], indicator[:4]).shape == (4, embedding.embedding_.shape[1])


def test_frozen_net_is_not_trained():
    X, y, _ = noisy_blobs()
    net = fitted_classifier(X, y)
    embedding = GradientEmbedding(FrozenEstimator(net)).fit(X[:20], y[:20])
    assert embedding.net_ is net
    np.testing.assert_allclose(embedding.embed(X, y)[:20], embedding.embedding_, atol=1e-6)


def test_frozen_net_encodes_by_its_own_classes():
    X, y, _ = noisy_blobs()
    torch.manual_seed(0)
    named = classifier(classes=["a", "b", "c"]).fit(X, y)
    plain = fitted_classifier(X, y)
    by_name = GradientEmbedding(FrozenEstimator(named)).fit(X, np.array(["a", "b", "c"])[y])
    by_number = GradientEmbedding(FrozenEstimator(plain)).fit(X, y)
    np.testing.assert_allclose(by_name.embedding_, by_number.embedding_, atol=1e-6)
    # some classes only: the output of a class stays the one it was trained on
    rows = y != 0
    some = GradientEmbedding(FrozenEstimator(plain)).fit(X[rows], y[rows])
    np.testing.assert_allclose(some.embedding_, by_number.embedding_[rows], atol=1e-6)


class Compiled(nn.Module):
    """What torch.compile makes of a module: the original under another name."""

    def __init__(self):
        super().__init__()
        self._orig_mod = SmallMlp()

    def forward(self, X):
        return self._orig_mod(X)


def test_compiled_module_is_unwrapped():
    X, y, _ = noisy_blobs()
    embedding = GradientEmbedding(classifier(Compiled), layers=["head"], random_state=0)
    assert embedding.fit(X, y).strategy_ == {"head": "factored"}


def test_default_split_of_skorch_is_switched_off():
    X, y, _ = noisy_blobs()
    net = classifier(train_split=ValidSplit(5, stratified=True))
    fitted = GradientEmbedding(net, random_state=0).fit(X, y).net_
    assert fitted.train_split is None
    expected = GradientEmbedding(classifier(), random_state=0).fit(X, y).embedding_
    np.testing.assert_array_equal(
        GradientEmbedding(net, random_state=0).fit(X, y).embedding_, expected
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"train_split": ValidSplit(0.5)},
        {
            "train_split": ValidSplit(5, stratified=True),
            "callbacks": [EarlyStopping(monitor="valid_loss", sink=lambda _: None)],
        },
    ],
    ids=["own_split", "early_stopping"],
)
def test_split_that_holds_rows_out_is_kept_and_warned_of(settings):
    X, y, _ = noisy_blobs()
    with pytest.warns(HeldOutRowsWarning, match="train_split=None"):
        fitted = GradientEmbedding(classifier(**settings), random_state=0).fit(X, y)
    assert "valid_loss" in fitted.net_.history[-1]


def test_predefined_split_holds_no_rows_out():
    X, y, _ = noisy_blobs()
    net = classifier(train_split=predefined_split(Pairs(X[:10], y[:10])))
    assert "valid_loss" in GradientEmbedding(net, random_state=0).fit(X, y).net_.history[-1]


def test_module_instance_is_warned_of():
    X, y, _ = noisy_blobs()
    with pytest.warns(LeakyModuleWarning, match="SmallMlp, not a class"):
        GradientEmbedding(classifier(SmallMlp()), random_state=0).fit(X, y)
