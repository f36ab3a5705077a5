"""What a fitted method says of its training rows: which go, which labels change."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from skinfluence.nets._predictions import class_probabilities
from skinfluence.rows._containers import (
    check_inputs,
    select,
    with_labels,
)
from skinfluence.rows._targets import class_numbers
from skinfluence.rows._worst_rows import spare_classes, worst_rows

# train(rows, y): a model with `predict`, trained on some rows, whose targets are `y`.
Train: TypeAlias = Callable[[NDArray[np.intp], Any], Any]


class Cleaned(NamedTuple):
    """The outcome of cleaning.

    Attributes
    ----------
    kept, removed, relabelled : ndarray of int
        Row numbers: `kept` and `relabelled` ascend, `removed` has the most detrimental first.
    y : array-like
        Targets of all rows, in the container given, with the new labels.
    """

    kept: NDArray[np.intp]
    removed: NDArray[np.intp]
    relabelled: NDArray[np.intp]
    y: Any


def clean_rows(
    method: Any,
    X: Any,
    y: Any,
    amount: float | str,
    train: Train | None = None,
    *,
    classifies: bool,
    action: str = "remove",
    per_class: bool = False,
    keep_minimum: int = 1,
) -> Cleaned:
    """Remove or relabel the most detrimental rows.

    Parameters
    ----------
    method : BaseDetrimentality
        Fitted on `X` and `y`.
    X, y : what the method was fitted on
    amount : "disagreement", float or int
    train : callable, optional
        To relabel with.
    classifies : bool
        Whether targets are classes, one a row.
    action, per_class, keep_minimum
        As for `DetrimentalSampleCleaner`.

    Returns
    -------
    Cleaned

    Raises
    ------
    ValueError
        If that many rows cannot go, the method does not say which labels it predicts, or numbers
        are to be relabelled.
    """
    given = np.asarray(y)
    given = given.reshape(len(given), -1)[:, 0]
    groups = class_numbers(given, classifies=classifies)
    if isinstance(amount, str):
        predicted = trajectory_labels(method, X)
        rows = method.ranking_[predicted[method.ranking_] != given[method.ranking_]]
        rows = spare_classes(rows, groups, keep_minimum)
    else:
        rows = worst_rows(
            method.ranking_,
            groups,
            amount,
            per_class=per_class,
            keep_minimum=keep_minimum,
            names=np.unique(given) if classifies else None,
        )
    everything = np.arange(len(given))
    trusted = np.setdiff1d(everything, rows)
    if action == "remove":
        return Cleaned(trusted, rows, everything[:0], y)
    assert train is not None
    if not classifies:
        raise ValueError(
            "action='relabel' gives rows the class that a model predicts, but these targets are "
            "numbers or several labels a row. Set action='remove'."
        )
    if not len(rows):
        return Cleaned(everything, rows, rows, y)
    # a model that never saw the labels in doubt: one trained on them repeats them
    labels = np.asarray(train(trusted, select(y, trusted)).predict(select(X, rows))).reshape(-1)
    differs = labels != given[rows]
    order = np.argsort(rows[differs])
    changed, labels = rows[differs][order], labels[differs][order]
    return Cleaned(everything, everything[:0], changed, with_labels(y, changed, labels))


def trajectory_labels(method: Any, X: Any) -> NDArray[Any]:
    """Predict labels by the mean class probabilities over the recorded training.

    Parameters
    ----------
    method : BaseDetrimentality
        Fitted, with a classifier as `net_` and its trace.
    X : what it was fitted on

    Returns
    -------
    ndarray of shape (n_samples,)
        Labels as the user names them.

    Raises
    ------
    ValueError
        If the method has no single trained classifier, or no checkpoints of its training.
    """
    name = type(method).__name__
    if hasattr(method, "methods_"):
        raise ValueError(
            f"contamination='disagreement' compares the labels that a method's net predicts, but "
            f"{name} has {len(method.methods_)} methods. Pass one of them, or choose another "
            "contamination."
        )
    trained = getattr(method, "_trained", None)
    if trained is None or isinstance(method.net_, list) or trained.labels is None:
        raise ValueError(
            f"contamination='disagreement' compares the labels that {name} predicts, but it has "
            "no single trained classifier: it trains none, a regression, or one a fold. Use a "
            "method with a classifier and cv=None, or another contamination."
        )
    trace = getattr(method, "trace_", None)
    if trace is None or len(trace.checkpoints) < 2:
        raise ValueError(
            f"contamination='disagreement' needs predictions along the training, because a trained "
            f"net may know wrong labels by heart, but {name} records no checkpoints as it is set. "
            "Set its checkpoints to 10, or use another contamination."
        )
    mean = class_probabilities(method, check_inputs(method, X, reset=False))
    known = np.sort(trained.labels.codes)  # the net may have outputs that no label belongs to
    return np.asarray(trained.labels.decode(known[mean[:, known].argmax(1)]))
