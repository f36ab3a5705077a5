"""What cleaner and cleaned models share: fit the method, choose the amount, take the rows."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Tags

from skinfluence.cleaning._auto import (
    SHARES,
    Folds,
    fewest_within_one_error,
    losses_of_shares,
)
from skinfluence.cleaning._clean_rows import Cleaned, Data, Model, Rules, clean_rows
from skinfluence.cleaning._target_kind import check_kind, decided_kind
from skinfluence.methods._base import BaseDetrimentality
from skinfluence.methods._parts import fit_part
from skinfluence.rows._parameters import check_choice, check_positive_integer, is_integer, is_real
from skinfluence.rows._rows import Rows
from skinfluence.rows._seeds import seed_unset
from skinfluence.rows._targets import check_targets, one_label_a_row
from skinfluence.rows._validation_rows import validation_parts
from skinfluence.trace._callbacks import number_folders


class BaseCleaner(BaseEstimator):
    """Base of what treats the rows that a method finds detrimental."""

    def __init__(
        self,
        method: Any,
        *,
        contamination: float | str,
        action: str,
        per_class: bool,
        keep_minimum: int,
        cv: Any,
        random_state: Any,
    ) -> None:
        self.method = method
        self.contamination = contamination
        self.action = action
        self.per_class = per_class
        self.keep_minimum = keep_minimum
        self.cv = cv
        self.random_state = random_state

    def _clean(
        self,
        given: tuple[Any, Any, Any, Any],
        train: Callable[[Data, NDArray[np.intp], Any], Model],
        seed: int,
        groups: Any = None,
        *,
        classifies: bool | None = None,
    ) -> Cleaned:
        """Fit the method on X, y, X_val, y_val, choose the amount, and clean."""
        # `train` is for "auto", in whose folds `groups` stay together, and to relabel. Without
        # `classifies` the method, or else the targets, tell whether these are classes.
        X, y, X_val, y_val = given
        self._check_parameters(y)
        if classifies is not None:
            check_kind(type(self).__name__, self.method, classifies)
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)  # of an earlier fit
        rows = Rows.parse(self, X, y, is_numeric=None if classifies is None else not classifies)
        validation = rows.parse_validation(self, *validation_parts(X_val, y_val))
        method = clone(self.method)
        if self.random_state is not None:
            seed_unset(method, seed, deep=False)

        def fit(number: int, part: Rows) -> Any:
            fitted = clone(method)
            number_folders(getattr(fitted, "net", None), number)
            self.n_trainings_ += 1
            return fit_part(fitted, part, validation)

        def counted(chosen: NDArray[np.intp], targets: object) -> Model:
            self.n_trainings_ += 1
            return train(data, chosen, targets)

        fitted = fit_part(clone(method), rows, validation)
        self.n_trainings_ = 1
        if not hasattr(fitted, "ranking_"):
            raise ValueError(
                f"{type(fitted).__name__} gives several scores a row, but rows are taken by one. "
                "Set its aggregate to 'rank_mean' or 'vote', or pass a single method."
            )
        self.method_ = fitted
        if classifies is None:
            classifies = decided_kind(fitted, rows)
        one_label = one_label_a_row(np.asarray(rows.targets))
        if one_label:  # parts that methods see must not tell otherwise
            rows = replace(rows, is_numeric=not classifies)
        data = Data(X, y, rows)
        rules = Rules(classifies and one_label, self.action, self.per_class, self.keep_minimum)
        amount = self.contamination
        if amount == "auto":
            folds = Folds(self.cv, seed, classifies, groups)
            losses = losses_of_shares(fit, fitted.ranking_, data, counted, folds=folds, rules=rules)
            self.losses_ = dict(zip(SHARES, losses.mean(1).tolist(), strict=False))
            amount = SHARES[fewest_within_one_error(losses)]
        cleaned = clean_rows(fitted, data, amount, counted, rules)
        self.contamination_ = amount
        self.sample_indices_, self.removed_indices_ = cleaned.kept, cleaned.removed
        self.relabelled_ = cleaned.relabelled
        return cleaned

    def _check_parameters(self, y: object) -> None:
        if y is None:
            check_targets(None, 0)  # says what is missing
        if not isinstance(self.method, BaseDetrimentality):
            raise TypeError(
                f"Got method={self.method!r}, but expected one of this package's methods, such as "
                "OutlierGradientDetector(); an outlier detector goes inside one, as its detector."
            )
        amount: object = self.contamination
        if isinstance(amount, str):
            holds = amount in {"auto", "disagreement"}
        else:
            holds = is_real(amount) and amount >= 0 and (amount < 1 or is_integer(amount))
        if not holds:
            raise ValueError(
                f"Got contamination={amount!r}, but expected 'auto', 'disagreement', a share of "
                "the rows as a float in [0, 1), or a number of rows as an int >= 0."
            )
        check_choice("action", self.action, ("remove", "relabel"))
        check_positive_integer("keep_minimum", self.keep_minimum)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


def check_trainable(estimator: object) -> None:
    """Refuse a model that cannot be trained on the rows kept."""
    if isinstance(estimator, FrozenEstimator):
        raise ValueError(
            f"Got the frozen estimator {estimator!r}, which cannot be trained on the rows kept. "
            "Pass the estimator itself; it is cloned before it is trained."
        )
