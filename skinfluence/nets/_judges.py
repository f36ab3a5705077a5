"""Scikit-learn's models in place of a net: they judge rows that they were not trained on."""

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Tags, get_tags
from sklearn.utils.validation import check_is_fitted

from skinfluence.gradients._skorch import is_net
from skinfluence.nets._labels import Labels, class_labels
from skinfluence.nets._models import Translator, translator_of
from skinfluence.nets._weights import weight_parameters
from skinfluence.rows._containers import select
from skinfluence.rows._folds import Fold, folds_of
from skinfluence.rows._interrupts import fit_whole
from skinfluence.rows._progress import told
from skinfluence.rows._rows import ModelRows, Rows
from skinfluence.rows._seeds import preserved_random_state, seeded, seeded_clone
from skinfluence.rows._targets import check_class_labels, one_label_a_row

# So many folds where a model has no rows out of bag and `cv` says nothing.
_FOLDS = 5
_NOT_OUT_OF_BAG = "Some inputs do not have OOB scores"


def is_model(net: Any) -> bool:
    """Tell a classifier or regressor, frozen or not, from a net and from what is neither."""
    model = net.estimator if isinstance(net, FrozenEstimator) else net
    if isinstance(model, Judge):
        return True
    if model is None or isinstance(model, type) or is_net(model):
        return False
    known = hasattr(model, "fit") and hasattr(model, "__sklearn_tags__")
    return known and (is_classifier(model) or is_regressor(model))


def check_model(net: Any, *, cv: Any, checkpoints: int | str, needs_classes: bool) -> None:
    """Refuse what a scikit-learn model in place of a net cannot do; nets pass."""
    if not is_model(net):
        return
    model = net.estimator if isinstance(net, FrozenEstimator) else net
    if isinstance(model, Judge):
        model = model.net
    name = type(model).__name__
    if checkpoints != "last":
        raise ValueError(
            f"Got checkpoints={checkpoints!r}, but {name} is no net and leaves none behind. Set "
            "checkpoints='last'; rows are judged out of sample."
        )
    if isinstance(net, FrozenEstimator) and cv is not None:
        raise ValueError(
            f"Got cv={cv!r}, but the {name} is frozen, and not trained on parts of the rows. Pass "
            "the model itself, or leave cv=None."
        )
    if is_regressor(model):
        if needs_classes:
            raise ValueError(
                f"This score needs class probabilities, but {name} is a regressor. Use LossScore, "
                "whose loss of a regressor is the squared error, or a classifier."
            )
    elif not hasattr(model, "predict_proba"):
        raise ValueError(
            f"Scores need class probabilities, but {name}, as it is set, has no predict_proba. "
            "Set probability=True where it has that, or wrap it in CalibratedClassifierCV."
        )


class _Fitted(NamedTuple):
    """A trained model and how targets are put to it."""

    model: Any
    labels: Labels | None
    translator: Translator | None = None  # where it holds a net

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Predict the probability of every label, or numbers."""
        with preserved_random_state():  # a net's loader draws
            if self.labels is None:
                if self.translator is not None:
                    return np.asarray(self.translator.predict(self.model, X), dtype=np.float64)
                return np.asarray(self.model.predict(X), dtype=np.float64)
            if self.translator is not None:
                return np.asarray(self.translator.predict_proba(self.model, X), dtype=np.float64)
            found = np.asarray(self.model.predict_proba(X), dtype=np.float64)
        return self.in_order(found, len(found))

    def in_order(self, found: np.ndarray, n_rows: int) -> NDArray[np.float64]:
        """Put a model's columns in the order of the labels; of one not seen, probability is 0."""
        assert self.labels is not None
        columns = np.zeros((n_rows, len(self.labels.classes)))
        columns[:, self.labels.encode(np.asarray(self.model.classes_))] = found
        return columns


class Judge:
    """A model fitted on all rows, and what it predicts of them out of sample."""

    # The names that it has in common with `TrainedNet` mean the same.
    can_predict_targets = True
    key: str | None = None
    trace = None

    def __init__(
        self,
        fitted: _Fitted,
        out_of_sample: NDArray[np.float64],
        rows: Rows,
        *,
        is_frozen: bool = False,
    ) -> None:
        self._fitted = fitted
        self.is_frozen = is_frozen  # it may have seen the rows
        self.predicts_numbers = fitted.labels is None
        self.has_probabilities = fitted.labels is not None
        self.net = fitted.model
        self.labels = fitted.labels
        self.out_of_sample = out_of_sample
        self._spread = 0.0
        if self.labels is None and rows.targets is not None:
            errors = out_of_sample.reshape(len(rows), -1) - rows.targets.reshape(len(rows), -1)
            self._spread = float(np.sqrt(np.mean(np.square(errors))))

    def __sklearn_tags__(self) -> Tags:
        return get_tags(self.net)

    def coded(self, rows: Rows) -> ModelRows:
        """Put rows with given targets as scores take them: codes, or numbers."""
        targets = rows.known_targets()
        if self.labels is None:
            return ModelRows(rows.inputs, targets.astype(np.float64))
        return ModelRows(rows.inputs, self.labels.encode(check_class_labels(targets)))

    def predicted_rows(self, inputs: Any) -> ModelRows:
        """Put rows as scores take them, with predicted targets for given ones."""
        predicted = self._fitted.predict(inputs)
        if self.labels is None:  # at the prediction, the residual is zero
            return ModelRows(inputs, predicted - self._spread)
        return ModelRows(inputs, predicted.argmax(1))

    def ask(self, inputs: Any) -> NDArray[np.float64]:
        """Predict other rows: (n_rows, n_classes) probabilities, or numbers."""
        return self._fitted.predict(inputs)

    def predict(self, inputs: Any) -> np.ndarray:
        """Predict labels as the user names them, or numbers."""
        predicted = self._fitted.predict(inputs)
        return predicted if self.labels is None else self.labels.decode(predicted.argmax(1))

    def judged_labels(self) -> np.ndarray:
        """Predict each training row's label by what was not trained on the row."""
        assert self.labels is not None
        return self.labels.decode(self.out_of_sample.argmax(1))

    def class_probabilities(self, inputs: Any, trace: object = None) -> NDArray[np.float64]:
        """Predict class probabilities of rows not trained on, in the order of the labels."""
        return self._fitted.predict(inputs)


def judge_of(net: Any, rows: Rows, *, cv: Any, seed: int) -> Judge:
    """Train a model and predict rows out of bag or out of fold; a frozen one is asked as it is."""
    if isinstance(net, FrozenEstimator):
        return _frozen(net.estimator, rows)
    targets = rows.known_targets()
    labels = None if rows.is_numeric else _labels_of(targets)
    translator = translator_of(net, rows, seed)
    model = seeded_clone(net, seed)
    out_of_bag = cv is None and draws_bags(net)
    if out_of_bag and not model.oob_score:
        model.set_params(oob_score=True)

    def fitted_on(part: Rows) -> _Fitted:
        weights = weight_parameters(model, part.training_weights)

        def fit(X: Any, y: Any) -> Any:
            # weights go by the name of a step, as pipelines take them where nothing is routed
            unrouted = config_context(enable_metadata_routing=False) if weights else nullcontext()
            with seeded(seed), unrouted:
                return fit_whole(clone(model), X, y, **weights)

        if translator is None:
            return _Fitted(fit(part.inputs, part.targets), labels)
        trained = translator.train(fit, part.inputs, part.inputs, part.targets)
        return _Fitted(trained, labels, translator)

    if out_of_bag:
        whole = _out_of_bag(net, lambda: fitted_on(rows))
        if labels is None:
            return Judge(whole, np.asarray(whole.model.oob_prediction_, dtype=np.float64), rows)
        return Judge(whole, whole.in_order(whole.model.oob_decision_function_, len(rows)), rows)
    strata = rows.strata(labels is not None)
    if cv is None:
        cv = _number_of_folds(strata, rows.fold_groups)
    folds = folds_of(strata, cv=cv, seed=seed, groups=rows.fold_groups)
    return Judge(fitted_on(rows), _out_of_fold(fitted_on, rows, folds), rows)


def _out_of_fold(
    fitted_on: Callable[[Rows], _Fitted], rows: Rows, folds: list[Fold]
) -> NDArray[np.float64]:
    """Predict the rows that each fold holds out by a model trained on the others."""
    held_out = np.concatenate([held for _, held in folds])
    found = [
        fitted_on(rows.part(train)).predict(select(rows.inputs, held))
        for train, held in told("folds", folds)
    ]
    in_order: NDArray[np.float64] = np.concatenate(found)[np.argsort(held_out)]
    return in_order


def _number_of_folds(strata: np.ndarray, groups: np.ndarray | None) -> int:
    """Choose five folds, or as many as the smallest class, or the groups, allow."""
    counts = np.unique(strata, return_counts=True)[1]
    n_groups = len(strata) if groups is None else len(np.unique(groups))
    return max(2, min(_FOLDS, int(counts.min()), n_groups))


def draws_bags(model: Any) -> bool:
    """Tell whether a model predicts each row by those of its parts that did not draw it."""
    parameters = model.get_params(deep=False)
    return "oob_score" in parameters and bool(parameters.get("bootstrap", True))


def judges_by_folds(net: Any, cv: Any) -> bool:
    """Tell whether a model judges training rows out of fold."""
    frozen = isinstance(net, FrozenEstimator)
    return is_model(net) and not frozen and (cv is not None or not draws_bags(net))


def _labels_of(targets: np.ndarray) -> Labels:
    if not one_label_a_row(targets):
        raise ValueError(
            f"Got y of shape {targets.shape}, but a scikit-learn classifier in place of a net "
            "takes one label a row here. Use a net, or one label at a time."
        )
    return class_labels(targets)


def _out_of_bag(model: Any, fit: Callable[[], _Fitted]) -> _Fitted:
    """Fit, and refuse predictions of rows that no part left out, which stand at zero."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", _NOT_OUT_OF_BAG)
        try:
            return fit()
        except UserWarning as error:
            if not str(error).startswith(_NOT_OUT_OF_BAG):
                raise
            raise ValueError(
                f"Some rows were drawn by every one of the {model.n_estimators} parts of "
                f"{type(model).__name__}, so that none can judge them out of bag. Raise "
                "n_estimators, to 100 or so, or set cv=5."
            ) from error


def _frozen(model: Any, rows: Rows) -> Judge:
    if isinstance(model, Judge):  # of a union
        return model
    try:
        check_is_fitted(model)
    except NotFittedError as error:
        raise NotFittedError(
            f"The frozen {type(model).__name__} is not fitted. Call fit(X, y) before "
            "FrozenEstimator(...), or pass the model itself to have it trained."
        ) from error
    labels = None
    if is_classifier(model):
        classes = np.asarray(model.classes_)
        labels = Labels(classes, np.arange(len(classes)))
    fitted = _Fitted(model, labels)
    return Judge(fitted, fitted.predict(rows.inputs), rows, is_frozen=True)
