"""How good a model is that was trained on some of the rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, clone
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.frozen import FrozenEstimator

from skinfluence.gradients._skorch import is_net, kind_of
from skinfluence.nets._models import NetClassifier, NetRegressor
from skinfluence.nets._task import task_of_model
from skinfluence.nets._trained_net import train_net
from skinfluence.nets._weights import weight_parameters
from skinfluence.rows._containers import Inputs, select
from skinfluence.rows._interrupts import fit_whole
from skinfluence.rows._rows import ModelRows, Rows
from skinfluence.rows._seeds import preserved_random_state, seed_unset, seeded
from skinfluence.rows._weights import Weights
from skinfluence.rows._words import holds_words
from skinfluence.trace._callbacks import without_recorders


@dataclass(frozen=True)
class ModelUtility:
    """Score on validation rows, of a model trained on some of the training rows."""

    estimator: Any  # cloned for every subset
    rows: ModelRows  # targets as the user gave them
    validation: ModelRows
    classes: np.ndarray | None  # None for a regression
    scorer: Callable[..., float]  # scorer(model, X, y), large = good
    seed: int  # of every training
    weights: Weights = None  # of the training rows, in the loss
    judging_weights: Weights = None  # of the validation rows, in the score

    def __call__(self, subset: NDArray[np.intp]) -> float:
        """Train on rows and score."""
        if self.weights is not None:  # rows without weight are not there
            subset = subset[self.weights[subset] > 0]
        model = self._model(subset)
        with preserved_random_state():  # a net's loader draws when it predicts
            score = float(self._scored(model))
        if not np.isfinite(score):
            raise ValueError(
                f"The score of a model trained on {len(subset)} rows is {score}. Expected a "
                "finite number: r2 needs two validation rows with different targets. Choose "
                "another scoring, or give more validation rows."
            )
        return score

    def _scored(self, model: Any) -> Any:
        if self.judging_weights is None:
            return self.scorer(model, *self.validation)
        try:
            return self.scorer(model, *self.validation, sample_weight=self.judging_weights)
        except TypeError as error:
            if "sample_weight" not in str(error):
                raise
            raise ValueError(
                f"Got sample_weight and no X_val: the rows that validate each other have weights, "
                f"but scoring={self.scorer!r} takes no sample_weight. Give X_val and y_val, or "
                "choose another scoring."
            ) from error

    def _model(self, subset: NDArray[np.intp]) -> Any:
        X, y = self.rows
        present = y[subset]
        if len(subset) == 0:  # it knows the shares of the classes, or the mean of the target
            dummy = DummyRegressor() if self.classes is None else DummyClassifier()
            return dummy.fit(np.zeros((len(y), 1)), y, self.weights)
        if self.classes is not None and (present == present[0]).all():
            dummy = DummyClassifier(strategy="constant", constant=present[:1])
            return dummy.fit(np.zeros((len(y), 1)), y)
        weights = None if self.weights is None else self.weights[subset]
        rows = Rows(select(X, subset), present, self.classes is None, weights=weights)
        return _fit_model(self.estimator, rows, self.classes, self.seed)


def _fit_model(estimator: Any, rows: Rows, classes: np.ndarray | None, seed: int) -> Any:
    """Fit a seeded clone of an estimator or a skorch net; `y` may miss some of the classes."""
    model = clone(estimator)
    if is_net(model):
        model = without_recorders(model)
        if classes is None:
            return NetRegressor(train_net(model, rows, seed), rows.known_targets().ndim)
        if kind_of(model) == "classes" and model.classes is None:
            model.set_params(classes=list(classes))  # a class keeps its output in every subset
        trained = train_net(model, rows, seed)
        known = classes if trained.labels is None else trained.labels.classes
        return NetClassifier(trained, known)
    seed_unset(model, seed)
    with seeded(seed):  # for what draws from the global generators all the same
        given = weight_parameters(model, rows.weights)
        return fit_whole(model, rows.inputs, rows.targets, **given)


def check_estimator_kind(estimator: object) -> None:
    """Refuse what is neither classifier nor regressor; None leaves it to the targets."""
    if isinstance(estimator, FrozenEstimator):
        raise TypeError(
            f"Got estimator={estimator!r}, but the value of rows shows in models trained on some "
            "of them. Pass the estimator itself, not a frozen one."
        )
    if estimator is None or (isinstance(estimator, BaseEstimator) and task_of_model(estimator)):
        return
    raise TypeError(
        f"Got estimator={estimator!r}, but expected a scikit-learn classifier or regressor, a "
        "Pipeline that ends in one, a skorch NeuralNetClassifier or NeuralNetRegressor, or None."
    )


def default_estimator(X: Inputs, *, regression: bool) -> Any:
    """Make a linear model on standardised features; of words, on rows of length one."""
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler

    model = Ridge() if regression else LogisticRegression(max_iter=1000)
    is_table = getattr(X, "ndim", None) == 2
    if is_table and holds_words(X):
        return make_pipeline(Normalizer(), model)
    # the model has an intercept, for which it does not count where the center lies
    return make_pipeline(StandardScaler(with_mean=not issparse(X)), model)
