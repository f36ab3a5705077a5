"""What a set gives to a method, and what the scores are held against."""

from dataclasses import dataclass

import numpy as np


class SetUnavailable(Exception):
    """The files of a set are not there."""


@dataclass(frozen=True)
class Problem:
    """Rows with targets as they were given, of which some are wrong."""

    X: object  # (n, d) array or CSR, or images (n, c, h, w)
    y: np.ndarray  # class codes, or numbers
    is_error: np.ndarray  # (n,) bool
    # The rows that scores are judged on: all, unless only some were reviewed.
    scored: np.ndarray | None = None
    is_regression: bool = False
    # False where columns share a unit that must stay, as words do.
    needs_scaling: bool = True

    def __post_init__(self):
        if self.scored is None:
            object.__setattr__(self, "scored", np.arange(len(self.y)))

    @property
    def flat(self):
        """One row a sample, for models that take no images."""
        return self.X if self.X.ndim == 2 else self.X.reshape(len(self.X), -1)
