"""Whether errors of a user's own data would be found: further ones are planted, and looked for."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from skinfluence.exceptions import UnknownErrorsWarning
from skinfluence.methods._label_errors import LabelErrors
from skinfluence.methods._suspects import label_errors_of
from skinfluence.rows._parameters import check_parameter, is_real
from skinfluence.rows._seeds import draw_seeds, seed_unset
from skinfluence.rows._targets import check_targets, classes_and_codes

_OF_CLASSES = ("symmetric", "pair", "unsure")
_OF_NUMBERS = ("permuted", "shifted")
# The rows that are flagged at a rate may hold more false alarms by chance.
_MORE = 1.2
_NEAR = 1 / 3


class PlantedErrors(NamedTuple):
    """What became of errors of one kind that were planted on top of what is there.

    Attributes
    ----------
    kind : str
        How they were planted.
    n_planted : int
        How many.
    n_counted : float
        By how much more errors are expected than before.
    n_flagged : int
        How many rows are flagged, planted or not.
    found : float
        Which share of those planted is among the flagged.
    false_alarms : float
        The share of the flagged rows that is rightly labelled, where rows not planted are as likely
        wrong as was said before planting; 0 if none is flagged.
    holds : bool
        Whether `n_counted` is within a third of `n_planted`, and `false_alarms` at most 1.2 times
        the rate.
    """

    kind: str
    n_planted: int
    n_counted: float
    n_flagged: int
    found: float
    false_alarms: float
    holds: bool


def check_label_errors(
    method: Any,
    X: Any,
    y: Any,
    *,
    kinds: Sequence[str] | None = None,
    share: float = 0.1,
    rate: float = 0.1,
    random_state: Any = None,
) -> list[PlantedErrors]:
    """Plant further errors in labels of your own, and look whether they are found.

    Parameters
    ----------
    method : BaseDetrimentality
        What has `label_errors_` when it is fitted, such as `OutlierGradientDetector()`; cloned.
    X : array-like of shape (n_samples, n_features)
        What the method takes.
    y : array-like of shape (n_samples,)
        The labels, or numbers, given, with the errors that they have.
    kinds : sequence of str, optional
        Of labels, "symmetric" (to another class, all alike), "pair" (to the next class) and
        "unsure" (rows in proportion to the probability of the best other class, to that); of
        numbers, "permuted" (to that of another row) and "shifted" (a standard deviation up or
        down). By default all that suit.
    share : float, default=0.1
        Of the rows, in (0, 0.5], how many are planted.
    rate : float, default=0.1
        The rate of false alarms at which rows are flagged.
    random_state : int, RandomState or None, default=None
        Seed of what is planted, and of the method if its own is None.

    Returns
    -------
    list of PlantedErrors
        One a kind. A kind that does not hold is warned of: the labels may have errors of that kind,
        and nothing that was estimated would say so.

    Raises
    ------
    ValueError
        If a parameter is out of range, or the method has no `label_errors_`.

    Notes
    -----
    What is planted is known; what was there is not, and is taken as `label_errors_` had it before.
    So a check that fails says that the estimate cannot be trusted, and one that holds does not
    prove it: where models are confident and wrong, errors that were there and are none stay hidden.
    "unsure" errors look like hard rows, and are missed on most data.

    Cost: one fit of the method, and one for every kind.

    Examples
    --------
    >>> import warnings
    >>> from sklearn.datasets import load_iris
    >>> from skinfluence import OutlierGradientDetector, check_label_errors
    >>> X, y = load_iris(return_X_y=True)
    >>> method = OutlierGradientDetector(committee=["kernels"], random_state=0)
    >>> found, = check_label_errors(method, X, y, kinds=["symmetric"], random_state=0)
    >>> found.kind, found.n_planted
    ('symmetric', 15)
    """
    given = check_targets(y, len(y))
    holds = "a share in (0, 1)"
    check_parameter("rate", rate, holds, holds=lambda v: is_real(v) and bool(0 < v < 1))
    holds = "a share of the rows in (0, 0.5]"
    check_parameter("share", share, holds, holds=lambda v: is_real(v) and bool(0 < v <= 0.5))
    planting_seed, method_seed = draw_seeds(random_state, 2)
    method = clone(method)
    if random_state is not None:
        seed_unset(method, method_seed, deep=False)
    before = label_errors_of(clone(method).fit(X, given))
    possible = _OF_NUMBERS if before.transitions is None else _OF_CLASSES
    kinds = possible if kinds is None else list(kinds)
    for kind in kinds:
        check_parameter("kinds", kind, f"some of {possible}", holds=lambda v: v in possible)
    found = []
    for kind in kinds:
        planted, rows = _plant(kind, given, share, before, np.random.default_rng(planting_seed))
        fitted = clone(method).fit(X, planted)
        after = label_errors_of(fitted)
        flagged = after.flagged(rate, fitted.ranking_)
        found.append(_compare(kind, (before, after), rows, flagged, rate))
    failed = [each.kind for each in found if not each.holds]
    if failed:
        warnings.warn(
            f"Planted errors of kind {', '.join(failed)} were not counted or flagged as promised, "
            "so that the labels may hold such errors unseen.",
            UnknownErrorsWarning,
            stacklevel=2,
        )
    return found


def _plant(
    kind: str, given: np.ndarray, share: float, errors: LabelErrors, rng: np.random.Generator
) -> tuple[np.ndarray, NDArray[np.intp]]:
    """Give targets with further errors, and the rows that got one."""
    n = len(given)
    number = max(1, round(share * n))
    weights = None
    if kind == "unsure":
        weights = errors.p_other + 1e-9
        weights = weights / weights.sum()
    rows = np.sort(rng.choice(n, number, replace=False, p=weights))
    planted = given.copy()
    if kind == "permuted":
        planted[rows] = given[np.roll(rows, 1)]  # a cycle: none keeps its own
    elif kind == "shifted":
        planted = planted.astype(np.float64)
        planted[rows] += given.std() * rng.choice([-1, 1], number)
    else:
        classes, codes = classes_and_codes(given)
        step = rng.integers(1, len(classes), number) if kind == "symmetric" else 1
        new = (codes[rows] + step) % len(classes)
        planted[rows] = classes[errors.other[rows] if kind == "unsure" else new]
    return planted, rows


def _compare(
    kind: str,
    errors: tuple[LabelErrors, LabelErrors],
    rows: NDArray[np.intp],
    flagged: NDArray[np.intp],
    rate: float,
) -> PlantedErrors:
    """Hold what is said after planting against what was said before."""
    before, after = errors
    right = 1 - before.p_wrong
    right[rows] = 0
    n_counted = after.expected - float(np.delete(before.p_wrong, rows).sum())
    false_alarms = float(right[flagged].mean()) if len(flagged) else 0.0
    near = abs(n_counted / len(rows) - 1) <= _NEAR
    return PlantedErrors(
        kind=kind,
        n_planted=len(rows),
        n_counted=n_counted,
        n_flagged=len(flagged),
        found=float(np.isin(rows, flagged).mean()),
        false_alarms=false_alarms,
        holds=bool(near and false_alarms <= _MORE * rate),
    )
