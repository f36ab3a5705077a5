"""Methods that need validation rows and get none: two folds of the rows validate each other."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from skinfluence._held_out import swapped_scores
from skinfluence._net_arrays import select_rows
from skinfluence._random import draw_seeds
from skinfluence._validation import (
    check_inputs,
    check_targets,
    is_table_or_images,
    n_samples_of,
)


def fit_halves(method: Any, X: Any, y: Any) -> Any:
    """Fit a method by its `validation` rule: one clone a fold, scores merged as quantiles.

    Parameters
    ----------
    method : BaseDetrimentality
        Gets `detrimentality_`, `ranking_`, what the clone of the first fold has, and `_halves`, a
        list of (row numbers, fitted clone).
    X, y : what the user gave

    Returns
    -------
    BaseDetrimentality
        The method.

    Raises
    ------
    ValueError
        If the net is frozen: it was trained on all rows, none of which can validate it.
    """
    if isinstance(method.net, FrozenEstimator):
        raise ValueError(
            f"{type(method).__name__} got a frozen net and no X_val. Rows the net was trained on "
            "cannot validate it: call fit(X, y, X_val=..., y_val=...), or pass the net unfrozen."
        )
    X = check_inputs(method, X, reset=True)
    n_samples = n_samples_of(X)
    # a data set may hold its targets itself
    targets = None if y is None and not is_table_or_images(X) else check_targets(y, n_samples)
    seed, *seeds = draw_seeds(method.random_state, 3)
    halves: list[tuple[NDArray[np.intp], Any]] = []

    def score(train: NDArray[np.intp], held: NDArray[np.intp]) -> NDArray[Any]:
        half = clone(method).set_params(random_state=seeds[len(halves)])
        half.fit(
            select_rows(X, train),
            select_rows(targets, train),
            select_rows(X, held),
            select_rows(targets, held),
        )
        halves.append((train, half))
        scores: NDArray[Any] = half.detrimentality_
        return scores

    strata = _strata(targets, n_samples)
    scores = swapped_scores(score, strata, validation=method.validation, seed=seed)
    own = {"n_features_in_", "feature_names_in_"}
    for name, value in vars(halves[0][1]).items():
        if (name.endswith("_") and name not in own) or name in {"_trained", "_seeds"}:
            setattr(method, name, value)
    method._halves = halves
    method.detrimentality_ = scores
    method.ranking_ = np.argsort(-scores, kind="stable")
    return method


def join_halves(method: Any, X: Any, y: Any) -> NDArray[np.float64] | None:
    """Put the influences of both halves side by side, in the order of the training rows.

    Parameters
    ----------
    method : BaseDetrimentality
        With ``influence(X, y)``.
    X, y : the query rows

    Returns
    -------
    ndarray of shape (n_query, n_samples), or None
        None for a method that was given validation rows.
    """
    halves = getattr(method, "_halves", None)
    if halves is None:
        return None
    n_samples = sum(len(rows) for rows, _ in halves)
    parts = [(rows, half.influence(X, y)) for rows, half in halves]
    joined = np.empty((len(parts[0][1]), n_samples))
    for rows, part in parts:
        joined[:, rows] = part
    return joined


def _strata(targets: NDArray[Any] | None, n_samples: int) -> NDArray[Any]:
    """Give classes for labels, and one class for all rows for numbers."""
    if targets is None or targets.ndim > 1 or targets.dtype.kind == "f":
        return np.zeros(n_samples)
    return targets
