"""SGD-influence: the training retraced backwards, exactly or from fewer stored parameters."""

from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator

from skinfluence.influence._queries import InfluenceQueries
from skinfluence.influence.retraced._retracing import (
    check_retraceable,
    first_step_of,
    retrace_key,
    retraced_influence,
    walk_file,
)
from skinfluence.nets._default import sgd_net
from skinfluence.rows._parameters import check_parameter, check_positive_integer
from skinfluence.rows._rows import ModelRows
from skinfluence.storage._files import numbered
from skinfluence.storage._lock import locked
from skinfluence.storage._work_file import WorkFile
from skinfluence.trace._callbacks import own_recorders
from skinfluence.trace._needs import TraceNeeds

# Parameters that decide what retracing a given trace gives.
_DECIDING = {"parameters", "epochs", "hessian", "renormalize", "batch_size"}


class SGDInfluence(InfluenceQueries):
    """Score training rows by what leaving them out of the training's own steps would change.

    Answers: would the validation loss be lower without this row? It is weak at finding wrong
    labels. The training is retraced from its end: the gradient of the validation loss is carried
    back through the steps, ``u <- u - eta_t H_t u``, and multiplied with the gradients of the
    rows each step used.

    Parameters
    ----------
    net : NeuralNet, FrozenEstimator or None, default=None
        As for `GradientEmbedding`, but None is the default net trained by SGD with momentum. The
        theory is of `torch.optim.SGD`: plain or with momentum, with or without weight decay, it is
        exact to first order; of any other training a warning says how far it is from that. A
        frozen net must bring its trace.
    parameters : {"trajectory", "epoch", "final"}, default="trajectory"
        At which parameters to differentiate: those before each step (Hara et al.); points between
        those stored after each epoch; or those at the end of training (Suzuki et al.).
    epochs : "all", "last" or int, default="all"
        How much of the training to retrace: all of it, the last epoch, or the last k.
    hessian : bool, default=True
        Carry the direction back through each step. False leaves it as it is at the end.
    renormalize : bool, default=False
        Leaving a row out of a batch divides by one row less, as training without it would;
        False gives it the weight zero, as the theory has it. For losses that are a plain mean.
    validation : "cross" or float, default="cross"
        What stands in for validation rows where none are given; see `TracIn`.
    storage : "memory" or path, default="memory"
        A folder for the states before every step, and for how far the fit is: where rows were
        split, one for each part, with its number appended. The same fit after an interruption or
        a kill goes on from there, with the same result; see `TraceRecorder` with `resume`, and
        Notes. It takes an integer `random_state`.
    max_bytes : int, default=2**30
        Refuse, before training, a trace that takes more memory.
    batch_size : int, default=256
        Rows per pass over the validation rows. Steps are retraced with their own batches.
    memory : joblib.Memory, str or None, default=None
        Cache of trainings, as in a Pipeline: a folder, in which the trained parameters and the
        trace are kept by net, rows, targets and seed, so that a search over other parameters trains
        one net a fold. Needs an integer `random_state` to find them again. A frozen net needs none.
        With `storage` in a folder nothing is cached.
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
        The estimated validation loss less that of a training without the row; float64, in units
        of the mean validation loss (quantiles where the rows were split); zero for rows that the
        retraced steps did not use. Higher = more detrimental.
    ranking_ : ndarray of shape (n_samples,)
        Row numbers, most detrimental first.
    net_ : NeuralNet
        The trained net.
    trace_ : TrainingTrace
        Its steps.
    classes_ : ndarray of shape (n_classes,)
        The labels, for a classifier.
    folds_ : list of SGDInfluence
        Where rows were split, one for each part; `net_` and `trace_` are lists then.
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
        If other things than the steps of one optimiser led to the net: a scheduled momentum
        (OneCycleLR without ``cycle_momentum=False``), parameters loaded when training ended
        (EarlyStopping with ``load_best``) or clipped between steps, a criterion that is trained;
        if a frozen net was trained on other targets; if batch normalisation couples the rows
        ("trajectory"). If the folder holds another training; its message says what is another.
        If the net has a recorder of its own and there is a folder, too.
    RuntimeError
        If another fit is in progress in the folder.
    OSError
        If the folder's disk is full. What is computed so far is kept.

    Warns
    -----
    ReplayWarning
        If recorded steps differ from SGD by more than 0.001, as with Adam, dropout, augmentation
        or clipped gradients; with the number.

    See Also
    --------
    LeaveOneOut : What is estimated here, by training again for every row.

    Notes
    -----
    Batch normalisation makes the rows of a batch depend on each other: "trajectory" refuses it,
    "epoch" and "final" differentiate in eval mode, at the running statistics.

    With weights of rows in the training loss, a step's row counts as often as it weighs, and it is
    all of its weight that is left out. A frozen net's weights are those it was trained with.

    With a folder, a stopped fit goes on: training after its last complete epoch, retracing at most
    some seconds before it was killed. An interrupt from the keyboard ends a training early, as it
    does for every skorch net, and leaves `fit` by itself only while it retraces; fit again trains
    the rest. A folder that holds the training of other rows or settings is refused, and so is a
    net with a recorder of its own: leave the folder to that recorder. `influence` is not kept.

    Cost: one training, and for every retraced step one forward and two backward passes over its
    batch. Storage: "trajectory" one copy of the parameters a step, "epoch" one an epoch, "final"
    one; and the row numbers of every batch.

    References
    ----------
    Hara, Nitanda, Maehara. "Data Cleansing for Models Trained with SGD". NeurIPS 2019, algorithms
    1 and 2. Suzuki, Kobayashi, Narihira. "Data Cleansing for Deep Neural Networks with
    Storage-efficient Approximation of Influence Functions". 2021, arXiv 2103.11807. The batch
    mean is divided by once here, where the published code divides the Hessian by it twice.

    Examples
    --------
    >>> from skinfluence import SGDInfluence
    >>> from skinfluence.datasets import make_noisy_blobs
    >>> data = make_noisy_blobs(random_state=0)
    >>> method = SGDInfluence(epochs=5, random_state=0)
    >>> scores = method.fit(data.X, data.y, data.X_test, data.y_test).detrimentality_
    >>> bool(scores[data.is_noisy].mean() > scores[~data.is_noisy].mean())
    True
    """

    def __init__(
        self,
        net: Any = None,
        *,
        parameters: str = "trajectory",
        epochs: int | str = "all",
        hessian: bool = True,
        renormalize: bool = False,
        validation: str | float = "cross",
        storage: str | Path = "memory",
        max_bytes: int = 2**30,
        batch_size: int = 256,
        memory: Any = None,
        task: str | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.net = net
        self.parameters = parameters
        self.epochs = epochs
        self.hessian = hessian
        self.renormalize = renormalize
        self.validation = validation
        self.storage = storage
        self.max_bytes = max_bytes
        self.batch_size = batch_size
        self.memory = memory
        self.task = task
        self.random_state = random_state
        self.verbose = verbose

    def influence(self, X: Any, y: Any = None) -> NDArray[np.float64]:
        """Estimate how training on each row changed the loss of given rows.

        The training is retraced once for every given row.

        Parameters
        ----------
        X : array-like of shape (n_query, n_features) or (n_query, channels, height, width)
        y : array-like of shape (n_query,) or (n_query, n_outputs)
            Labels from `classes_`, or numbers.

        Returns
        -------
        ndarray of shape (n_query, n_train)
            Positive = training on the row lowered the query's loss.
        """
        return self._answered(X, y)

    def _influence_on(self, queries: ModelRows) -> NDArray[np.float64]:
        return self._retraced(queries, each=True)

    def _check_parameters(self) -> None:
        check_positive_integer("batch_size", self.batch_size)
        check_positive_integer("max_bytes", self.max_bytes)
        kinds = {"trajectory", "epoch", "final"}
        check_parameter(
            "parameters",
            self.parameters,
            '"trajectory", "epoch" or "final"',
            holds=lambda value: value in kinds,
        )
        if self.epochs not in {"all", "last"}:
            check_positive_integer("epochs", self.epochs)
        if self.storage != "memory" and not isinstance(self.net, FrozenEstimator):
            check_parameter(
                "random_state",
                self.random_state,
                "an integer together with a folder as storage",
                holds=lambda value: isinstance(value, Integral),
                fix="Another fit could not go on with the training otherwise.",
            )
            # it would miss the epochs that are not trained again
            if own_recorders(self.net):
                raise ValueError(
                    f"Got storage={str(self.storage)!r} and a net with a TraceRecorder of its own, "
                    "which cannot both record a training that may go on. Take the recorder out of "
                    "the net's callbacks, or leave storage='memory' here and give folder and "
                    "resume=True to that recorder."
                )

    def _trace_needs(self) -> TraceNeeds:
        steps = None
        if self.parameters == "trajectory":
            steps = "last_epoch" if self.epochs in {"last", 1} else "all"
        return TraceNeeds(
            frozenset({"all" if self.parameters == "epoch" else "last"}),
            order=True,
            steps=steps,
            storage=self.storage,
            max_bytes=self.max_bytes,
        )

    _default_net = staticmethod(sgd_net)

    def _needs_validation(self) -> bool:
        return True

    def _fold_parameters(self, number: int) -> dict[str, object]:
        if self.storage == "memory":
            return {}
        return {"storage": numbered(self.storage, number)}

    def _fit_scores(self, rows: ModelRows, validation: ModelRows | None) -> NDArray[np.float64]:
        assert validation is not None
        check_retraceable(self.net_, self.trace_, self.parameters, renormalize=self.renormalize)
        weights = self._training_weights, self._validation_weights
        if self.renormalize and weights[0] is not None:
            raise ValueError(
                "renormalize=True divides the mean over a batch by one row less, but with "
                "sample_weight a batch's loss is no plain mean. Set renormalize=False, or leave "
                "sample_weight out."
            )
        self._training_rows = rows
        if self.storage == "memory":
            return self._scores_from(validation)
        settings = {k: v for k, v in self.get_params(deep=False).items() if k in _DECIDING}
        key = retrace_key(self.net_, self.trace_, rows, validation, settings, *weights)
        with locked(Path(self.storage)):
            return self._scores_from(validation, walk_file(self.storage, key))

    def _scores_from(
        self, validation: ModelRows, file: WorkFile | None = None
    ) -> NDArray[np.float64]:
        scores: NDArray[np.float64] = -self._retraced(validation, file=file)[0]
        return scores

    def _finish(self) -> None:
        if self.storage == "memory" or self._is_fold:
            return
        for method in getattr(self, "folds_", [self]):
            walk_file(method.storage, key="").path.unlink(missing_ok=True)

    def _retraced(
        self, queries: ModelRows, *, each: bool = False, file: WorkFile | None = None
    ) -> NDArray[np.float64]:
        return retraced_influence(
            self.net_,
            self.trace_,
            self._training_rows,
            queries,
            parameters=self.parameters,
            first_step=first_step_of(self.trace_, self.epochs),
            hessian=self.hessian,
            renormalize=self.renormalize,
            batch_size=self.batch_size,
            each=each,
            weights=self._training_weights,
            query_weights=None if each else self._validation_weights,
            file=file,
        )
