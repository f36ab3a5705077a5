"""Scores of labelled rows that arrive after the fit."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinfluence.methods._base import BaseDetrimentality
from skinfluence.methods._blocks import by_blocks, is_lazy
from skinfluence.rows._pipelines import as_last_step_sees, final_step


def score_detrimentality(method: Any, X: Any, y: Any = None) -> NDArray[np.float64]:
    """Score new labelled rows by a fitted method, or by a fitted Pipeline that ends in one.

    A Pipeline has no method of that name: its `transform` gets no labels, so that it scores rows
    at those it predicts, with which no row disagrees. This transforms `X` by the steps before the
    last one, and hands it to the method with the labels given.

    Parameters
    ----------
    method : BaseDetrimentality or Pipeline
        Fitted, such as `CleanedClassifier.method_`.
    X : array-like, data frame, or what else the pipeline takes, of n_samples rows
        New rows, as the training rows were given.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Labels from `classes_`, or numbers. None only for a data set that holds its targets.

    Returns
    -------
    ndarray of shape (n_samples,)
        Float64. Higher = more detrimental.

    Raises
    ------
    TypeError
        If `method` is neither.
    AttributeError
        If the method cannot judge rows it was not fitted on.
    ValueError
        If `y` is missing or holds unknown labels, or `X` does not suit.

    Notes
    -----
    It is for rows that were not trained on. Training rows have `detrimentality_`.

    Cost: the steps' transforms, and what the method needs, such as one forward pass.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.metrics import roc_auc_score
    >>> from sklearn.model_selection import train_test_split
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skinfluence import LossScore, score_detrimentality
    >>> from skinfluence.datasets import make_noisy_labels
    >>> X, y = load_iris(return_X_y=True)
    >>> y_noisy, is_noisy = make_noisy_labels(y, rate=0.1, random_state=0)
    >>> X, X_new, y, y_new, _, is_wrong = train_test_split(X, y_noisy, is_noisy, random_state=0)
    >>> pipeline = make_pipeline(StandardScaler(), LossScore(random_state=0)).fit(X, y)
    >>> bool(roc_auc_score(is_wrong, score_detrimentality(pipeline, X_new, y_new)) > 0.9)
    True
    """
    final = final_step(method)
    if not isinstance(final, BaseDetrimentality):
        raise TypeError(
            f"Got {method!r}, but expected a fitted method of this package, or a fitted Pipeline "
            "that ends in one. Of a cleaned model, give its method_."
        )
    judge = final.score_detrimentality  # says so if it judges no new rows
    if is_lazy(X):
        lazy: NDArray[np.float64] = by_blocks(partial(score_detrimentality, method), X, y)
        return lazy
    scores: NDArray[np.float64] = judge(as_last_step_sees(method, X), y)
    return scores
