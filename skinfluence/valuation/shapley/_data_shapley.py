"""Data Shapley and Beta Shapley: the value of rows by retraining on subsets."""

from collections.abc import Callable
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.metrics import get_scorer

from skinfluence.methods._base import BaseDetrimentality
from skinfluence.rows._folds import check_validation_rule
from skinfluence.rows._parameters import (
    check_choice,
    check_number,
    check_parameter,
    check_positive_integer,
)
from skinfluence.rows._rows import ModelRows, Rows
from skinfluence.rows._weights import Weights
from skinfluence.storage._fingerprint import fingerprint, versions
from skinfluence.storage._work_file import WorkFile
from skinfluence.valuation._rows import as_given, coded_rows, score_or_swap
from skinfluence.valuation.shapley._semivalues import position_weights, sample_values
from skinfluence.valuation.shapley._utility import (
    ModelUtility,
    check_estimator_kind,
    default_estimator,
)


class DataShapley(BaseDetrimentality):
    """Score training rows by their Shapley value for any estimator, by retraining on subsets.

    Answers: does removing the row raise the validation score, over all orders of removal? Rows
    are added one by one in random orders, a model is trained after each, and the mean gain of
    a row is its value. It makes no use of gradients, and costs hundreds of times as many
    trainings as there are rows: it is for small data and fast models, and to judge others by.

    Parameters
    ----------
    estimator : estimator or None, default=None
        A scikit-learn classifier or regressor, a Pipeline that ends in one, or a skorch net; it
        is cloned. None for a logistic or ridge regression on standardised features,
        which are only scaled if sparse; of words (`default_net`), on rows of length one.
    method : {"tmc", "beta"}, default="tmc"
        "tmc": Shapley values, by truncated Monte Carlo. "beta": Beta Shapley, whose weights stress
        subsets of some sizes.
    alpha : float, default=16.0
        For "beta": the larger, the more small subsets count, where one row shows more.
    beta : float, default=1.0
        For "beta": the larger, the more large subsets count. (1, 1) is "tmc".
    scoring : str, callable or None, default=None
        A scikit-learn scorer, large = good. None for accuracy, or R2 for a regression. Nets are
        scored by what they predict.
    truncation : float or None, default=0.01
        Once five subsets in succession score this close to all rows, the rest of the permutation
        adds nothing. In units of the score; None trains to the end.
    max_permutations : int, default=500
        Stop after so many permutations.
    tolerance : float or None, default=1.05
        Stop earlier once the Gelman-Rubin statistic is not above this: the largest ratio, over
        all rows, of the spread between ten chains of permutations to that within one; looked
        at every ten permutations from the 50th on. None never stops earlier.
    validation : "cross" or float, default="cross"
        Used if fit gets no X_val: two folds of the training rows validate each other, or that
        share is held out and scored by the other rows. Then `detrimentality_` is a row's quantile
        within its fold. Trusted X_val, y_val are better: the labels of the folds are noisy, too.
    checkpoint : str, path or None, default=None
        A file, written anew after every ten permutations. If it exists, sampling goes on from
        it: after a crash, or with more `max_permutations`; all it holds count. Needs an integer
        `random_state`. Two folds have a file each, with ``-0`` and ``-1`` after the name's stem.
    n_jobs : int or None, default=None
        Permutations at a time, by joblib. It does not change the values.
    task : {"classification", "regression"}, optional
        What the targets are, where no net or estimator of your own says it. By default their
        values tell: floats with a fraction, or more than 20 distinct ones, are numbers.
    random_state : int, RandomState or None, default=None
        Seed of the permutations, the folds and every training. Global generators are neither used
        nor changed.
    verbose : int, default=0
        1 shows on stderr how far the fit is, and the time left. It does not change the result.

    Attributes
    ----------
    detrimentality_ : ndarray of shape (n_samples,)
        Minus the value, float64, in units of the score; without X_val, its quantile within the
        fold. Higher = more detrimental; the papers' sign is the opposite.
    ranking_ : ndarray of shape (n_samples,)
        Row numbers, most detrimental first.
    n_permutations_ : list of int
        Permutations sampled; one entry, or one a fold.
    gelman_rubin_ : list of ndarray
        The statistic every ten permutations, from the 50th on; one entry, or one a fold.
    classes_ : ndarray of shape (n_classes,)
        The labels, for a classifier.
    n_features_in_ : int
        For arrays and data frames.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        For data frames with string column names.

    Raises
    ------
    ValueError
        From fit: if a parameter is out of range, a score is not finite, or `checkpoint` belongs
        to other data or parameters.

    See Also
    --------
    KNNShapley : Exact and fast, for nearest neighbours.

    Notes
    -----
    With no row, a model knows the shares of the classes, or the mean of the target; with rows of
    one class, it always predicts that. The estimator must be able to learn from any two rows of
    different classes, or one row of a regression.

    With weights of rows, one on the mean, models of subsets are trained with those of their rows,
    as `sample_weight` of the estimator's fit (of a Pipeline's last step), and a row with its weight
    is one player: its value is what all of it is worth, nothing for a weight of zero.

    Cost: ``max_permutations * n_samples`` trainings at most, fewer with truncation. Linear
    algebra of scikit-learn runs on one thread while a permutation is sampled, so that the values
    do not depend on how many there are. New rows cannot be scored.

    References
    ----------
    Ghorbani, Zou. "Data Shapley: Equitable Valuation of Data for Machine Learning". ICML 2019,
    arXiv 1904.02868, algorithm 1.

    Kwon, Zou. "Beta Shapley: a Unified and Noise-reduced Data Valuation Framework for Machine
    Learning". AISTATS 2022, arXiv 2110.14049, equations 4 and 5.

    Examples
    --------
    >>> from skinfluence import DataShapley
    >>> X, y = [[0.0], [0.1], [1.0], [1.1], [0.2]], [0, 0, 1, 1, 1]  # the last label is wrong
    >>> method = DataShapley(max_permutations=50, random_state=0)
    >>> int(method.fit(X, y, X_val=[[0.05], [0.5], [1.2]], y_val=[0, 0, 1]).ranking_[0])
    4
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        method: str = "tmc",
        alpha: float = 16.0,
        beta: float = 1.0,
        scoring: str | Callable[[Any, Any, Any], float] | None = None,
        truncation: float | None = 0.01,
        max_permutations: int = 500,
        tolerance: float | None = 1.05,
        validation: str | float = "cross",
        checkpoint: str | Path | None = None,
        n_jobs: int | None = None,
        task: str | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.method = method
        self.alpha = alpha
        self.beta = beta
        self.scoring = scoring
        self.truncation = truncation
        self.max_permutations = max_permutations
        self.tolerance = tolerance
        self.validation = validation
        self.checkpoint = checkpoint
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.task = task
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_estimator_kind(self.estimator)
        check_choice("method", self.method, ("tmc", "beta"))
        check_number("alpha", self.alpha, low=0, open=True)
        check_number("beta", self.beta, low=0, open=True)
        if self.truncation is not None:
            check_number("truncation", self.truncation, low=0)
        if self.tolerance is not None:
            check_number("tolerance", self.tolerance, low=1, fix="Chains that agree have 1.")
        check_positive_integer("max_permutations", self.max_permutations)
        check_validation_rule(self.validation)
        if self.checkpoint is not None:
            self._check_checkpoint(Path(self.checkpoint))

    def _check_checkpoint(self, path: Path) -> None:
        check_parameter(
            "random_state",
            self.random_state,
            "an integer together with checkpoint",
            holds=lambda value: isinstance(value, Integral),
            fix="Another fit could not draw the same permutations otherwise.",
        )
        check_parameter(
            "checkpoint",
            str(path),
            "a file in a folder that exists",
            holds=lambda _: path.parent.is_dir() and not path.is_dir(),
        )

    def _needs_validation(self) -> bool:
        return True

    def _trains_folds(self, X_val: object) -> bool:
        """Leave the folds to `_fit_scores`, which splits rows whose classes are numbered."""
        return False

    def _prepare(self, rows: Rows, validation: Rows | None) -> tuple[ModelRows, ModelRows | None]:
        return coded_rows(self, rows, validation)

    def _takes_weights(self) -> bool:
        return True

    def _fit_scores(self, rows: ModelRows, validation: ModelRows | None) -> NDArray[np.float64]:
        self.n_permutations_: list[int] = []
        self.gelman_rubin_: list[NDArray[np.float64]] = []
        self._has_folds = validation is None
        rule, seed = self.validation, self._seeds[1]
        weights = self._training_weights
        return score_or_swap(self._scores, rows, validation, weights, rule=rule, seed=seed)

    def _scores(
        self, rows: ModelRows, validation: ModelRows, weights: Weights, judging_weights: Weights
    ) -> NDArray[np.float64]:
        utility = replace(
            self._utility(rows, validation), weights=weights, judging_weights=judging_weights
        )
        suffix = f"-{len(self.n_permutations_)}" if self._has_folds else ""
        alpha, beta = (1, 1) if self.method == "tmc" else (self.alpha, self.beta)
        progress = sample_values(
            utility,
            position_weights(len(rows.targets), alpha, beta),
            truncation=self.truncation,
            max_permutations=self.max_permutations,
            tolerance=self.tolerance,
            seed=self._seeds[0],
            n_jobs=self.n_jobs,
            file=self._file(suffix, utility, alpha, beta),
        )
        self.n_permutations_.append(progress.n_permutations)
        self.gelman_rubin_.append(np.array(progress.statistics))
        return -progress.values

    def _utility(self, rows: ModelRows, validation: ModelRows) -> ModelUtility:
        classes = getattr(self, "classes_", None)
        scoring = self.scoring
        if scoring is None:
            scoring = "r2" if classes is None else "accuracy"
        estimator = self.estimator
        if estimator is None:
            estimator = default_estimator(rows.inputs, regression=classes is None)
        given, judging = (
            ModelRows(r.inputs, as_given(self, r.targets)) for r in (rows, validation)
        )
        scorer = scoring if callable(scoring) else get_scorer(scoring)
        return ModelUtility(estimator, given, judging, classes, scorer, self._seeds[2])

    def _file(
        self, suffix: str, utility: ModelUtility, alpha: float, beta: float
    ) -> WorkFile | None:
        """Find where sums are kept, by all that the gain of a permutation depends on."""
        if self.checkpoint is None:
            return None
        path = Path(self.checkpoint)
        unfitted = replace(utility, estimator=clone(utility.estimator))
        settings = [alpha, beta, self.truncation, self._seeds[0]]
        return WorkFile.of_parameter(
            "checkpoint",
            path.with_stem(path.stem + suffix),
            fingerprint([unfitted, settings, versions()]),
            kind="DataShapley",
            inputs="X, y, sample_weight, X_val, y_val, estimator, method, alpha, beta, scoring, "
            "truncation, validation and random_state",
        )
