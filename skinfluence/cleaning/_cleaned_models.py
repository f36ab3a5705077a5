"""Models trained on the rows that a method keeps."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context, get_config
from sklearn.base import ClassifierMixin, MetaEstimatorMixin, RegressorMixin
from sklearn.utils import Tags, get_tags
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    get_routing_for_object,
    process_routing,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skinfluence.cleaning._base import BaseCleaner, check_trainable
from skinfluence.cleaning._clean_rows import Data, Model, TrainedModel
from skinfluence.methods._told_fit import told_fit
from skinfluence.nets._weights import weight_parameters
from skinfluence.rows._containers import select
from skinfluence.rows._interrupts import fit_whole
from skinfluence.rows._seeds import draw_seeds, seeded, seeded_clone


class _Cleaned(MetaEstimatorMixin, BaseCleaner):
    """A model trained on what a method keeps; subclasses say what kind of model."""

    _actions = ("remove", "relabel", "weight")

    def __init__(
        self,
        estimator: Any,
        method: Any,
        *,
        contamination: float | str | tuple[str, float] = "auto",
        action: str = "remove",
        per_class: bool = False,
        keep_minimum: int = 1,
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

    def fit(
        self,
        X: Any,
        y: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        groups: Any = None,
        **fit_params: Any,
    ) -> Self:
        """Score the rows, clean them, and train the estimator on what is kept.

        Parameters
        ----------
        X : data frame, array, mapping of arrays, or torch data set
            What both the method and the estimator take: each gets it as it is.
        y : array-like of shape (n_samples,)
        X_val, y_val : like X and y, optional
            Trusted rows, for methods that use them; `ValidationRows` within a search. The
            estimator does not see them.
        groups : array-like of shape (n_samples,), optional
            For the folds of "auto" and those of the method's `cv`, which keep the rows of a group
            together; the estimator does not see them. A search gives them to its own folds alone,
            unless metadata routing is enabled and they are asked for by
            `set_fit_request(groups=True)`.
        **fit_params : dict
            For the estimator's fit, such as `sample_weight`; what has an entry for every row is
            cut to the rows kept. The scores do not know weights.

        Returns
        -------
        self
        """
        routed = fit_params
        if get_config()["enable_metadata_routing"]:
            routed = process_routing(self, "fit", **fit_params).estimator.fit
        check_trainable(self.estimator)
        _check_lengths(routed, y)
        fold_seed, seed, _ = draw_seeds(self.random_state, 3)

        def train(data: Data, rows: NDArray[np.intp], targets: Any) -> Any:
            weighted = self._with_weights(routed)
            params = {name: _cut(value, rows, len(data.rows)) for name, value in weighted.items()}
            # without a request, the name of a step brings weights to it
            unrouted = "sample_weight" not in params and self.action == "weight"

            def fit(X: Any, y: Any) -> Any:
                with seeded(seed), _unrouted() if unrouted else nullcontext():
                    return fit_whole(seeded_clone(self.estimator, seed), X, y, **params)

            return data.train(fit, rows, targets)

        def trained(data: Data, rows: NDArray[np.intp], targets: Any) -> Model:
            return TrainedModel(train(data, rows, targets), data.translator)

        if self.action == "weight":
            self._weights_name()  # says so if there is none, before anything is trained
        with told_fit(self):
            cleaned, data = self._clean((X, y, X_val, y_val), trained, fold_seed, groups)
            self.estimator_ = train(data, cleaned.kept, select(cleaned.y, cleaned.kept))
        self._model = TrainedModel(self.estimator_, data.translator)
        self.n_trainings_ += 1
        labels = None if data.translator is None else data.translator.labels
        if labels is not None:
            self.classes_ = labels.classes
        elif hasattr(self.estimator_, "classes_"):
            self.classes_ = self.estimator_.classes_
        return self

    def _weights_name(self) -> str:
        """Name the parameter by which the estimator's fit takes weights, or refuse it."""
        if get_config()["enable_metadata_routing"]:
            routing = get_routing_for_object(self.estimator)
            if routing.consumes("fit", ["sample_weight"]):
                return "sample_weight"
        return next(iter(weight_parameters(self.estimator, np.ones(1))))

    def _with_weights(self, routed: dict[str, Any]) -> dict[str, Any]:
        """Multiply weights that the estimator is given by how likely each label is right."""
        right = getattr(self, "sample_weight_", None)
        if right is None:
            return routed
        name = self._weights_name()
        given = routed.get(name)
        return {**routed, name: right if given is None else right * np.asarray(given)}

    def predict(self, X: Any) -> Any:
        """Predict with the estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self)
        return self._model.predict(X)

    def get_metadata_routing(self) -> MetadataRouter:
        """Route what `fit` takes beyond X_val, y_val and groups to the estimator.

        Returns
        -------
        MetadataRouter
        """
        mapping = MethodMapping().add(caller="fit", callee="fit")
        router = MetadataRouter(owner=self).add_self_request(self)
        return router.add(estimator=self.estimator, method_mapping=mapping)


def _unrouted() -> AbstractContextManager[None]:
    context: AbstractContextManager[None] = config_context(enable_metadata_routing=False)
    return context


def _check_lengths(fit_params: dict[str, Any], y: Any) -> None:
    """Refuse weights that are not one a row, before anything is trained."""
    for name, weights in fit_params.items():
        # those of a pipeline's steps, too; one number weighs all rows alike
        if name.split("__")[-1] != "sample_weight" or y is None or np.ndim(weights) == 0:
            continue
        shape, n_rows = np.shape(weights), len(np.asarray(y))
        if shape != (n_rows,):
            what = f"for {shape[0]} rows" if len(shape) == 1 else f"of shape {shape}"
            raise ValueError(
                f"Got {name} {what}, but X and y have {n_rows}. Expected one weight for every row "
                "given to fit."
            )


def _cut(value: Any, rows: NDArray[np.intp], n_rows: int) -> Any:
    """Cut what has an entry for every row."""
    shape = (len(value),) if isinstance(value, list | tuple) else getattr(value, "shape", ())
    return select(value, rows) if tuple(shape[:1]) == (n_rows,) else value


def _estimator_has(name: str) -> Callable[[Any], bool]:
    def has(estimator: Any) -> bool:
        getattr(getattr(estimator, "estimator_", estimator.estimator), name)
        return True

    return has


class CleanedClassifier(ClassifierMixin, _Cleaned):
    """A classifier trained on the rows that a detrimentality method keeps.

    Parameters
    ----------
    estimator : estimator
        Any scikit-learn classifier, or a skorch one; cloned. It gets rows and labels in the
        containers given, and a `random_state` it leaves unset is set. Labels of any
        kind are coded for a skorch net, also within a pipeline or a search, and predictions are
        labels; inputs are cast for a net alone.
    method : BaseDetrimentality or Pipeline
        Gives the scores; cloned. A Pipeline that ends in a method gets `X` as it is, a table of
        mixed types with gaps, say, as does `estimator`; they may be pipelines of other steps.
    contamination : "auto", "disagreement", ("fdr", rate), float or int, default="auto"
        How many rows to treat, as for `DetrimentalSampleCleaner`; "auto", where the method does not
        know how many labels are wrong, compares shares by training `estimator`.
    action : {"remove", "relabel", "weight"}, default="remove"
        Drop the rows, or give them the label that `estimator`, trained on the other rows,
        predicts. "weight" keeps all rows and fits `estimator` with `sample_weight`, the
        probability that the row's label is right (one less ``label_errors_.p_wrong``, of the
        method or by its predictions out of sample), times the weights given to fit, if any.
        Where metadata routing is enabled and `estimator` asks for `sample_weight`, they are handed
        on by it; else `estimator`, or the last step of a Pipeline, must take them in its fit.
    per_class : bool, default=False
        Take the share or number of every class, in place of the worst rows of all.
    keep_minimum : int, default=1
        So many rows of every class are never removed.
    cv : int, splitter or iterable, default=3
        Folds for "auto"; numbers are shuffled folds, stratified for classes, of whole groups where
        fit gets `groups`. A list of (training rows, held-out rows), as row numbers without one in
        common, or a splitter such as TimeSeriesSplit need not hold out every row.
    random_state : int, RandomState or None, default=None
        Seed of folds and trainings, and of the method if its own is None. A method that is to be
        cached (`memory`) needs an integer, here or there.
    verbose : int, default=0
        1 shows on stderr how far the fit is, and the time left. It does not change the result.

    Attributes
    ----------
    estimator_ : estimator
        Trained on the rows kept.
    method_ : BaseDetrimentality or Pipeline
        Fitted on all rows.
    sample_indices_, removed_indices_, relabelled_ : ndarray of int
        As for `DetrimentalSampleCleaner`, as are `contamination_` and `losses_`.
    sample_weight_ : ndarray of shape (n_samples,)
        With ``action="weight"``, how likely each label is right, float64, in [0, 1].
    n_trainings_ : int
        As there, with the training of `estimator_`.
    classes_ : ndarray of shape (n_classes,)
        The labels.
    n_features_in_ : int
        For arrays and data frames.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        For data frames with string column names.

    See Also
    --------
    DetrimentalSampleCleaner : The same as a sampler, with the details of "auto".

    Notes
    -----
    In a grid search, scores are against the labels of the test folds, wrong ones among them.

    Weights suit models that average over many rows. A tree grown until its leaves are pure fits a
    row of small weight as it does any other: on digits with 20 % of the labels flipped (one seed),
    one tree's accuracy rose from .63 to .65 by weights and to .82 by removal, a logistic
    regression's from .81 to .92 and to .95, a random forest's from .95 to .96 by either.

    Targets are classes here, floats too: a method without a net of its own gets a classifier.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skinfluence import CleanedClassifier, OutlierGradientDetector
    >>> X, y = load_iris(return_X_y=True)
    >>> method = OutlierGradientDetector(random_state=0)
    >>> model = CleanedClassifier(LogisticRegression(max_iter=500), method, contamination=5)
    >>> len(model.fit(X, y).removed_indices_)
    5
    """

    _implied_task = "classification"

    @available_if(_estimator_has("predict_proba"))
    def predict_proba(self, X: Any) -> Any:
        """Predict class probabilities with the estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        check_is_fitted(self)
        return self._model.predict_proba(X)

    @available_if(_estimator_has("decision_function"))
    def decision_function(self, X: Any) -> Any:
        """Compute the estimator's decision function.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
        """
        check_is_fitted(self)
        return self.estimator_.decision_function(X)


class CleanedRegressor(RegressorMixin, _Cleaned):
    """A regressor trained on the rows that a detrimentality method keeps.

    Parameters
    ----------
    estimator : estimator
        Any scikit-learn regressor, or a skorch one; cloned. It gets rows and targets in the
        containers given, and a `random_state` it leaves unset is set. A skorch net, also
        within a pipeline or a search, gets targets in the shape of its outputs; inputs are cast for
        a net alone.
    method : BaseDetrimentality or Pipeline
        Gives the scores; cloned. A Pipeline that ends in a method gets `X` as it is, a table of
        mixed types with gaps, say, as does `estimator`; they may be pipelines of other steps.
    contamination : "auto", ("fdr", rate), float or int, default="auto"
        How many rows to remove, as for `DetrimentalSampleCleaner`; "auto" compares shares by
        training `estimator`.
    action : {"remove", "weight"}, default="remove"
        Drop the rows, or weigh them, as for `CleanedClassifier`. Relabelling is for classes.
    per_class : bool, default=False
        For a regression all rows are one class.
    keep_minimum : int, default=1
        So many rows are never removed.
    cv : int, splitter or iterable, default=3
        Folds for "auto"; numbers are shuffled folds, stratified for classes, of whole groups where
        fit gets `groups`. A list of (training rows, held-out rows), as row numbers without one in
        common, or a splitter such as TimeSeriesSplit need not hold out every row.
    random_state : int, RandomState or None, default=None
        Seed of folds and trainings, and of the method if its own is None. A method that is to be
        cached (`memory`) needs an integer, here or there.
    verbose : int, default=0
        1 shows on stderr how far the fit is, and the time left. It does not change the result.

    Attributes
    ----------
    estimator_ : estimator
        Trained on the rows kept.
    method_ : BaseDetrimentality or Pipeline
        Fitted on all rows.
    sample_indices_, removed_indices_ : ndarray of int
        As for `DetrimentalSampleCleaner`, as are `contamination_` and `losses_`.
    sample_weight_ : ndarray of shape (n_samples,)
        With ``action="weight"``, how likely each label is right, float64, in [0, 1].
    n_trainings_ : int
        As there, with the training of `estimator_`.
    n_features_in_ : int
        For arrays and data frames.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        For data frames with string column names.

    See Also
    --------
    CleanedClassifier : The same for classes.

    Notes
    -----
    Targets are numbers here, whole ones too: a method without a net of its own gets a regressor.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from skinfluence import CleanedRegressor, LossScore
    >>> X = np.linspace(0, 1, 60)[:, None]
    >>> y = 3 * X[:, 0]
    >>> y[::20] += 10.5  # three corrupted targets
    >>> method = LossScore(random_state=0)
    >>> model = CleanedRegressor(LinearRegression(), method, contamination=3).fit(X, y)
    >>> sorted(model.removed_indices_.tolist())
    [0, 20, 40]
    """

    _implied_task = "regression"

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        multi_output = get_tags(self.estimator).target_tags.multi_output
        tags.target_tags.multi_output = multi_output
        return tags
