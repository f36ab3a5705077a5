"""Weights that rows have in the training loss."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from skinfluence.rows._containers import first_rows

# Of rows, on the mean one; None if all weigh the same.
Weights: TypeAlias = NDArray[np.float64] | None


def checked_weights(given: Any, n_rows: int) -> NDArray[np.float64] | None:
    """Refuse what is not one weight of at least zero a row; one number weighs all rows alike."""
    if given is None:
        return None
    weights = np.asarray(given)
    if weights.ndim == 0:
        return None
    if weights.shape != (n_rows,):
        what = f"for {len(weights)} rows" if weights.ndim == 1 else f"of shape {weights.shape}"
        raise ValueError(
            f"Got sample_weight {what}, but X and y have {n_rows}. Expected one weight for every "
            "row given to fit."
        )
    if weights.dtype.kind not in "biuf":
        raise ValueError(f"Got sample_weight of dtype {weights.dtype}, but expected numbers.")
    weights = weights.astype(np.float64)
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        raise ValueError(
            f"Got sample_weight of {weights[bad[0]]} for {first_rows(bad)}, but expected finite "
            "numbers of at least 0; 0 keeps a row out of the training loss, and scores it."
        )
    return weights


def mean_one(weights: NDArray[np.float64] | None) -> Weights:
    """Scale the weights of rows to be trained on to a mean of one; None if all are the same."""
    if weights is None or weights.min() == weights.max() > 0:
        return None
    if not weights.any():
        raise ValueError(
            f"The sample_weight of all {len(weights)} rows to be trained on is zero, so there is "
            "nothing to learn. With cv, every fold's training rows need some above zero."
        )
    scaled: NDArray[np.float64] = weights / weights.mean()
    return scaled
