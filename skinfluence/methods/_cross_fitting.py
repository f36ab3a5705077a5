"""Scores of every row by what was not fitted on it, or by rows that were not its own."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.parallel import delayed

from skinfluence.gradients._skorch import is_net, kind_of
from skinfluence.methods._out_of_sample import keep_held_out, predicted_by
from skinfluence.methods._parts import fit_part, scores_by
from skinfluence.nets._portable import Portable
from skinfluence.rows._folds import (
    Fold,
    check_has_all_classes,
    folds_of,
    halves_of,
    have_no_scale,
    place_among,
    quantiles,
)
from skinfluence.rows._progress import told_results
from skinfluence.rows._rows import Rows
from skinfluence.trace._callbacks import number_folders

# score(train, held): one score for each of the rows judged, in that order; both row numbers.
Score: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]


def cross_fit(method: Any, rows: Rows, validation: Rows | None) -> NDArray[np.float64]:
    """Fit a clone of a method on the training rows of each fold; score every row once."""
    strata = strata_of(rows, method.net)
    seed, out_of_fold = method._seeds[1], method._cross_validates()
    if out_of_fold:
        split = folds_of(strata, cv=method.cv, seed=seed, groups=rows.fold_groups)
    else:
        split = halves_of(strata, validation=method.validation, seed=seed)
    for train, _ in split:
        check_has_all_classes(strata, train)
    tasks = (
        delayed(_fit_fold)(
            Portable(_unfitted_fold(method, number)),
            rows.part(train),
            rows.part(held),
            validation,
            out_of_fold,
        )
        for number, (train, held) in enumerate(split)
    )
    # one after the other, but where joblib is told otherwise
    found = [part.value for part in told_results("folds", tasks, len(split))]
    method.folds_ = [fold for fold, _, _ in found]
    method._fold_rows = [train for train, _ in split]
    method._fold_scores = [np.sort(scores) for _, scores, _ in found]
    each = [scores for _, scores, _ in found]
    if out_of_fold:
        scores = _by_place(split, each, len(strata))
        every = np.sort(np.concatenate(method._fold_scores))
        method._fold_scores = [every if have_no_scale(s) else s for s in method._fold_scores]
    else:
        scores = _by_quantile(split, each, len(strata))
    predicted = [(held, values) for (_, held), (_, _, values) in zip(split, found, strict=True)]
    first = method.folds_[0]
    method._trained = first._trained
    method.net_ = [fold.net_ for fold in method.folds_]
    if hasattr(first, "trace_"):
        method.trace_ = [fold.trace_ for fold in method.folds_]
    if hasattr(first, "classes_"):
        method.classes_ = first.classes_
    keep_held_out(method, predicted)
    return scores


def _fit_fold(
    unfitted: Portable, training: Rows, judged: Rows, validation: Rows | None, out_of_fold: bool
) -> Portable:
    """Fit a clone on one part of the rows; it, its scores, and its predictions of the other."""
    fold = unfitted.value
    fit_part(fold, training, validation if out_of_fold else judged)
    fold._is_fold = False
    scores: np.ndarray = scores_by(fold, judged) if out_of_fold else fold.detrimentality_
    return Portable((fold, scores, predicted_by(fold, judged)))


def _unfitted_fold(method: Any, number: int) -> Any:
    fold = clone(method).set_params(random_state=method._seeds[0])
    if method._cross_validates():
        fold.set_params(cv=None)
    fold.set_params(**method._fold_parameters(number))
    number_folders(fold.net, number)
    fold._is_fold = True
    return fold


def strata_of(rows: Rows, net: Any) -> np.ndarray:
    """Say which rows are alike where they are split: labels for a classifier, else all of them."""
    if rows.targets is None:
        raise ValueError(
            "Got y=None, but splitting the rows into folds needs the targets as y. Pass them "
            "besides the data set, or give X_val and y_val and leave cv=None."
        )
    classifies = kind_of(net) in {"classes", "binary"} if is_net(net) else not rows.is_numeric
    return rows.strata(classifies)


def swapped_scores(
    score: Score, strata: np.ndarray, *, validation: str | float = "cross", seed: int
) -> NDArray[np.float64]:
    """Score two parts of the rows, each with the other as validation rows, by fold quantiles."""
    split = halves_of(strata, validation=validation, seed=seed)
    return _by_quantile(split, [score(*parts) for parts in split], len(strata))


def _by_quantile(split: list[Fold], scores: list[np.ndarray], n_rows: int) -> NDArray[np.float64]:
    merged = np.empty(n_rows)
    for (train, _), found in zip(split, scores, strict=True):
        # quantiles, because the scores of two trainings differ in their units
        merged[train] = quantiles(_checked(found, len(train)))
    return merged


def out_of_fold_scores(
    score: Score,
    strata: np.ndarray,
    *,
    cv: object,
    seed: int,
    groups: NDArray[np.intp] | None = None,
) -> NDArray[np.float64]:
    """Score each fold of the rows by what was fitted on the other folds, by fold quantiles."""
    split = folds_of(strata, cv=cv, seed=seed, groups=groups)
    return _by_place(split, [score(*parts) for parts in split], len(strata))


def _by_place(split: list[Fold], scores: list[np.ndarray], n_rows: int) -> NDArray[np.float64]:
    raw, merged, few = np.empty(n_rows), np.empty(n_rows), []
    for (_, held), found in zip(split, scores, strict=True):
        raw[held] = _checked(found, len(held))
        merged[held] = quantiles(raw[held])
        if have_no_scale(raw[held]):
            few.append(held)
    for held in few:  # their places among all rows do say something
        merged[held] = place_among(raw[held], np.sort(raw))
    return merged


def _checked(scores: np.ndarray, n_rows: int) -> np.ndarray:
    scores = np.asarray(scores)
    if scores.shape != (n_rows,) or not np.isfinite(scores).all():
        raise ValueError(
            f"Expected {n_rows} finite scores of one fold, got shape {scores.shape} with "
            f"{int((~np.isfinite(scores)).sum())} not finite."
        )
    return scores
