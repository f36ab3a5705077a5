"""Several methods on one training."""

from dataclasses import replace
from functools import reduce
from operator import or_
from time import perf_counter
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Tags, get_tags
from sklearn.utils.metaestimators import _BaseComposition, available_if
from sklearn.utils.validation import check_is_fitted

from skinfluence.methods._base import BaseDetrimentality
from skinfluence.methods._blocks import by_blocks, is_lazy
from skinfluence.methods._parts import fit_part
from skinfluence.methods._pool import pool_predictions
from skinfluence.nets._judges import Judge, is_model, judge_of, judges_by_folds
from skinfluence.nets._labels import name_classes, names_no_classes
from skinfluence.nets._trained_net import no_net, train_net, unfitted_net
from skinfluence.rows._containers import check_inputs
from skinfluence.rows._features import warn_of_leaky_features
from skinfluence.rows._folds import quantiles
from skinfluence.rows._parameters import check_contamination, check_parameter
from skinfluence.rows._pipelines import final_step, seeded_method, takes_raw
from skinfluence.rows._progress import told
from skinfluence.rows._rows import ModelRows, Rows
from skinfluence.rows._targets import classes_and_codes, one_label_a_row
from skinfluence.trace._needs import TraceNeeds
from skinfluence.trace._recorder import recorder_for

# What methods keep of rows that were judged by what was not trained on them.
_OUT_OF_SAMPLE = ("oof_probabilities_", "oof_predictions_")


def _pairs(methods: Any) -> Any:
    """Check that methods are a list of names and methods."""
    is_list = isinstance(methods, list | tuple)
    if is_list and all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in methods):
        return methods
    raise ValueError(
        f"Got methods={methods!r}, but expected a list of (name, method), such as "
        "[('loss', LossScore()), ('confidence', SelfConfidence())]. Name each method; of a dict, "
        "give list(methods.items())."
    )


def _all_judge_new_rows(union: "DetrimentalityUnion") -> bool:
    fitted = getattr(union, "methods_", None)
    methods = _pairs(union.methods) if fitted is None else list(fitted.items())
    return all(hasattr(method, "transform") for _, method in methods)


class DetrimentalityUnion(_BaseComposition, BaseDetrimentality):
    """Score training rows by several methods that share one training, a column each.

    Answers what its methods answer; compare them by `rank_correlation_`. Their mean rank or their
    votes are one score again.

    Parameters
    ----------
    methods : list of (str, BaseDetrimentality or Pipeline)
        Names and methods; cloned. Their parameters are the union's own as `name__parameter`, so
        that a grid search reaches them; a method is replaced as `name`. Methods without a net of
        their own share the union's, trained once with all that any of them needs recorded. Those
        that have one, need a special one (such as SGD), or split the rows for `cv` or in want of
        X_val, train their own, and so do `OutlierGradientDetector` its committee (with
        ``committee=None`` it shares) and the last step of a Pipeline, whose steps get the rows as
        they are given.
    net : NeuralNet, classifier, regressor, FrozenEstimator or None, default=None
        The net to share, as for `GradientEmbedding`; or a scikit-learn model, as for
        `SelfConfidence`, for methods that take one: it is trained once, and judges rows out of bag
        or out of five folds.
    aggregate : {"rank_mean", "vote", "pooled", None}, default="rank_mean"
        `detrimentality_` is the mean over the methods of a row's quantile, or the share of methods
        that have the row among their worst. "pooled" asks what the methods predict instead, out of
        sample: their logits are added with the weights that make the labels given likeliest, and
        the score is the norm of the loss gradient at the sum, as in the committee of
        `OutlierGradientDetector`; of numbers, the distance from the weighted sum. None makes no one
        score: there are `scores_` and the columns of `transform`, but neither `detrimentality_` nor
        `ranking_`.
    contamination : float, default=0.1
        Share of the rows, in (0, 0.5], that a method votes for.
    memory : joblib.Memory, str or None, default=None
        Cache of the shared training, as in a Pipeline: a folder, in which the trained parameters
        and the trace are kept by net, rows, targets and seed, so that a search over what the
        methods make of it trains one net a fold. Needs an integer `random_state` to find them
        again. A frozen net needs none; methods that train their own have a `memory` of their own.
    task : {"classification", "regression"}, optional
        What the targets are, where no net or estimator of your own says it. By default their
        values tell: floats with a fraction, or more than 20 distinct ones, are numbers.
    random_state : int, RandomState or None, default=None
        Seed of the training, and of methods whose own is None.
    verbose : int, default=0
        1 shows on stderr how far the fit is, and the time left. It does not change the result.

    Attributes
    ----------
    scores_ : ndarray of shape (n_samples, n_methods)
        Each method's `detrimentality_`, in its unit, float64. Higher = more detrimental.
    detrimentality_ : ndarray of shape (n_samples,)
        The aggregate, if there is one, float64, in [0, 1], but for "pooled". Higher = more
        detrimental.
    ranking_ : ndarray of shape (n_samples,)
        Row numbers by the aggregate, most detrimental first.
    methods_ : dict of str to BaseDetrimentality or Pipeline
        Fitted.
    timings_ : dict of str to float
        Seconds of each method, and of the shared training as "training".
    rank_correlation_ : ndarray of shape (n_methods, n_methods)
        Spearman's correlation of the columns; NaN for a column that is constant.
    net_ : NeuralNet, classifier or regressor
        The shared net or model, if any method shares it.
    oof_probabilities_, oof_predictions_ : ndarray of shape (n_samples, n_classes) or (n_samples,)
        What is predicted of rows by what was not trained on them: pooled, or of the first method
        that keeps it.
    classes_ : ndarray of shape (n_classes,)
        The labels, if any method classifies.
    n_features_in_ : int
        For arrays and data frames.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        For data frames with string column names.

    Raises
    ------
    ValueError
        At fit, if names repeat, are "training" or those of parameters, hold a double underscore,
        or there are no methods.

    Notes
    -----
    The mean rank counts every method alike, so that a weak one costs a strong one more than it
    adds: the default with a random forest's self-confidence falls behind the default
    (``benchmarks/results/joined_forest.md``). Where a method gets a weight by how well it predicts
    labels out of sample it does not: ``aggregate="pooled"``, or a model as a member of the
    default's committee, ``OutlierGradientDetector(committee=[..., ("forest", model)])``.

    Cost: one training for all that share it, and what each method costs without one.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skinfluence import DetrimentalityUnion, LossScore, SelfConfidence
    >>> X, y = load_iris(return_X_y=True)
    >>> methods = [("loss", LossScore()), ("confidence", SelfConfidence(checkpoints=5))]
    >>> union = DetrimentalityUnion(methods, random_state=0)
    >>> union.fit_transform(X, y).shape
    (150, 2)
    >>> list(union.timings_)
    ['training', 'loss', 'confidence']
    """

    def __init__(
        self,
        methods: Any,
        net: Any = None,
        *,
        aggregate: str | None = "rank_mean",
        contamination: float = 0.1,
        memory: Any = None,
        task: str | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.methods = methods
        self.net = net
        self.aggregate = aggregate
        self.contamination = contamination
        self.memory = memory
        self.task = task
        self.random_state = random_state
        self.verbose = verbose

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters, those of the methods among them.

        Parameters
        ----------
        deep : bool, default=True
            Add the methods by their names, and their parameters as `name__parameter`.

        Returns
        -------
        dict of str to object
        """
        parameters: dict[str, Any] = self._get_params("methods", deep=deep)
        return parameters

    def set_params(self, **params: Any) -> Self:
        """Set parameters, replace methods by name, or set their parameters.

        Parameters
        ----------
        **params : dict of str to object
            As from `get_params`.

        Returns
        -------
        self
        """
        self._set_params("methods", **params)
        return self

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
        """Fit all methods and return the scores of the training rows at their given labels.

        Not the same as ``fit(X, y).transform(X)``, which uses predicted labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            As for `fit`.
        y : array-like of shape (n_samples,)
            As for `fit`.
        X_val, y_val : like X and y, optional
            For methods that need them.
        groups : array-like of shape (n_samples,), optional
            For methods with `cv`.
        sample_weight : array-like of shape (n_samples,) or float, optional
            As for `fit`; every method must take it.

        Returns
        -------
        ndarray of shape (n_samples, n_methods)
            `scores_`. Higher = more detrimental.
        """
        warn_of_leaky_features(self, "the scores")
        given: dict[str, Any] = {"groups": groups, "sample_weight": sample_weight}
        scores: NDArray[np.float64] = self.fit(X, y, X_val, y_val, **given).scores_
        return scores

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Score rows at their predicted labels, by every method.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)

        Returns
        -------
        ndarray of shape (n_samples, n_methods)
            Higher = more detrimental.
        """
        check_is_fitted(self)
        if is_lazy(X):
            return by_blocks(self.transform, X, n_columns=len(self.methods_))
        X = check_inputs(self, X, reset=False)
        return np.hstack([method.transform(X) for method in self.methods_.values()])

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Name the columns.

        Parameters
        ----------
        input_features : object, optional
            Not used.

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self)
        return np.array(list(self.methods_), dtype=object)

    def _check_parameters(self) -> None:
        check_parameter(
            "aggregate",
            self.aggregate,
            '"rank_mean", "vote", "pooled" or None',
            holds=lambda value: value in {"rank_mean", "vote", "pooled", None},
        )
        check_contamination(self.contamination)
        names = [name for name, _ in _pairs(self.methods)]
        taken = {"training", *self.get_params(deep=False)}
        nested = any("__" in name for name in names)
        if not names or len(set(names)) < len(names) or nested or taken & set(names):
            raise ValueError(
                f"Got methods named {names}, but expected at least one, with distinct names that "
                f"hold no '__' and are none of {sorted(taken)}. Rename them."
            )
        for name, method in self.methods:
            if not isinstance(final_step(method), BaseDetrimentality):
                raise TypeError(
                    f"Got {name}={method!r}, but expected a detrimentality method, or a Pipeline "
                    "that ends in one."
                )

    def _check_validation(self, X_val: object) -> None:
        """Leave it to the methods, unless none of them uses the rows."""
        uses = any(final_step(method)._needs_validation() for _, method in self.methods)
        if X_val is not None and not uses:
            names = [name for name, _ in self.methods]
            raise ValueError(
                f"Got X_val, but none of the methods {names} uses validation rows as it is set. "
                "Leave X_val out, or choose a method or parameters that use it."
            )

    def _trains_folds(self, X_val: object) -> bool:
        return False

    def _prepare(self, rows: Rows, validation: Rows | None) -> tuple[ModelRows, ModelRows | None]:
        self.timings_: dict[str, float] = {}
        shared = [m for _, m in self.methods if _shares_net(m, validation)]
        if shared:
            start = perf_counter()
            given = (
                self._model_of(rows, shared) if is_model(self.net) else self._net_of(rows, shared)
            )
            self.net_ = given.net if isinstance(given, Judge) else given
            self.timings_["training"] = perf_counter() - start
        self.methods_: dict[str, Any] = {}
        nameless = replace(rows, feature_names=None)  # the union compares them, and hands on arrays
        for name, method in told("methods", self.methods):
            start = perf_counter()
            fitted = seeded_method(method, self._seeds[1])
            shares = _shares_net(method, validation)
            if shares:
                fitted.set_params(net=FrozenEstimator(given))
            trusted = validation if final_step(method)._needs_validation() else None
            # weights are in the shared training, and for most methods in nothing else
            knows = not shares or fitted._takes_weights()
            seen = nameless if knows else replace(nameless, weights=None)
            self.methods_[name] = fit_part(fitted, seen, trusted)
            self.timings_[name] = perf_counter() - start
        for fitted in self._final_methods():
            if hasattr(fitted, "classes_"):
                self.classes_ = fitted.classes_
                break
        for name in _OUT_OF_SAMPLE:  # of the first that has them
            kept = [vars(m)[name] for m in self._final_methods() if name in vars(m)]
            if kept:
                setattr(self, name, kept[0])
        self._weights_of_rows = rows.training_weights
        return ModelRows(rows.inputs, rows.targets), None

    def _model_of(self, rows: Rows, shared: list[BaseDetrimentality]) -> Judge:
        """Train the shared model, which judges rows out of sample, for methods that take one."""
        others = [type(method).__name__ for method in shared if not method._takes_models()]
        if others:
            raise TypeError(no_net(self.net, ", ".join(others)))
        return judge_of(self.net, rows, cv=None, seed=self._seeds[0])

    def _net_of(self, rows: Rows, shared: list[BaseDetrimentality]) -> Any:
        if rows.is_raw:  # for a pipeline besides
            parts = rows.inputs, rows.targets
            own = Rows.parse(clone(shared[0]), *parts, task=rows.task)
            rows = replace(own, weights=rows.weights)
        return self._train(rows, _merged(shared))

    def _train(self, rows: Rows, needs: TraceNeeds | None) -> Any:
        """Train the shared net; it brings its trace and the user's names of the classes."""
        if isinstance(self.net, FrozenEstimator):
            return self.net.estimator
        seed = self._seeds[0]
        net = unfitted_net(self.net, rows, seed)
        if rows.targets is not None and names_no_classes(net):
            net.set_params(classes=classes_and_codes(rows.targets)[0].tolist())
        trained = train_net(net, rows, seed, needs=needs, memory=self.memory)
        if needs is not None:
            recorder = recorder_for(needs)
            recorder.trace_ = trained.trace
            # before a recorder of the user's own, whose trace may hold less
            trained.net.callbacks_.insert(0, ("skinfluence_recorder", recorder))
        if trained.labels is not None:
            name_classes(trained.net, trained.labels)
        return trained.net

    def _fit_scores(
        self, rows: ModelRows, validation: ModelRows | None
    ) -> NDArray[np.float64] | None:
        columns = [method.detrimentality_ for method in self._final_methods()]
        self.scores_ = np.stack(columns, axis=1)
        self.rank_correlation_ = rank_correlation(self.scores_)
        if self.aggregate is None:
            return None
        if self.aggregate == "pooled":
            assert rows.targets is not None
            return self._pooled(rows.targets)
        if self.aggregate == "rank_mean":
            return np.asarray(np.mean([quantiles(column) for column in columns], axis=0))
        n_worst = max(1, round(self.contamination * len(columns[0])))
        votes = np.zeros(len(columns[0]))
        for method in self._final_methods():
            votes[method.ranking_[:n_worst]] += 1
        return votes / len(columns)

    def _pooled(self, targets: np.ndarray) -> NDArray[np.float64]:
        """Make one prediction of what the methods predict out of sample, and score rows by it."""
        kept_as = next((name for name in _OUT_OF_SAMPLE if name in vars(self)), _OUT_OF_SAMPLE[0])
        fitted = self.methods_.items()
        lacking = [name for name, method in fitted if kept_as not in vars(final_step(method))]
        if lacking:
            raise ValueError(
                f"Got aggregate='pooled', but {lacking} predict no row by what was not trained on "
                "it. Give methods without a net of their own, such as OutlierGradientDetector() or "
                "SelfConfidence(model) with a scikit-learn model, set their cv=5, or set "
                "aggregate='rank_mean'."
            )
        predicted = np.stack([vars(method)[kept_as] for method in self._final_methods()])
        coded: np.ndarray
        if kept_as == "oof_predictions_":
            kind, coded = "numbers", targets.reshape(len(targets), -1).astype(np.float64)
        elif one_label_a_row(targets):
            kind, coded = "classes", np.searchsorted(self.classes_, targets.reshape(-1))
        else:
            kind, coded = "labels", targets
        columns = predicted.reshape(len(predicted), len(targets), -1)
        pooled, scores = pool_predictions(columns, coded, kind, self._weights_of_rows)
        setattr(self, kept_as, pooled.reshape(predicted.shape[1:]))
        return scores

    def _final_methods(self) -> list[Any]:
        return [final_step(method) for method in self.methods_.values()]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        if is_model(self.net):
            tags.input_tags.sparse = get_tags(self.net).input_tags.sparse
        return tags

    def _takes_weights(self) -> bool:
        return not isinstance(self.net, FrozenEstimator)

    def _takes_raw(self) -> bool:
        return is_model(self.net) or any(takes_raw(m) for _, m in _pairs(self.methods))

    def _keeps_groups_together(self) -> bool:
        folds = judges_by_folds(self.net, None)
        return folds or any(final_step(m)._keeps_groups_together() for _, m in self.methods)

    @property
    def _n_features_out(self) -> int:
        return len(self.methods)


# as for the base: the output wrapper, put around it when the class is made, would hide available_if
DetrimentalityUnion.transform = available_if(  # type: ignore[method-assign]
    _all_judge_new_rows
)(DetrimentalityUnion.transform)


def _merged(methods: list[BaseDetrimentality]) -> TraceNeeds | None:
    """Need all that any of the methods needs, or nothing if none needs anything."""
    needed = [needs for method in methods if (needs := method._trace_needs()) is not None]
    return reduce(or_, needed) if needed else None


def _shares_net(method: Any, X_val: Any) -> bool:
    """Tell whether a method takes any trained net and has none of its own."""
    return (
        isinstance(method, BaseDetrimentality)  # what a pipeline ends in sees other rows
        and getattr(method, "net", 0) is None
        and method._trains_net()
        and not hasattr(method, "_default_net")
        and not method._trains_folds(X_val)
    )


def rank_correlation(columns: np.ndarray) -> NDArray[np.float64]:
    """Give Spearman's correlation of columns; NaN where one is constant."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.atleast_2d(np.corrcoef(rankdata(columns, axis=0), rowvar=False))
