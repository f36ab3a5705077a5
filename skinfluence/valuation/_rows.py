"""Rows for methods that train no net, or one for its features alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinfluence.gradients._outputs import penultimate_features
from skinfluence.nets._labels import Labels, class_labels
from skinfluence.nets._trained_net import train_net
from skinfluence.rows._containers import check_inputs, is_table_or_images, n_samples_of, take
from skinfluence.rows._folds import swapped_scores
from skinfluence.rows._overlap import check_separate
from skinfluence.rows._parameters import check_choice, check_positive_integer
from skinfluence.rows._rows import Rows
from skinfluence.rows._targets import check_class_labels, check_targets, is_regression_target


def check_features(features: Any, batch_size: Any) -> None:
    """Refuse `features` that are neither raw nor penultimate.

    Parameters
    ----------
    features : {"raw", "penultimate"}
    batch_size : int

    Raises
    ------
    ValueError
        With the value.
    """
    check_choice("features", features, ("raw", "penultimate"))
    check_positive_integer("batch_size", batch_size)


def coded_rows(
    method: Any, X: Any, y: Any, X_val: Any, y_val: Any, *, regression: bool | None = None
) -> tuple[Rows, Rows | None]:
    """Check rows and number their classes.

    Parameters
    ----------
    method : estimator
        Gets `classes_` unless it is a regression, and `n_features_in_` and `feature_names_in_`
        where scikit-learn would set them.
    X, y, X_val, y_val : what the user gave
    regression : bool, optional
        By default floats with a fraction or more than 20 distinct values are a numeric target.

    Returns
    -------
    rows, validation : Rows
        Inputs as given; targets are codes 0, 1, 2, ... or float64. No validation rows: None.

    Raises
    ------
    ValueError
        If rows or targets are unsuited.
    """
    X = check_inputs(method, X, reset=True)
    y = check_targets(y, n_samples_of(X))
    vars(method).pop("classes_", None)  # of an earlier fit
    if regression is None:
        regression = is_regression_target(y)
    labels = None if regression else class_labels(y)
    if labels is not None:
        method.classes_ = labels.classes
    rows = Rows(X, _coded(labels, y))
    if X_val is None:
        return rows, None
    X_val = check_inputs(method, X_val, reset=False)
    check_separate(X, X_val)
    return rows, Rows(X_val, _coded(labels, check_targets(y_val, n_samples_of(X_val))))


def as_given(method: Any, targets: NDArray[Any]) -> NDArray[Any]:
    """Turn codes back into the user's labels; other targets stay as they are.

    Parameters
    ----------
    method : estimator
        As `coded_rows` left it.
    targets : ndarray

    Returns
    -------
    ndarray
    """
    classes = getattr(method, "classes_", None)
    if classes is None:
        return targets
    # scikit-learn takes no labels of dtype object but strings
    return np.asarray(np.array(classes.tolist())[targets])


def feature_map(method: Any, rows: Rows, seed: int) -> Callable[[Any], NDArray[Any]]:
    """Prepare the features in which rows are compared.

    Parameters
    ----------
    method : estimator
        With `net`, `features` and `batch_size`, as `coded_rows` left it. Gets `net_` if there
        is a net.
    rows : Rows
        What a net is trained on, if one is wanted.
    seed : int

    Returns
    -------
    callable
        ``extract(X)`` of shape (n_rows, n_features).
    """
    vars(method).pop("net_", None)  # of an earlier fit
    if method.features == "raw":
        return _flat
    trained = train_net(method.net, rows.inputs, as_given(method, rows.targets), seed)
    method.net_ = trained.net

    def extract(X: Any) -> NDArray[Any]:
        return penultimate_features(trained.net, trained.inputs(X), batch_size=method.batch_size)

    return extract


def score_or_swap(
    score: Callable[[Rows, Rows], NDArray[Any]],
    rows: Rows,
    validation: Rows | None,
    *,
    rule: str | float,
    seed: int,
) -> NDArray[np.float64]:
    """Score rows by validation rows; without any, two folds of the rows by each other.

    Parameters
    ----------
    score : callable
        ``score(rows, validation)`` gives one score a row.
    rows : Rows
    validation : Rows or None
    rule : "cross" or float
        As for `swapped_scores`.
    seed : int

    Returns
    -------
    ndarray of shape (n_samples,)
    """
    if validation is not None:
        return score(rows, validation)

    def of_fold(train: NDArray[np.intp], held: NDArray[np.intp]) -> NDArray[Any]:
        return score(*(Rows(take(rows.inputs, i), rows.targets[i]) for i in (train, held)))

    numeric = rows.targets.dtype.kind == "f"
    strata = np.zeros(len(rows.targets)) if numeric else rows.targets
    return swapped_scores(of_fold, strata, validation=rule, seed=seed)


def _flat(X: Any) -> NDArray[Any]:
    if not is_table_or_images(X):
        raise ValueError(
            f"Got X of type {type(X).__name__}, but features='raw' compares rows of an array. "
            "Pass an array, or a net that takes these inputs with features='penultimate'."
        )
    return np.asarray(X.reshape(len(X), -1))


def _coded(labels: Labels | None, y: NDArray[Any]) -> NDArray[Any]:
    if labels is not None:
        return labels.encode(check_class_labels(y))
    if y.dtype.kind not in "biuf":
        raise ValueError(
            f"Got y of dtype {y.dtype} for a numeric target. Expected numbers: use a classifier "
            "for labels, or convert y."
        )
    return y.astype(np.float64)
