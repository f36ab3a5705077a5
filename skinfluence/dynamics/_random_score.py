"""The control that any method must beat."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinfluence.methods._base import BaseDetrimentality
from skinfluence.rows._containers import n_samples_of
from skinfluence.rows._rows import ModelRows, Rows
from skinfluence.rows._seeds import own_random_state


class RandomScore(BaseDetrimentality):
    """Score training rows at random: the control that any method must beat.

    Answers no question. No net is trained, and `X` and `y` are looked at for their length only.

    Parameters
    ----------
    random_state : int, RandomState or None, default=None
        Seed of the scores. Global generators are neither used nor changed.
    verbose : int, default=0
        1 shows on stderr how far the fit is, and the time left. It does not change the result.

    Attributes
    ----------
    detrimentality_ : ndarray of shape (n_samples,)
        Float64, uniform in [0, 1). Higher = more detrimental, by chance.
    ranking_ : ndarray of shape (n_samples,)
        Row numbers, most detrimental first.
    n_features_in_ : int
        For arrays and data frames.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        For data frames with string column names.

    See Also
    --------
    LossScore : The baseline that is not random.

    Notes
    -----
    Weights of rows, which fit takes as that of other methods does, change nothing: no row has a say
    in the score of another.

    Cost: none.

    Examples
    --------
    >>> from skinfluence import RandomScore
    >>> RandomScore(random_state=0).fit([[1], [2], [3]], [0, 1, 0]).detrimentality_.shape
    (3,)
    """

    def __init__(self, *, random_state: Any = None, verbose: int = 0) -> None:
        self.random_state = random_state
        self.verbose = verbose

    def _check_parameters(self) -> None:
        pass

    def _takes_weights(self) -> bool:
        return True  # there is nothing that they could change

    def _prepare(self, rows: Rows, validation: Rows | None) -> tuple[ModelRows, ModelRows | None]:
        return ModelRows(rows.inputs, rows.targets), None

    def _fit_scores(self, rows: ModelRows, validation: ModelRows | None) -> NDArray[np.float64]:
        return own_random_state(self._seeds[0]).random_sample(n_samples_of(rows.inputs))
