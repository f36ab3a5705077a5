"""Methods whose models are trained by a loss in which rows may have weights."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator

from skinfluence.methods._base import BaseDetrimentality
from skinfluence.rows._validation_rows import validation_parts


class WeightedDetrimentality(BaseDetrimentality):
    """Base of methods that take `sample_weight`: the weights of rows in the training loss."""

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
            weight. A row of weight zero has no say in what is learnt, and is scored like any other:
            scores, gradients, thresholds and `label_errors_` are of unweighted rows. Metadata
            routing hands them on as it does `groups`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter is out of range, a row holds NaN, `y` is missing or unsuited, there are
            groups and no folds for them, the net does not fit the data, its training diverges, or
            it or its loader mixes up rows. If weights are not one a row, are negative or all zero,
            or the model takes none: a frozen net, one whose criterion has no `reduction`, an
            estimator whose fit has no `sample_weight`.
        KeyboardInterrupt
            If a training is interrupted: no cut training is scored, cached or kept.
        """
        parts = validation_parts(X_val, y_val)
        return self._fit_given(X, y, *parts, fold_groups=groups, sample_weight=sample_weight)

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
        given = {"groups": groups, "sample_weight": sample_weight}
        return self._fit_transform(X, y, X_val, y_val, given)

    def _takes_weights(self) -> bool:
        return not isinstance(self.net, FrozenEstimator)
