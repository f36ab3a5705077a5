"""What cleaner and cleaned models share: fit the method, choose the amount, take the rows."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Tags, get_tags

from skinfluence.cleaning._auto import (
    SHARES,
    Folds,
    fewest_within_one_error,
    known_number,
    losses_of_shares,
)
from skinfluence.cleaning._clean_rows import Cleaned, Data, Model, Rules, clean_rows
from skinfluence.gradients._skorch import is_net
from skinfluence.methods._base import BaseDetrimentality
from skinfluence.methods._parts import fit_part
from skinfluence.methods._suspects import probabilities_of_right_labels
from skinfluence.nets._models import translator_of
from skinfluence.nets._task import settled_task
from skinfluence.rows._parameters import check_choice, check_positive_integer, is_integer, is_real
from skinfluence.rows._pipelines import final_step, seeded_method, takes_raw
from skinfluence.rows._rows import Rows
from skinfluence.rows._saved import SavedWithVersion
from skinfluence.rows._targets import check_targets
from skinfluence.rows._validation_rows import validation_parts
from skinfluence.trace._callbacks import number_folders


class BaseCleaner(SavedWithVersion, BaseEstimator):
    """Base of what treats the rows that a method finds detrimental."""

    estimator: Any
    _actions: tuple[str, ...] = ("remove", "relabel")
    _implied_task: str | None = None  # of a class whose name says what targets are

    def __init__(
        self,
        method: Any,
        *,
        contamination: float | str | tuple[str, float],
        action: str,
        per_class: bool,
        keep_minimum: int,
        cv: Any,
        random_state: Any,
        verbose: int,
    ) -> None:
        self.method = method
        self.contamination = contamination
        self.action = action
        self.per_class = per_class
        self.keep_minimum = keep_minimum
        self.cv = cv
        self.random_state = random_state
        self.verbose = verbose

    def _clean(
        self,
        given: tuple[Any, Any, Any, Any],
        train: Callable[[Data, NDArray[np.intp], Any], Model],
        seed: int,
        groups: Any = None,
    ) -> tuple[Cleaned, Data]:
        """Fit the method on X, y, X_val, y_val, choose the amount, and clean."""
        # `train` is for "auto", in whose folds `groups` stay together, and to relabel.
        X, y, X_val, y_val = given
        self._check_parameters(y)
        task = settled_task(self, self._implied_task)
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)  # of an earlier fit
        rows = Rows.parse(self, X, y, task=task, fold_groups=groups)
        data = Data(X, y, rows, translator_of(self.estimator, rows, seed))
        validation = rows.parse_validation(self, *validation_parts(X_val, y_val))
        method = clone(self.method)
        if self.random_state is not None:
            method = seeded_method(method, seed)

        def fit(number: int, part: Rows) -> Any:
            fitted = clone(method)
            number_folders(getattr(final_step(fitted), "net", None), number)
            self.n_trainings_ += 1
            return fit_part(fitted, part, validation)

        def counted(chosen: NDArray[np.intp], targets: object) -> Model:
            self.n_trainings_ += 1
            return train(data, chosen, targets)

        fitted = fit_part(clone(method), rows, validation)
        self.n_trainings_ = 1
        final = final_step(fitted)
        if not hasattr(final, "ranking_"):
            raise ValueError(
                f"{type(final).__name__} gives several scores a row, but rows are taken by one. "
                "Set its aggregate to 'rank_mean' or 'vote', or pass a single method."
            )
        self.method_ = fitted
        if self.action == "weight":
            every = np.arange(len(rows))
            self.sample_indices_ = every
            self.removed_indices_ = self.relabelled_ = every[:0]
            self.sample_weight_ = probabilities_of_right_labels(
                final, rows.known_targets(), is_numeric=rows.is_numeric
            )
            return Cleaned(every, every[:0], every[:0], y), data
        classifies = rows.has_classes or self._implied_task == "classification"
        rules = Rules(rows.has_classes, self.action, self.per_class, self.keep_minimum)
        amount: Any = self.contamination
        if amount == "auto":
            amount = known_number(final, final.ranking_, rules)
        if amount is None:
            folds = Folds(self.cv, seed, classifies, groups)
            losses = losses_of_shares(fit, final.ranking_, data, counted, folds=folds, rules=rules)
            self.losses_ = dict(zip(SHARES, losses.mean(1).tolist(), strict=False))
            amount = SHARES[fewest_within_one_error(losses)]
        cleaned = clean_rows(fitted, data, amount, counted, rules)
        self.contamination_ = amount
        self.sample_indices_, self.removed_indices_ = cleaned.kept, cleaned.removed
        self.relabelled_ = cleaned.relabelled
        return cleaned, data

    def _takes_raw(self) -> bool:
        return takes_raw(self.method)

    def _check_parameters(self, y: object) -> None:
        if y is None:
            check_targets(None, 0)  # says what is missing
        if not isinstance(final_step(self.method), BaseDetrimentality):
            raise TypeError(
                f"Got method={self.method!r}, but expected one of this package's methods, such as "
                "OutlierGradientDetector(), or a Pipeline that ends in one; an outlier detector "
                "goes inside one, as its detector."
            )
        amount: object = self.contamination
        if isinstance(amount, str):
            holds = amount in {"auto", "disagreement"}
        elif isinstance(amount, tuple):
            holds = len(amount) == 2 and amount[0] == "fdr" and is_real(amount[1])
            holds = holds and 0 < amount[1] < 1
        else:
            holds = is_real(amount) and amount >= 0 and (amount < 1 or is_integer(amount))
        if not holds:
            raise ValueError(
                f"Got contamination={amount!r}, but expected 'auto', 'disagreement', ('fdr', "
                "rate) with a rate of false alarms in (0, 1), a share of the rows as a float in "
                "[0, 1), or a number of rows as an int >= 0."
            )
        check_choice("action", self.action, self._actions)
        if self.action == "weight" and amount != "auto":
            raise ValueError(
                f"Got contamination={amount!r} with action='weight', which takes no amount: every "
                "row counts by how likely its label is right. Leave contamination at 'auto'."
            )
        check_positive_integer("keep_minimum", self.keep_minimum)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        model = getattr(self, "estimator", None)
        takes_sparse = model is None or is_net(model)
        if not takes_sparse and _has_tags(model):
            takes_sparse = get_tags(model).input_tags.sparse
        if _has_tags(self.method):
            takes_sparse = takes_sparse and get_tags(self.method).input_tags.sparse
        tags.input_tags.sparse = takes_sparse
        return tags


def check_trainable(estimator: Any) -> None:
    """Refuse what cannot be trained on the rows kept to predict targets; None passes."""
    if isinstance(estimator, FrozenEstimator):
        raise ValueError(
            f"Got the frozen estimator {estimator!r}, which cannot be trained on the rows kept. "
            "Pass the estimator itself; it is cloned before it is trained."
        )
    if estimator is None:
        return
    kind = getattr(get_tags(estimator), "estimator_type", None) if _has_tags(estimator) else None
    learns = hasattr(estimator, "fit") and hasattr(estimator, "predict")
    if isinstance(estimator, type) or not learns or kind in {"clusterer", "outlier_detector"}:
        raise TypeError(
            f"Got estimator={estimator!r}, but expected a classifier or regressor, which learns "
            "targets from rows and predicts them. Pass an instance of one, or a Pipeline that ends "
            "in one."
        )


def _has_tags(estimator: object) -> bool:
    return not isinstance(estimator, type) and hasattr(estimator, "__sklearn_tags__")
