"""Rows for methods that train no net, or one for its features alone."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, issparse

from skinfluence.gradients._outputs import penultimate_features
from skinfluence.methods._cross_fitting import swapped_scores
from skinfluence.nets._arrays import cast_inputs
from skinfluence.nets._labels import Labels, class_labels
from skinfluence.nets._trained_net import train_net
from skinfluence.rows._containers import Inputs, select
from skinfluence.rows._overlap import check_separate
from skinfluence.rows._parameters import check_choice, check_positive_integer
from skinfluence.rows._rows import ModelRows, Rows
from skinfluence.rows._targets import check_class_labels
from skinfluence.rows._weights import Weights, mean_one


def check_features(features: object, batch_size: object) -> None:
    """Refuse `features` that are neither raw nor penultimate."""
    check_choice("features", features, ("raw", "penultimate"))
    check_positive_integer("batch_size", batch_size)


def coded_rows(
    method: Any, rows: Rows, validation: Rows | None
) -> tuple[ModelRows, ModelRows | None]:
    """Turn labels into class numbers, and set `classes_`; numeric targets become float64."""
    labels = None if rows.is_numeric else class_labels(rows.known_targets())
    if labels is not None:
        method.classes_ = labels.classes
    coded = ModelRows(rows.inputs, _coded(labels, rows))
    if validation is None:
        return coded, None
    check_separate(rows.inputs, validation.inputs)
    return coded, ModelRows(validation.inputs, _coded(labels, validation))


def as_given(method: Any, targets: np.ndarray) -> np.ndarray:
    """Turn codes back into the user's labels; other targets stay as they are."""
    classes = getattr(method, "classes_", None)
    if classes is None:
        return targets
    # scikit-learn takes no labels of dtype object but strings
    return np.asarray(np.array(classes.tolist())[targets])


def feature_map(
    method: Any, rows: ModelRows, seed: int, weights: Weights = None
) -> Callable[[Inputs], np.ndarray | csr_matrix]:
    """Prepare the features in which rows are compared, (n_rows, n_features); may set `net_`."""
    if method.features == "raw":
        return _flat
    given = Rows(rows.inputs, as_given(method, rows.targets), not hasattr(method, "classes_"))
    given = replace(given, weights=weights)
    net = train_net(method.net, given, seed).net
    method.net_ = net

    def extract(X: Inputs) -> np.ndarray:
        return penultimate_features(net, cast_inputs(net, X), batch_size=method.batch_size)

    return extract


def score_or_swap(
    score: Callable[[ModelRows, ModelRows, Weights, Weights], NDArray[np.float64]],
    rows: ModelRows,
    validation: ModelRows | None,
    weights: Weights,
    *,
    rule: str | float,
    seed: int,
) -> NDArray[np.float64]:
    """Score rows by validation rows; without any, two folds of the rows by each other."""
    # score(rows, validation, weights of the rows, weights of the validation rows)
    if validation is not None:
        return score(rows, validation, weights, None)

    def of_fold(train: np.ndarray, held: np.ndarray) -> NDArray[np.float64]:
        one, other = (ModelRows(select(rows.inputs, i), rows.targets[i]) for i in (train, held))
        if weights is None:
            return score(one, other, None, None)
        return score(one, other, mean_one(weights[train]), mean_one(weights[held]))

    numeric = rows.targets.dtype.kind == "f"
    strata = np.zeros(len(rows.targets)) if numeric else rows.targets
    return swapped_scores(of_fold, strata, validation=rule, seed=seed)


def _flat(X: Inputs) -> np.ndarray | csr_matrix:
    if issparse(X):
        return X
    if not isinstance(X, np.ndarray):
        raise ValueError(
            f"Got X of type {type(X).__name__}, but features='raw' compares rows of an array. "
            "Pass an array, or a net that takes these inputs with features='penultimate'."
        )
    return X.reshape(len(X), -1)


def _coded(labels: Labels | None, rows: Rows) -> np.ndarray:
    targets = rows.known_targets()
    if labels is not None:
        return labels.encode(check_class_labels(targets))
    return targets.astype(np.float64)
