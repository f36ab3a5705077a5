"""How likely each given label is wrong, and how many are: by predictions out of sample."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, minimize
from scipy.stats import norm, t

from skinfluence.methods._noise_link import (
    Link,
    fit_link,
    highest_rate,
    learn_spread,
    wrong_given,
)
from skinfluence.methods._pool import MEDIAN_OF_NORMAL
from skinfluence.rows._containers import check_finite
from skinfluence.rows._parameters import check_parameter, is_real
from skinfluence.rows._targets import classes_and_codes

# Of numbers, the degrees of freedom of residuals where targets are right: tails, but not of errors.
_FREEDOM = (5.0, 100.0)
# Noise rates of numbers that the search starts from.
_STARTS = (0.02, 0.15, 0.35)
# A rate is refused where twice the log-likelihood falls by more: one-sided 5 %, and its normal.
_DROP, _NORMAL = 2.706, 1.645
_RATE_STEP = 2e-3
# To be told from hard rows, errors must explain this part of the disagreements, and the models be
# so certain of this share of the rows; unless so few labels disagree that it hardly matters.
_KNOWN_PART = 1 / 8
_CERTAIN, _CERTAIN_SHARE = 0.95, 0.2
_FEW = 0.05
_TINY = 1e-12


@dataclass(frozen=True)
class LabelErrors:
    """How likely each given label or number is wrong, and how many are.

    Attributes
    ----------
    p_wrong : ndarray of shape (n_samples,)
        Float64, in [0, 1]: the probability that the row's label is wrong. Higher = more suspect.
    expected : float
        Their sum: the number of wrong labels to expect.
    interval : tuple of float
        From where to where that number is to be expected: a 90 % interval, of the noise rate and
        of chance. Where `is_known` is False it reaches up to the number of labels that disagree
        with the prediction.
    noise_rate : float
        The share of labels that are wrong whatever the row is like.
    noise_rate_interval : tuple of float
        A 90 % interval of it, by the likelihood.
    transitions : ndarray of shape (n_classes, n_classes) or None
        How likely a row of each class (rows) is given each label (columns); None for numbers.
    is_known : bool
        Whether the data can tell errors from rows that are hard to predict; see
        `estimate_label_errors`. If False, no row is flagged.
    certainty : float or None
        How sure models are where they are surest: the mean probability of the likeliest class in
        the surest fifth of the rows. None for numbers.
    other : ndarray of shape (n_samples,)
        The likeliest other label of each row, by its place among the sorted classes; of numbers,
        the prediction.
    p_other : ndarray of shape (n_samples,)
        The probability of that class, whatever label is given; of numbers, `p_wrong`.
    """

    p_wrong: NDArray[np.float64]
    expected: float
    interval: tuple[float, float]
    noise_rate: float
    noise_rate_interval: tuple[float, float]
    transitions: NDArray[np.float64] | None
    is_known: bool
    certainty: float | None
    other: NDArray[np.intp] | NDArray[np.float64]
    p_other: NDArray[np.float64]
    # the same as `p_wrong` at the low end of `noise_rate_interval`
    _cautious: NDArray[np.float64]

    def flagged(self, rate: float, ranking: ArrayLike | None = None) -> NDArray[np.intp]:
        """Choose as many of the most suspect rows as a rate of false alarms allows.

        Parameters
        ----------
        rate : float
            In (0, 1): of the rows flagged, the share that may be rightly labelled, on the mean.
        ranking : array-like of shape (n_samples,), optional
            Row numbers, most suspect first, such as a method's `ranking_`; by default the order
            of `p_wrong`.

        Returns
        -------
        ndarray of shape (n_flagged,)
            The longest beginning of the ranking in which the mean probability of a right label is
            at most `rate`, with the noise rate at the low end of its interval. None where
            `is_known` is False.

        Raises
        ------
        ValueError
            If `rate` is not in (0, 1), or the ranking does not hold every row once.
        """
        check_parameter(
            "rate",
            rate,
            "a share of false alarms in (0, 1)",
            holds=lambda value: is_real(value) and bool(0 < value < 1),
        )
        if ranking is None:
            order = np.argsort(-self.p_wrong, kind="stable")
        else:
            order = np.asarray(ranking)
            if not np.array_equal(np.sort(order), np.arange(len(self.p_wrong))):
                raise ValueError(
                    f"Got a ranking of shape {order.shape}, but expected the numbers from 0 to "
                    f"{len(self.p_wrong) - 1}, each once, the most suspect row first."
                )
        if not self.is_known:
            return order[:0]
        false_alarms = np.cumsum(1 - self._cautious[order]) / np.arange(1, len(order) + 1)
        allowed = np.flatnonzero(false_alarms <= rate)
        return order[: allowed[-1] + 1 if len(allowed) else 0]


def estimate_label_errors(probabilities: ArrayLike, y: ArrayLike) -> LabelErrors:
    """Estimate how likely each given label is wrong, from probabilities out of sample.

    Parameters
    ----------
    probabilities : array-like of shape (n_samples, n_classes)
        What models that were not trained on the row, out of fold or out of bag, predict of it:
        one column a class, in the sorted order of the labels; rows sum to 1. The models are
        trained on the labels given, wrong ones among them.
    y : array-like of shape (n_samples,)
        The labels given; every class at least once.

    Returns
    -------
    LabelErrors
        Of `p_wrong`, `expected` with its `interval`, `is_known`, and what they rest on; its
        `flagged` chooses rows at a stated rate of false alarms.

    Raises
    ------
    ValueError
        If shapes disagree, there are fewer than two classes, or a probability is not finite,
        negative, or does not add up with the others of its row.

    See Also
    --------
    estimate_target_errors : The same for numbers.
    check_label_errors : Whether it holds on data of your own.

    Notes
    -----
    A label disagrees with a prediction because it is wrong, or because the row is hard. Labels
    alone do not say which, so something must be assumed: **where models are confident, right labels
    agree with them; labels are wrong at a rate that does not depend on how hard the row is.**
    So, of a label's agreement with the likeliest class, at all confidences ::

        P(agrees | x) = (1 - e) m(x) + e (1 - m(x)) / (n_classes - 1)

    with e the noise rate and m the probability that the likeliest class is right: that of the
    softmax of the given log-probabilities times ``a (1 + c h)``, h the square of the row's largest
    one over its mean. The three numbers a, c and e are those of the greatest likelihood. The share
    of disagreements that stays however confident the models are is e; rows that are merely hard
    agree ever more often, and do not count. Then the transitions between labels are estimated by
    expectation-maximisation at that rate, drawn to alike for all classes where rows are few, and
    ``P(right | x, label)`` is ``P(class | x) T[class, label]``, normalised, at the label. For each
    row, T is counted without that row, but for the rate of all classes together: where classes have
    few rows, a label would confirm itself.

    Errors that people make on hard rows alone look like hard rows, and are not counted. Where
    labels of more than 5 % of the rows disagree, `is_known` is False in two cases: a noise rate of
    zero is not refused, or the rate explains less than an eighth of the disagreements, so that
    there may be no error, or many on hard rows; or models are nowhere certain (`certainty` below
    0.95), so that no rows show what right labels do. It is no guard where both kinds of errors mix,
    or where models are wrong with confidence. Rows are flagged by the low end of the rate's
    interval.

    Measured (``benchmarks/results/label_errors.md``, where the losses are listed too).

    Cost: no training. About 30 passes over the probabilities in a fit, and some ten fits.

    References
    ----------
    Liu, Tao. "Classification with Noisy Labels by Importance Reweighting". IEEE TPAMI 2016, arXiv
    1411.7718, and Patrini et al. CVPR 2017, for rows of one class almost surely that identify the
    noise; Northcutt, Jiang, Chuang. JAIR 2021, arXiv 1911.00068, for counting errors out of fold.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import cross_val_predict
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skinfluence import estimate_label_errors
    >>> from skinfluence.datasets import make_noisy_labels
    >>> X, y = load_digits(return_X_y=True)
    >>> given, is_noisy = make_noisy_labels(y, rate=0.1, random_state=0)  # 180 of 1,797
    >>> model = KNeighborsClassifier(15)
    >>> probabilities = cross_val_predict(model, X, given, cv=5, method="predict_proba")
    >>> errors = estimate_label_errors(probabilities, given)
    >>> errors.interval[0] < 180 < errors.interval[1]
    True
    >>> bool(is_noisy[errors.flagged(0.1)].mean() > 0.85)
    True
    """
    logits, codes = _checked(probabilities, y)
    link = fit_link(logits, codes)
    low, high = (
        rate_limit(link, lambda rate: fit_link(logits, codes, link, rate), top)
        for top in (0.0, highest_rate(logits.shape[1]))
    )
    disagree = logits.argmax(1) != codes
    clean, other = link.clean(logits), link.clean(logits)
    other[np.arange(len(codes)), codes] = 0
    spread = learn_spread(clean, codes, link.rate)
    p_wrong = wrong_given(clean, codes, link.rate, spread)
    cautious, bold = low.wrong(logits, codes), high.wrong(logits, codes)
    share = disagree.mean()
    top = np.sort(clean.max(1))
    certainty = float(top[int((1 - _CERTAIN_SHARE) * len(top)) :].mean())
    explains = low.rate > 0 and link.rate >= _KNOWN_PART * share
    is_known = bool(share <= _FEW or (explains and certainty >= _CERTAIN))
    interval = _interval(cautious, bold)
    if not is_known:
        interval = interval[0], max(interval[1], float(disagree.sum()))
    return LabelErrors(
        p_wrong=p_wrong,
        expected=float(p_wrong.sum()),
        interval=interval,
        noise_rate=link.rate,
        noise_rate_interval=(low.rate, high.rate),
        transitions=spread.transitions(link.rate),
        is_known=is_known,
        certainty=certainty,
        other=other.argmax(1),
        p_other=other.max(1),
        _cautious=cautious,
    )


def estimate_target_errors(predicted: ArrayLike, y: ArrayLike) -> LabelErrors:
    """Estimate how likely each given number is wrong, from predictions out of sample.

    Parameters
    ----------
    predicted : array-like of shape (n_samples,)
        What models that were not trained on the row predict of it.
    y : array-like of shape (n_samples,)
        The numbers given.

    Returns
    -------
    LabelErrors
        As for `estimate_label_errors`, without `transitions`.

    Raises
    ------
    ValueError
        If shapes disagree, there are fewer than three rows, or a number is not finite.

    See Also
    --------
    estimate_label_errors : The same for classes.

    Notes
    -----
    **A wrong number is like one of another row; a right one has a residual of one law for all
    rows.** The density of a residual r at the target y is ``(1 - e) t(r / s) / s + e f(y)``, with t
    Student's of at least 5 degrees of freedom and f the normal density with the mean and the
    standard deviation of y; e, s and the degrees are those of the greatest likelihood. Numbers that
    are wrong by less than the targets' spread, such as a shift of all by one standard deviation,
    look like heavy tails and are missed; residuals that spread in some rows far more than in
    others look like errors. `is_known` is False where an e of zero is not refused.

    Examples
    --------
    >>> import numpy as np
    >>> from skinfluence import estimate_target_errors
    >>> rng = np.random.default_rng(0)
    >>> predicted = rng.normal(size=1000)
    >>> y = predicted + rng.normal(scale=0.1, size=1000)
    >>> y[:100] = rng.permutation(y[:100])
    >>> errors = estimate_target_errors(predicted, y)
    >>> errors.is_known and 75 < errors.expected < 125  # some are like what they were
    True
    """
    predicted, y = np.asarray(predicted, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if predicted.shape != y.shape or y.ndim != 1 or len(y) < 3:
        raise ValueError(
            f"Got predictions of shape {predicted.shape} for numbers of shape {y.shape}, but "
            "expected one of each a row, three rows at least."
        )
    check_finite(predicted, "predicted")
    check_finite(y, "y")
    residuals = y - predicted
    unit = np.median(np.abs(residuals)) / MEDIAN_OF_NORMAL or residuals.std() or 1.0
    residuals = residuals / unit
    other = norm.pdf(y, y.mean(), y.std() or 1.0) * unit
    law = fit_law(residuals, other)
    low, high = (
        rate_limit(law, lambda rate: fit_law(residuals, other, rate), top) for top in (0.0, 0.5)
    )
    p_wrong, cautious, bold = (each.wrong(residuals, other) for each in (law, low, high))
    return LabelErrors(
        p_wrong=p_wrong,
        expected=float(p_wrong.sum()),
        interval=_interval(cautious, bold),
        noise_rate=law.rate,
        noise_rate_interval=(low.rate, high.rate),
        transitions=None,
        is_known=low.rate > 0,
        certainty=None,
        other=predicted,
        p_other=p_wrong,
        _cautious=cautious,
    )


@dataclass(frozen=True)
class Law:
    """The law of residuals at right targets, and the rate of wrong ones."""

    scale: float
    rate: float
    freedom: float
    loss: float  # minus the log-likelihood

    def wrong(self, residuals: np.ndarray, other: np.ndarray) -> NDArray[np.float64]:
        """Give the probability that each target is wrong; `other`: densities of wrong ones."""
        right = (1 - self.rate) * t.pdf(residuals / self.scale, self.freedom) / self.scale
        return np.asarray(self.rate * other / np.maximum(right + self.rate * other, _TINY))


def fit_law(residuals: np.ndarray, other: np.ndarray, fixed: float | None = None) -> Law:
    """Fit scale, rate and degrees of freedom by the likelihood; the rate may be fixed."""

    def loss(values: np.ndarray) -> float:
        scale, rate, freedom = np.exp(values[0]), values[1], np.exp(values[2])
        right = (1 - rate) * t.pdf(residuals / scale, freedom) / scale
        return float(-np.log(np.maximum(right + rate * other, _TINY)).sum())

    limits = (0.0, 0.5) if fixed is None else (fixed, fixed)
    bounds = [(-5.0, 5.0), limits, tuple(np.log(_FREEDOM))]
    starts = _STARTS if fixed is None else (fixed,)
    found = [
        minimize(loss, (0.0, rate, np.log(10)), method="L-BFGS-B", bounds=bounds) for rate in starts
    ]
    best = min(found, key=lambda result: float(result.fun))
    return Law(float(np.exp(best.x[0])), float(best.x[1]), float(np.exp(best.x[2])), best.fun)


Fitted = TypeVar("Fitted", Link, Law)


def rate_limit(best: Fitted, refit: Callable[[float], Fitted], end: float) -> Fitted:
    """Refit at the rate, towards that end, where the likelihood has fallen by as much as it may."""

    def excess(rate: float) -> float:
        return 2 * (refit(rate).loss - best.loss) - _DROP

    if best.rate == end or excess(end) <= 0:
        return refit(end)
    return refit(float(brentq(excess, *sorted((best.rate, end)), xtol=_RATE_STEP)))


def _interval(cautious: np.ndarray, bold: np.ndarray) -> tuple[float, float]:
    """Add chance to what the ends of the rate's interval let expect."""
    # n rows do not show that a probability is nearer to 0 or 1 than this, by the rule of succession
    least = 1 / (len(bold) + 2)
    bounded = (np.clip(p, least, 1 - least) for p in (cautious, bold))
    chance = [_NORMAL * np.sqrt((p * (1 - p)).sum()) for p in bounded]
    low, high = cautious.sum() - chance[0], bold.sum() + chance[1]
    return float(max(low, 0)), float(min(high, len(bold)))


def _checked(probabilities: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Check both, and give centered logits and codes."""
    probabilities, labels = np.asarray(probabilities, dtype=np.float64), np.asarray(y)
    classes, codes = classes_and_codes(labels.reshape(-1))
    if labels.ndim != 1 or probabilities.shape != (len(labels), len(classes)):
        raise ValueError(
            f"Got probabilities of shape {probabilities.shape} for labels of shape {labels.shape} "
            f"with {len(classes)} classes, but expected a row a label and a column a class."
        )
    if len(classes) < 2:
        raise ValueError("Got labels of one class, but a wrong label is one of another class.")
    check_finite(probabilities, "probabilities")
    off = (probabilities < 0).any(1) | (np.abs(probabilities.sum(1) - 1) > 1e-3)
    if off.any():
        row = int(off.argmax())
        raise ValueError(
            f"Row {row} of the probabilities is {probabilities[row].tolist()}, but expected none "
            "below 0 and a sum of 1. Pass what predict_proba gives, not logits."
        )
    logits = np.log(np.maximum(probabilities, _TINY))
    return logits - logits.mean(1, keepdims=True), codes
