"""Methods as parts of other ones: fitted, and asked, on rows that were parsed already."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from skinfluence.rows._containers import Inputs, n_samples_of
from skinfluence.rows._pipelines import final_step
from skinfluence.rows._rows import Rows
from skinfluence.rows._seeds import preserved_random_state
from skinfluence.rows._validation_rows import ValidationRows


def fit_part(method: Any, rows: Rows, validation: Rows | None = None) -> Any:
    """Fit a method as a part of another fit."""
    if len(rows) < 2:
        raise ValueError(
            f"Found array with {len(rows)} sample(s) in a part of the rows, while a minimum of 2 "
            f"is required by {type(method).__name__}. Use fewer folds, or another share."
        )
    if isinstance(method, Pipeline):
        fit_part(final_step(method), *fit_steps(method, rows, validation))
        return method
    if not _is_overridden(method, "fit"):
        if rows.is_raw:  # it has a door of its own
            return method._fit_raw(rows, validation)
        return method._fit_rows(rows, validation)
    if "task" in method.get_params(deep=False):  # it parses the rows again, a part of all
        method.set_params(task=rows.task)
    given: dict[str, Any] = {}
    if validation is not None:
        trusted = ValidationRows(validation.inputs, validation.targets, validation.groups)
        given["X_val"] = trusted
    if rows.fold_groups is not None and method._keeps_groups_together():
        given["groups"] = rows.fold_groups
    if rows.weights is not None:
        given["sample_weight"] = rows.weights
    return method.fit(rows.inputs, rows.targets, **given)


def fit_steps(
    pipeline: Any, rows: Rows, validation: Rows | None = None
) -> tuple[Rows, Rows | None]:
    """Fit the steps before the last one, in place, and give rows as the last one gets them."""
    head = pipeline[:-1]
    resampling = [name for name, step in head.steps if hasattr(step, "fit_resample")]
    if resampling:
        raise ValueError(
            f"Step {resampling[0]!r} before the method resamples rows, so that its scores would "
            "not be of the rows given. Take the step out of the pipeline that ends in the method."
        )
    if not head.steps:
        return rows, validation
    with preserved_random_state():  # steps may draw
        inputs = head.fit_transform(rows.inputs, rows.targets)
        pipeline.steps[:-1] = head.steps  # with a memory, they are clones
        if n_samples_of(inputs) != len(rows):
            raise ValueError(
                f"The steps before the method make {n_samples_of(inputs)} rows of {len(rows)}, so "
                "that scores would not be of the rows given. Use steps that give one row for each."
            )
        seen = replace(rows, inputs=inputs, feature_names=None, is_raw=True)
        if validation is None:
            return seen, None
        judging = head.transform(validation.inputs)
    return seen, replace(validation, inputs=judging, feature_names=None, is_raw=True)


def scores_by(method: Any, rows: Rows) -> NDArray[np.float64]:
    """Score rows by a part that was fitted on others."""
    rows, method = rows.seen_by(method), final_step(method)
    if _is_overridden(method, "score_detrimentality"):
        return np.asarray(method.score_detrimentality(rows.inputs, rows.targets), np.float64)
    scores: NDArray[np.float64] = method._scores_of(rows)
    return scores


def predicted_scores_by(method: Any, inputs: Inputs) -> NDArray[np.float64]:
    """Score rows at their predicted labels by a part that was fitted on others."""
    if _is_overridden(method, "transform"):
        return np.asarray(method.transform(inputs), np.float64)[:, 0]
    scores: NDArray[np.float64] = method._predicted_scores(inputs)
    return scores


def _is_overridden(method: Any, name: str) -> bool:
    """Tell whether a user's subclass has a public method of its own, which is to be called."""
    return not getattr(type(method), name).__module__.startswith("skinfluence.")
