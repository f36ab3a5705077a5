"""TracIn: influence traced through the checkpoints of one training."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinfluence.gradients._embedding import EmbeddingSettings
from skinfluence.gradients._readings import InnerProduct, Norm
from skinfluence.influence._queries import InfluenceQueries
from skinfluence.methods._gradient_parameters import (
    check_gradient_settings,
    needs_of_checkpoints,
    trajectory_of,
)
from skinfluence.rows._parameters import check_parameter
from skinfluence.rows._rows import ModelRows
from skinfluence.trace._needs import TraceNeeds


class TracIn(InfluenceQueries):
    """Score training rows by the loss changes that training on them has caused.

    At checkpoints of the training, gradients are compared: a step on row z at learning rate eta
    changes the loss of row z' by about ``-eta <grad l(z), grad l(z')>``, and TracIn adds these
    up over checkpoints. Two questions, by `reference`:

    * "self": how much did the row have to pull on its own loss? Answers whether it is
      mislabelled, corrupted or rare.
    * "validation": did steps on the row raise the loss of trusted rows? Answers whether removing
      it would lower a validation loss; it is weak at finding wrong labels.

    Parameters
    ----------
    net : NeuralNet, FrozenEstimator or None, default=None
        As for `GradientEmbedding`. A frozen net must bring a trace with checkpoints.
    reference : {"self", "validation"}, default="self"
        What a row's gradient is compared with: itself, or the mean gradient of validation rows.
    checkpoints : "last", "all" or int, default=5
        At the end of training, after every epoch, or k evenly spaced ones.
    initial : bool, default=False
        Count the net before its first step, too, with the learning rate of the first epoch, whose
        steps begin there; see Notes. A trace holds that state whatever else was recorded.
    layers : "last", "all", or sequence of str, default="last"
        Layers whose gradients count; see `GradientEmbedding`.
    normalize : {None, "activations", "gradient"}, default=None
        "gradient" scales every gradient to unit norm, so that products are cosines (renormalised
        TracIn); for "validation" only, because the self-influence would be the same for all rows.
    n_components : int or None, default=None
        Length of a random sketch of the gradients of all checkpoints together (TracInRP), whose
        inner products stand in for the exact ones up to about ``1 / sqrt(n_components)``. None
        is exact, and for scores needs no more memory.
    validation : "cross" or float, default="cross"
        What stands in for validation rows where none are given: two halves that validate each
        other, or that share held out, scored by the swapped run. Scores are then quantiles within
        a half. The training rows are never their own validation rows.
    cv : int, splitter, list of folds or None, default=None
        Score every row by a net that was not trained on it; scores become quantiles within their
        fold.
    max_bytes : int, default=2**30
        Refuse a larger matrix of sketches before computing it.
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
        Seed of the training and the sketch. Global generators are neither used nor changed.
    verbose : int, default=0
        1 shows on stderr how far the fit is, and the time left. It does not change the result.

    Attributes
    ----------
    detrimentality_ : ndarray of shape (n_samples,)
        "self": ``sum_c eta_c |g_c|**2``; "validation": ``-sum_c eta_c <g_c, mean gradient>``.
        Float64, in units of the loss. Higher = more detrimental.
    ranking_ : ndarray of shape (n_samples,)
        Row numbers, most detrimental first.
    strategy_ : dict of str to str
        The route each layer's gradients took.
    net_ : NeuralNet
        The trained net.
    trace_ : TrainingTrace
        The checkpoints and their learning rates.
    classes_ : ndarray of shape (n_classes,)
        The labels, for a classifier.
    folds_ : list of TracIn
        Where rows were split, one for each part; `net_` and `trace_` are lists then.
    oof_probabilities_, oof_predictions_ : ndarray of shape (n_samples, n_classes) or (n_samples,)
        With folds, what nets that were not trained on the row predict: the probability of each of
        `classes_`, or a number.
    n_features_in_ : int
        For arrays and data frames.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        For data frames with string column names.

    See Also
    --------
    GradientEmbedding : With ``combine="concat"``, vectors whose inner products are TracIn's,
        without `initial`.

    Notes
    -----
    Each checkpoint counts with its own learning rate, per parameter group, once. The theory is
    of plain SGD with one row a step; momentum, Adam and batches make it an approximation, and
    checkpoints stand in for the steps between them. The first steps of a fine-tuning are its
    largest, and once a task is learnt its gradients say little of it: `initial` is for these, and
    for trainings of so few epochs that no checkpoint is early.

    Steps on a row of weight w, where one is the mean, are w times as long: with
    ``reference="validation"`` and in `influence`, products count so many times. The self-influence
    is that of a row of weight one, whatever the row's own.

    Cost: one training; one pass over the rows for each checkpoint.

    References
    ----------
    Pruthi, Liu, Sundararajan, Kale. "Estimating Training Data Influence by Tracing Gradient
    Descent". NeurIPS 2020, arXiv 2002.08484, section 3 (TracInCP) and appendix F (TracInRP).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.metrics import roc_auc_score
    >>> from skinfluence import TracIn
    >>> from skinfluence.datasets import make_noisy_labels
    >>> X, y = load_iris(return_X_y=True)
    >>> y_noisy, is_noisy = make_noisy_labels(y, rate=0.1, random_state=0)
    >>> method = TracIn(random_state=0).fit(X, y_noisy)
    >>> bool(roc_auc_score(is_noisy, method.detrimentality_) > 0.9)
    True
    >>> method.influence(X[:2], y[:2]).shape
    (2, 150)
    """

    def __init__(
        self,
        net: Any = None,
        *,
        reference: str = "self",
        checkpoints: int | str = 5,
        initial: bool = False,
        layers: str | Sequence[str] = "last",
        normalize: str | None = None,
        n_components: int | None = None,
        validation: str | float = "cross",
        cv: Any = None,
        max_bytes: int = 2**30,
        batch_size: int = 1024,
        memory: Any = None,
        task: str | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.net = net
        self.reference = reference
        self.checkpoints = checkpoints
        self.initial = initial
        self.layers = layers
        self.normalize = normalize
        self.n_components = n_components
        self.validation = validation
        self.cv = cv
        self.max_bytes = max_bytes
        self.batch_size = batch_size
        self.memory = memory
        self.task = task
        self.random_state = random_state
        self.verbose = verbose

    def influence(self, X: Any, y: Any = None) -> NDArray[np.float64]:
        """Trace how training on each row changed the loss of given rows.

        Parameters
        ----------
        X : array-like of shape (n_query, n_features) or (n_query, channels, height, width)
        y : array-like of shape (n_query,) or (n_query, n_outputs)
            Labels from `classes_`, or numbers. None only for a data set that holds its targets.

        Returns
        -------
        ndarray of shape (n_query, n_train)
            Positive = training on the row lowered the query's loss.
        """
        return self._answered(X, y)

    def _influence_on(self, queries: ModelRows) -> NDArray[np.float64]:
        settings = self._settings()
        if self.n_components is None:
            found = settings.inner_products(self.net_, queries, self._training_rows)
            return self._of_whole_rows(found)
        sketches = [
            settings.gather(self.net_, rows).values for rows in (queries, self._training_rows)
        ]
        return self._of_whole_rows(np.asarray(sketches[0] @ sketches[1].T, dtype=np.float64))

    def _check_parameters(self) -> None:
        check_gradient_settings(self)
        check_parameter(
            "initial", self.initial, "a bool", holds=lambda value: isinstance(value, bool)
        )
        check_parameter(
            "reference",
            self.reference,
            '"self" or "validation"',
            holds=lambda value: value in {"self", "validation"},
        )
        if self.reference == "self" and self.normalize == "gradient":
            raise ValueError(
                "Got normalize='gradient' with reference='self': every gradient then has norm 1, "
                "so all rows would score the same. Use reference='validation', or "
                "normalize=None or 'activations'."
            )

    def _trace_needs(self) -> TraceNeeds | None:
        return needs_of_checkpoints(self.checkpoints, "concat")

    def _needs_validation(self) -> bool:
        return self.reference == "validation"

    def _judges_new_rows(self) -> bool:
        return True

    def _fit_scores(self, rows: ModelRows, validation: ModelRows | None) -> np.ndarray:
        self._training_rows = rows
        self._direction: Any = None
        if validation is not None:
            settings, weights = self._settings(), self._validation_weights
            if self.n_components is None:
                self._direction = settings.mean_gradient(self.net_, validation, weights)
            else:
                sketches = settings.gather(self.net_, validation).values
                self._direction = np.average(sketches, axis=0, weights=weights)
        scores = self._score(rows)
        return scores if validation is None else self._of_whole_rows(scores)

    def _score(self, rows: ModelRows) -> np.ndarray:
        reading = None  # the sketch
        if self.n_components is None:
            reading = Norm() if self._direction is None else InnerProduct(self._direction)
        gathered = self._settings().gather(self.net_, rows, reading)
        self.strategy_ = gathered.strategy
        values = gathered.values.astype(np.float64)
        if self._direction is None:
            return values**2 if values.ndim == 1 else (values**2).sum(1)
        return -values if values.ndim == 1 else -(values @ self._direction)

    def _settings(self) -> EmbeddingSettings:
        trajectory = trajectory_of(
            self.trace_,
            self.checkpoints,
            combine="concat",
            normalize=self.normalize,
            initial=self.initial,
        )
        return EmbeddingSettings(
            self.layers,
            self.n_components,
            self._seeds[2],
            self.max_bytes,
            self.batch_size,
            trajectory,
        )
