"""Scores read off one forward pass, at one checkpoint or several; of these, the loss."""

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Tags, get_tags
from torch import Tensor

from skinfluence.gradients._net_loss import Nested, NetLoss
from skinfluence.gradients._outputs import mean_over_states, row_losses
from skinfluence.methods._base import BaseDetrimentality
from skinfluence.methods._gradient_parameters import needs_of_checkpoints
from skinfluence.methods._out_of_sample import keep_out_of_sample
from skinfluence.nets._judges import check_model, is_model, judge_of, judges_by_folds
from skinfluence.nets._trained_net import hand_over
from skinfluence.rows._parameters import check_positive_integer
from skinfluence.rows._rows import ModelRows, Rows
from skinfluence.trace._needs import TraceNeeds, check_checkpoints
from skinfluence.trace._training_trace import State


class CheckpointMean(BaseDetrimentality):
    """A function of a row and the net, averaged over checkpoints; a subclass implements `_read`."""

    def __init__(
        self,
        net: Any = None,
        *,
        checkpoints: int | str = "last",
        cv: Any = None,
        batch_size: int = 1024,
        memory: Any = None,
        task: str | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.net = net
        self.checkpoints = checkpoints
        self.cv = cv
        self.batch_size = batch_size
        self.memory = memory
        self.task = task
        self.random_state = random_state
        self.verbose = verbose

    @abstractmethod
    def _read(self, net_loss: NetLoss, X: Nested, y: Tensor) -> NDArray[np.float64]:
        """Score the rows of a batch at one checkpoint; higher = more detrimental."""

    @abstractmethod
    def _of_predictions(self, predicted: np.ndarray, targets: np.ndarray) -> NDArray[np.float64]:
        """Score rows by what a scikit-learn model predicts: probabilities, or numbers."""

    def _check_parameters(self) -> None:
        check_checkpoints(self.checkpoints)
        check_positive_integer("batch_size", self.batch_size)

    def _prepare(self, rows: Rows, validation: Rows | None) -> tuple[ModelRows, ModelRows | None]:
        if not is_model(self.net):
            return super()._prepare(rows, validation)
        judge: Any = judge_of(self.net, rows, cv=self.cv, seed=self._seeds[0])
        hand_over(judge, self, traced=False)
        if not judge.is_frozen:
            keep_out_of_sample(self, judge.out_of_sample)
        return judge.coded(rows), None

    def _trains_net(self) -> bool:
        return not is_model(self.net)

    def _takes_models(self) -> bool:
        return True

    def _takes_weights(self) -> bool:
        return not isinstance(self.net, FrozenEstimator)

    def _takes_raw(self) -> bool:
        return is_model(self.net)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        if is_model(self.net):
            own = get_tags(self.net).input_tags
            tags.input_tags.allow_nan, tags.input_tags.sparse = own.allow_nan, own.sparse
        return tags

    def _cross_validates(self) -> bool:
        return super()._cross_validates() and not is_model(self.net)  # which makes its own folds

    def _keeps_groups_together(self) -> bool:
        return super()._keeps_groups_together() or judges_by_folds(self.net, self.cv)

    def _trace_needs(self) -> TraceNeeds | None:
        return needs_of_checkpoints(self.checkpoints)

    def _judges_new_rows(self) -> bool:
        return True

    def _judges_training_rows_as_new(self) -> bool:
        judge: Any = self._trained
        return is_model(self.net) and not judge.is_frozen

    def _fit_scores(self, rows: ModelRows, validation: ModelRows | None) -> NDArray[np.float64]:
        if is_model(self.net):
            judge: Any = self._trained
            return self._of_predictions(judge.out_of_sample, rows.targets)
        return self._score(rows)

    def _score(self, rows: ModelRows) -> NDArray[np.float64]:
        if is_model(self.net):
            judge: Any = self._trained
            return self._of_predictions(judge.ask(rows.inputs), rows.targets)
        states: list[State | None] = [None]
        if self.checkpoints != "last":
            states = [point.state for point in self.trace_.evenly_spaced(self.checkpoints)]
        return mean_over_states(
            self.net_, rows.inputs, rows.targets, states, self._read, batch_size=self.batch_size
        )


class LossScore(CheckpointMean):
    """Score training rows by their loss.

    Answers: is this row mislabelled or hard? It says little about whether removing the row would
    lower a validation loss. It is the baseline that any other method must beat.

    Parameters
    ----------
    net : NeuralNet, classifier, regressor, FrozenEstimator or None, default=None
        As for `GradientEmbedding`; any net with a loss. A frozen net must bring a trace if there
        are several checkpoints. Or a scikit-learn classifier with `predict_proba` or a regressor,
        which gets `X` as it is and judges rows that it was not trained on: out of bag if it draws
        bootstrap samples and `cv` is None, otherwise out of the folds of `cv`, five if None.
        These scores stay in their unit. A frozen one is asked as it is. It is not cached.
    checkpoints : "last", "all" or int, default="last"
        Score at the end of training, or average over the end of every epoch or of k evenly
        spaced ones.
    cv : int, splitter, list of folds or None, default=None
        Score every row by a net that was not trained on it; scores become quantiles within their
        fold.
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
        The loss of every training row at its given label, float64; with `cv` of a net, quantiles
        in (0, 1). Higher = more detrimental.
    ranking_ : ndarray of shape (n_samples,)
        Row numbers, most detrimental first.
    net_ : NeuralNet, classifier or regressor
        The trained net, or the model trained on all rows.
    trace_ : TrainingTrace
        The checkpoints, if there are several.
    classes_ : ndarray of shape (n_classes,)
        The labels, for a classifier.
    folds_ : list of LossScore
        With `cv`, one fitted on each fold's training rows; `net_` and `trace_` are lists then.
    oof_probabilities_, oof_predictions_ : ndarray of shape (n_samples, n_classes) or (n_samples,)
        With folds, what nets that were not trained on the row predict: the probability of each of
        `classes_`, or a number.
    n_features_in_ : int
        For arrays and data frames.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        For data frames with string column names.

    See Also
    --------
    SelfConfidence : The same order, for cross-entropy without class weights.
    EL2N : The norm of the error, which a few huge losses do not rule.

    Notes
    -----
    The loss of a row is the net's own, with class weights, label smoothing and a criterion of the
    user's; for cross-entropy at one checkpoint ``-log p_y``. That of a scikit-learn classifier is
    ``-log p_y``, p_y no less than 2.2e-16, that of a regressor the squared error, over the outputs
    of a row in sum. A net that has learnt its wrong
    labels by heart gives them a small loss: the mean over checkpoints remembers when they were
    large, and is the strongest baseline.

    Cost: one training; one forward pass over the rows for each checkpoint.

    References
    ----------
    Arazo, Ortego, Albert, O'Connor, McGuinness. "Unsupervised Label Noise Modeling and Loss
    Correction". ICML 2019, arXiv 1904.11238, section 3: noisy labels take longer to learn.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.metrics import roc_auc_score
    >>> from skinfluence import LossScore
    >>> from skinfluence.datasets import make_noisy_labels
    >>> X, y = load_iris(return_X_y=True)
    >>> y_noisy, is_noisy = make_noisy_labels(y, rate=0.1, random_state=0)
    >>> scores = LossScore(checkpoints=10, random_state=0).fit(X, y_noisy).detrimentality_
    >>> bool(roc_auc_score(is_noisy, scores) > 0.9)
    True
    """

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_model(self.net, cv=self.cv, checkpoints=self.checkpoints, needs_classes=False)

    def _read(self, net_loss: NetLoss, X: Nested, y: Tensor) -> NDArray[np.float64]:
        return row_losses(net_loss, X, y)

    def _of_predictions(self, predicted: np.ndarray, targets: np.ndarray) -> NDArray[np.float64]:
        if self._trained.labels is None:
            errors = predicted.reshape(len(targets), -1) - targets.reshape(len(targets), -1)
            return np.asarray(np.square(errors).sum(1))
        given = np.take_along_axis(predicted, targets[:, np.newaxis], 1)[:, 0]
        return np.asarray(-np.log(np.maximum(given, np.finfo(np.float64).eps)))
