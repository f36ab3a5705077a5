"""What all methods share: fit, the scores, and what a Pipeline asks for."""

from abc import ABCMeta, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skinfluence.methods._blocks import by_blocks, is_lazy
from skinfluence.methods._cross_fitting import cross_fit
from skinfluence.methods._parts import predicted_scores_by, scores_by
from skinfluence.methods._told_fit import told_fit
from skinfluence.nets._task import settled_task
from skinfluence.nets._trained_net import TrainedNet, can_predict_targets, fit_net_of
from skinfluence.rows._containers import Inputs, check_finite, check_inputs
from skinfluence.rows._features import warn_of_leaky_features
from skinfluence.rows._folds import check_cv, check_validation_rule, place_among
from skinfluence.rows._overlap import check_separate
from skinfluence.rows._rows import ModelRows, Rows
from skinfluence.rows._saved import SavedWithVersion
from skinfluence.rows._seeds import draw_seeds
from skinfluence.rows._validation_rows import validation_parts
from skinfluence.trace._needs import TraceNeeds


def _judges_new_rows(estimator: Any) -> bool:
    if hasattr(estimator, "folds_") and not estimator._cross_validates():
        raise AttributeError(
            f"{type(estimator).__name__} was fitted without X_val, by two nets that scored half of "
            "the rows each, so new rows have no score on their common scale. Fit with X_val and "
            "y_val to score new rows."
        )
    return bool(estimator._judges_new_rows())


def _judges_new_rows_unlabelled(estimator: Any) -> bool:
    return _judges_new_rows(estimator) and can_predict_targets(estimator)


class BaseDetrimentality(
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    SavedWithVersion,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """Base of all methods that give every training row one detrimentality score.

    Higher = more detrimental, for every method. A subclass implements `_check_parameters`,
    `_fit_scores` and, if it can judge rows it was not fitted on, `_score` and
    `_judges_new_rows`. Before anything else is added here: a function would do.

    Attributes
    ----------
    detrimentality_ : ndarray of shape (n_samples,)
        Float64, finite. Higher = more detrimental.
    decision_scores_ : ndarray of shape (n_samples,)
        `detrimentality_` by the name that PyOD gives it.
    ranking_ : ndarray of shape (n_samples,)
        Row numbers, most detrimental first; ties in the order of the rows.
    net_ : NeuralNet
        The trained net; a list of them, one a fold, where the rows are split for `cv` or in want
        of validation rows.
    trace_ : TrainingTrace
        What was recorded of its training, for methods that need it; a list for folds.
    folds_ : list of estimator
        For folds: clones fitted on the training rows of each.
    oof_probabilities_, oof_predictions_ : ndarray of shape (n_samples, n_classes) or (n_samples,)
        With folds, what nets that were not trained on the row predict: the probability of each of
        `classes_`, or a number.
    classes_ : ndarray of shape (n_classes,)
        The labels, for a classifier.
    n_features_in_ : int
        For arrays and data frames.
    """

    net: Any
    random_state: Any
    cv: Any
    validation: Any
    trace_: Any
    net_: Any
    # While it is fitted as a part of another one, which may be stopped in a later part.
    _is_fold = False
    _trained: TrainedNet
    _validation_groups: NDArray[np.intp] | None
    # on the mean one; None if all rows weigh the same
    _training_weights: NDArray[np.float64] | None = None
    _validation_weights: NDArray[np.float64] | None = None

    def fit(
        self,
        X: Any,
        y: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        *,
        groups: Any = None,
        sample_weight: Any = None,
    ) -> Self:
        """Train the net and score every training row at its given label.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Numbers of any dtype; a table may be a sparse matrix of scipy's. Or a dict of arrays, a
            skorch SliceDict, or a torch data set.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Labels of any kind, or numbers. None only for a data set that holds its targets.
        X_val, y_val : like X and y, optional
            Trusted rows that the net is not trained on, for methods that need them. Within a
            search, wrap both as `ValidationRows` and give them as `X_val`.
        groups : array-like of shape (n_samples,), optional
            Rows of one group, such as those of a patient, are held out together in the folds of
            `cv`. A Pipeline or a search hands them on where metadata routing is enabled and they
            are asked for by `set_fit_request(groups=True)`.
        sample_weight : array-like of shape (n_samples,) or float, optional
            Weights of the rows in the training loss, at least zero; only their ratios count, and
            the batch's loss is the mean of its rows' losses times their weights over the mean
            weight, so that a whole number does what as many copies of the row would. A row of
            weight zero has no say in what is learnt. What tells mislabelled rows scores rows as if
            unweighted, those of weight zero, too; what tells what removing a row does scores the
            removal of its whole weight: the sum over its copies, zero for a weight of zero. Rows
            to be judged later have the mean weight. Metadata routing hands them on as it does
            `groups`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter is out of range, a row holds NaN, `y` is missing or unsuited, there are
            groups and no folds for them, the net does not fit the data, its training diverges, or
            it or its loader mixes up rows. If weights are not one a row, are negative or all zero,
            or the model takes none: a frozen net where the scores depend on weights by its training
            alone, one whose criterion has no `reduction`, an estimator whose fit has no
            `sample_weight`.
        KeyboardInterrupt
            If a training is interrupted: no cut training is scored, cached or kept.
        """
        parts = validation_parts(X_val, y_val)
        return self._fit_given(X, y, *parts, fold_groups=groups, sample_weight=sample_weight)

    def _fit_given(
        self,
        X: Any,
        y: Any,
        X_val: Any,
        y_val: Any,
        groups: Any,
        *,
        fold_groups: Any = None,
        sample_weight: Any = None,
    ) -> Self:
        """Parse what the user gave, once, and fit on it."""
        self._begin(X_val, groups)
        if fold_groups is not None and not self._keeps_groups_together():
            raise ValueError(
                f"Got groups, whose rows are to stay together in folds, but {type(self).__name__}, "
                "as it is set, has no folds of cv. Set cv=5, where it has that parameter, or leave "
                "groups out."
            )
        rows = Rows.parse(
            self,
            X,
            y,
            task=settled_task(self),
            fold_groups=fold_groups,
            sample_weight=sample_weight,
        )
        return self._fit_parsed(rows, rows.parse_validation(self, X_val, y_val, groups))

    def _fit_rows(self, rows: Rows, validation: Rows | None = None) -> Self:
        """Fit on rows that were parsed already, as a part of another fit."""
        self._begin(validation, None if validation is None else validation.groups)
        rows.introduce(self)
        return self._fit_parsed(rows, validation)

    def _fit_raw(self, rows: Rows, validation: Rows | None) -> Self:
        """Fit on rows whose inputs nobody has looked at yet, as a part of another fit."""
        self._begin(validation, None if validation is None else validation.groups)
        own = Rows.parse(
            self,
            rows.inputs,
            rows.targets,
            task=rows.task,
            fold_groups=rows.fold_groups,
            sample_weight=rows.weights,
        )
        if validation is None:
            return self._fit_parsed(own, None)
        judging = own.parse_validation(
            self, validation.inputs, validation.targets, validation.groups, validation.weights
        )
        return self._fit_parsed(own, judging)

    def _begin(self, validation: object, groups: object) -> None:
        self._check_parameters()
        self._check_groups(groups, validation)
        self._check_validation(validation)
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)  # of an earlier fit, maybe with other parameters
        self._seeds = draw_seeds(self.random_state, 3)

    def _fit_parsed(self, rows: Rows, validation: Rows | None) -> Self:
        if rows.weights is not None and not self._takes_weights():
            raise ValueError(
                f"Got sample_weight, but {type(self).__name__}, as it is set, trains nothing that "
                "they could go into: its net is frozen, or it is a method that knows no weights. "
                "Pass the net unfrozen, or leave sample_weight out."
            )
        self._validation_groups = None if validation is None else validation.groups
        self._training_weights = rows.training_weights
        self._validation_weights = None if validation is None else validation.training_weights
        with told_fit(self):
            scores = self._training_scores(rows, validation)
        if scores is not None:
            self._rank(np.asarray(scores, dtype=np.float64))
        self._finish()
        return self

    def _training_scores(self, rows: Rows, validation: Rows | None) -> np.ndarray | None:
        """Score the training rows, by folds or by all of them; None if there is no one score."""
        if self._trains_folds(validation):
            return cross_fit(self, rows, validation)
        prepared = self._prepare(rows, validation)
        with self._threads():
            return self._fit_scores(*prepared)

    @property
    def decision_scores_(self) -> NDArray[np.float64]:
        """`detrimentality_` by the name that PyOD gives it."""
        return self.detrimentality_

    def _rank(self, scores: NDArray[np.float64]) -> None:
        check_finite(scores, "detrimentality_")
        self.detrimentality_ = scores
        self.ranking_ = np.argsort(-scores, kind="stable")

    def _prepare(self, rows: Rows, validation: Rows | None) -> tuple[ModelRows, ModelRows | None]:
        """Train the net, and put rows as `_fit_scores` takes them; a method without replaces it."""
        coded = fit_net_of(self, rows, self._seeds[0], self._trace_needs())
        if validation is None:
            return coded, None
        judging = self._trained.coded(validation)
        check_separate(coded.inputs, judging.inputs)
        return coded, judging

    def _trains_folds(self, X_val: object) -> bool:
        return self._cross_validates() or (self._needs_validation() and X_val is None)

    def _cross_validates(self) -> bool:
        return getattr(self, "cv", None) is not None

    def _check_groups(self, groups: object, X_val: object) -> None:
        if groups is not None:
            raise ValueError(
                f"Got ValidationRows with sensitive, but {type(self).__name__} compares no groups. "
                "Leave sensitive out, or use a method with DemographicParity() or "
                "EqualOpportunity() as its objective."
            )

    def _check_validation(self, X_val: object) -> None:
        name = type(self).__name__
        check_cv(getattr(self, "cv", None))
        lacks_rows = self._needs_validation() and X_val is None
        if hasattr(self, "validation"):
            check_validation_rule(self.validation)
            if lacks_rows and self._cross_validates():
                raise ValueError(
                    f"{name}, as it is set, needs validation rows, but X_val is None, and with "
                    f"cv={self.cv!r} no training rows can stand in for them: nets that validate "
                    "each other cannot score the rows that a fold holds out. Give X_val and y_val, "
                    "set cv=None, or choose parameters that need no validation rows, such as "
                    "reference='self'."
                )
        elif lacks_rows:
            raise ValueError(
                f"{name} needs trusted rows besides the training rows, but X_val is None. Call "
                "fit(X, y, X_val=..., y_val=...); in a Pipeline, name X_val in transform_input."
            )
        if self._cross_validates() and not self._judges_new_rows():
            raise ValueError(
                f"{name}, as it is set, cannot judge rows it was not fitted on, so that with "
                f"cv={self.cv!r} the rows a fold holds out would have no score. Set cv=None, or "
                "choose parameters that judge new rows, such as a detector with novelty=True."
            )
        if self._trains_folds(X_val) and isinstance(self.net, FrozenEstimator):
            asked = f"cv={self.cv!r}" if self._cross_validates() else "validation rows of its own"
            raise ValueError(
                f"{name} would train nets on parts of the rows for {asked}, but its net is "
                "frozen. Pass the net unfrozen, or give X_val and y_val and leave cv=None."
            )
        if X_val is not None and not self._needs_validation():
            raise ValueError(
                f"Got X_val, but {name} does not use validation rows as it is set. Leave X_val "
                "out, or choose parameters that use it."
            )

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
        """Train the net and return the scores of the training rows at their given labels.

        Not the same as ``fit(X, y).transform(X)``, which uses predicted labels. The scores know
        the labels given: a classifier trained on them, in a Pipeline, sees its own target, with
        `cv`, too, and a `LeakyFeaturesWarning` says so.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            As for `fit`.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            As for `fit`.
        X_val, y_val : like X and y, optional
            As for `fit`.
        groups : array-like of shape (n_samples,), optional
            As for `fit`.
        sample_weight : array-like of shape (n_samples,) or float, optional
            As for `fit`.

        Returns
        -------
        ndarray of shape (n_samples, 1)
            `detrimentality_`. Higher = more detrimental.
        """
        warn_of_leaky_features(self, "the scores")
        given = {"groups": groups, "sample_weight": sample_weight}
        # a subclass's own fit may know of none of these
        given = {name: value for name, value in given.items() if value is not None}
        scores: NDArray[np.float64] = self.fit(X, y, X_val, y_val, **given).detrimentality_
        return scores[:, np.newaxis]

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Score rows at their predicted labels.

        A wrong label cannot show in this score, because no label is given: it says how unusual a
        row is when the net's own prediction is believed. For labelled rows use
        `score_detrimentality`; for the training rows, `detrimentality_`. A regression is judged
        at a residual as large as the training error.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)

        Returns
        -------
        ndarray of shape (n_samples, 1)
            Higher = more detrimental.
        """
        check_is_fitted(self)
        if is_lazy(X):
            return by_blocks(self.transform, X, n_columns=1)
        return self._predicted_scores(check_inputs(self, X, reset=False))[:, np.newaxis]

    @available_if(_judges_new_rows)
    def score_detrimentality(self, X: Any, y: Any = None) -> NDArray[np.float64]:
        """Score labelled rows as if they were training rows, without training on them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Labels from `classes_`, or numbers. None only for a data set that holds its targets.

        Returns
        -------
        ndarray of shape (n_samples,)
            Higher = more detrimental.
        """
        check_is_fitted(self)
        if is_lazy(X):
            return by_blocks(self.score_detrimentality, X, y)
        return self._scores_of(Rows.parse(self, X, y, reset=False))

    def _scores_of(self, rows: Rows) -> NDArray[np.float64]:
        """Score parsed rows; see `score_detrimentality`."""
        if hasattr(self, "folds_"):
            return self._mean_place([scores_by(fold, rows) for fold in self.folds_])
        with self._threads():
            return np.asarray(self._score(self._trained.coded(rows)), dtype=np.float64)

    def _predicted_scores(self, inputs: Inputs) -> NDArray[np.float64]:
        if hasattr(self, "folds_"):
            places = [predicted_scores_by(fold, inputs) for fold in self.folds_]
            return self._mean_place(places)
        with self._threads():
            return np.asarray(self._score(self._trained.predicted_rows(inputs)), dtype=np.float64)

    def _threads(self) -> AbstractContextManager[None]:
        """Compute on one thread within the block, if the trained net is a small one."""
        trained = getattr(self, "_trained", None)
        return trained.threads() if isinstance(trained, TrainedNet) else nullcontext()

    def _join_folds(self, columns: list[np.ndarray]) -> NDArray[np.float64]:
        """Put each fold's columns in the order of all rows; rows of several folds get the mean."""
        total = np.zeros((len(columns[0]), len(self.detrimentality_)))
        count = np.zeros(len(self.detrimentality_))
        for rows, values in zip(self._fold_rows, columns, strict=True):
            total[:, rows] += values
            count[rows] += 1
        joined: NDArray[np.float64] = total / count
        return joined

    def _mean_place(self, scores: list[np.ndarray]) -> NDArray[np.float64]:
        """Average where new rows stand among the scores of each fold."""
        places = [place_among(*pair) for pair in zip(scores, self._fold_scores, strict=True)]
        mean: NDArray[np.float64] = np.mean(places, axis=0)
        return mean

    def _finish(self) -> None:
        """Set what follows from `detrimentality_`."""

    @abstractmethod
    def _check_parameters(self) -> None:
        """Raise ValueError for a parameter that is out of range."""

    @abstractmethod
    def _fit_scores(self, rows: ModelRows, validation: ModelRows | None) -> np.ndarray | None:
        """Score the training rows; higher = more detrimental. None if there is no one score."""

    def _score(self, rows: ModelRows) -> np.ndarray:
        """Score other rows; needed where `_judges_new_rows` says True."""
        raise NotImplementedError

    def _trace_needs(self) -> TraceNeeds | None:
        """Say what the method, as it is set, needs of the training."""
        return None

    def _trains_net(self) -> bool:
        """Tell whether the method, as it is set, trains one net on the rows, and follows it."""
        return type(self)._prepare is BaseDetrimentality._prepare

    def _takes_raw(self) -> bool:
        """Tell whether the method, as it is set, hands rows on unchecked, as to a pipeline."""
        return False

    def _needs_validation(self) -> bool:
        """Tell whether the method, as it is set, uses X_val and y_val."""
        return False

    def _takes_models(self) -> bool:
        """Tell whether a scikit-learn model may stand in for the net."""
        return False

    def _keeps_groups_together(self) -> bool:
        """Tell whether the method, as it is set, splits rows into folds that groups are for."""
        return self._cross_validates()

    def _fold_parameters(self, number: int) -> dict[str, Any]:
        """Say what is to be set on the clone for a fold, such as a file of its own."""
        return {}

    def _judges_new_rows(self) -> bool:
        """Tell whether rows not fitted on can be scored."""
        return False

    def _takes_weights(self) -> bool:
        """Tell whether weights of rows have a say in the method, as it is set."""
        return self._trains_net() and not isinstance(self.net, FrozenEstimator)

    def _judges_training_rows_as_new(self) -> bool:
        """Tell whether a fitted method judged its training rows as it judges rows to come."""
        return False

    @property
    def _n_features_out(self) -> int:
        return 1

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.three_d_array = True
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = []  # scores are float64 whatever comes in
        return tags


# scikit-learn's output wrapper, put around transform when the class is made, would hide it
BaseDetrimentality.transform = available_if(  # type: ignore[method-assign]
    _judges_new_rows_unlabelled
)(BaseDetrimentality.transform)
