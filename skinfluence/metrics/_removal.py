"""What removing the most detrimental rows does to a model, against random removal."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student_t
from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import check_scoring
from sklearn.utils.parallel import delayed
from threadpoolctl import threadpool_limits

from skinfluence.exceptions import AmountError
from skinfluence.rows._containers import check_finite, n_samples_of, select
from skinfluence.rows._interrupts import fit_whole
from skinfluence.rows._parameters import (
    check_parameter,
    check_positive_integer,
    check_verbose,
    is_positive_number,
)
from skinfluence.rows._progress import bars_shown, told_results
from skinfluence.rows._rows import ModelRows
from skinfluence.rows._seeds import draw_seeds, own_random_state, seeded
from skinfluence.rows._targets import check_targets, classes_and_codes
from skinfluence.rows._worst_rows import number_of_rows, worst_rows

# Number of the seed, whether rows go at random, how many go.
_Key: TypeAlias = tuple[int, bool, int]
# Seed of the training, rows that go.
_Task: TypeAlias = tuple[int, NDArray[np.intp]]


class PairedDifference(NamedTuple):
    """Mean differences over seeds, with an interval.

    Attributes
    ----------
    mean : ndarray of shape (n_budgets,)
    low, high : ndarray of shape (n_budgets,)
        Ends of Student's interval for the mean.
    """

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RemovalCurve:
    """Scores of models trained without the most detrimental rows.

    Attributes
    ----------
    budgets : ndarray of shape (n_budgets,)
        Shares of the rows removed, as asked for; the first is 0.
    n_removed : ndarray of shape (n_budgets,)
        The numbers of rows they come to.
    scores : ndarray of shape (n_seeds, n_budgets)
        On the test rows, in the unit of the scoring; higher = better model. A row is one seed.
    random_scores : ndarray of shape (n_seeds, n_budgets) or None
        The same after removing as many rows at random; None without `control`.
    """

    budgets: NDArray[np.float64]
    n_removed: NDArray[np.intp]
    scores: NDArray[np.float64]
    random_scores: NDArray[np.float64] | None

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean score over the seeds, of shape (n_budgets,)."""
        return np.asarray(self.scores.mean(0))

    @property
    def random_mean(self) -> NDArray[np.float64]:
        """Mean score over the seeds after random removal, of shape (n_budgets,)."""
        return np.asarray(self._random().mean(0))

    def against_all_rows(self, *, level: float = 0.95) -> PairedDifference:
        """Compare each budget with training on all rows, seed by seed.

        Parameters
        ----------
        level : float, default=0.95
            Of Student's interval for the mean over seeds.

        Returns
        -------
        PairedDifference
            Of `mean`, `low` and `high`, each (n_budgets,). Positive = removal helped.

        Raises
        ------
        ValueError
            If there are fewer than two seeds, or `level` is not in (0, 1).
        """
        return paired_difference(self.scores, self.scores[:, :1], level=level)

    def against_random(self, *, level: float = 0.95) -> PairedDifference:
        """Compare each budget with random removal of as many rows, seed by seed.

        Parameters
        ----------
        level : float, default=0.95
            Of Student's interval for the mean over seeds.

        Returns
        -------
        PairedDifference
            Of `mean`, `low` and `high`, each (n_budgets,). Positive = better than random.

        Raises
        ------
        ValueError
            If there are fewer than two seeds, no control, or `level` is not in (0, 1).
        """
        return paired_difference(self.scores, self._random(), level=level)

    def _random(self) -> NDArray[np.float64]:
        if self.random_scores is None:
            raise ValueError(
                "This curve was made with control=False, so nothing is known of random removal. "
                "Call removal_curve with control=True."
            )
        return self.random_scores


def removal_curve(
    estimator: Any,
    X: Any,
    y: Any,
    detrimentality: ArrayLike,
    *,
    X_test: Any,
    y_test: Any,
    budgets: Iterable[float] = (0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4),
    n_seeds: int = 5,
    scoring: Any = None,
    control: bool = True,
    n_jobs: int | None = None,
    random_state: Any = None,
    verbose: int = 0,
) -> RemovalCurve:
    """Train a model without the most detrimental rows, budget by budget, and score it.

    Parameters
    ----------
    estimator : estimator
        A scikit-learn model, pipeline, or skorch net; cloned for every training.
    X : data frame, array, sparse matrix, mapping of arrays, or torch data set
        Training rows, as the estimator takes them; sparse ones reach it as CSR.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Their targets, wrong ones among them.
    detrimentality : array-like of shape (n_samples,)
        Higher = more detrimental. Ties are removed in the order of the rows, as in `ranking_`.
    X_test, y_test : like X and y
        Rows that no score has seen, preferably with clean labels.
    budgets : iterable of float, default=(0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4)
        Shares of the rows to remove, ascending from 0, each rounded to the nearest number of rows.
    n_seeds : int, default=5
        Trainings of everything. A seed sets every `random_state` of the estimator, set or not,
        and the global generators for what reads them, such as nets.
    scoring : str, callable or None, default=None
        A scorer or its name, as for scikit-learn's searches; None is the estimator's `score`.
    control : bool, default=True
        Whether to remove as many rows at random besides, drawn anew for every seed.
    n_jobs : int or None, default=None
        Processes that train. The result is the same for any number.
    random_state : int, RandomState or None, default=None
        Seed of the seeds. Global generators are neither used nor changed.
    verbose : int, default=0
        1 shows on stderr how far it is, and the time left. It does not change the result.

    Returns
    -------
    RemovalCurve
        Of `budgets`, `n_removed`, `scores` and `random_scores`.

    Raises
    ------
    ValueError
        If a budget would remove all rows of a class, naming both (`AmountError`); if shapes
        disagree, a parameter is out of range, or a model's score is no finite number.

    Notes
    -----
    Everything within a seed is paired: the same seed trains all budgets and the control, so that
    the luck of a seed drops out of `against_all_rows` and `against_random`. Their intervals are
    over seeds: they speak of this training set and these test rows. A model without randomness has
    the same score for every seed, and only its control varies.

    For a classifier, a random draw that would empty a class passes over the class's last row and
    takes the next; the scores' own order is never changed, so there it is an error.

    Cost: at most ``n_seeds * (2 * n_budgets - 1)`` trainings, half of that without control, each
    on one thread. Budgets that come to the same number of rows are trained once.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skinfluence.datasets import make_noisy_blobs
    >>> from skinfluence.metrics import removal_curve
    >>> data = make_noisy_blobs(random_state=0)
    >>> curve = removal_curve(
    ...     KNeighborsClassifier(1), data.X, data.y, data.is_noisy, X_test=data.X_test,
    ...     y_test=data.y_test, budgets=(0, 10 / 150), n_seeds=3, random_state=0,
    ... )
    >>> curve.n_removed, float(curve.mean[1])
    (array([ 0, 10]), 1.0)
    >>> bool(curve.against_random().low[1] > 0)
    True
    """
    _check_trainable(estimator)
    targets, scores = _checked(X, y, detrimentality)
    check_positive_integer("n_seeds", n_seeds)
    check_verbose(verbose)
    classifies = bool(is_classifier(estimator)) and targets.reshape(len(targets), -1).shape[1] == 1
    _, groups = classes_and_codes(targets.reshape(-1) if classifies else np.zeros(len(targets)))
    shares, sizes = _checked_budgets(budgets, len(scores))
    ranking = np.argsort(-scores, kind="stable")
    _check_no_class_is_emptied(ranking, groups, targets, shares, sizes)
    scorer = check_scoring(estimator, scoring)
    training = _Training(estimator, scorer, ModelRows(X, y), ModelRows(X_test, y_test))
    tasks: dict[_Key, _Task] = {}
    for number, seed, shuffled in _seeds(random_state, n_seeds, len(scores)):
        for size in sizes.tolist():
            tasks[number, False, size] = seed, ranking[:size]
            if control and size:
                drawn = worst_rows(shuffled, groups, size, keep_minimum=int(classifies))
                tasks[number, True, size] = seed, drawn
    with bars_shown(wanted=bool(verbose)):
        found = dict(zip(tasks, _run(training, list(tasks.values()), n_jobs), strict=True))
    return RemovalCurve(
        budgets=shares,
        n_removed=sizes,
        scores=_table(found, n_seeds, sizes, control=False),
        random_scores=_table(found, n_seeds, sizes, control=True) if control else None,
    )


def paired_difference(
    scores: NDArray[np.float64], others: NDArray[np.float64], *, level: float = 0.95
) -> PairedDifference:
    """Take the mean differences over seeds, which are the rows, with Student's intervals."""
    check_parameter(
        "level",
        level,
        "a float in (0, 1)",
        holds=lambda value: is_positive_number(value) and value < 1,
    )
    n_seeds = len(scores)
    if n_seeds < 2:
        raise ValueError(
            f"An interval over seeds needs at least two of them, got n_seeds={n_seeds}. Raise "
            "n_seeds; the differences themselves are in `scores`."
        )
    differences = scores - others
    mean = differences.mean(0)
    error = differences.std(0, ddof=1) / np.sqrt(n_seeds)
    half = student_t.ppf((1 + level) / 2, n_seeds - 1) * error
    return PairedDifference(mean, mean - half, mean + half)


def _seeds(
    random_state: object, n_seeds: int, n_rows: int
) -> Iterator[tuple[int, int, NDArray[np.intp]]]:
    """Draw, for each number, a seed of trainings and a random order of the rows."""
    seeds = draw_seeds(random_state, 2 * n_seeds)
    for number, (seed, draw_seed) in enumerate(zip(seeds[::2], seeds[1::2], strict=True)):
        yield number, seed, own_random_state(draw_seed).permutation(n_rows)


@dataclass(frozen=True)
class _Training:
    """Trains without some rows and scores; sent to other processes."""

    estimator: Any
    scorer: Callable[..., object]
    rows: ModelRows
    test: ModelRows

    def score_without(self, seed: int, removed: NDArray[np.intp]) -> float:
        """Train without the removed rows, on one thread, and score on the test rows."""
        X, y = self.rows
        kept = np.setdiff1d(np.arange(n_samples_of(X)), removed)
        with seeded(seed), threadpool_limits(1):  # rounding must not depend on n_jobs
            model = fit_whole(_with_seed(self.estimator, seed), select(X, kept), select(y, kept))
            score = self.scorer(model, *self.test)
        if not isinstance(score, Real) or not np.isfinite(float(score)):
            raise ValueError(
                f"The score of the model trained without {len(removed)} rows is {score!r}. "
                "Expected a finite number: choose a scoring with a single one that suits the "
                "test rows."
            )
        return float(score)


def _with_seed(estimator: Any, seed: int) -> Any:
    """Clone an estimator with one seed for every `random_state`, its steps' and parts' too."""
    names = estimator.get_params()
    seeds = {name: seed for name in names if name.split("__")[-1] == "random_state"}
    return clone(estimator).set_params(**seeds)


def _run(
    training: _Training,
    tasks: list[_Task],
    n_jobs: int | None,
) -> list[float]:
    trainings = (delayed(training.score_without)(*task) for task in tasks)
    return list(told_results("trainings", trainings, len(tasks), n_jobs))


def _table(
    found: dict[_Key, float],
    n_seeds: int,
    sizes: NDArray[np.intp],
    *,
    control: bool,
) -> NDArray[np.float64]:
    """Arrange scores; where nothing is removed, the control is the same model."""
    return np.array(
        [
            [found[number, control and size > 0, size] for size in sizes.tolist()]
            for number in range(n_seeds)
        ]
    )


def _check_trainable(estimator: object) -> None:
    if isinstance(estimator, FrozenEstimator):
        raise ValueError(
            f"Got the frozen estimator {estimator!r}, which cannot be trained on other rows. Pass "
            "the estimator itself; it is cloned, and trained anew for every budget."
        )


def _checked(
    X: object, y: object, detrimentality: ArrayLike
) -> tuple[np.ndarray, NDArray[np.float64]]:
    n_rows = n_samples_of(X)
    targets = check_targets(y, n_rows)
    scores = np.asarray(detrimentality, dtype=np.float64)
    if scores.shape != (n_rows,):
        raise ValueError(
            f"Got detrimentality of shape {scores.shape} for {n_rows} rows of X, but expected "
            f"({n_rows},): a method's detrimentality_ of these very rows."
        )
    check_finite(scores, "detrimentality")
    return targets, scores


def _checked_budgets(
    budgets: Iterable[float], n_rows: int
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    asked = list(budgets)
    for budget in asked:
        check_parameter(
            "budget",
            budget,
            "a share of the rows in [0, 1)",
            holds=lambda value: (
                value is not False and (value == 0 or (is_positive_number(value) and value < 1))
            ),
            fix="Divide a number of rows by n_samples.",
        )
    shares = np.array(asked, dtype=np.float64)
    if len(shares) == 0 or shares[0] != 0 or (np.diff(shares) <= 0).any():
        raise ValueError(
            f"Got budgets={tuple(asked)}, but expected shares ascending from 0: all others are "
            "compared with training on all rows. Start with 0 and sort them."
        )
    return shares, np.array([number_of_rows(share, n_rows) for share in asked], dtype=np.intp)


def _check_no_class_is_emptied(
    ranking: NDArray[np.intp],
    groups: NDArray[np.intp],
    targets: np.ndarray,
    shares: NDArray[np.float64],
    sizes: NDArray[np.intp],
) -> None:
    counts = np.bincount(groups)
    for share, size in zip(shares.tolist(), sizes.tolist(), strict=True):
        gone = np.flatnonzero(np.bincount(groups[ranking[:size]], minlength=len(counts)) == counts)
        if len(gone):
            label = targets.reshape(len(targets), -1)[np.flatnonzero(groups == gone[0])[0], 0]
            of_class = f" of class {label!r}" if len(counts) > 1 else ""
            raise AmountError(
                f"Budget {share} would remove all {counts[gone[0]]} rows{of_class}: the scores "
                "put them among the most detrimental. Leave out the larger budgets, or the class."
            )
