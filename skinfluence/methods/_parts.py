"""Methods as parts of other ones: fitted, and asked, on rows that were parsed already."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinfluence.rows._containers import Inputs
from skinfluence.rows._rows import Rows
from skinfluence.rows._validation_rows import ValidationRows


def fit_part(method: Any, rows: Rows, validation: Rows | None = None) -> Any:
    """Fit a method as a part of another fit."""
    if len(rows) < 2:
        raise ValueError(
            f"Found array with {len(rows)} sample(s) in a part of the rows, while a minimum of 2 "
            f"is required by {type(method).__name__}. Use fewer folds, or another share."
        )
    if not _is_overridden(method, "fit"):
        return method._fit_rows(rows, validation)
    if "task" in method.get_params(deep=False):  # it parses the rows again, a part of all
        method.set_params(task=rows.task)
    if validation is None:
        return method.fit(rows.inputs, rows.targets)
    trusted = ValidationRows(validation.inputs, validation.targets, validation.groups)
    return method.fit(rows.inputs, rows.targets, trusted)


def scores_by(method: Any, rows: Rows) -> NDArray[np.float64]:
    """Score rows by a part that was fitted on others."""
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
