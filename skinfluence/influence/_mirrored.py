"""Mirrored influence: nudge a copy of the net on the validation rows, compare losses."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skinfluence.gradients._skorch import shadow_of
from skinfluence.influence._net_rows import NetRows
from skinfluence.influence._queries import InfluenceQueries
from skinfluence.rows._parameters import check_positive_integer, check_positive_number
from skinfluence.rows._progress import told
from skinfluence.rows._rows import ModelRows
from skinfluence.rows._seeds import preserved_random_state
from skinfluence.rows._weights import Weights


class MirroredInfluence(InfluenceQueries):
    """Score training rows by how their loss changes when the net unlearns the validation rows.

    Answers: would removing this row lower the loss on the validation rows? A copy of the trained
    net takes a few steps up the validation loss. A row whose loss rises with it pulls the same
    way as the validation rows; one whose loss falls pulls against them, and is detrimental. The
    training rows need two forward passes and no gradient.

    Parameters
    ----------
    net : NeuralNet, FrozenEstimator or None, default=None
        As for `GradientEmbedding`: an unfitted skorch net, a frozen fitted one, or None for
        `skinfluence.nets.default_net`.
    n_steps : int, default=3
        Steps of gradient ascent on the mean validation loss.
    step_size : float, default=0.001
        Length of the first step, relative to the length of the vector of all parameters. Smaller
        steps come closer to `InnerProductInfluence`, until rounding shows.
    validation : "cross" or float, default="cross"
        What serves as validation rows when fit gets none: the other half of the training rows
        for each half, or this share of them.
    batch_size : int, default=1024
        Most rows per pass through the net; on a processor it takes fewer where they would not fit
        its caches. It changes memory and speed, not the result.
    memory : joblib.Memory, str or None, default=None
        Cache of trainings, as in a Pipeline: a folder, in which the trained parameters and the
        trace are kept by net, rows, targets and seed, so that a search over other parameters trains
        one net a fold. Needs an integer `random_state` to find them again. A frozen net needs none.
    task : {"classification", "regression"}, optional
        What the targets are, where no net or estimator of your own says it. By default their
        values tell: floats with a fraction, or more than 20 distinct ones, are numbers.
    random_state : int, RandomState or None, default=None
        Seed of the training. Global generators are neither used nor changed.
    verbose : int, default=0
        1 shows on stderr how far the fit is, and the time left. It does not change the result.

    Attributes
    ----------
    detrimentality_ : ndarray of shape (n_samples,)
        Minus the rise of the row's loss, divided by the learning rate and the number of steps,
        float64: to first order the inner product of gradients. Higher = more detrimental.
    ranking_ : ndarray of shape (n_samples,)
        Row numbers, most detrimental first.
    net_ : NeuralNet
        The trained net.
    classes_ : ndarray of shape (n_classes,)
        The labels, for a classifier.
    n_features_in_ : int
        For arrays and data frames.

    See Also
    --------
    InnerProductInfluence : What this tends to for small steps.

    Notes
    -----
    Departures from the paper: the change of a loss is taken with its sign, where published code
    takes its absolute value and so cannot tell helpful from harmful; the ascent is plain gradient
    ascent instead of Adam, so that the scores of several queries add up.

    A row of weight w, where one is the mean, counts w times: it is all of it that would go.

    Cost: one training, `n_steps` gradient passes over the validation rows and two forward passes
    over the training rows. `influence` takes these for every query row.

    References
    ----------
    Ko, Kang, Li, Qiu, Jin, Song, Jia. "The Mirrored Influence Hypothesis: Efficient Data Influence
    Estimation by Harnessing Forward Passes". CVPR 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.metrics import roc_auc_score
    >>> from skinfluence import MirroredInfluence
    >>> from skinfluence.datasets import make_noisy_labels
    >>> X, y = load_wine(return_X_y=True)
    >>> X, y, X_val, y_val = X[::2], y[::2], X[1::2], y[1::2]
    >>> y_noisy, is_noisy = make_noisy_labels(y, rate=0.1, random_state=0)
    >>> method = MirroredInfluence(random_state=0).fit(X, y_noisy, X_val=X_val, y_val=y_val)
    >>> bool(roc_auc_score(is_noisy, method.detrimentality_) > 0.8)
    True
    """

    def __init__(
        self,
        net: Any = None,
        *,
        n_steps: int = 3,
        step_size: float = 1e-3,
        validation: str | float = "cross",
        batch_size: int = 1024,
        memory: Any = None,
        task: str | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.net = net
        self.n_steps = n_steps
        self.step_size = step_size
        self.validation = validation
        self.batch_size = batch_size
        self.memory = memory
        self.task = task
        self.random_state = random_state
        self.verbose = verbose

    def _check_parameters(self) -> None:
        check_positive_integer("n_steps", self.n_steps)
        check_positive_integer("batch_size", self.batch_size)
        check_positive_number("step_size", self.step_size)

    def _needs_validation(self) -> bool:
        return True

    def _judges_new_rows(self) -> bool:
        return True

    def _fit_scores(self, rows: ModelRows, validation: ModelRows | None) -> NDArray[np.float64]:
        assert validation is not None  # `_needs_validation`
        self._training_rows, self._validation = rows, validation
        return self._of_whole_rows(self._score(rows))

    def _score(self, rows: ModelRows) -> NDArray[np.float64]:
        with preserved_random_state():
            return -self._changes(self._validation, rows, self._validation_weights)

    def influence(self, X: Any, y: Any = None) -> NDArray[np.float64]:
        """Nudge the net on one given row after another, and compare the training rows' losses.

        Parameters
        ----------
        X : array-like of shape (n_query, n_features) or (n_query, channels, height, width)
        y : array-like of shape (n_query,) or (n_query, n_outputs)
            Labels from `classes_`, or numbers. None only for a data set that holds its targets.

        Returns
        -------
        ndarray of shape (n_query, n_samples)
            Float64. Positive = the training row lowers the query's loss: the opposite sign of
            `detrimentality_`, which ranks, to first order in the step, as the mean of this over
            the validation rows, negated.
        """
        return self._answered(X, y)

    def _influence_on(self, queries: ModelRows) -> NDArray[np.float64]:
        judges = self._net_rows(self.net_, queries)
        rows = [judges.row(i) for i in range(judges.n_rows)]
        found = np.stack([self._changes(row, self._training_rows) for row in rows])
        return self._of_whole_rows(found)

    def _changes(
        self,
        reference: ModelRows,
        rows: ModelRows,
        weights: Weights = None,  # of the reference
    ) -> NDArray[np.float64]:
        """Measure how losses rise as the net climbs that of other rows; inner products, nearly."""
        copy = shadow_of(self.net_)
        for parameter in copy.module_.parameters():
            parameter.data = parameter.data.clone()
        judged = self._net_rows(copy, rows)
        before = judged.losses()
        climbed = NetRows(copy, reference, "all", self.batch_size, weights)
        distance = _ascend(climbed, self.n_steps, self.step_size)
        if distance == 0:
            return np.zeros_like(before)
        return (judged.losses() - before) / distance

    def _net_rows(self, net: object, rows: ModelRows) -> NetRows:
        return NetRows(net, rows, "all", self.batch_size)


def _ascend(rows: NetRows, n_steps: int, step_size: float) -> float:
    """Move the parameters up the rows' mean loss, and give learning rate times number of steps."""
    # To first order, a loss changes by that times its inner product with the mean gradient.
    rate = 0.0
    for step in told("steps", range(n_steps)):
        gradient = rows.mean_gradient()
        if step == 0:
            length = float(gradient.norm())
            if length == 0:
                return 0.0
            squares = sum(float(p.detach().square().sum()) for p in rows.parameters)
            rate = step_size * math.sqrt(squares or 1.0) / length
        parts = torch.split(rate * gradient, [p.numel() for p in rows.parameters])
        with torch.no_grad():
            for parameter, part in zip(rows.parameters, parts, strict=True):
                parameter.add_(part.view_as(parameter).to(parameter))
    return rate * n_steps
