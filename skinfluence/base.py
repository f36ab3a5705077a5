"""What all methods share: fit, the scores, and what a Pipeline asks for."""

from abc import ABCMeta, abstractmethod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skinfluence._halves import fit_halves
from skinfluence._overlap import check_separate
from skinfluence._random import draw_seeds
from skinfluence._trained_net import Rows, can_predict_targets, fit_net_of
from skinfluence._validation import check_finite, check_inputs


def _judges_new_rows(estimator: Any) -> bool:
    if getattr(estimator, "_halves", None) is not None:
        raise AttributeError(
            f"{type(estimator).__name__} was fitted without X_val, by two nets that scored half of "
            "the rows each, so new rows have no score on their common scale. Fit with X_val and "
            "y_val to score new rows."
        )
    return bool(estimator._judges_new_rows())


def _judges_new_rows_unlabelled(estimator: Any) -> bool:
    return _judges_new_rows(estimator) and can_predict_targets(estimator)


class BaseDetrimentality(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, metaclass=ABCMeta
):
    """Base of all methods that give every training row one detrimentality score.

    Higher = more detrimental, for every method. A subclass implements `_check_parameters`,
    `_fit_scores` and, if it can judge rows it was not fitted on, `_score` and
    `_judges_new_rows`. Before anything else is added here: a function would do.

    Attributes
    ----------
    detrimentality_ : ndarray of shape (n_samples,)
        Float64, finite. Higher = more detrimental.
    ranking_ : ndarray of shape (n_samples,)
        Row numbers, most detrimental first; ties in the order of the rows.
    net_ : NeuralNet
        The trained net.
    classes_ : ndarray of shape (n_classes,)
        The labels, for a classifier.
    n_features_in_ : int
        For arrays and data frames.
    """

    net: Any
    random_state: Any
    _trained: Any
    _halves: list[tuple[NDArray[np.intp], Any]] | None

    def fit(self, X: Any, y: Any = None, X_val: Any = None, y_val: Any = None) -> Self:
        """Train the net and score every training row at its given label.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Numbers of any dtype; or a dict of arrays, a skorch SliceDict, or a torch data set.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Labels of any kind, or numbers. None only for a data set that holds its targets.
        X_val, y_val : like X and y, optional
            Trusted rows that the net is not trained on, for methods that need them.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter is out of range, a row holds NaN, `y` is missing or unsuited, or the
            net does not fit the data.
        """
        self._check_parameters()
        self._halves = None  # of an earlier fit
        if X_val is None and self._needs_validation() and hasattr(self, "validation"):
            fit_halves(self, X, y)
            return self
        self._check_validation(X_val)
        self._seeds = draw_seeds(self.random_state, 3)
        rows = fit_net_of(self, X, y, self._seeds[0])
        validation = None
        if X_val is not None:
            X_val = check_inputs(self, X_val, reset=False)
            validation = self._trained.rows(X_val, y_val)
            check_separate(rows.inputs, validation.inputs)
        scores = np.asarray(self._fit_scores(rows, validation), dtype=np.float64)
        check_finite(scores, "detrimentality_")
        self.detrimentality_ = scores
        self.ranking_ = np.argsort(-scores, kind="stable")
        return self

    def _check_validation(self, X_val: Any) -> None:
        name = type(self).__name__
        if self._needs_validation() and X_val is None:
            raise ValueError(
                f"{name} needs trusted rows besides the training rows, but X_val is None. Call "
                "fit(X, y, X_val=..., y_val=...); in a Pipeline, name X_val in transform_input."
            )
        if X_val is not None and not self._needs_validation():
            raise ValueError(
                f"Got X_val, but {name} does not use validation rows as it is set. Leave X_val "
                "out, or choose parameters that use it."
            )

    def fit_transform(
        self, X: Any, y: Any = None, X_val: Any = None, y_val: Any = None
    ) -> NDArray[np.float64]:
        """Train the net and return the scores of the training rows at their given labels.

        Not the same as ``fit(X, y).transform(X)``, which uses predicted labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            As for `fit`.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            As for `fit`.
        X_val, y_val : like X and y, optional
            As for `fit`.

        Returns
        -------
        ndarray of shape (n_samples, 1)
            `detrimentality_`. Higher = more detrimental.
        """
        scores: NDArray[np.float64] = self.fit(X, y, X_val, y_val).detrimentality_
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
        rows = self._trained.predicted_rows(check_inputs(self, X, reset=False))
        scores = self._score(rows)
        return np.asarray(scores, dtype=np.float64)[:, np.newaxis]

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
        rows = self._trained.rows(check_inputs(self, X, reset=False), y)
        scores = self._score(rows)
        return np.asarray(scores, dtype=np.float64)

    @abstractmethod
    def _check_parameters(self) -> None:
        """Raise ValueError for a parameter that is out of range."""

    @abstractmethod
    def _fit_scores(self, rows: Rows, validation: Rows | None) -> NDArray[Any]:
        """Score the training rows; higher = more detrimental."""

    def _score(self, rows: Rows) -> NDArray[Any]:
        """Score other rows; needed where `_judges_new_rows` says True."""
        raise NotImplementedError

    def _needs_validation(self) -> bool:
        """Tell whether the method, as it is set, uses X_val and y_val."""
        return False

    def _judges_new_rows(self) -> bool:
        """Tell whether rows not fitted on can be scored."""
        return False

    @property
    def _n_features_out(self) -> int:
        return 1

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = []  # scores are float64 whatever comes in
        return tags


# scikit-learn's output wrapper, put around transform when the class is made, would hide it
BaseDetrimentality.transform = available_if(  # type: ignore[method-assign]
    _judges_new_rows_unlabelled
)(BaseDetrimentality.transform)
