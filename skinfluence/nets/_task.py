"""Whether targets are classes or numbers: what is said of it, before what values look like."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_regressor
from sklearn.frozen import FrozenEstimator

from skinfluence.exceptions import ManyClassesWarning
from skinfluence.gradients._skorch import is_net, kind_of
from skinfluence.rows._parameters import check_choice
from skinfluence.rows._rows import Rows
from skinfluence.rows._targets import is_regression_target

_TASKS = ("classification", "regression")
# Fewer rows than this show nothing.
_ENOUGH_ROWS = 10


def rows_as_told(estimator: Any, rows: Rows) -> Rows:
    """Take targets as what an estimator's `task` says they are; warn where classes are doubtful."""
    task = getattr(estimator, "task", None)
    check_choice("task", task, (None, *_TASKS))
    given = (getattr(estimator, name, None) for name in ("estimator", "net"))
    model = next((each for each in given if each is not None), None)  # an ensemble has a length
    known = task_of(model)
    if task is None:
        if (
            model is None
            and hasattr(estimator, "task")
            and not getattr(estimator, "_is_fold", False)
        ):
            _warn_of_many_classes(rows)
        return rows
    if known is not None and known != task:
        raise ValueError(
            f"Got task={task!r} and a {type(_thawed(model)).__name__}, which is for {known}. Leave "
            "task out, or give a model of the other kind."
        )
    return replace(rows, is_numeric=task == "regression")


def task_of(model: object) -> str | None:
    """Say what a net or an estimator is for; None if it does not tell."""
    model = _thawed(model)
    if is_net(model):
        kinds = {"classes": _TASKS[0], "binary": _TASKS[0], "regression": _TASKS[1]}
        return kinds.get(kind_of(model))
    if model is None or isinstance(model, type) or not hasattr(model, "fit"):
        return None
    if is_classifier(model):
        return _TASKS[0]
    return _TASKS[1] if is_regressor(model) else None


def _thawed(model: object) -> object:
    return model.estimator if isinstance(model, FrozenEstimator) else model


def _warn_of_many_classes(rows: Rows) -> None:
    if not rows.has_classes or len(rows) < _ENOUGH_ROWS:
        return
    targets = rows.known_targets()
    if is_regression_target(targets):  # whoever said that these are classes knows
        return
    n_classes = len(np.unique(targets.astype(str)))
    if n_classes <= len(rows) / 2:
        return
    warnings.warn(
        f"y is taken for labels, of which there are {n_classes} in {len(rows)} rows: nearly every "
        "row has a class of its own, and little can be said about it. If these are numbers, such "
        "as whole prices, set task='regression'; task='classification' silences this.",
        ManyClassesWarning,
        stacklevel=2,
    )
