"""Scores read off the logits of every epoch, as training computed them."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skinfluence.dynamics._formulas import area_under_margin, forgetting_events, margin
from skinfluence.gradients._outputs import class_codes, class_scores, labels_of
from skinfluence.gradients._skorch import Net
from skinfluence.methods._base import BaseDetrimentality
from skinfluence.nets._predictions import check_given_net_has_classes
from skinfluence.rows._parameters import check_positive_integer
from skinfluence.rows._rows import ModelRows
from skinfluence.trace._needs import TraceNeeds
from skinfluence.trace._training_trace import TrainingTrace


class RecordedMargins(BaseDetrimentality):
    """A function of the margins of a row in every epoch."""

    def __init__(
        self,
        net: Any = None,
        *,
        max_bytes: int = 2**30,
        memory: Any = None,
        task: str | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.net = net
        self.max_bytes = max_bytes
        self.memory = memory
        self.task = task
        self.random_state = random_state
        self.verbose = verbose

    def _check_parameters(self) -> None:
        check_positive_integer("max_bytes", self.max_bytes)
        check_given_net_has_classes(self.net)

    def _trace_needs(self) -> TraceNeeds:
        return TraceNeeds(logits=True, max_bytes=self.max_bytes)

    def _margins(self, rows: ModelRows) -> NDArray[np.float64]:
        _check_converged(self.trace_)
        labels = labels_of(self.net_, rows.inputs, rows.targets)
        assert self.trace_.logits is not None
        margins = np.array([_margins(self.net_, table, labels) for table in self.trace_.logits])
        _check_all_seen(margins)
        return margins


class AreaUnderMargin(RecordedMargins):
    """Score training rows by the mean margin of their label over the training, negated.

    Answers: is this row mislabelled? It says little about whether removing the row would lower a
    validation loss. While a net trains, a wrong label is held back by the rows like it: the logit
    of another class stays above that of the label given.

    Parameters
    ----------
    net : NeuralNet, FrozenEstimator or None, default=None
        As for `GradientEmbedding`; it must be a classifier. A frozen net must bring a trace with
        logits.
    max_bytes : int, default=2**30
        Refuse, before training, to record more than that in memory. A `TraceRecorder` with
        ``logits=True`` and a folder among the net's own callbacks has no such limit.
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
        Float64, in logits. Higher = more detrimental.
    ranking_ : ndarray of shape (n_samples,)
        Row numbers, most detrimental first.
    net_ : NeuralNet
        The trained net.
    trace_ : TrainingTrace
        With the logits of every epoch.
    classes_ : ndarray of shape (n_classes,)
        The labels.
    n_features_in_ : int
        For arrays and data frames.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        For data frames with string column names.

    Raises
    ------
    ValueError
        At fit, if the net has no class probabilities, diverges, or is never trained on some rows.

    See Also
    --------
    NormalizedMargin : The margin of probabilities, after training; it can judge new rows.
    LossScore : With ``checkpoints="all"``, the mean loss over the training.

    Notes
    -----
    The score is ``mean_t max_{k != y} z_k - z_y`` over the epochs t that saw the row, with the
    logits z at the moment of its training step: in training mode, with augmentation and dropout.
    For a net whose outputs are probabilities, logits are their logs; one logit z of a binary
    classifier gives margins of z and -z. New rows cannot be judged, because training never saw
    them. Logits, unlike probabilities, go on growing: schedules that drop the learning rate late
    let the last epochs rule, so the paper stops before.

    Cost: one training; the logits of every row and epoch are kept.

    References
    ----------
    Pleiss, Zhang, Elenberg, Weinberger. "Identifying Mislabeled Data using the Area Under the
    Margin Ranking". NeurIPS 2020, arXiv 2001.10528, section 3. The scores alone, without the
    paper's threshold samples.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.metrics import roc_auc_score
    >>> from skinfluence import AreaUnderMargin
    >>> from skinfluence.datasets import make_noisy_labels
    >>> X, y = load_iris(return_X_y=True)
    >>> y_noisy, is_noisy = make_noisy_labels(y, rate=0.1, random_state=0)
    >>> scores = AreaUnderMargin(random_state=0).fit(X, y_noisy).detrimentality_
    >>> bool(roc_auc_score(is_noisy, scores) > 0.9)
    True
    """

    def _fit_scores(self, rows: ModelRows, validation: ModelRows | None) -> NDArray[np.float64]:
        return area_under_margin(self._margins(rows))


class ForgettingEvents(RecordedMargins):
    """Score training rows by how often the net forgot them while it trained.

    Answers: is this row hard or mislabelled? It says little about whether removing the row would
    lower a validation loss.

    Parameters
    ----------
    net : NeuralNet, FrozenEstimator or None, default=None
        As for `GradientEmbedding`; it must be a classifier. A frozen net must bring a trace with
        logits.
    max_bytes : int, default=2**30
        Refuse, before training, to record more than that in memory. A `TraceRecorder` with
        ``logits=True`` and a folder among the net's own callbacks has no such limit.
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
        A count, as float64: how often a right prediction turned wrong by the next epoch that saw
        the row; the number of epochs for a row that was never right. Higher = more detrimental.
    ranking_ : ndarray of shape (n_samples,)
        Row numbers, most detrimental first.
    net_ : NeuralNet
        The trained net.
    trace_ : TrainingTrace
        With the logits of every epoch.
    classes_ : ndarray of shape (n_classes,)
        The labels.
    n_features_in_ : int
        For arrays and data frames.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        For data frames with string column names.

    Raises
    ------
    ValueError
        At fit, if the net has no class probabilities, diverges, or is never trained on some rows.

    See Also
    --------
    AreaUnderMargin : From the same record, without ties, and better at finding wrong labels.

    Notes
    -----
    A prediction is that of the row's own training step, and right if the logit of the given label
    is above all others. The paper calls rows that were never learnt forgotten without end; here
    they score the number of epochs, which no count of the others reaches. Counts are small and
    tied: with few epochs, or a net that learns fast, they say little.

    Cost: one training; the logits of every row and epoch are kept.

    References
    ----------
    Toneva, Sordoni, Tachet des Combes, Trischler, Bengio, Gordon. "An Empirical Study of Example
    Forgetting during Deep Neural Network Learning". ICLR 2019, arXiv 1812.05159, section 3.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skinfluence import ForgettingEvents
    >>> from skinfluence.datasets import make_noisy_labels
    >>> X, y = load_iris(return_X_y=True)
    >>> y_noisy, is_noisy = make_noisy_labels(y, rate=0.1, random_state=0)
    >>> scores = ForgettingEvents(random_state=0).fit(X, y_noisy).detrimentality_
    >>> bool(scores[is_noisy].mean() > scores[~is_noisy].mean())
    True
    """

    def _fit_scores(self, rows: ModelRows, validation: ModelRows | None) -> NDArray[np.float64]:
        return forgetting_events(self._margins(rows))


def _margins(net: Net, table: np.ndarray, labels: torch.Tensor) -> NDArray[np.float64]:
    """Take the margins of one epoch, NaN for the rows it did not see."""
    margins = np.full(len(table), np.nan)
    seen = np.flatnonzero(~np.isnan(table).any(1))
    if len(seen):
        scores = class_scores(net, torch.from_numpy(np.array(table[seen])))
        margins[seen] = margin(scores, class_codes(labels[seen], scores.shape[1]))
    return margins


def _check_converged(trace: TrainingTrace) -> None:
    """Refuse a training that ended in NaN, whose later epochs would pass for unseen."""
    broken = [name for name, t in trace.final_state.items() if not bool(torch.isfinite(t).all())]
    if broken:
        raise ValueError(
            f"Training diverged: {broken[:5]} hold NaN or infinity, so there are no margins of "
            "every epoch. Lower the learning rate, or check the inputs."
        )


def _check_all_seen(margins: NDArray[np.float64]) -> None:
    unseen = np.flatnonzero(np.isnan(margins).all(0))
    if len(unseen):
        raise ValueError(
            f"{len(unseen)} of {margins.shape[1]} rows were never trained on, so no logits of "
            f"theirs were recorded: {unseen.tolist()[:5]}. Set the net's train_split=None, train "
            "for at least one epoch, and let its loader draw every row."
        )
