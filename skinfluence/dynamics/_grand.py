"""The norm of the gradient at an early epoch, over several trainings."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator

from skinfluence.gradients._passes import Trajectory, gather
from skinfluence.gradients._readings import Norm
from skinfluence.gradients._trajectory import MeanOf
from skinfluence.methods._base import BaseDetrimentality
from skinfluence.nets._trained_net import hand_over, train_net
from skinfluence.rows._parameters import check_positive_integer
from skinfluence.rows._progress import told
from skinfluence.rows._rows import ModelRows, Rows
from skinfluence.rows._seeds import draw_seeds
from skinfluence.trace._callbacks import without_recorders
from skinfluence.trace._training_trace import TrainingTrace


class GraNd(BaseDetrimentality):
    """Score training rows by the norm of their loss gradient early in training.

    Answers: is this row mislabelled or hard? It says little about whether removing the row would
    lower a validation loss. The norm is averaged over several trainings from different seeds.

    Parameters
    ----------
    net : NeuralNet, FrozenEstimator or None, default=None
        As for `GradientEmbedding`; any net with a loss. A frozen net must bring a trace with a
        checkpoint at `epoch`, and is the only one.
    epoch : int, default=10
        How many epochs each net is trained before gradients are taken, whatever its `max_epochs`.
    n_seeds : int, default=10
        How many nets are trained, each from a seed of its own. A net whose parameters fix its
        initial weights and the order of the rows would be trained to the same result each time.
    layers : "last", "all", or sequence of str, default="all"
        Layers whose gradients count; see `GradientEmbedding`.
    cv : int, splitter, list of folds or None, default=None
        Score every row by nets that were not trained on it; scores become quantiles within their
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
        Seed of the trainings. Global generators are neither used nor changed.
    verbose : int, default=0
        1 shows on stderr how far the fit is, and the time left. It does not change the result.

    Attributes
    ----------
    detrimentality_ : ndarray of shape (n_samples,)
        The mean norm of every training row's gradient at its given label, float64; with `cv`,
        quantiles in (0, 1). Higher = more detrimental.
    ranking_ : ndarray of shape (n_samples,)
        Row numbers, most detrimental first.
    strategy_ : dict of str to str
        The route each layer's gradients took.
    nets_ : list of NeuralNet
        The nets at that epoch; of a frozen net, the net itself, whose trace holds that epoch.
    net_ : NeuralNet
        The first of them.
    trace_ : TrainingTrace
        Of a frozen net.
    classes_ : ndarray of shape (n_classes,)
        The labels, for a classifier.
    folds_ : list of GraNd
        With `cv`, one fitted on each fold's training rows; `net_` is a list then.
    oof_probabilities_, oof_predictions_ : ndarray of shape (n_samples, n_classes) or (n_samples,)
        With folds, what nets that were not trained on the row predict: the probability of each of
        `classes_`, or a number.
    n_features_in_ : int
        For arrays and data frames.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        For data frames with string column names.

    Raises
    ------
    ValueError
        At fit, if a frozen net has no checkpoint at `epoch`.

    See Also
    --------
    EL2N : The norm of the error, which needs no gradient.
    OutlierGradientDetector : With a net, gradients along its whole training.

    Notes
    -----
    The score is the mean over seeds of ``|grad l(x, y)|_2``. Before the first step it follows the
    norm of the inputs and finds no wrong labels, whatever the published numbers were (they came of
    trained weights): take an early epoch. ``transform`` believes the labels that the first net
    predicts.

    Cost: `n_seeds` trainings of `epoch` epochs, and as many gradient passes over the rows.

    References
    ----------
    Paul, Ganguli, Dziugaite. "Deep Learning on a Data Diet: Finding Important Examples Early in
    Training". NeurIPS 2021, arXiv 2107.07075, section 2. Kirsch. "Does 'Deep Learning on a Data
    Diet' reproduce? Overall yes, but GraNd at Initialization does not". TMLR 2023, arXiv
    2303.14753.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.metrics import roc_auc_score
    >>> from skinfluence import GraNd
    >>> from skinfluence.datasets import make_noisy_labels
    >>> X, y = load_iris(return_X_y=True)
    >>> y_noisy, is_noisy = make_noisy_labels(y, rate=0.1, random_state=0)
    >>> method = GraNd(epoch=20, n_seeds=2, random_state=0).fit(X, y_noisy)
    >>> bool(roc_auc_score(is_noisy, method.detrimentality_) > 0.9)
    True
    """

    def __init__(
        self,
        net: Any = None,
        *,
        epoch: int = 10,
        n_seeds: int = 10,
        layers: str | Sequence[str] = "all",
        cv: Any = None,
        batch_size: int = 1024,
        memory: Any = None,
        task: str | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.net = net
        self.epoch = epoch
        self.n_seeds = n_seeds
        self.layers = layers
        self.cv = cv
        self.batch_size = batch_size
        self.memory = memory
        self.task = task
        self.random_state = random_state
        self.verbose = verbose

    def _check_parameters(self) -> None:
        check_positive_integer("epoch", self.epoch)
        check_positive_integer("n_seeds", self.n_seeds)
        check_positive_integer("batch_size", self.batch_size)

    def _prepare(self, rows: Rows, validation: Rows | None) -> tuple[ModelRows, ModelRows | None]:
        frozen = isinstance(self.net, FrozenEstimator)
        further = [] if frozen else draw_seeds(self._seeds[1], self.n_seeds - 1)
        nets = [self.net, *(without_recorders(self.net) for _ in further)]
        seeds = (self._seeds[0], *further)
        trained = [
            train_net(net, rows, seed, max_epochs=self.epoch, memory=self.memory)
            for net, seed in told("trainings", list(zip(nets, seeds, strict=True)))
        ]
        hand_over(trained[0], self, traced=frozen)
        self.nets_ = [one.net for one in trained]
        self._early = _at_epoch(trained[0].trace, self.epoch) if frozen else None
        return trained[0].coded(rows), None

    def _takes_weights(self) -> bool:
        return not isinstance(self.net, FrozenEstimator)

    def _judges_new_rows(self) -> bool:
        return True

    def _fit_scores(self, rows: ModelRows, validation: ModelRows | None) -> NDArray[np.float64]:
        return self._score(rows)

    def _score(self, rows: ModelRows) -> NDArray[np.float64]:
        gathered = [
            gather(
                net,
                rows.inputs,
                rows.targets,
                lambda *_: Norm(),
                layers=self.layers,
                batch_size=self.batch_size,
                trajectory=self._early,
            )
            for net in told("nets", self.nets_)
        ]
        self.strategy_ = gathered[0].strategy
        mean: NDArray[np.float64] = np.mean([one.values for one in gathered], 0, dtype=np.float64)
        return mean


def _at_epoch(trace: TrainingTrace | None, epoch: int) -> Trajectory:
    recorded = [] if trace is None else trace.checkpoints
    for checkpoint in recorded:
        if checkpoint.epoch == epoch:
            return Trajectory([checkpoint.state], MeanOf(), None)
    found = f"checkpoints at {[c.epoch for c in recorded]}" if recorded else "no trace"
    raise ValueError(
        f"Got epoch={epoch}, but the frozen net brings {found}. Train it with "
        "callbacks=[TraceRecorder(checkpoints='all')], choose an epoch that was recorded, or pass "
        "the net unfrozen to have it trained."
    )
