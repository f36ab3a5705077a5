"""What a fitted method says of its training rows: which go, which labels change."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from skinfluence._amounts import spare_classes, worst_rows
from skinfluence._net_arrays import predict, predict_codes
from skinfluence._validation import check_inputs, is_table_or_images, n_samples_of, take
from skinfluence.gradients._outputs import check_has_classes, class_scores, mean_over_states

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


def class_numbers(y: NDArray[Any], *, classifies: bool) -> NDArray[np.intp]:
    """Give every row the number of its class; a regression is one class."""
    if not classifies:
        return np.zeros(len(y), dtype=np.intp)
    return np.unique(y, return_inverse=True)[1].reshape(-1)


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


def class_probabilities(method: Any, inputs: Any) -> NDArray[np.float64]:
    """Predict class probabilities by a fitted method's net, on the mean over its checkpoints.

    Parameters
    ----------
    method : BaseDetrimentality
        Fitted, with one classifier as `net_`; without a trace, the net as it is counts.
    inputs : ndarray, dict of arrays, or torch data set
        Checked.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
        Columns in the order of the net's codes.
    """
    trained, trace = method._trained, getattr(method, "trace_", None)
    check_has_classes(trained.net)
    stand_in = None  # a data set holds its targets; the forward pass does not look at them
    if is_table_or_images(inputs) or isinstance(inputs, Mapping):
        stand_in = np.full(n_samples_of(inputs), trained.labels.classes[0])
    rows = trained.rows(inputs, stand_in)
    states: list[Any] = [None] if trace is None else [c.state for c in trace.checkpoints]

    def read(net_loss: Any, Xi: Any, yi: Any) -> NDArray[np.float64]:
        return np.asarray(softmax(class_scores(trained.net, net_loss.forward(Xi)), axis=1))

    return mean_over_states(trained.net, rows.inputs, rows.targets, states, read, batch_size=256)


def net_predictions(trained: Any, X: Any) -> NDArray[Any]:
    """Predict labels as the user names them, or numbers."""
    inputs = trained.inputs(X)
    if trained.labels is None:
        return predict(trained.net, inputs)
    codes = predict_codes(trained.net, inputs, trained.labels.codes)
    return np.asarray(trained.labels.decode(codes))


def select(X: Any, rows: NDArray[np.intp]) -> Any:
    """Take rows of any container, as a container of the same kind.

    Parameters
    ----------
    X : data frame, series, array, list, tuple, mapping of arrays, or torch data set
    rows : ndarray of int

    Returns
    -------
    object
    """
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    if isinstance(X, list | tuple):
        return type(X)([X[i] for i in rows])
    if is_table_or_images(X):
        return (X if hasattr(X, "__getitem__") else np.asarray(X))[rows]
    return take(X, rows)


def with_labels(y: Any, rows: NDArray[np.intp], labels: NDArray[Any]) -> Any:
    """Copy targets with new labels in some rows."""
    if isinstance(y, list | tuple):
        changed = list(y)
        for i, label in zip(rows.tolist(), labels.tolist(), strict=True):
            old = changed[i]
            changed[i] = type(old)([label]) if isinstance(old, list | tuple) else label
        return type(y)(changed)
    if hasattr(y, "new_tensor"):  # torch's
        labels, y = y.new_tensor(labels.tolist()), y.clone()
        y[rows] = labels.reshape(y[rows].shape)
        return y
    y = y.copy() if hasattr(y, "copy") else np.array(y)
    place = y.iloc if hasattr(y, "iloc") else y
    if y.ndim == 2:
        labels = labels[:, np.newaxis]
    place[rows] = labels
    return y
