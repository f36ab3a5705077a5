"""What the scores share that are read off one forward pass, at one checkpoint or several."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skinfluence.dynamics._formulas import log_softmax
from skinfluence.gradients._outputs import class_codes, class_scores, mean_over_states
from skinfluence.methods._base import BaseDetrimentality
from skinfluence.methods._gradient_parameters import needs_of_checkpoints
from skinfluence.nets._predictions import check_given_net_has_classes
from skinfluence.rows._parameters import check_positive_integer
from skinfluence.rows._rows import Rows
from skinfluence.trace._needs import TraceNeeds, check_checkpoints


class CheckpointMean(BaseDetrimentality):
    """A function of a row and the net, averaged over checkpoints.

    Higher = more detrimental. A subclass implements `_read`.
    """

    def __init__(
        self,
        net: Any = None,
        *,
        checkpoints: int | str = "last",
        cv: Any = None,
        batch_size: int = 256,
        memory: Any = None,
        random_state: Any = None,
    ) -> None:
        self.net = net
        self.checkpoints = checkpoints
        self.cv = cv
        self.batch_size = batch_size
        self.memory = memory
        self.random_state = random_state

    @abstractmethod
    def _read(self, net_loss: Any, X: Any, y: Any) -> NDArray[np.float64]:
        """Score the rows of a batch at one checkpoint."""

    def _check_parameters(self) -> None:
        check_checkpoints(self.checkpoints)
        check_positive_integer("batch_size", self.batch_size)

    def _trace_needs(self) -> TraceNeeds | None:
        return needs_of_checkpoints(self.checkpoints)

    def _judges_new_rows(self) -> bool:
        return True

    def _fit_scores(self, rows: Rows, validation: Rows | None) -> NDArray[np.float64]:
        return self._score(rows)

    def _score(self, rows: Rows) -> NDArray[np.float64]:
        states: list[Any] = [None]
        if self.checkpoints != "last":
            states = [point.state for point in self.trace_.evenly_spaced(self.checkpoints)]
        return mean_over_states(
            self.net_, rows.inputs, rows.targets, states, self._read, batch_size=self.batch_size
        )


class ClassScore(CheckpointMean):
    """A function of a row's class probabilities and its label, averaged over checkpoints.

    Higher = more detrimental. A subclass names its formula.
    """

    # formula(log_p, y), as those in `_formulas`
    _formula: ClassVar[Callable[..., NDArray[np.float64]]]

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_given_net_has_classes(self.net)

    def _read(self, net_loss: Any, X: Any, y: Any) -> NDArray[np.float64]:
        log_p = log_softmax(class_scores(self.net_, net_loss.forward(X)))
        return type(self)._formula(log_p, class_codes(y, log_p.shape[1]))
