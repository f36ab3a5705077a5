"""Hessian-free influence: inner products with the gradient of a validation objective."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from sklearn.utils.metaestimators import available_if

from skinfluence.gradients._skorch import Net, kind_of
from skinfluence.influence._dropout import dropout_submodel, has_dropout
from skinfluence.influence._net_rows import NetRows
from skinfluence.influence.objectives._objective_fit import FitsObjective, has_value_by_row
from skinfluence.influence.objectives._objectives import as_objective
from skinfluence.nets._trained_net import train_net
from skinfluence.rows._parameters import check_positive_integer
from skinfluence.rows._progress import told
from skinfluence.rows._rows import ModelRows, Rows
from skinfluence.rows._seeds import draw_seeds, preserved_random_state
from skinfluence.rows._weights import Weights
from skinfluence.trace._callbacks import without_recorders


class InnerProductInfluence(FitsObjective):
    """Score training rows by how far their gradient opposes that of a validation objective.

    Answers: would removing this row improve the objective on the validation rows? A step of
    gradient descent on row i changes the objective by minus the step size times
    ``<grad objective, grad loss_i>``. No Hessian is needed and no per-sample gradient is held.

    Parameters
    ----------
    net : NeuralNet, FrozenEstimator or None, default=None
        As for `GradientEmbedding`: an unfitted skorch net, a frozen fitted one, or None for
        `skinfluence.nets.default_net`.
    objective : objective, callable or None, default=None
        What the validation rows are to show, lower is better: ``ValidationLoss()``, which None
        stands for, ``DemographicParity()``, ``EqualOpportunity()`` or ``AdversarialLoss(eps)`` of
        `skinfluence.influence`; or a function of (module, X_val, y_val) that gives a scalar
        tensor. It gets the module in eval mode and all validation rows in one batch, as tensors.
    n_ensemble : int, default=1
        Average over so many models. A net with dropout layers gives sub-models of one training,
        each with a mask of its own that is the same for all rows; any other net is trained so
        many times with other seeds.
    layers : "last", "all", or sequence of str, default="all"
        Layers whose gradients count; see `GradientEmbedding`.
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
        Seed of the training and the dropout masks. Global generators are neither used nor changed.
    verbose : int, default=0
        1 shows on stderr how far the fit is, and the time left. It does not change the result.

    Attributes
    ----------
    detrimentality_ : ndarray of shape (n_samples,)
        Minus the inner product, float64: the first-order fall of the objective for a unit step
        that unlearns the row. Higher = more detrimental.
    ranking_ : ndarray of shape (n_samples,)
        Row numbers, most detrimental first.
    net_ : NeuralNet
        The trained net.
    nets_ : list of NeuralNet
        All trained nets, `net_` first; one alone for a net with dropout layers.
    classes_ : ndarray of shape (n_classes,)
        The labels, for a classifier.
    n_features_in_ : int
        For arrays and data frames.

    See Also
    --------
    InfluenceFunction : With the inverse curvature, for a loss.

    Notes
    -----
    The paper's score is the inner product itself, negative for detrimental rows; here its sign is
    flipped, in one place.

    For the two gaps between groups and a callable, `influence` is not defined: a query row alone
    has no gap.

    A row of weight w, where one is the mean, counts w times: unlearning it unlearns all of it.

    Cost: one training (or `n_ensemble`), one gradient pass over the validation rows, and one pass
    of directional products over the training rows, which costs two or three forward passes; times
    `n_ensemble`.

    References
    ----------
    Yang, Yue, Chen, Liu. "Revisit, Extend, and Enhance Hessian-Free Influence Functions".
    arXiv 2405.17490.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.metrics import roc_auc_score
    >>> from skinfluence import InnerProductInfluence
    >>> from skinfluence.datasets import make_noisy_labels
    >>> X, y = load_wine(return_X_y=True)
    >>> X, y, X_val, y_val = X[::2], y[::2], X[1::2], y[1::2]
    >>> y_noisy, is_noisy = make_noisy_labels(y, rate=0.1, random_state=0)
    >>> method = InnerProductInfluence(random_state=0).fit(X, y_noisy, X_val=X_val, y_val=y_val)
    >>> bool(roc_auc_score(is_noisy, method.detrimentality_) > 0.8)
    True
    """

    def __init__(
        self,
        net: Any = None,
        *,
        objective: Any = None,
        n_ensemble: int = 1,
        layers: str | Sequence[str] = "all",
        validation: str | float = "cross",
        batch_size: int = 1024,
        memory: Any = None,
        task: str | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.net = net
        self.objective = objective
        self.n_ensemble = n_ensemble
        self.layers = layers
        self.validation = validation
        self.batch_size = batch_size
        self.memory = memory
        self.task = task
        self.random_state = random_state
        self.verbose = verbose

    def _check_parameters(self) -> None:
        check_positive_integer("batch_size", self.batch_size)
        check_positive_integer("n_ensemble", self.n_ensemble)
        as_objective(self.objective).check_parameters()

    def _needs_validation(self) -> bool:
        return True

    def _judges_new_rows(self) -> bool:
        return True

    def _fit_scores(self, rows: ModelRows, validation: ModelRows | None) -> NDArray[np.float64]:
        assert validation is not None  # `_needs_validation`
        self._training_rows = rows
        self.nets_ = [self.net_, *self._further_nets(rows)]
        self._directions = []
        with preserved_random_state():
            for net in told("nets", self._members()):
                judged = self._net_rows(net, validation, self._validation_weights)
                direction = self._objective_gradient(net.criterion_, judged, validation)
                self._directions.append(direction)
        return self._of_whole_rows(self._score(rows))

    def _score(self, rows: ModelRows) -> NDArray[np.float64]:
        with preserved_random_state():
            products = [
                self._net_rows(net, rows).inner_products(direction)
                for net, direction in zip(self._members(), self._directions, strict=True)
            ]
        return np.asarray(-np.mean(products, axis=0))

    @available_if(has_value_by_row)
    def influence(self, X: Any, y: Any = None) -> NDArray[np.float64]:
        """Multiply the gradients of given rows with those of the training rows.

        Parameters
        ----------
        X : array-like of shape (n_query, n_features) or (n_query, channels, height, width)
        y : array-like of shape (n_query,) or (n_query, n_outputs)
            Labels from `classes_`, or numbers. None only for a data set that holds its targets.

        Returns
        -------
        ndarray of shape (n_query, n_samples)
            Float64. Positive = the training row lowers the query's loss (for `AdversarialLoss`,
            that of the attacked query): the opposite sign of `detrimentality_`, which ranks as
            the mean of this over the validation rows, negated.
        """
        return self._answered(X, y)

    def _influence_on(self, queries: ModelRows) -> NDArray[np.float64]:
        objective = as_objective(self.objective)
        found = []
        for net in self._members():
            train = self._net_rows(net, self._training_rows)
            judged = objective.as_rows(self._net_rows(net, queries))
            found.append(np.concatenate([train.gram(part) for part in judged.kept_gradients()]))
        return self._of_whole_rows(np.asarray(np.mean(found, axis=0)))

    def _further_nets(self, rows: ModelRows) -> list[Net]:
        """Train the net again with other seeds, where it has no dropout to draw sub-models from."""
        if self.n_ensemble == 1 or has_dropout(self._trained.net.module_):
            return []
        if isinstance(self.net, FrozenEstimator):
            raise ValueError(
                f"Got n_ensemble={self.n_ensemble} with a frozen net without dropout layers, of "
                "which there is one only. Pass the net unfrozen to train it several times."
            )
        seeds = draw_seeds(self._seeds[1], self.n_ensemble - 1)
        targets = rows.targets
        if targets is not None and self._trained.labels is not None:
            targets = self._trained.labels.decode(targets)
        net = without_recorders(self.net)
        numbers = kind_of(self.net_) == "regression"
        given = Rows(rows.inputs, targets, numbers, weights=self._training_weights)
        return [
            train_net(net, given, seed, memory=self.memory).net for seed in told("trainings", seeds)
        ]

    def _members(self) -> list[Net]:
        if self.n_ensemble == 1 or len(self.nets_) > 1:
            return self.nets_
        seeds = draw_seeds(self._seeds[2], self.n_ensemble)
        return [dropout_submodel(self.net_, seed) for seed in seeds]

    def _net_rows(self, net: object, rows: ModelRows, weights: Weights = None) -> NetRows:
        return NetRows(net, rows, self.layers, self.batch_size, weights)
