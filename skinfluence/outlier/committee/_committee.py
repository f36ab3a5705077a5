"""A committee: members that judge rows out of sample, and one prediction of all of them."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_regressor
from sklearn.frozen import FrozenEstimator
from sklearn.utils.parallel import delayed
from threadpoolctl import threadpool_limits

from skinfluence.gradients._skorch import is_net, kind_of
from skinfluence.methods._label_errors import (
    LabelErrors,
    estimate_label_errors,
    estimate_target_errors,
)
from skinfluence.methods._pool import (
    MEDIAN_OF_NORMAL,
    error_vectors,
    fit_pool,
    spread_of,
)
from skinfluence.methods._transitions import likeliest
from skinfluence.nets._labels import Labels, class_labels
from skinfluence.nets._portable import Portable
from skinfluence.outlier.committee._inputs import InputViews, Seen
from skinfluence.outlier.committee._members import (
    Forest,
    HalfNets,
    Kernels,
    Member,
    Neighbors,
    OutOfFold,
    Perceptrons,
    Targets,
    boosted,
    boosts_cheaply,
)
from skinfluence.rows._progress import told_results
from skinfluence.rows._rows import ModelRows, Rows
from skinfluence.rows._targets import check_class_labels, one_label_a_row
from skinfluence.rows._threads import one_thread
from skinfluence.trace._training_trace import TrainingTrace

_EXPECTED = (
    "Got committee={!r}, but expected 'auto', None or a list of 'perceptrons', 'forest', "
    "'neighbors', 'kernels', 'boosted' and (name, estimator)."
)
ALWAYS = ("perceptrons", "forest", "neighbors", "kernels")
BUILT_IN = (*ALWAYS, "boosted")
# What parts of members are called.
_RESERVED = ("kernel 0.25", "kernel 1", "kernel 4", "linear", "nets")
_WITH_NETS = (Perceptrons, HalfNets)
# Targets further from their median, in units of their spread, are moved so near for training.
_FARTHEST = 10.0


class Committee:
    """Trained members and their weights; also what a trained net is to other methods."""

    # The names that it has in common with `TrainedNet` mean the same.
    can_predict_targets = True
    key: str | None = None

    def __init__(
        self,
        members: str | Sequence[str | tuple[str, Any]],
        rows: Rows,
        *,
        checkpoints: int | str,
        n_neighbors: int | None,
        seed: int,
    ) -> None:
        assert rows.targets is not None
        self.labels: Labels | None = None
        kind = "numbers"
        if not rows.is_numeric:
            kind = "classes" if one_label_a_row(rows.targets) else "labels"
        if kind == "classes":
            self.labels = class_labels(rows.targets)
        self._shape = rows.targets.shape[1:]
        # rows without weight have no say in units and transitions either
        counting = slice(None) if rows.weights is None else rows.weights > 0
        self._learn_unit(rows.targets[counting], kind)
        weights = rows.training_weights
        targets = Targets(self.encoded(rows.targets), kind, weights)
        X: Any = rows.inputs
        settings: Any = {"checkpoints": checkpoints, "n_neighbors": n_neighbors, "seed": seed}
        self._members = _made(members, X, targets, **settings)
        _check_fit_targets(self._members, kind)
        with one_thread():
            self._views = InputViews(X, seed)
            seen = Seen(X, self._views)
        # one number far off must not decide what all others are held against
        bounded = targets if kind != "numbers" else Targets(_bounded(targets.values), kind, weights)
        # one after the other, but where joblib is told otherwise
        tasks = (delayed(_fit_member)(Portable(each), seen, bounded) for each in self._members)
        found = told_results("members of the committee", tasks, len(self._members))
        fitted = [part.value for part in found]
        self._members, outputs = map(list, zip(*fitted, strict=True))
        with one_thread():
            self._pool, self.transitions = fit_pool(
                np.concatenate(outputs), targets.values, kind, weights
            )
            judging = [m.judge(found) for m, found in zip(self._members, outputs, strict=True)]
            self.out_of_sample = self._pool.predict(np.concatenate(outputs))
            self.judged = self.out_of_sample
            saw_rows = [one is not other for one, other in zip(judging, outputs, strict=True)]
            if any(saw_rows):  # images: the net on all rows
                self.judged = self._pool.predict(np.concatenate(judging))
            if any(saw_rows) and kind == "classes":
                # halves tell the least that it deserves, and the most is all: the mean of both
                parts = [
                    np.concatenate(list(compress(each, saw_rows))) for each in (outputs, judging)
                ]
                alone, _ = fit_pool(parts[0], targets.values, kind, weights)
                self.judged = (self.judged + alone.predict(parts[1])) / 2
        self._spread = np.ones(self.judged.shape[1])
        if kind == "numbers":
            self._spread = spread_of((self.judged - targets.values)[counting])
        self.kind = kind
        self._codes = targets.values

    @property
    def predicts_numbers(self) -> bool:
        """Whether it predicts numeric targets."""
        return self.kind == "numbers"

    @property
    def has_probabilities(self) -> bool:
        """Whether it predicts probabilities, of classes or of several labels."""
        return self.kind != "numbers"

    @property
    def is_out_of_sample(self) -> bool:
        """Whether training rows are judged only by what was not trained on them."""
        return self.judged is self.out_of_sample

    @property
    def weights(self) -> dict[str, float]:
        """Weights of the members, relative to the largest."""
        names = [name for member in self._members for name in member.names]
        weights = self._pool.weights / max(self._pool.weights.max(), np.finfo(float).tiny)
        return dict(zip(names, weights.tolist(), strict=True))

    @property
    def net(self) -> Any:
        """The perceptrons' net, or of images the nets of both halves; None without them."""
        found = [member.trained for member in self._members if isinstance(member, _WITH_NETS)]
        if not found:
            return None
        return [t.net for t in found[0]] if isinstance(found[0], list) else found[0].net

    @property
    def trace(self) -> TrainingTrace | list[TrainingTrace | None] | None:
        """What was recorded of the training of `net`."""
        found = [member.trained for member in self._members if isinstance(member, _WITH_NETS)]
        if not found:
            return None
        return [t.trace for t in found[0]] if isinstance(found[0], list) else found[0].trace

    def training_errors(self) -> NDArray[np.float64]:
        """Give the gradients of the training rows, each by what was not trained on the row."""
        return self._errors(self.judged, self._codes)

    def errors(self, rows: ModelRows) -> NDArray[np.float64]:
        """Give the gradients of other rows at their coded targets."""
        return self._errors(self.pooled(rows.inputs), rows.targets)

    def pooled(self, inputs: Any) -> NDArray[np.float64]:
        """Predict other rows by all members: probabilities, or numbers in units of their spread."""
        with one_thread():
            seen = Seen(inputs, self._views)
        outputs = []
        for member in self._members:
            with _threads_of(member):
                outputs.append(member.predict(seen))
        return self._pool.predict(np.concatenate(outputs))

    def encoded(self, targets: np.ndarray) -> np.ndarray:
        """Turn targets as the user gives them into codes, or numbers in columns."""
        if self.labels is not None:
            return self.labels.encode(check_class_labels(targets)).reshape(-1)
        columns = targets.reshape(len(targets), -1).astype(np.float64)
        return np.asarray((columns - self._center) / self._scale)

    def coded(self, rows: Rows) -> ModelRows:
        """Put rows with given targets as `errors` takes them."""
        return ModelRows(rows.inputs, self.encoded(rows.known_targets()))

    def predicted_rows(self, inputs: Any) -> ModelRows:
        """Put rows as `errors` takes them, with predicted targets for given ones."""
        predicted = self.pooled(inputs)
        if self.kind == "classes":
            return ModelRows(inputs, predicted.argmax(1))
        if self.kind == "labels":
            return ModelRows(inputs, (predicted > 0.5).astype(np.float64))
        # at the prediction, the residual is zero
        return ModelRows(inputs, predicted - self._spread)

    def predict(self, inputs: Any) -> np.ndarray:
        """Predict labels as the user names them, or numbers."""
        predicted = self.pooled(inputs)
        if self.labels is not None:
            return self.labels.decode(predicted.argmax(1))
        if self.kind == "labels":
            return (predicted > 0.5).astype(np.int64)
        return self._numbers(predicted)

    def predictions_out_of_sample(self) -> np.ndarray:
        """Predict the training rows without them: probabilities, or numbers as the user has."""
        return self._numbers(self.out_of_sample) if self.kind == "numbers" else self.out_of_sample

    def along_training(
        self, inputs: Any, some: NDArray[np.intp]
    ) -> tuple[list[int], NDArray[np.float64]]:
        """Predict training rows with these numbers by nets that did not see them, after epochs."""
        nets = [member for member in self._members if isinstance(member, _WITH_NETS)]
        with one_thread():
            return nets[0].along_training(Seen(inputs, self._views), some)

    def judged_labels(self) -> np.ndarray:
        """Predict each training row's label by what judges it."""
        assert self.labels is not None
        return self.labels.decode(likeliest(self.judged, self._codes))

    def label_errors(self) -> LabelErrors:
        """Estimate which targets of the training rows are wrong, by what judges them."""
        if self.kind == "classes" and self.out_of_sample.shape[1] > 1:
            return estimate_label_errors(self.out_of_sample, self._codes)
        if self.kind != "numbers" or self._codes.shape[1] != 1:
            raise AttributeError(
                "label_errors_ are those of one class of several, or of one number, a row, but "
                "these rows have one class, or several labels or numbers. Fit one column alone."
            )
        return estimate_target_errors(self.out_of_sample[:, 0], self._codes[:, 0])

    def class_probabilities(self, inputs: Any, trace: object = None) -> NDArray[np.float64]:
        """Predict class probabilities of rows not trained on, in the order of the labels."""
        return self.pooled(inputs)

    def _numbers(self, predicted: np.ndarray) -> np.ndarray:
        return np.asarray((self._center + self._scale * predicted).reshape(-1, *self._shape))

    def _errors(self, predicted: np.ndarray, targets: np.ndarray) -> NDArray[np.float64]:
        return error_vectors(predicted, targets, self.kind, self.transitions, self._spread)

    def _learn_unit(self, targets: np.ndarray, kind: str) -> None:
        self._center, self._scale = np.zeros(1), np.ones(1)
        if kind == "numbers":
            columns = targets.reshape(len(targets), -1).astype(np.float64)
            self._center = np.median(columns, axis=0)
            spread = np.median(np.abs(columns - self._center), axis=0) / MEDIAN_OF_NORMAL
            spread = np.where(spread > 0, spread, columns.std(0))
            self._scale = np.where(spread > 0, spread, 1.0)


def check_members(members: object) -> None:
    """Refuse what names no member, or holds a model that does not predict."""
    if not isinstance(members, list | tuple) or not members:
        raise TypeError(_EXPECTED.format(members))
    names = []
    for entry in members:
        if isinstance(entry, str):
            if entry not in BUILT_IN:
                raise ValueError(_EXPECTED.format(members))
            names.append(entry)
            continue
        pair = isinstance(entry, list | tuple) and len(entry) == 2 and isinstance(entry[0], str)
        if not pair:
            raise TypeError(_EXPECTED.format(members))
        name, model = entry
        names.append(name)
        predicts = hasattr(model, "predict_proba") or is_regressor(model)
        is_fitted = isinstance(model, FrozenEstimator)
        if isinstance(model, type) or is_fitted or not hasattr(model, "fit") or not predicts:
            raise TypeError(
                f"Got {name}={model!r} in committee, but expected an instance of a scikit-learn "
                "classifier with predict_proba, of a regressor, or a skorch net of these kinds. It "
                "is trained five times without a fifth of the rows, so it may not be frozen."
            )
    if len({*names, *_RESERVED}) < len(names) + len(_RESERVED):
        raise ValueError(
            f"Got committee with the names {names}, but expected distinct ones, and none of "
            f"{list(_RESERVED)}."
        )


def _made(
    members: str | Sequence[str | tuple[str, Any]],
    X: Any,
    targets: Targets,
    *,
    checkpoints: int | str,
    n_neighbors: int | None,
    seed: int,
) -> list[Member]:
    """Make the members of these names; images get nets of their own in place of perceptrons."""
    nets = HalfNets if X.ndim == 4 else Perceptrons
    makers: dict[str, Callable[[], Member]] = {
        "perceptrons": lambda: nets(checkpoints, seed),
        "forest": lambda: Forest(seed),
        "kernels": lambda: Kernels(seed),
        "boosted": lambda: boosted(X, targets, checkpoints, seed),
    }
    if n_neighbors is not None:
        makers["neighbors"] = lambda: Neighbors(n_neighbors, seed)
    if members == "auto":
        members = BUILT_IN if boosts_cheaply(X, targets) else ALWAYS
    made: list[Member] = []
    for entry in members:
        if not isinstance(entry, str):
            made.append(OutOfFold(*entry, checkpoints, seed))
        elif entry in makers:
            made.append(makers[entry]())
    if not made:
        raise ValueError(
            "Got committee=['neighbors'] and n_neighbors=None, which leaves no member. Set "
            "n_neighbors, or name another member."
        )
    return made


def _threads_of(member: Member) -> AbstractContextManager[Any]:
    """Let members compute on one thread, but for nets, which go by their size, and own models."""
    if isinstance(member, OutOfFold) and member.one_thread:
        limited: AbstractContextManager[Any] = threadpool_limits(1, user_api="openmp")
        return limited
    return nullcontext() if isinstance(member, HalfNets | OutOfFold) else one_thread()


def _fit_member(unfitted: Portable, rows: Seen, targets: Targets) -> Portable:
    """Fit a member, which another process may do; itself, and what it says of the rows."""
    member = unfitted.value
    with _threads_of(member):
        return Portable((member, member.fit(rows, targets)))


def _check_fit_targets(members: list[Member], kind: str) -> None:
    """Refuse models of the other kind than the targets."""
    for member in members:
        if not isinstance(member, OutOfFold):
            continue
        model = member.estimator
        classifies = hasattr(model, "predict_proba")
        if is_net(model):
            classifies = kind_of(model) in {"classes", "binary"}
        if not (classifies if kind == "classes" else is_regressor(model)):
            wanted = "a classifier with predict_proba" if kind == "classes" else "a regressor"
            raise TypeError(
                f"Got {member.names[0]}={model!r} in committee, but y holds {kind}, for which "
                f"{wanted} is needed. Set task= if y is taken for what it is not."
            )


def _bounded(numbers: np.ndarray) -> np.ndarray:
    bounded: np.ndarray = np.clip(numbers, -_FARTHEST, _FARTHEST)
    return bounded
