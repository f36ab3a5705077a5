"""Scores with a unit: p-values among held-out rows that look clean."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Tags, get_tags
from sklearn.utils.validation import check_is_fitted

from skinfluence.gradients._skorch import is_net
from skinfluence.methods._base import BaseDetrimentality
from skinfluence.methods._blocks import by_blocks, is_lazy
from skinfluence.methods._cross_fitting import strata_of
from skinfluence.methods._label_errors import estimate_label_errors
from skinfluence.methods._p_values import (
    Reference,
    held_out_p_values,
    p_values,
    reference_of,
)
from skinfluence.methods._parts import fit_part, scores_by
from skinfluence.nets._predictions import check_given_net_has_classes
from skinfluence.rows._containers import check_finite
from skinfluence.rows._folds import FEW_ROWS, check_cv, folds_of
from skinfluence.rows._parameters import check_parameter, is_integer, is_real
from skinfluence.rows._pipelines import final_step, seeded_method, takes_raw
from skinfluence.rows._progress import told
from skinfluence.rows._rows import ModelRows, Rows
from skinfluence.rows._targets import check_class_labels, classes_and_codes
from skinfluence.rows._worst_rows import number_of_rows
from skinfluence.trace._callbacks import number_folders

_JUDGES = (
    "OutlierGradientDetector (with NormDetector or another detector that scores new rows), TracIn, "
    "LossScore, SelfConfidence, NormalizedMargin, ConfidenceWeightedEntropy, EL2N, GraNd; with "
    "X_val and y_val also InnerProductInfluence, InfluenceFunction and MirroredInfluence"
)


class CalibratedDetrimentality(BaseDetrimentality):
    """Turn a method's scores into p-values: how few clean-looking rows score as high.

    Answers the method's question, in a unit that methods, nets and data sets share. For each fold
    the method is fitted on the other rows. The held-out rows whose given label is the one the
    fold's net predicts, on the mean over the checkpoints that the method records, look clean;
    every held-out row is placed among them. `label_errors_` says how likely each label is wrong,
    how many are, and which to flag at a stated rate of false alarms; `expected_errors` how many
    wrong labels to expect among the worst rows.

    Parameters
    ----------
    method : BaseDetrimentality or Pipeline
        Any that trains a classifier and can judge new rows, with `cv=None`, or a Pipeline that ends
        in one, whose steps are fitted in each fold; cloned.
    cv : int or splitter, default=5
        Number of folds, stratified by the given label, or what has scikit-learn's `split`,
        holding out every row once; of whole groups where fit gets `groups`.
    random_state : int, RandomState or None, default=None
        Seed of the folds, and of the method if its own is None.
    verbose : int, default=0
        1 shows on stderr how far the fit is, and the time left. It does not change the result.

    Attributes
    ----------
    p_values_ : ndarray of shape (n_samples,)
        Float64, in (0, 1]. Lower = more detrimental.
    detrimentality_ : ndarray of shape (n_samples,)
        ``1 - p_values_``, in [0, 1): the share of clean-looking rows that score lower.
        Higher = more detrimental.
    ranking_ : ndarray of shape (n_samples,)
        Row numbers, most detrimental first.
    looks_clean_ : ndarray of shape (n_samples,)
        True where the net that did not see the row predicts its given label.
    label_errors_ : LabelErrors
        What the held-out nets' probabilities say of the labels (`estimate_label_errors`): `p_wrong`
        of every row, the number to expect with an interval, and
        ``label_errors_.flagged(0.1, ranking_)``.
    folds_ : list of BaseDetrimentality or Pipeline
        The methods fitted on each fold's training rows.
    oof_probabilities_ : ndarray of shape (n_samples, n_classes)
        The probability of each of `classes_`, by the net that did not see the row.
    net_ : list of NeuralNet
        Their nets.
    trace_ : list of TrainingTrace
        Their traces, for methods that record one.
    classes_ : ndarray of shape (n_classes,)
        The labels.
    n_features_in_ : int
        For arrays and data frames.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        For data frames with string column names.

    Raises
    ------
    TypeError
        At fit, if `method` is no detrimentality method.
    ValueError
        At fit, if the method cannot judge new rows, splits the rows itself, has a frozen net or
        one that is no classifier, or a class has fewer rows than there are folds.

    See Also
    --------
    DetrimentalityUnion : Several methods on one training, merged by rank.

    Notes
    -----
    With n the number of the fold's other clean-looking rows, the p-value of a row is
    ``(1 + #{of these, score >= its score}) / (1 + n)``: ties count against the row. It is valid
    for rows exchangeable with the clean-looking ones: for these, ``P(p <= t) <= t`` for t of at
    least ``1 / (1 + n)``. Rows whose label the net does not predict and that are beyond all n
    would tie at ``1 / (1 + n)``; they share the interval below in the order of their scores, so
    that the ranking is not lost, but there a p-value is an order and no probability. Where no
    held-out row looks clean, that leaves the order alone. Only the order of a fold's scores
    counts: any strictly increasing function of them gives the same.

    Rows that look clean were chosen by the net: p-values of rightly labelled rows that the net
    gets wrong are small, too. A regression has no predicted label to agree with, and is refused.
    New rows are scored by `score_detrimentality`; there is no ``transform``, which would score the
    training rows by nets that saw them, besides one that did not.

    Cost: `cv` fits of the method, and one forward pass over the rows for each checkpoint.

    References
    ----------
    Vovk. "Cross-conformal predictors". Annals of Mathematics and Artificial Intelligence 2015,
    arXiv 1208.0806.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skinfluence import CalibratedDetrimentality, LossScore
    >>> from skinfluence.datasets import make_noisy_labels
    >>> X, y = load_iris(return_X_y=True)
    >>> y_noisy, is_noisy = make_noisy_labels(y, rate=0.1, random_state=0)
    >>> method = CalibratedDetrimentality(LossScore(), cv=3, random_state=0).fit(X, y_noisy)
    >>> bool((method.p_values_[is_noisy] < 0.05).mean() > 0.8)
    True
    >>> method.expected_errors(10) <= 10
    True
    """

    def __init__(
        self, method: Any, *, cv: Any = 5, random_state: Any = None, verbose: int = 0
    ) -> None:
        self.method = method
        self.cv = cv
        self.random_state = random_state
        self.verbose = verbose

    @property
    def net(self) -> Any:
        """The method's net."""
        return getattr(final_step(self.method), "net", None)

    @property
    def task(self) -> str | None:
        """The method's task."""
        return getattr(final_step(self.method), "task", None)

    def expected_errors(self, budget: float) -> int:
        """Estimate how many of the most detrimental rows are mislabelled.

        Parameters
        ----------
        budget : int or float
            How many rows of `ranking_`, from the worst on, are to be inspected: a number of rows,
            or a share in [0, 1], rounded to the nearest number.

        Returns
        -------
        int
            From 0 to the budget; it never falls as the budget grows. The sum of the rows'
            probabilities of a wrong label, ``label_errors_.p_wrong``, rounded.

        Raises
        ------
        ValueError
            If `budget` is neither a share in [0, 1] nor a number of rows from 0 to n_samples.

        Notes
        -----
        What that rests on is said in `estimate_label_errors`: labels that are wrong on hard rows
        alone cannot be told from hard rows, and are not counted. Where
        ``label_errors_.is_known`` is False, the number is a lower bound at best; the interval of
        all rows is ``label_errors_.interval``. A net at the end of training is more confident than
        it should be: record checkpoints (``checkpoints=10``). Of one net on folds, 333 errors were
        expected of 200 in Adult, and 316 of 359 in digits (``benchmarks/results/label_errors.md``,
        one seed); the committee of `OutlierGradientDetector` is nearer to the truth on both.
        """
        check_is_fitted(self)
        n_rows = len(self.ranking_)
        check_parameter(
            "budget",
            budget,
            f"a share in [0, 1] as a float, or a number of rows from 0 to {n_rows} as an int",
            holds=lambda value: _is_budget(value, n_rows),
        )
        worst = self.ranking_[: number_of_rows(budget, n_rows)]
        return round(float(self.label_errors_.p_wrong[worst].sum()))

    def score_detrimentality(self, X: Any, y: Any = None) -> NDArray[np.float64]:
        """Score labelled rows as if they were training rows, without training on them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
        y : array-like of shape (n_samples,)
            Labels from `classes_`.

        Returns
        -------
        ndarray of shape (n_samples,)
            One less the p-value in each fold, on the mean over the folds. Higher = more
            detrimental.
        """
        check_is_fitted(self)
        if is_lazy(X):
            return by_blocks(self.score_detrimentality, X, y)
        rows = Rows.parse(self, X, y, reset=False)
        placed = [
            p_values(scores_by(fold, rows), reference)
            for fold, reference in zip(self.folds_, self._references, strict=True)
        ]
        return np.asarray(1 - np.mean(placed, axis=0))

    def _check_parameters(self) -> None:
        method = final_step(self.method)
        if not isinstance(method, BaseDetrimentality):
            raise TypeError(
                f"Got method={self.method!r}, but expected one of this package's methods, such as "
                "OutlierGradientDetector(), or a Pipeline that ends in one."
            )
        check_cv(self.cv)
        if self.cv is None:
            raise ValueError("Got cv=None, but p-values need held-out rows. Set cv to 5.")
        if not hasattr(clone(method), "score_detrimentality"):  # whatever it was fitted on
            raise ValueError(
                f"{type(method).__name__}, as it is set, cannot judge rows it was not fitted on, "
                f"so it has no scores of held-out rows to calibrate. Those that can: {_JUDGES}."
            )
        if "net" not in method.get_params(deep=False):
            raise ValueError(
                f"{type(method).__name__} trains no net, whose predictions would say which rows "
                f"look clean. Methods that do: {_JUDGES}."
            )
        if method._cross_validates():
            raise ValueError(
                f"Got a method with cv={method.cv!r}, but CalibratedDetrimentality holds out rows "
                "itself. Set the method's cv to None."
            )
        if isinstance(self.net, FrozenEstimator):
            raise ValueError(
                "The method's net is frozen, so that no rows would be held out of its training. "
                "Pass the net unfrozen."
            )

    def _check_validation(self, X_val: object) -> None:
        method = final_step(self.method)
        needs = method._needs_validation()
        if needs and X_val is None:
            raise ValueError(
                f"{type(method).__name__}, as it is set, needs trusted rows to judge held-out "
                "rows, but X_val is None. Call fit(X, y, X_val=..., y_val=...)."
            )
        if X_val is not None and not needs:
            raise ValueError(
                f"Got X_val, but {type(method).__name__} does not use validation rows as it "
                "is set. Leave X_val out, or choose parameters that use it."
            )

    def _trains_folds(self, X_val: object) -> bool:
        return True  # of the method, not of this estimator as the base would

    def _check_groups(self, groups: object, X_val: object) -> None:
        final_step(self.method)._check_groups(groups, X_val)

    def _training_scores(self, rows: Rows, validation: Rows | None) -> NDArray[np.float64]:
        strata_of(rows, self.net)  # says so if there is nothing to split by
        if is_net(self.net):
            check_given_net_has_classes(self.net)
        elif rows.is_numeric:
            raise ValueError(
                "Unknown label type: y is a numeric target, but rows look clean where their label "
                "is predicted. Pass classes, with task='classification' in the method if they are "
                "more than 20 floats; for a regression use the method's own cv, which gives "
                "quantiles."
            )
        assert rows.targets is not None
        y = check_class_labels(rows.targets)
        rows = replace(rows, targets=y)
        self.p_values_ = np.empty(len(y))
        self.looks_clean_ = np.empty(len(y), dtype=bool)
        self.classes_, codes = classes_and_codes(y)
        self.oof_probabilities_ = np.empty((len(y), len(self.classes_)))
        self.folds_: list[Any] = []
        self._references: list[Reference] = []
        folds = folds_of(y, cv=self.cv, seed=self._seeds[1], groups=rows.fold_groups)
        fewest = min(len(held) for _, held in folds)
        if fewest <= FEW_ROWS:
            raise ValueError(
                f"A fold of cv={self.cv!r} holds out {fewest} of {len(y)} rows, but a row's "
                f"p-value is its place among the others of its fold. Use fewer folds, of more than "
                f"{FEW_ROWS} rows each."
            )
        for train, held in told("folds", folds):
            fold = seeded_method(self.method, self._seeds[0])
            number_folders(final_step(fold).net, len(self.folds_))
            self.folds_.append(fit_part(fold, rows.part(train), validation))
            self._judge(fold, held, rows.part(held))
        self.label_errors_ = estimate_label_errors(self.oof_probabilities_, codes)
        methods = [final_step(fold) for fold in self.folds_]
        self.net_ = [method.net_ for method in methods]
        if hasattr(methods[0], "trace_"):
            self.trace_ = [method.trace_ for method in methods]
        return 1 - self.p_values_

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = get_tags(self.method).input_tags.sparse
        return tags

    def _takes_raw(self) -> bool:
        return takes_raw(self.method)

    def _keeps_groups_together(self) -> bool:
        return True

    def _takes_weights(self) -> bool:
        return bool(final_step(self.method)._takes_weights())

    def _fit_scores(self, rows: ModelRows, validation: ModelRows | None) -> None:
        raise NotImplementedError

    def _judge(self, fold: Any, held: np.ndarray, rows: Rows) -> None:
        """Place the rows held out of a fold."""
        rows, method = rows.seen_by(fold), final_step(fold)
        scores = scores_by(method, rows)
        check_finite(scores, "The score of held-out rows")
        probabilities = method._trained.class_probabilities(
            rows.inputs, getattr(method, "trace_", None)
        )
        labels = method._trained.labels
        codes = labels.encode(rows.targets)
        # a net may have outputs that no label belongs to, and classes in an order of its own
        of_classes = probabilities[:, labels.encode(self.classes_)]
        self.oof_probabilities_[held] = of_classes / of_classes.sum(1, keepdims=True)
        looks_clean = probabilities.argmax(1) == codes
        self._references.append(reference_of(scores, looks_clean))
        self.p_values_[held] = held_out_p_values(scores, looks_clean)
        self.looks_clean_[held] = looks_clean


def _is_budget(value: object, n_rows: int) -> bool:
    return is_real(value) and bool(0 <= value <= (n_rows if is_integer(value) else 1))
