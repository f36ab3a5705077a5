"""What a fitted method says of its training rows: which go, which labels change."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skinfluence.methods._suspects import flagged_by
from skinfluence.nets._models import Translator
from skinfluence.rows._containers import Inputs, select, with_labels
from skinfluence.rows._pipelines import final_step
from skinfluence.rows._rows import Rows
from skinfluence.rows._seeds import preserved_random_state
from skinfluence.rows._targets import check_targets, classes_and_codes
from skinfluence.rows._worst_rows import spare_classes, worst_rows


class Model(Protocol):
    """What is trained on rows."""

    def predict(self, X: Any) -> ArrayLike: ...


class Data(NamedTuple):
    """Training rows in the containers given, for models, and parsed, for methods."""

    X: Any
    y: Any
    rows: Rows
    translator: Translator | None  # for a model that is or holds a net

    def part(self, rows: NDArray[np.intp]) -> "Data":
        """Take some rows."""
        part = select(self.X, rows), select(self.y, rows), self.rows.part(rows)
        return Data(*part, self.translator)

    def train(self, fit: Callable[[Any, Any], Any], rows: NDArray[np.intp], targets: Any) -> Any:
        """Train a model, by ``fit(X, y)``, on some rows and targets of theirs."""
        X = select(self.X, rows)
        if self.translator is None:
            return fit(X, _numbers_of_objects(targets))
        return self.translator.train(fit, X, select(self.rows.inputs, rows), targets)


def _numbers_of_objects(targets: Any) -> Any:
    """Give numbers that are stored as objects, of which other models know nothing, as numbers."""
    if getattr(getattr(targets, "dtype", None), "kind", "") != "O":
        return targets
    numbers = check_targets(targets, len(targets))
    return targets if numbers.dtype.kind == "O" else numbers


class TrainedModel(NamedTuple):
    """A trained model that predicts what the user gave."""

    model: Any
    translator: Translator | None

    def predict(self, X: Any) -> Any:
        """Predict labels as the user names them, or numbers."""
        if self.translator is None:
            return self.model.predict(X)
        return self.translator.predict(self.model, X)

    def predict_proba(self, X: Any) -> Any:
        """Predict class probabilities, in the order of the labels."""
        if self.translator is None:
            return self.model.predict_proba(X)
        return self.translator.predict_proba(self.model, X)


# train(rows, y): a model trained on some of the rows, whose targets are `y`.
Train: TypeAlias = Callable[[NDArray[np.intp], Any], Model]


class Rules(NamedTuple):
    """How rows are taken; see `DetrimentalSampleCleaner`."""

    classifies: bool  # whether targets are classes, one a row
    action: str
    per_class: bool
    keep_minimum: int


class Cleaned(NamedTuple):
    """The outcome of cleaning: row numbers, and the targets of all rows with the new labels."""

    kept: NDArray[np.intp]  # ascending
    removed: NDArray[np.intp]  # the most detrimental first
    relabelled: NDArray[np.intp]  # ascending
    y: Any  # in the container given


def clean_rows(method: Any, data: Data, amount: Any, train: Train, rules: Rules) -> Cleaned:
    """Remove or relabel the most detrimental rows, by a method that was fitted on them."""
    labels = data.rows.strata(rules.classifies)
    names, groups = classes_and_codes(labels)
    fitted, method = method, final_step(method)
    if isinstance(amount, tuple):
        instead = "Give contamination as an amount, or as 'auto'."
        rows = flagged_by(method, amount[1], instead=instead)
        rows = spare_classes(rows, groups, rules.keep_minimum)
    elif isinstance(amount, str):
        predicted = trajectory_labels(method, data.rows.seen_by(fitted).inputs)
        rows = method.ranking_[predicted[method.ranking_] != labels[method.ranking_]]
        rows = spare_classes(rows, groups, rules.keep_minimum)
    else:
        rows = worst_rows(
            method.ranking_,
            groups,
            amount,
            per_class=rules.per_class,
            keep_minimum=rules.keep_minimum,
            names=names if rules.classifies else None,
        )
    everything = np.arange(len(groups))
    trusted = np.setdiff1d(everything, rows)
    if rules.action == "remove":
        return Cleaned(trusted, rows, everything[:0], data.y)
    if not rules.classifies:
        raise ValueError(
            "action='relabel' gives rows the class that a model predicts, but these targets are "
            "numbers or several labels a row. Set action='remove'."
        )
    if not len(rows):
        return Cleaned(everything, rows, rows, data.y)
    # a model that never saw the labels in doubt: one trained on them repeats them
    model = train(trusted, select(data.y, trusted))
    with preserved_random_state():  # a net's loader draws when it predicts
        new = np.asarray(model.predict(select(data.X, rows))).reshape(-1)
    differs = new != labels[rows]
    order = np.argsort(rows[differs])
    changed, new = rows[differs][order], new[differs][order]
    return Cleaned(everything, everything[:0], changed, with_labels(data.y, changed, new))


def trajectory_labels(method: Any, inputs: Inputs) -> np.ndarray:
    """Predict the user's labels by the mean class probabilities over the recorded training."""
    name = type(method).__name__
    if hasattr(method, "methods_"):
        raise ValueError(
            f"contamination='disagreement' compares the labels that a method's net predicts, but "
            f"{name} has {len(method.methods_)} methods. Pass one of them, or choose another "
            "contamination."
        )
    trained = getattr(method, "_trained", None)
    judges = getattr(trained, "judged_labels", None)
    if judges is not None and trained is not None and trained.labels is not None:
        found: np.ndarray = judges()
        return found
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
    mean = trained.class_probabilities(inputs, trace)
    known = np.sort(trained.labels.codes)  # the net may have outputs that no label belongs to
    labels: np.ndarray = trained.labels.decode(known[mean[:, known].argmax(1)])
    return labels
