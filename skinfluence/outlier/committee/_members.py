"""Members of a committee: each predicts training rows by what was not trained on them."""

import warnings
from contextlib import nullcontext
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn import config_context
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.model_selection import KFold
from sklearn.neighbors import NearestNeighbors

from skinfluence.gradients._skorch import is_net
from skinfluence.methods._pool import Pool
from skinfluence.nets._stacked import PerceptronCommittee
from skinfluence.nets._trained_net import TrainedNet, train_net
from skinfluence.nets._weights import weight_parameters
from skinfluence.outlier.committee._inputs import Seen
from skinfluence.outlier.committee._kernels import (
    WIDTHS,
    KernelMachine,
    draw_landmarks,
    median_distance,
)
from skinfluence.rows._folds import Fold, folds_of
from skinfluence.rows._interrupts import fit_whole
from skinfluence.rows._progress import told
from skinfluence.rows._rows import Rows
from skinfluence.rows._seeds import seeded, seeded_clone
from skinfluence.trace._needs import TraceNeeds
from skinfluence.trace._training_trace import Checkpoint, State

# Trees that each draw half of the rows cost half as much, and more of them judge a row.
_TREES = 200
_SHARE_OF_A_TREE = 0.5
# Of many rows, a tree draws no more.
_ROWS_OF_A_TREE = 20_000
# What models and nets predict counts as the share of so many votes.
_VOTES_OF_A_MODEL = 100
# Of that many rows, drawn at random, neighbors are looked for.
_REFERENCE = 20_000
# In MiB, the distances of sparse rows held at once; their products take twice as much more.
_DISTANCES = 64
_FOLDS = 5
# Of few rows, boosted trees have few leaves, since many learn wrong labels, and see few values of a
# column, which costs less; of many rows, they are scikit-learn's.
_FEW_ROWS = 10_000
_STEPS, _LEAVES, _BINS, _FEW_FOLDS = 100, 15, 63, 3
# A step of boosting grows a tree a class. Beyond so many trees times columns, boosting would take
# longer than all other members.
_MOST_BOOSTED = 400
# Neighbors that have no weight at all do not vote.
_FEWEST_VOTES = 1e-12


class Targets:
    """Coded targets: classes (n,), labels or numbers (n, n_outputs), all from zero."""

    def __init__(
        self, values: np.ndarray, kind: str, weights: NDArray[np.float64] | None = None
    ) -> None:
        self.values, self.kind = values, kind
        self.weights = weights  # in the training loss, on the mean one; None if all are the same

    @property
    def columns(self) -> np.ndarray:
        """Give one column a class, label or number."""
        if self.kind != "classes":
            return self.values.astype(np.float64)
        columns = np.zeros((len(self.values), int(self.values.max()) + 1))
        columns[np.arange(len(self.values)), self.values] = 1
        return columns

    def beside(self, rows: Seen) -> Rows:
        """Put the targets beside rows as they were given, as nets are trained on them."""
        is_numeric = self.kind == "numbers"
        return Rows(rows.given, self.values, is_numeric=is_numeric, weights=self.weights)

    def as_outputs(self, predicted: np.ndarray, n_votes: float | np.ndarray) -> NDArray[np.float64]:
        """Put probabilities, shares of so many votes, on the scale of logits; numbers stay."""
        if self.kind == "numbers":
            return np.asarray(predicted)
        # one more vote, for all alike, so that no probability is zero
        share = 1 / predicted.shape[-1] if self.kind == "classes" else 0.5
        smooth = (np.clip(predicted, 0, 1) * n_votes + share) / (n_votes + 1)
        if self.kind == "classes":
            return np.asarray(np.log(smooth))
        return np.asarray(np.log(smooth) - np.log1p(-smooth))


class Member(Protocol):
    """What takes part in a committee; outputs are (n_parts, n_rows, n_outputs)."""

    names: list[str]

    def fit(self, rows: Seen, targets: Targets) -> NDArray[np.float64]: ...

    def judge(self, out_of_sample: NDArray[np.float64]) -> NDArray[np.float64]: ...

    def predict(self, rows: Seen) -> NDArray[np.float64]: ...


class _OutOfSample:
    """Judges training rows by its predictions out of sample, which also give it its weight."""

    def judge(self, out_of_sample: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give the outputs by which training rows are judged."""
        return out_of_sample


class Forest(_OutOfSample):
    """A random forest, whose trees that did not draw a row judge it."""

    def __init__(self, seed: int) -> None:
        self.names = ["forest"]
        self._seed = seed

    def fit(self, rows: Seen, targets: Targets) -> NDArray[np.float64]:
        """Grow the trees and predict rows out of bag."""
        self._targets = targets
        classifies = targets.kind == "classes"
        kind = RandomForestClassifier if classifies else RandomForestRegressor
        drawn = min(max(1, round(_SHARE_OF_A_TREE * len(rows))), _ROWS_OF_A_TREE)
        forest = kind(_TREES, max_samples=drawn, oob_score=True, random_state=self._seed)
        y = targets.values if classifies else targets.columns
        y = y.ravel() if y.ndim == 2 and y.shape[1] == 1 else y
        if targets.weights is None:
            self._forest: Any = fit_whole(forest, rows.for_trees, y)
            n_draws: Any = drawn / len(rows)
        else:
            with warnings.catch_warnings():  # a row that all trees drew has no votes, and is even
                warnings.filterwarnings("ignore", "Some inputs do not have OOB scores")
                weights = targets.weights
                self._forest = fit_whole(forest, rows.for_trees, y, sample_weight=weights)
            n_draws = (drawn / len(rows)) * targets.weights[:, np.newaxis]
        found = forest.oob_decision_function_ if classifies else forest.oob_prediction_
        # so many of the trees, on the mean, did not draw a row
        return self._outputs(found, _TREES * np.exp(-n_draws))

    def predict(self, rows: Seen) -> NDArray[np.float64]:
        """Predict other rows by all trees."""
        classifies = self._targets.kind == "classes"
        ask = self._forest.predict_proba if classifies else self._forest.predict
        return self._outputs(ask(rows.for_trees), _TREES)

    def _outputs(self, found: np.ndarray, n_votes: float | np.ndarray) -> NDArray[np.float64]:
        return self._targets.as_outputs(found.reshape(len(found), -1), n_votes)[np.newaxis]


class Neighbors(_OutOfSample):
    """The nearest other rows, each with one vote."""

    def __init__(self, n_neighbors: int, seed: int) -> None:
        self.names = ["neighbors"]
        self._n_neighbors, self._seed = n_neighbors, seed

    def fit(self, rows: Seen, targets: Targets) -> NDArray[np.float64]:
        """Look for the neighbors of each row but itself."""
        self._targets = targets
        generator = np.random.default_rng(self._seed)
        reference = np.sort(generator.permutation(len(rows))[:_REFERENCE])
        self._columns = targets.columns[reference]
        self._weights = None if targets.weights is None else targets.weights[reference]
        self._count = min(self._n_neighbors, len(reference) - 1)
        self._search = NearestNeighbors().fit(rows.scaled[reference])
        near = self._nearest(rows, self._count + 1)
        is_itself = reference[near] == np.arange(len(rows))[:, np.newaxis]
        is_itself[:, -1] |= ~is_itself.any(1)  # without it, the last of the k + 1 is one too many
        return self._outputs(near[~is_itself].reshape(len(rows), self._count))

    def predict(self, rows: Seen) -> NDArray[np.float64]:
        """Ask the nearest training rows of other rows."""
        return self._outputs(self._nearest(rows, self._count))

    def _nearest(self, rows: Seen, count: int) -> NDArray[np.intp]:
        """Look for so many of the reference rows, of a part of the rows at a time."""
        with config_context(working_memory=_DISTANCES):
            found = self._search.kneighbors(rows.scaled, count, return_distance=False)
        return np.asarray(found)

    def _outputs(self, near: np.ndarray) -> NDArray[np.float64]:
        if self._weights is None:
            votes = self._columns[near].mean(1)
            return self._targets.as_outputs(votes, self._count)[np.newaxis]
        weights = self._weights[near][:, :, np.newaxis]
        n_votes = weights.sum(1)
        votes = (self._columns[near] * weights).sum(1) / np.maximum(n_votes, _FEWEST_VOTES)
        return self._targets.as_outputs(votes, n_votes)[np.newaxis]


class Kernels(_OutOfSample):
    """Kernel machines of several widths, and a linear one; each row left out exactly."""

    def __init__(self, seed: int) -> None:
        self.names = ["linear" if width is None else f"kernel {width:g}" for width in WIDTHS]
        self._seed = seed

    def fit(self, rows: Seen, targets: Targets) -> NDArray[np.float64]:
        """Fit the machines and predict each row without it."""
        self._base = 0.5 if targets.kind == "labels" else 0.0  # where both answers are as likely
        landmarks = draw_landmarks(rows.scaled, np.random.default_rng(self._seed))
        unit = median_distance(landmarks)
        widths = [None if width is None else width * unit for width in WIDTHS]
        self._machines = [KernelMachine(landmarks, width) for width in widths]
        columns = targets.columns
        weights = targets.weights
        machines = told("kernel machines", self._machines)
        return np.stack([m.fit(rows.scaled, columns, weights) - self._base for m in machines])

    def predict(self, rows: Seen) -> NDArray[np.float64]:
        """Predict other rows."""
        return np.stack([m.predict(rows.scaled) - self._base for m in self._machines])


class Perceptrons(_OutOfSample):
    """Small perceptrons, trained at once, each on a half of the rows."""

    def __init__(self, checkpoints: int | str, seed: int) -> None:
        self.names = ["perceptrons"]
        self._checkpoints, self._seed = checkpoints, seed

    def fit(self, rows: Seen, targets: Targets) -> NDArray[np.float64]:
        """Train, and predict each row by those that did not see it."""
        self._targets = targets
        y = targets.values if targets.kind == "classes" else targets.columns.astype(np.float32)
        self.trained = PerceptronCommittee.fit(
            rows.reduced,
            y,
            targets.kind,
            checkpoints=self._checkpoints,
            seed=self._seed,
            weights=targets.weights,
        )
        return self._outputs(self.trained.out_of_bag(rows.reduced), 0.5)

    def predict(self, rows: Seen) -> NDArray[np.float64]:
        """Predict other rows by all of them."""
        return self._outputs(self.trained.predict(rows.reduced), 1.0)

    def along_training(
        self, rows: Seen, some: NDArray[np.intp]
    ) -> tuple[list[int], NDArray[np.float64]]:
        """Predict some training rows by those that did not see them, after epochs recorded."""
        epochs = [point.epoch for point in self.trained.trace.checkpoints]
        return epochs, self.trained.along_training(rows.reduced, some)

    def _outputs(self, found: np.ndarray, share: float) -> NDArray[np.float64]:
        n_votes = share * self.trained.trains.shape[1] * len(self.trained.trace.checkpoints)
        return self._targets.as_outputs(found, n_votes)[np.newaxis]


class HalfNets:
    """The default net on each half of the rows, to judge the other, and on all of them.

    Images are learnt from many rows, and slowly by heart: along the training, a net on all of them
    says more of a row than one on half of them, though it has seen the row. Which points of the
    training count is what the halves tell: points are weighted so that they make the labels of the
    other half likeliest. The weight among members is that of the halves, which is the least that a
    net on all deserves; the most is all weight. Classes are judged by the mean of both.
    Of numbers and several labels, of which the end of the training speaks, rows are judged by both.
    """

    def __init__(self, checkpoints: int | str, seed: int) -> None:
        self.names = ["nets"]
        self._checkpoints, self._seed = checkpoints, seed
        self.trained: list[TrainedNet] = []

    def fit(self, rows: Seen, targets: Targets) -> NDArray[np.float64]:
        """Train on each half and predict the other."""
        self._targets = targets
        strata = targets.values if targets.kind == "classes" else np.zeros(len(rows))
        given, needs = targets.beside(rows), TraceNeeds(frozenset({self._checkpoints}))
        self._halves = _folds(strata, 2, self._seed)
        for train, _ in told("halves", self._halves):
            self.trained.append(train_net(None, given.part(train), self._seed, needs=needs))
        self.trained.append(train_net(None, given, self._seed, needs=needs))
        found = self._out_of_sample(rows, np.arange(len(rows)))
        outputs = targets.as_outputs(found, _VOTES_OF_A_MODEL)
        self._points = Pool.fit(outputs, targets.values, targets.kind, targets.weights)
        self._in_sample = self._outputs(self._along(self.trained[-1], rows.given))
        return self._outputs(found)

    def judge(self, out_of_sample: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give the outputs by which training rows are judged."""
        along = self._targets.kind == "classes"
        return self._in_sample if along else (out_of_sample + self._in_sample) / 2

    def predict(self, rows: Seen) -> NDArray[np.float64]:
        """Predict other rows by all three."""
        found = [self._along(net, rows.given) for net in self.trained]
        return self._outputs(np.mean(found, axis=0))

    def along_training(
        self, rows: Seen, some: NDArray[np.intp]
    ) -> tuple[list[int], NDArray[np.float64]]:
        """Predict some training rows by the net of the other half, after epochs recorded."""
        epochs = [point.epoch for point in self._checkpoints_of(self.trained[0])]
        return epochs, self._out_of_sample(rows, some)

    def _out_of_sample(self, rows: Seen, some: NDArray[np.intp]) -> NDArray[np.float64]:
        """Predict rows, which are those training rows, by the other half: a part a point."""
        n_points = len(self._checkpoints_of(self.trained[0]))
        found = np.empty((n_points, len(rows), self._targets.columns.shape[1]))
        for trained, (_, held) in zip(self.trained[:2], self._halves, strict=True):
            mine = np.flatnonzero(np.isin(some, held))
            if len(mine):
                found[:, mine] = self._along(trained, rows.given[mine])
        return found

    def _along(self, trained: TrainedNet, X: Any) -> NDArray[np.float64]:
        """Predict rows at every point of the training: (n_points, n_rows, n_outputs)."""
        points = self._checkpoints_of(trained)
        return np.stack([_ask_net(trained, X, self._targets, [p.state]) for p in points])

    def _checkpoints_of(self, trained: TrainedNet) -> list[Checkpoint]:
        """Give as many points of one training as of the others; of numbers, its end alone."""
        traces = [each.trace for each in self.trained]
        n_points = min(len(trace.checkpoints) for trace in traces if trace)
        assert trained.trace is not None
        by_the_end = self._targets.kind != "classes"
        return trained.trace.evenly_spaced("last" if by_the_end else n_points)

    def _outputs(self, found: np.ndarray) -> NDArray[np.float64]:
        return self._points.added(self._targets.as_outputs(found, _VOTES_OF_A_MODEL))[np.newaxis]


class OutOfFold(_OutOfSample):
    """Any scikit-learn model or skorch net, trained without each of some folds of the rows."""

    def __init__(
        self,
        name: str,
        estimator: Any,
        checkpoints: int | str,
        seed: int,
        *,
        n_folds: int = _FOLDS,
        one_thread: bool = False,
    ) -> None:
        self.names, self.one_thread = [name], one_thread
        self.estimator, self._checkpoints, self._seed = estimator, checkpoints, seed
        self._n_folds = n_folds

    def fit(self, rows: Seen, targets: Targets) -> NDArray[np.float64]:
        """Train on all parts but one and predict that one."""
        self._targets = targets
        strata = targets.values if targets.kind == "classes" else np.zeros(len(rows))
        if targets.weights is not None:  # labels without weight have no say in the folds
            counts = targets.weights > 0
            strata = np.where(counts, strata, strata[counts].min())
        fit = self._fit_net if is_net(self.estimator) else self._fit_model
        self._models = []
        found = np.zeros(targets.columns.shape)
        for train, held in told("folds", _folds(strata, self._n_folds, self._seed)):
            self._models.append(fit(rows, train))
            found[held] = self._ask(self._models[-1], rows, held)
        return self._outputs(found)

    def predict(self, rows: Seen) -> NDArray[np.float64]:
        """Predict other rows by the models of all folds."""
        every = slice(None)
        return self._outputs(np.mean([self._ask(m, rows, every) for m in self._models], axis=0))

    def _fit_net(self, rows: Seen, train: NDArray[np.intp]) -> TrainedNet:
        given, needs = self._targets.beside(rows), TraceNeeds(frozenset({self._checkpoints}))
        return train_net(self.estimator, given.part(train), self._seed, needs=needs)

    def _fit_model(self, rows: Seen, train: NDArray[np.intp]) -> Any:
        classifies = self._targets.kind == "classes"
        y = self._targets.values if classifies else self._targets.columns
        y = y.ravel() if y.ndim == 2 and y.shape[1] == 1 else y
        weights = self._targets.weights
        part = None if weights is None else weights[train]
        given = weight_parameters(self.estimator, part)
        unrouted = config_context(enable_metadata_routing=False) if given else nullcontext()
        with seeded(self._seed), unrouted:
            model = seeded_clone(self.estimator, self._seed)
            if classifies and len(np.unique(y[train])) < 2:  # of a class too small for folds
                model, given = DummyClassifier(), {}
            return fit_whole(model, rows.flat[train], y[train], **given)

    def _ask(self, model: Any, rows: Seen, some: Any) -> np.ndarray:
        if isinstance(model, TrainedNet):
            return _ask_net(model, rows.given[some], self._targets)
        X = rows.flat[some]
        found = np.zeros((X.shape[0], self._targets.columns.shape[1]))
        if self._targets.kind == "classes":
            found[:, model.classes_] = model.predict_proba(X)
        else:
            found[:] = np.asarray(model.predict(X)).reshape(len(found), -1)
        return found

    def _outputs(self, found: np.ndarray) -> NDArray[np.float64]:
        return self._targets.as_outputs(found, _VOTES_OF_A_MODEL)[np.newaxis]


def boosted(X: Any, targets: Targets, checkpoints: int | str, seed: int) -> OutOfFold:
    """Make boosted trees for classes or one number."""
    if not _can_boost(X, targets):
        raise ValueError(
            "Got 'boosted' in committee, but boosted trees take dense rows, and one class or one "
            "number a row. Leave them out."
        )
    classifies = targets.kind == "classes"
    kind = HistGradientBoostingClassifier if classifies else HistGradientBoostingRegressor
    few = {"max_leaf_nodes": _LEAVES, "max_bins": _BINS} if len(X) < _FEW_ROWS else {}
    model = kind(max_iter=_STEPS, **few)
    folds = _FEW_FOLDS if few else _FOLDS
    return OutOfFold("boosted", model, checkpoints, seed, n_folds=folds, one_thread=True)


def boosts_cheaply(X: Any, targets: Targets) -> bool:
    """Tell whether boosted trees take no longer than all other members."""
    if X.ndim != 2 or not _can_boost(X, targets):
        return False
    n_classes = 1 if targets.kind == "numbers" else int(targets.values.max()) + 1
    n_trees = 1 if n_classes == 2 else n_classes
    return n_trees * int(X.shape[1]) <= _MOST_BOOSTED


def _can_boost(X: Any, targets: Targets) -> bool:
    one_column = targets.kind == "classes" or targets.columns.shape[1] == 1
    return one_column and targets.kind != "labels" and not issparse(X)


def _ask_net(
    trained: TrainedNet, X: Any, targets: Targets, states: list[State | None] | None = None
) -> np.ndarray:
    """Predict a column a class, the mean along the training or over states, or numbers."""
    if targets.kind == "classes":
        found = np.zeros((X.shape[0], targets.columns.shape[1]))
        assert trained.labels is not None
        if states is None:
            probabilities = trained.class_probabilities(X, trained.trace)
        else:
            probabilities = trained.probabilities_at(X, states)
        known = trained.labels.classes  # codes to the committee
        found[:, known] = probabilities[:, : len(known)]
        return found
    return np.asarray(trained.predict(X)).reshape(X.shape[0], -1)


def _folds(strata: np.ndarray, n_folds: int, seed: int) -> list[Fold]:
    """Split rows into folds with all classes, or as chance has it if one is too small for that."""
    n_folds = min(n_folds, len(strata))
    if np.unique(strata, return_counts=True)[1].min() >= n_folds:
        return folds_of(strata, cv=n_folds, seed=seed)
    return list(KFold(n_folds, shuffle=True, random_state=seed).split(strata))
