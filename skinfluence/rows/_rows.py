"""Rows: what the user gave, checked and parsed once, and the same as a model takes it."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from skinfluence.rows._containers import (
    Inputs,
    check_inputs,
    is_table_or_images,
    n_samples_of,
    select,
)
from skinfluence.rows._pipelines import as_last_step_sees, final_step, takes_raw
from skinfluence.rows._targets import (
    are_numbers,
    check_numbers,
    check_targets,
    classes_and_codes,
    group_codes,
    one_label_a_row,
    warn_of_many_classes,
)
from skinfluence.rows._weights import checked_weights, mean_one


class ModelRows(NamedTuple):
    """Rows as a model takes them: for a net with inputs cast and targets coded."""

    inputs: Any
    targets: Any  # None if a data set holds them


@dataclass(frozen=True)
class Rows:
    """Rows as the user gave them, checked at the door; what is behind it trusts them."""

    inputs: Inputs
    targets: np.ndarray | None  # labels or numbers as given; None if a data set holds them
    is_numeric: bool  # numbers, not classes: by a `task`, else by values; if known at all
    feature_names: np.ndarray | None = None
    groups: NDArray[np.intp] | None = None  # of validation rows, for objectives that compare them
    fold_groups: NDArray[np.intp] | None = None  # of training rows, which no fold may split
    # in the loss, at least zero; validation rows have them where they are training rows besides
    weights: NDArray[np.float64] | None = None
    is_raw: bool = False  # the inputs are as the user gave them, for a pipeline's steps to check

    @classmethod
    def parse(
        cls,
        estimator: object,
        X: Any,
        y: Any,
        *,
        task: str | None = None,
        groups: Any = None,
        fold_groups: Any = None,
        sample_weight: Any = None,
        reset: bool = True,
    ) -> "Rows":
        """Check what fit got (or, without `reset`, rows to judge) and note its features."""
        inputs = check_inputs(estimator, X, reset=reset)
        targets = None
        if y is not None or is_table_or_images(inputs):
            targets = check_targets(y, n_samples_of(inputs))
        is_numeric = task == "regression"
        if targets is not None and (reset or task is not None):
            is_numeric = are_numbers(targets, task)
            if is_numeric:
                targets = check_numbers(targets)
            elif task is None and hasattr(estimator, "task"):
                warn_of_many_classes(targets)
        names = getattr(estimator, "feature_names_in_", None)
        if groups is not None:
            groups = classes_and_codes(check_targets(groups, n_samples_of(inputs)))[1]
        if fold_groups is not None:
            fold_groups = group_codes(fold_groups, n_samples_of(inputs))
        weights = checked_weights(sample_weight, n_samples_of(inputs))
        raw = takes_raw(estimator)
        return cls(inputs, targets, is_numeric, names, groups, fold_groups, weights, is_raw=raw)

    def parse_validation(
        self,
        estimator: object,
        X_val: object,
        y_val: object,
        groups: object = None,
        weights: NDArray[np.float64] | None = None,
    ) -> "Rows | None":
        """Check the validation rows that fit got besides these, if any."""
        if X_val is None:
            return None
        found = Rows.parse(estimator, X_val, y_val, task=self.task, groups=groups, reset=False)
        return replace(found, weights=weights)

    @property
    def task(self) -> str:
        """The kind of the targets, as the parameter `task` of estimators names it."""
        return "regression" if self.is_numeric else "classification"

    @property
    def has_arrays(self) -> bool:
        """Whether the inputs are one array: a table, which may be sparse, or images."""
        return isinstance(self.inputs, np.ndarray) or issparse(self.inputs)

    @property
    def has_classes(self) -> bool:
        """Whether the targets are classes, one a row."""
        return self.targets is not None and not self.is_numeric and one_label_a_row(self.targets)

    @property
    def training_weights(self) -> NDArray[np.float64] | None:
        """The weights, on the mean one, if they differ."""
        return mean_one(self.weights)

    def __len__(self) -> int:
        return n_samples_of(self.inputs)

    def part(self, rows: np.ndarray) -> "Rows":
        """Take some rows, as arrays without names; their targets are what those of all are."""
        targets = None if self.targets is None else self.targets[rows]
        groups = None if self.fold_groups is None else self.fold_groups[rows]
        return Rows(
            select(self.inputs, rows),
            targets,
            self.is_numeric,
            fold_groups=groups,
            weights=None if self.weights is None else self.weights[rows],
            is_raw=self.is_raw,
        )

    def seen_by(self, method: Any) -> "Rows":
        """Give rows as a fitted method, or the last step of a pipeline, takes them."""
        if not self.is_raw:
            return self
        final = final_step(method)
        inputs = check_inputs(final, as_last_step_sees(method, self.inputs), reset=False)
        return replace(self, inputs=inputs, is_raw=takes_raw(final))

    def introduce(self, estimator: Any) -> None:
        """Tell an estimator that is fitted on these rows what scikit-learn would have told it."""
        if self.has_arrays:
            inputs: Any = self.inputs
            estimator.n_features_in_ = inputs.shape[1]
        if self.feature_names is not None:
            estimator.feature_names_in_ = self.feature_names

    def known_targets(self) -> np.ndarray:
        """Give the targets, or say that they are missing where a data set keeps them."""
        return check_targets(self.targets, len(self))

    def strata(self, classifies: bool) -> np.ndarray:
        """Say which rows are alike for folds: their labels for classes, else all of them."""
        targets = self.known_targets()
        if classifies and one_label_a_row(targets):
            return targets.reshape(-1)
        return np.zeros(len(targets), dtype=np.int64)
