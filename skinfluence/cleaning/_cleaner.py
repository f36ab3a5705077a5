"""Cleaner training sets."""

from dataclasses import replace
from typing import Any, Self

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from skinfluence.cleaning._base import BaseCleaner, check_trainable
from skinfluence.cleaning._clean_rows import Cleaned, Data, Model, TrainedModel
from skinfluence.methods._parts import fit_steps
from skinfluence.methods._told_fit import told_fit
from skinfluence.nets._judges import is_model
from skinfluence.nets._trained_net import TrainedNet, train_net
from skinfluence.rows._containers import check_inputs, is_table_or_images, select
from skinfluence.rows._interrupts import fit_whole
from skinfluence.rows._pipelines import as_last_step_sees, final_step, seeded_method
from skinfluence.rows._rows import Rows
from skinfluence.rows._seeds import draw_seeds, seeded, seeded_clone
from skinfluence.rows._targets import check_targets
from skinfluence.trace._callbacks import without_recorders


class DetrimentalSampleCleaner(BaseCleaner):
    """Remove or relabel the most detrimental training rows.

    Has scikit-learn's sampler interface `fit_resample`, so that it is a step of an
    `imblearn.pipeline.Pipeline`; it has no `transform`, because new rows are never removed.

    Parameters
    ----------
    method : BaseDetrimentality or Pipeline
        Gives the scores; cloned. A Pipeline that ends in a method gets `X` as it is, a table of
        mixed types with gaps, say. Its own `contamination`, if it has one, counts for nothing here.
    contamination : "auto", "disagreement", ("fdr", rate), float or int, default="auto"
        How many rows to treat: a share in [0, 1) or a number. "auto" takes as many as are expected
        to be wrong, where the method's `label_errors_` are known, as a committee's may be.
        Otherwise, and for numbers and `per_class`, it compares the shares 0, 1, 2, 5, 10, 20, 30
        and 40 % by cross-validation: of those whose loss on held-out rows is within one standard
        error of the lowest, the smallest. "disagreement" needs no further training:
        it takes the rows whose label is not the one that the method's net predicts on the mean of
        its checkpoints, or its committee out of sample. ("fdr", 0.1) takes as many rows as may be
        with 10 % of them rightly labelled (the false discovery rate), by the method's
        `label_errors_`, and none, with an `UnknownErrorsWarning`, where that cannot be known.
    action : {"remove", "relabel"}, default="remove"
        Drop the rows, or give them the label that `estimator`, trained on the other rows,
        predicts. Relabelling is for classes.
    per_class : bool, default=False
        Take the share or number of every class, in place of the worst rows of all.
    keep_minimum : int, default=1
        So many rows of every class (of all rows for a regression) are never removed.
    estimator : estimator, optional
        The model that "auto" trains to compare shares, and that relabels; by default the
        method's net, or the default net for a method without one, after the steps of a Pipeline.
    task : {"classification", "regression"}, optional
        What the targets are, where neither `method` nor `estimator` says it. By default their
        values tell: floats with a fraction, or more than 20 distinct ones, are numbers.
    cv : int, splitter or iterable, default=3
        Folds for "auto"; numbers are shuffled folds, stratified for classes, of whole groups
        where fit gets `groups`. A list of (training rows, held-out rows), as row numbers without
        one in common, or a splitter such as TimeSeriesSplit need not hold out every row.
    random_state : int, RandomState or None, default=None
        Seed of the folds and trainings of "auto", and of the method if its own is None.
    verbose : int, default=0
        1 shows on stderr how far the fit is, and the time left. It does not change the result.

    Attributes
    ----------
    sample_indices_ : ndarray of shape (n_kept,)
        The rows kept, ascending.
    removed_indices_ : ndarray of shape (n_removed,)
        The rows removed, most detrimental first.
    relabelled_ : ndarray of shape (n_relabelled,)
        The rows whose label was changed, ascending.
    method_ : BaseDetrimentality or Pipeline
        Fitted on all rows.
    contamination_ : float, int, "disagreement" or ("fdr", rate)
        The amount taken; that chosen by "auto".
    losses_ : dict of float to float
        With "auto" by cross-validation, the mean held-out loss after each share.
    n_trainings_ : int
        How often the method was fitted and models were trained.
    n_features_in_ : int
        For arrays and data frames.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        For data frames with string column names.

    Raises
    ------
    ValueError
        From fit: if a parameter is out of range, or the amount would leave less than
        `keep_minimum` rows of a class.

    See Also
    --------
    CleanedClassifier, CleanedRegressor : A model trained on what is kept.

    Notes
    -----
    The loss of "auto" is the share of wrong predictions for classes, and the absolute error for a
    regression. Held-out rows keep their given labels, wrong ones among them: a wrong label is
    predicted by neither model, so it costs both the same, whereas a log-loss would favor the model
    that has learnt to expect wrong labels. Removing too much hurts: if in doubt, this rule takes
    less.

    Scores of a training part are of a method fitted on that part alone, so that held-out labels
    have no say in what is removed. Of a part, the same share of `keep_minimum` stays, rounded up.

    Whether targets are classes is said by `task`, here or of the method, or by the class of a net
    or `estimator`; if these contradict each other, it is an error.

    A net trained on a wrong label soon repeats it, so new labels are those of a model that never
    saw the rows in doubt.

    "disagreement" also takes right labels of rows that are hard to predict, which harms models that
    could learn them (``benchmarks/results/cleaning.md``): it suits data whose right labels are easy
    to predict, or labels as bad as those of one annotator. ("fdr", rate) leaves hard rows alone.

    Cost: one fit of the method; with "auto" by k folds, k more and at most 8 k trainings of the
    model. Relabelling trains it once, with "auto" at most 1 + 7 k times, besides
    (`n_trainings_`).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skinfluence import DetrimentalSampleCleaner, OutlierGradientDetector
    >>> from skinfluence.datasets import make_noisy_labels
    >>> X, y = load_iris(return_X_y=True)
    >>> y_noisy, is_noisy = make_noisy_labels(y, rate=0.1, random_state=0)
    >>> method = OutlierGradientDetector(random_state=0)
    >>> cleaner = DetrimentalSampleCleaner(method, contamination="disagreement")
    >>> X_clean, y_clean = cleaner.fit_resample(X, y_noisy)
    >>> bool(is_noisy[cleaner.sample_indices_].mean() < 0.03)
    True
    """

    def __init__(
        self,
        method: Any,
        *,
        contamination: float | str | tuple[str, float] = "auto",
        action: str = "remove",
        per_class: bool = False,
        keep_minimum: int = 1,
        estimator: Any = None,
        task: str | None = None,
        cv: Any = 3,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            method,
            contamination=contamination,
            action=action,
            per_class=per_class,
            keep_minimum=keep_minimum,
            cv=cv,
            random_state=random_state,
            verbose=verbose,
        )
        self.estimator = estimator
        self.task = task

    def fit(
        self, X: Any, y: Any = None, X_val: Any = None, y_val: Any = None, groups: Any = None
    ) -> Self:
        """Choose the rows.

        Parameters
        ----------
        X : data frame, array, mapping of arrays, or torch data set
            What the method takes.
        y : array-like of shape (n_samples,)
        X_val, y_val : like X and y, optional
            Trusted rows, for methods that use them; `ValidationRows` within a search.
        groups : array-like of shape (n_samples,), optional
            For the folds of "auto" and those of the method's `cv`, which keep the rows of a group
            together. A search gives them to its own folds alone, unless metadata routing is enabled
            and they are asked for by `set_fit_request(groups=True)`.

        Returns
        -------
        self
        """
        self._cleaned(X, y, X_val, y_val, groups)
        return self

    def fit_resample(
        self, X: Any, y: Any, X_val: Any = None, y_val: Any = None, groups: Any = None
    ) -> tuple[Any, Any]:
        """Choose the rows and return what is left.

        Parameters
        ----------
        X : data frame, array, mapping of arrays, or torch data set
            What the method takes.
        y : array-like of shape (n_samples,)
        X_val, y_val, groups : as for `fit`

        Returns
        -------
        X_kept, y_kept : like X and y
            In the containers given and the order of the rows.
        """
        cleaned = self._cleaned(X, y, X_val, y_val, groups)
        return select(X, cleaned.kept), select(cleaned.y, cleaned.kept)

    def _cleaned(self, X: Any, y: Any, X_val: Any, y_val: Any, groups: Any) -> Cleaned:
        fold_seed, model_seed, _ = draw_seeds(self.random_state, 3)
        net = getattr(final_step(self.method), "net", None)
        estimator = self.estimator
        if estimator is None and is_model(net) and not isinstance(net, FrozenEstimator):
            estimator = _in_place_of(self.method, net)
        if self.contamination == "auto" or self.action == "relabel":
            check_trainable(self.estimator)
            if self.estimator is None and isinstance(net, FrozenEstimator):
                raise ValueError(
                    "contamination='auto' and action='relabel' train models on some of the rows, "
                    "but the method's net is frozen. Give an unfitted model as estimator, or "
                    "remove an amount."
                )

        def train(data: Data, rows: np.ndarray, targets: Any) -> Model:
            if estimator is None:
                given = replace(data.rows.part(rows), targets=check_targets(targets, len(rows)))
                steps = seeded_method(self.method, model_seed)
                if given.is_raw:
                    given = _seen_through(steps, given)
                return _NetModel(train_net(without_recorders(net), given, model_seed), steps)

            def fit(X: Any, y: Any) -> Any:
                with seeded(model_seed):
                    return fit_whole(seeded_clone(estimator, model_seed), X, y)

            return TrainedModel(data.train(fit, rows, targets), data.translator)

        with told_fit(self):
            return self._clean((X, y, X_val, y_val), train, fold_seed, groups)[0]


def _in_place_of(method: Any, model: Any) -> Any:
    """Put a model at the place of the method, after the steps of a pipeline."""
    if not isinstance(method, Pipeline):
        return model
    return Pipeline([*method.steps[:-1], ("model", model)])


def _seen_through(pipeline: Any, rows: Rows) -> Rows:
    """Fit the steps before the method, and give rows as its net takes them."""
    seen, _ = fit_steps(pipeline, rows)
    return replace(seen, inputs=check_inputs(final_step(pipeline), seen.inputs, reset=True))


class _NetModel:
    """A trained net, after the steps of a pipeline, that takes and gives what the user does."""

    def __init__(self, trained: TrainedNet, steps: Any) -> None:
        self.trained, self.steps = trained, steps

    def predict(self, X: Any) -> np.ndarray:
        X = as_last_step_sees(self.steps, X)
        return self.trained.predict(np.asarray(X) if is_table_or_images(X) else X)
