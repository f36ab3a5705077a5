"""Leave-one-out: the net trained again without every row in turn."""

from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from skinfluence.gradients._directional import plain_kernels
from skinfluence.gradients._skorch import as_dataset, iter_batches, net_loss_of
from skinfluence.gradients._trial import check_rows_are_independent, draw_trial
from skinfluence.methods._base import BaseDetrimentality
from skinfluence.nets._default import sgd_net
from skinfluence.rows._containers import n_samples_of
from skinfluence.rows._parameters import check_choice, check_parameter
from skinfluence.rows._rows import ModelRows
from skinfluence.rows._seeds import preserved_random_state
from skinfluence.storage._fingerprint import fingerprint, versions
from skinfluence.storage._work_file import WorkFile
from skinfluence.trace._needs import TraceNeeds
from skinfluence.valuation.leave_one_out._replay import prepare_replay
from skinfluence.valuation.leave_one_out._retraining import (
    BATCH_SIZE,
    PERIOD,
    LossesWithout,
    leave_out,
    scratch_of,
    validation_loss,
)


class LeaveOneOut(BaseDetrimentality):
    """Score training rows by training again without each of them.

    Answers: is the validation loss lower without this row? This is the quantity that influence
    methods estimate, by as many trainings as there are rows: for small data, and to judge the
    estimates by. It is weak at finding wrong labels.

    Parameters
    ----------
    net : NeuralNet, FrozenEstimator or None, default=None
        As for `GradientEmbedding`, but None is the default net trained by SGD with momentum, as
        for `SGDInfluence`. A frozen net must bring a trace with the order of its rows.
    retrain : {"replay", "scratch"}, default="replay"
        "replay": the counterfactual of SGD-influence. Initial parameters, batches, their order
        and the optimiser with its learning rates are those of the training; the row's loss is
        left out of the sum over each of its batches, which is divided as before. "scratch": the
        net is fitted without the row and with the same seed. As it then draws other batches, the
        scores contain the noise of the order.
    subset : array-like of int or None, default=None
        The rows to leave out. None is every row. Scores are of these rows alone; see `rows_`. It
        needs X_val and y_val.
    validation : "cross" or float, default="cross"
        What stands in for validation rows where none are given; see `TracIn`.
    n_jobs : int or None, default=None
        Trainings, or stacks of them, at a time, by joblib: in threads for "replay", in processes
        for "scratch", where torch uses one thread in each. It does not change the scores.
    path : str, path or None, default=None
        A file that keeps the losses as they are computed, written about every second. If it
        exists, the run goes on from it: after a crash, or with another `subset`. Needs an integer
        `random_state` or a frozen net. Two folds have a file each, with ``-0`` and ``-1`` after
        the name's stem.
    task : {"classification", "regression"}, optional
        What the targets are, where no net or estimator of your own says it. By default their
        values tell: floats with a fraction, or more than 20 distinct ones, are numbers.
    random_state : int, RandomState or None, default=None
        Seed of the training. Global generators are neither used nor changed.
    verbose : int, default=0
        1 shows on stderr how far the fit is, and the time left. It does not change the result.

    Attributes
    ----------
    detrimentality_ : ndarray of shape (n_samples,) or (n_rows,)
        The validation loss with the row less that without it, of the rows in `rows_`; float64,
        in units of the mean validation loss (quantiles where the rows were split).
        Higher = more detrimental.
    rows_ : ndarray of shape (n_rows,)
        Whose scores they are: `subset`, or all row numbers.
    ranking_ : ndarray of shape (n_rows,)
        Row numbers, those of `rows_`, most detrimental first.
    loss_ : float
        Mean validation loss of the net trained on all rows.
    losses_without_ : ndarray of shape (n_samples,)
        Mean validation loss without each row; NaN for rows that were not left out. It is there
        after an interruption, too. Not where rows were split.
    strategy_ : {"stacked", "one by one"}
        For "replay": whether many trainings ran at once as one stack of parameters, or each
        alone, because the net or optimiser cannot be stacked.
    replay_distance_ : float
        For "replay": how far the replay with no row left out ends from the trained net, relative
        to the way from its start; rounding, or fit raises an error.
    net_ : NeuralNet
        The net trained on all rows.
    trace_ : TrainingTrace
        For "replay": its steps.
    classes_ : ndarray of shape (n_classes,)
        The labels, for a classifier.
    folds_ : list of LeaveOneOut
        Where rows were split, one for each part; `net_` and `trace_` are lists then.
    oof_probabilities_, oof_predictions_ : ndarray of shape (n_samples, n_classes) or (n_samples,)
        With folds, what nets that were not trained on the row predict: the probability of each of
        `classes_`, or a number.
    n_features_in_ : int
        For arrays and data frames.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        For data frames with string column names.

    Raises
    ------
    ValueError
        From fit: if a parameter is out of range, `path` belongs to other data or parameters, or
        a replay without leaving out any row does not end at the trained net, to 1e-8 of the way
        from its start in float64 and 1e-2 in float32: with dropout, augmentation, BatchNorm or
        callbacks that change gradients.

    See Also
    --------
    SGDInfluence : Estimates "replay" by one walk back through the training.
    skinfluence.metrics.leave_one_out_correlation : How well an estimate does.
    DataShapley : Averages over subsets of all sizes.

    Notes
    -----
    The change by one row shrinks with the number of rows, the rounding of float32 does not: a
    net in float64 is the one to use for many rows.

    With weights of rows in the training loss, it is all of a row's weight that is left out: what
    leaving out as many copies would do. A frozen net's weights are those it was trained with.

    Cost: one training for every row. Up to 64 of them run at once for "replay": small nets take
    about 20 times less than that many fits. Memory: "replay" holds the training rows as tensors,
    and parameters, gradients and the optimiser's state of as many nets as run at once (parameters
    of 64 MiB in all at most).

    References
    ----------
    Hara, Nitanda, Maehara. "Data Cleansing for Models Trained with SGD". NeurIPS 2019, section 3,
    defines the counterfactual training.

    Examples
    --------
    >>> import numpy as np
    >>> from skinfluence import LeaveOneOut
    >>> from skinfluence.datasets import make_noisy_blobs
    >>> data = make_noisy_blobs(random_state=0)
    >>> rows = np.r_[np.flatnonzero(data.is_noisy)[:5], np.flatnonzero(~data.is_noisy)[:35]]
    >>> method = LeaveOneOut(random_state=0)
    >>> scores = method.fit_transform(data.X[rows], data.y[rows], data.X_test, data.y_test)
    >>> bool(scores[:5].mean() > scores[5:].mean())
    True
    """

    def __init__(
        self,
        net: Any = None,
        *,
        retrain: str = "replay",
        subset: Any = None,
        validation: str | float = "cross",
        n_jobs: int | None = None,
        path: str | Path | None = None,
        task: str | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.net = net
        self.retrain = retrain
        self.subset = subset
        self.validation = validation
        self.n_jobs = n_jobs
        self.path = path
        self.task = task
        self.random_state = random_state
        self.verbose = verbose

    def fit_transform(
        self,
        X: Any,
        y: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        *,
        groups: Any = None,
        sample_weight: Any = None,
    ) -> NDArray[np.float64]:
        """Train with and without every row and return the scores.

        Not the same as ``fit(X, y).transform(X)`` of other methods, which uses predicted labels:
        these scores know the labels given.

        Parameters
        ----------
        X, y, X_val, y_val, groups, sample_weight : as for `fit`

        Returns
        -------
        ndarray of shape (n_samples, 1)
            `detrimentality_`. Higher = more detrimental.

        Raises
        ------
        ValueError
            If there is a `subset`: the other rows have no score.
        """
        check_parameter(
            "subset",
            self.subset,
            "None for fit_transform, which gives every row of X a score",
            holds=lambda subset: subset is None,
            fix="Use fit, and read detrimentality_ and rows_.",
        )
        given = {"groups": groups, "sample_weight": sample_weight}
        return super().fit_transform(X, y, X_val, y_val, **given)

    _default_net = staticmethod(sgd_net)

    def _check_parameters(self) -> None:
        check_choice("retrain", self.retrain, ("replay", "scratch"))
        frozen = isinstance(self.net, FrozenEstimator)
        if frozen and self.retrain == "scratch":
            raise ValueError(
                "Got retrain='scratch' with a frozen net, whose seed is not known: trained again, "
                "it would differ by more than the row. Pass the net unfrozen, or use "
                "retrain='replay'."
            )
        if self.path is None:
            return
        path = Path(self.path)
        check_parameter(
            "path",
            str(path),
            "a file in a folder that exists",
            holds=lambda _: path.parent.is_dir() and not path.is_dir(),
        )
        check_parameter(
            "random_state",
            self.random_state,
            "an integer together with path",
            holds=lambda value: frozen or isinstance(value, Integral),
            fix="Another fit could not repeat the training otherwise.",
        )

    def _check_validation(self, X_val: object) -> None:
        super()._check_validation(X_val)
        if self.subset is not None and X_val is None:
            raise ValueError(
                "Got a subset and no X_val. Without validation rows every row is scored in one of "
                "two folds, and a score is its quantile there. Give X_val and y_val, or "
                "subset=None."
            )

    def _trace_needs(self) -> TraceNeeds | None:
        return TraceNeeds(order=True) if self.retrain == "replay" else None

    def _needs_validation(self) -> bool:
        return True

    def _takes_weights(self) -> bool:
        return True  # those of a frozen net's training, too

    def _fold_parameters(self, number: int) -> dict[str, Path]:
        if self.path is None:
            return {}
        path = Path(self.path)
        return {"path": path.with_stem(f"{path.stem}-{number}")}

    def _fit_scores(self, rows: ModelRows, validation: ModelRows | None) -> NDArray[np.float64]:
        assert validation is not None
        n_samples = n_samples_of(rows.inputs)
        self.rows_ = _rows_to_leave_out(self.subset, n_samples)
        file = self._file(rows, validation)
        found = None if file is None else file.read()
        self.losses_without_ = np.full(n_samples, np.nan) if found is None else found["losses"]
        with preserved_random_state(), plain_kernels():
            losses_without, size = self._trainings(rows, validation)
            leave_out(
                losses_without,
                self.rows_,
                self.losses_without_,
                size=size,
                n_jobs=self.n_jobs,
                threads=self.retrain == "replay",
                file=file,
            )
        return self.loss_ - self.losses_without_[self.rows_]

    def _trainings(self, rows: ModelRows, validation: ModelRows) -> tuple[LossesWithout, int]:
        """Set `loss_`; give the function that leaves rows out, and how many it takes at once."""
        judging_weights = self._validation_weights
        weights = {"weights": self._training_weights, "judging_weights": judging_weights}
        if self.retrain == "scratch":
            self.loss_ = validation_loss(self.net_, validation, judging_weights)
            net, seed = self._unfitted(), self._seeds[0]
            scratch = scratch_of(net, self._trained, rows, validation, seed, **weights)
            return scratch.losses_without, 1
        trial = draw_trial(self.net_, as_dataset(self.net_, *rows))
        check_rows_are_independent(net_loss_of(self.net_), trial)
        whole = next(iter_batches(self.net_, *rows, n_samples_of(rows.inputs)))
        judging = list(iter_batches(self.net_, *validation, BATCH_SIZE))
        replay = prepare_replay(self.net_, self.trace_, whole, judging, **weights)
        self.loss_, self.replay_distance_ = replay.whole()
        self.strategy_ = "stacked" if replay.stacked else "one by one"
        return replay.losses_without, replay.stack_size

    def _unfitted(self) -> Any:
        own = self.net is not None and not isinstance(self.net, FrozenEstimator)
        return clone(self.net if own else self.net_)

    def _file(self, rows: ModelRows, validation: ModelRows) -> WorkFile | None:
        """Find where losses are kept, by all that they depend on but for rounding."""
        if self.path is None:
            return None
        by = [self._seeds[0]]
        if self.retrain == "replay":
            trace = self.trace_
            by = [trace.initial_state, trace.batch_indices, trace.learning_rates]
        weights = self._training_weights, self._validation_weights
        given = [versions(), *(of_rows for of_rows in weights if of_rows is not None)]
        return WorkFile.of_parameter(
            "path",
            Path(self.path),
            fingerprint([self.retrain, self._unfitted(), rows, validation, by, *given]),
            kind="LeaveOneOut",
            seconds=PERIOD,
            inputs="X, y, sample_weight, X_val, y_val, net, retrain, validation and random_state",
        )

    def _finish(self) -> None:
        if hasattr(self, "folds_"):
            self.rows_ = np.arange(len(self.detrimentality_))
        self.ranking_ = self.rows_[self.ranking_]


def _rows_to_leave_out(subset: ArrayLike | None, n_samples: int) -> NDArray[np.intp]:
    if subset is None:
        return np.arange(n_samples)
    rows = np.asarray(subset)
    good = rows.ndim == 1 and len(rows) and rows.dtype.kind in "iu"
    if not good or rows.min() < 0 or rows.max() >= n_samples or len(np.unique(rows)) < len(rows):
        raise ValueError(
            f"Got subset={subset!r}, but expected distinct row numbers from 0 to {n_samples - 1}, "
            "at least one. From a boolean mask: np.flatnonzero(mask)."
        )
    return rows.astype(np.intp)
