"""Small labelled data and nets that several test modules use."""

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from skorch import NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from skinfluence import OutlierGradientDetector
from skinfluence.datasets import make_noisy_labels


class SmallMlp(nn.Module):
    def __init__(self, n_inputs=4, n_outputs=3, n_hidden=16):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_inputs, n_hidden), nn.ReLU())
        self.head = nn.Linear(n_hidden, n_outputs)

    def forward(self, X):
        return self.head(self.body(X))


def blobs(n=90, n_classes=3, n_features=4, seed=0, spread=0.6):
    """Blobs on which a small net makes no mistake, float32."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    centers = np.eye(n_classes, n_features) * 4
    X = centers[y] + spread * rng.normal(size=(n, n_features))
    return X.astype(np.float32), y


def noisy_blobs(rate=0.1, **kwargs):
    X, y = blobs(**kwargs)
    y_noisy, is_noisy = make_noisy_labels(y, rate=rate, random_state=0)
    return X, y_noisy, is_noisy


def classifier(module=SmallMlp, **kwargs):
    settings = {
        "criterion": nn.CrossEntropyLoss,
        "optimizer": torch.optim.Adam,
        "lr": 0.01,
        "max_epochs": 30,
        "batch_size": 32,
        "iterator_train__shuffle": True,
        "train_split": None,
        "verbose": 0,
    }
    return NeuralNetClassifier(module, **{**settings, **kwargs})


def regressor(module=SmallMlp, **kwargs):
    settings = {
        "module__n_outputs": 1,
        "optimizer": torch.optim.Adam,
        "lr": 0.01,
        "max_epochs": 30,
        "batch_size": 32,
        "iterator_train__shuffle": True,
        "train_split": None,
        "verbose": 0,
    }
    return NeuralNetRegressor(module, **{**settings, **kwargs})


def paper_method(*args, **kwargs):
    """The paper's setting: one trained net, and a detector on its gradients."""
    one_net = {"committee": None, "checkpoints": "last"}
    settings = {**one_net, "normalize": None, "n_neighbors": None}
    return OutlierGradientDetector(*args, **{**settings, **kwargs})


def fitted_classifier(X, y, seed=0, **kwargs):
    torch.manual_seed(seed)
    return classifier(**kwargs).fit(X, y.astype(np.int64))


class Centroids(ClassifierMixin, BaseEstimator):
    """The nearest class mean: plain numpy, because scikit-learn's checks take a test's time."""

    def __init__(self, shrink=0.0):
        self.shrink = shrink

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        means = [X[y == label].mean(axis=0) for label in self.classes_]
        self.means_ = (1 - self.shrink) * np.array(means)
        return self

    def predict(self, X):
        distances = ((X[:, np.newaxis] - self.means_) ** 2).sum(axis=2)
        return self.classes_[distances.argmin(axis=1)]
