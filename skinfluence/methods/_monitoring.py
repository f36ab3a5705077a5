"""From which score on new rows are marked: by scores of rows that the models did not learn."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinfluence.methods._base import BaseDetrimentality
from skinfluence.methods._scoring import score_detrimentality
from skinfluence.methods._suspects import label_errors_of
from skinfluence.rows._parameters import check_choice, check_parameter, is_real
from skinfluence.rows._pipelines import final_step


def threshold_for_new_rows(
    method: Any, X: Any = None, y: Any = None, *, rate: float = 0.1, among: str = "all"
) -> float:
    """Give the score above which a stated share of new rows lies.

    `OutlierGradientDetector.threshold_` is for the training rows' own scores. New rows are compared
    to what the method says of rows that it was not fitted on: its training rows, where it judges
    each by models that did not see it, or rows held out for this.

    Parameters
    ----------
    method : BaseDetrimentality or Pipeline
        Fitted. Without `X` and `y` it is `OutlierGradientDetector` with a committee, or a
        scikit-learn model in place of a net (`SelfConfidence`, `LossScore` and their like), not a
        frozen one; a Pipeline may end in either. With them, any that judges new rows.
    X : array-like, data frame, or what else the method takes, of n_samples rows, optional
        Rows that the method was not fitted on, and that are like those to come.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), optional
        Their labels, or numbers.
    rate : float, default=0.1
        In (0, 1): the share of new rows to be marked.
    among : {"all", "right"}, default="all"
        Of which new rows that is the share: of all, with as many wrong labels as the rows that they
        are compared to, or of those whose label is right, so that it is the rate of false alarms.
        For the latter, training rows count by how likely their label is right
        (``label_errors_.p_wrong``), which `OutlierGradientDetector` with a committee has. `X` and
        `y` are taken as they are.

    Returns
    -------
    float
        On the scale of `score_detrimentality`: rows to be marked are above it.

    Raises
    ------
    TypeError
        If `method` is no method of this package.
    AttributeError
        If the method judges no new rows.
    ValueError
        If the method judged its training rows in sample, or by one fold each where new rows get
        the mean over folds, and no `X` and `y` are given; if there are fewer than ``1 / rate``
        rows; or if `among` asks for what is not known.

    Notes
    -----
    Of n rows to compare with, the threshold is the score of the k-th highest, with
    ``k = floor(rate * (n + 1))``. A new row exchangeable with them is above it with probability
    ``k / (n + 1)``, or less where scores tie. For `X` and `y` that is exact, on the mean over such
    sets; of one set, the share marked varies by about ``sqrt(rate * (1 - rate) / n)``. A committee
    judges new rows by all its members and training rows by those that did not see them, which are
    fewer, so that there it is near, not exact: ``benchmarks/results/monitoring.md``. A forest's
    trees out of bag are a third of all, and more of its new rows lie below; ``cv=5`` is nearer.

    Rows that a net was trained on score lower than others, so that the 10 % threshold of its
    training rows marked 12 to 45 % of clean new rows.

    Cost: none without `X`; with it, one `score_detrimentality`.

    References
    ----------
    Vovk, Gammerman, Shafer. "Algorithmic Learning in a Random World". Springer 2005 (conformal
    prediction, for the quantile).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skinfluence import SelfConfidence, score_detrimentality, threshold_for_new_rows
    >>> X, y = load_digits(return_X_y=True)
    >>> method = SelfConfidence(LogisticRegression(max_iter=200), random_state=0)
    >>> method = method.fit(X[::2] / 16, y[::2])
    >>> threshold = threshold_for_new_rows(method, rate=0.1)
    >>> marked = score_detrimentality(method, X[1::2] / 16, y[1::2]) > threshold
    >>> bool(0.08 < marked.mean() < 0.12)
    True
    """
    final = final_step(method)
    check_parameter(
        "rate",
        rate,
        "a share of the rows in (0, 1)",
        holds=lambda value: is_real(value) and bool(0 < value < 1),
    )
    check_choice("among", among, ("all", "right"))
    if X is not None:
        if among != "all":
            raise ValueError(
                f"Got among={among!r} with X and y, which are taken as they are. Leave among out, "
                "and rows whose label is wrong out of X, if the rate is to be one of false alarms."
            )
        scores = score_detrimentality(method, X, y)
        return _threshold(scores, np.ones(len(scores)), rate)
    if not isinstance(final, BaseDetrimentality):
        score_detrimentality(method, X, y)  # says what is expected
    final.score_detrimentality  # noqa: B018 - says so if it judges no new rows
    if not final._judges_training_rows_as_new():
        raise ValueError(_not_known(final))
    scores = final.detrimentality_
    weights = 1 - label_errors_of(final).p_wrong if among == "right" else np.ones(len(scores))
    return _threshold(scores, weights, rate)


def _threshold(scores: NDArray[np.float64], weights: NDArray[np.float64], rate: float) -> float:
    """Find the lowest score that leaves no more than the share above it; rows may count in part."""
    order = np.argsort(-scores, kind="stable")
    through = np.cumsum(weights[order])
    count = int(np.searchsorted(through, rate * (through[-1] + 1), side="right"))
    if count == 0:
        raise ValueError(
            f"Got rate={rate} and {len(scores)} rows to compare new ones with, but a share so "
            f"small is not seen among fewer than {int(np.ceil(1 / rate)) - 1}. Raise rate, or give "
            "more rows as X and y."
        )
    return float(scores[order[count - 1]])


def _not_known(method: BaseDetrimentality) -> str:
    name = type(method).__name__
    why = (
        f"{name} gives a training row the score of one fold, and a new row the mean over its "
        "folds, which is seldom as high"
        if hasattr(method, "folds_")
        else f"{name}, as it is set, judged its training rows by what was trained on them, and "
        "such rows score lower than new ones"
    )
    return (
        f"{why}, so that it is not known which share of new rows a threshold would mark. Give X "
        "and y of rows that it was not fitted on; or use OutlierGradientDetector() without a net, "
        "or SelfConfidence(model) with a scikit-learn classifier, which judge training rows as "
        "new ones."
    )
