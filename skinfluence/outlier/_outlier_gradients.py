"""Outlier gradient analysis: an outlier detector on per-sample gradients."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from skinfluence.gradients._embedding import EmbeddingSettings
from skinfluence.gradients._readings import Norm
from skinfluence.methods._base import BaseDetrimentality
from skinfluence.methods._gradient_parameters import (
    check_gradient_settings,
    needs_of_checkpoints,
    trajectory_of,
)
from skinfluence.methods._label_errors import LabelErrors
from skinfluence.methods._out_of_sample import keep_out_of_sample
from skinfluence.nets._cache import computed_once, key_of
from skinfluence.nets._default import check_shape
from skinfluence.nets._trained_net import check_are_arrays
from skinfluence.outlier._detectors import (
    ClassConditionalDetector,
    FittedDetector,
    can_score_rows,
    check_detector,
)
from skinfluence.outlier._features import TrainingFeatures, features_of, training_features
from skinfluence.outlier._norm_detector import (
    NormDetector,
    fit_norm_detector,
    norms_of,
    score_threshold,
)
from skinfluence.outlier.committee._committee import BUILT_IN, Committee, check_members
from skinfluence.rows._overlap import check_separate
from skinfluence.rows._parameters import check_contamination, check_positive_integer
from skinfluence.rows._rows import ModelRows, Rows
from skinfluence.trace._needs import TraceNeeds

# What the features of the training rows depend on, besides the training.
_FEATURE_PARAMETERS = (
    "layers",
    "checkpoints",
    "normalize",
    "n_neighbors",
    "n_components",
    "max_bytes",
    "batch_size",
)


class OutlierGradientDetector(BaseDetrimentality):
    """Score training rows by how outlying their loss gradients are.

    Answers: is this row mislabelled, corrupted or atypical? It says little about whether
    removing the row would lower a validation loss. Models are trained, the gradient of every row's
    loss is taken at the label given, and an outlier detector judges the gradients: no Hessian and
    no validation rows are needed. Without a net of your own, a committee of models judges each row
    by those that were not trained on it; with one, its gradients along the training are judged.

    Parameters
    ----------
    net : NeuralNet, FrozenEstimator or None, default=None
        As for `GradientEmbedding`: an unfitted skorch net, or a frozen fitted one. None for the
        `committee`, or without one for `skinfluence.nets.default_net`.
    detector : detector, optional
        A PyOD or scikit-learn outlier detector, `NormDetector`, or a Pipeline that ends in one;
        None for ``NormDetector(ord=2)``, or of classes that a committee judges ``ord=1``. It is
        cloned; a `random_state` it leaves unset is set from `random_state`.
    committee : "auto", None or list, default="auto"
        The models that judge rows which they were not trained on, if `net` is None: "auto" for
        "perceptrons" (eight small ones, trained at once as one skorch net, each on a half of the
        rows; of images, the default net on each half and on all), "forest" (out of bag),
        "neighbors" (the nearest other rows), "kernels" (kernel machines, three of Gaussian
        kernels and a linear one; given the penalty, each row is left out exactly) and, of dense
        tables with few classes and columns, where they take no longer than the others, "boosted"
        (boosted trees, trained without each of three folds of the rows, or five of many rows). A
        list names some of them and adds models of your own, as (name, estimator): scikit-learn
        classifiers with `predict_proba`, regressors, or skorch nets of either kind, trained five
        times without a fifth of the rows. None trains one default net on all rows.
    contamination : float, default=0.1
        Share of the training rows, in (0, 0.5], that `labels_` marks, however many are wrong.
        It does not change the scores. The detector's own contamination counts for nothing here.
    class_conditional : bool, default=False
        Fit one detector for every given class, since gradients at different labels lie in
        different cones. A class of fewer than 10 rows is judged by a detector of all classes, with
        a `SmallClassWarning`. The units of detectors differ, so that scores become quantiles within
        the class: each class's worst rows come first, whichever class has more wrong labels. A norm
        is the same for every class, so it changes nothing for `NormDetector`.
    semi_supervised : bool, default=False
        Fit the detector on the gradients of `X_val` at `y_val`, rows that are trusted, instead of
        on those of the training rows.
    layers : "last", "all", or sequence of str, default="last"
        Layers whose gradients count; see `GradientEmbedding`. Of a committee it is the pooled
        last layer, and this cannot be set.
    checkpoints : "last", "all" or int, default=10
        Take the mean gradient over these points of the training; see `GradientEmbedding`. Of a
        committee, the mean prediction of the perceptrons, or of the nets among its members; of
        images, points are weighted by how likely labels are to nets that did not see them.
    normalize : {None, "activations", "gradient"}, default="activations"
        Scale layer inputs or gradients at every checkpoint; see `GradientEmbedding`. It cannot be
        set with a committee.
    n_neighbors : int or None, default=15
        Of a committee, how many of the nearest rows vote; None leaves them out. Of one net, add to
        each row's gradient how its gradient before training differs from the mean of those
        of the k training rows most like it, by inputs and by what the trained net makes of them:
        a label unlike those of similar rows shows there even if the net has learnt it by heart.
        None leaves it out.
    n_components : int, "auto" or None, default="auto"
        Width of the embedding the detector sees; see `GradientEmbedding`. `NormDetector` sees the
        gradients themselves.
    max_bytes : int, default=2**30
        Refuse a larger gradient matrix before computing it. `NormDetector` needs none.
    cv : int, splitter, list of folds or None, default=None
        Score every row by a net that was not trained on it, and by a detector fitted on the
        gradients of that net's training rows; scores become quantiles within their fold.
        Where fit gets `groups`, a fold holds out whole ones.
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
        Seed of the training and the detector. Global generators are neither used nor changed.
    verbose : int, default=0
        1 shows on stderr how far the fit is, and the time left. It does not change the result.

    Attributes
    ----------
    detrimentality_ : ndarray of shape (n_samples,)
        The detector's score of every training row, float64, in the detector's unit (with `cv` or
        `class_conditional`, quantiles in (0, 1)). Higher = more detrimental.
    ranking_ : ndarray of shape (n_samples,)
        Row numbers, most detrimental first.
    threshold_ : float
        The score above which `labels_` is 1, for the training rows; new rows have
        `threshold_for_new_rows`.
    labels_ : ndarray of shape (n_samples,)
        1 for the rows above the threshold, else 0: the share `contamination` of the rows, and no
        estimate of which are mislabelled. For one see `CalibratedDetrimentality.expected_errors`.
    detector_ : detector or ClassConditionalDetector
        The fitted detector; with `class_conditional`, one a class in its `by_class_`.
    projection_seed_ : int
        Seed of the random projection.
    committee_ : Committee
        The trained models: `weights`, by their names, relative to the largest; `predict(X)`, labels
        or numbers. Not with a net of your own, or None.
    net_ : NeuralNet
        The trained net; of a committee the perceptrons', which takes rows in a form of its own, a
        list for images, None without perceptrons.
    trace_ : TrainingTrace
        The checkpoints, if there are several.
    classes_ : ndarray of shape (n_classes,)
        The labels, for a classifier.
    strategy_ : dict of str to str
        The route each layer's gradients took; not of a committee.
    label_errors_ : LabelErrors
        How likely each label, or number, is wrong, how many are, and which to flag at a stated rate
        of false alarms (`estimate_label_errors`); computed when asked for, in about a second for
        4,000 rows. Of a committee that judges one class or number a row, without `cv`.
    folds_ : list of OutlierGradientDetector
        With `cv`, one fitted on each fold's training rows; `net_` and `trace_` are lists then, and
        the detectors are theirs.
    oof_probabilities_, oof_predictions_ : ndarray of shape (n_samples, n_classes) or (n_samples,)
        With a committee or folds, what models that were not trained on the row predict: the
        probability of each of `classes_`, or of each label where there are several, or a number.
    n_features_in_ : int
        For arrays and data frames.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        For data frames with string column names.

    See Also
    --------
    GradientEmbedding : The gradients themselves, for a pipeline of your own.
    NormDetector : The norm threshold, for which no gradient matrix is built.

    Notes
    -----
    ``transform(X)`` scores rows at their predicted labels, because a pipeline passes none; it
    differs from `detrimentality_` wherever a given label disagrees with the net.

    The defaults were chosen by measurement (``benchmarks/results/detection.md``, where the losses
    are listed too). The paper's own setting is one trained net and the detector on its gradients:
    ``committee=None, checkpoints="last", normalize=None, n_neighbors=None`` with
    ``detector=IForest()`` or ``NormDetector(ord=1)`` or ``NormDetector(ord=2)``.

    A committee's outputs z_m of a row, on the scale of logits and out of sample, are added up with
    weights w_m >= 0: p = softmax(sum w_m z_m), the last layer of one net whose body are the
    members. Weights make the labels given likeliest, by ``sum_c p[c] T[c, label]`` with T how
    likely a row of class c is given a label. T is counted among those rows of each predicted class
    that models are surest of, beyond what they doubt; to which classes wrong labels go is taken
    over by half at least, and as far as it makes labels likelier. The gradient of a row's loss at
    these outputs, which is what the detector sees, is ``P(class | row, label) - onehot(label)``,
    with P proportional to ``p[class] T[class, label]``. Of numbers, weights are those of robust
    least squares and the gradient is the residual in units of its spread; of several labels, each
    has a logit. Sparse tables are never made dense; columns are standardised unless they are a
    hundred or more and nearly all entries are zero, as those of words are. New rows are judged by
    all members.

    Of one net with unit activations, the norm of the last layer's mean gradient is nearly that of
    the mean error vector ``softmax - onehot``, which is the mean EL2N: what the defaults add to it
    is the contrast with neighbors. In the paper's setting the L1 norm of a row's gradient is
    ``2 (1 - p_y) (||h||_1 + 1)`` for cross-entropy, with p_y the confidence in the given label and
    h the layer's input: compare with plain loss and self-confidence. Detectors of isolated rows
    (LOF, KNN) can miss systematic noise, whose gradients form a cluster of their own.

    Some detectors judge a new row by those it is scored with (ECOD, COPOD, ROD, VAE and others).
    On a few training rows it is tried out whether a detector does; then new rows are scored one by
    one, so that a score does not depend on the batch, or refused where that says nothing (SOS, COF,
    SOD). Detectors are fitted and asked with seeds of `random_state`, and no global generator is
    changed; fits in threads take turns at these.

    Cost: with a committee, about 400 steps of eight small perceptrons (at least 5 epochs), a forest
    of 200 trees, the nearest rows, kernel machines on 500 landmarks, and, where trees a step times
    columns are 400 at most, boosted trees, linear in the number of rows; on one thread, since small
    products are slower on several. With one net, its training and, for every checkpoint, one
    forward pass over the rows for the last layer. Then the detector. With `cv`, all that for every
    fold.

    References
    ----------
    Chhabra, Li, Chen, Mohapatra, Liu. "Outlier Gradient Analysis: Efficiently Identifying
    Detrimental Training Samples for Deep Learning Models". ICML 2025, arXiv 2405.03869, alg. 1.

    Wolpert. "Stacked Generalization". Neural Networks 5, 1992 (the weights). Patrini, Rozza,
    Menon, Nock, Qu. "Making Deep Neural Networks Robust to Label Noise: a Loss Correction
    Approach". CVPR 2017, section 4 (the transitions).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.metrics import roc_auc_score
    >>> from skinfluence import OutlierGradientDetector
    >>> from skinfluence.datasets import make_noisy_labels
    >>> X, y = load_iris(return_X_y=True)
    >>> y_noisy, is_noisy = make_noisy_labels(y, rate=0.1, random_state=0)
    >>> scores = OutlierGradientDetector(random_state=0).fit(X, y_noisy).detrimentality_
    >>> bool(roc_auc_score(is_noisy, scores) > 0.9)
    True
    """

    def __init__(
        self,
        net: Any = None,
        *,
        detector: Any = None,
        committee: Any = "auto",
        contamination: float = 0.1,
        class_conditional: bool = False,
        semi_supervised: bool = False,
        layers: str | Sequence[str] = "last",
        checkpoints: int | str = 10,
        normalize: str | None = "activations",
        n_neighbors: int | None = 15,
        n_components: int | str | None = "auto",
        max_bytes: int = 2**30,
        cv: Any = None,
        batch_size: int = 1024,
        memory: Any = None,
        task: str | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.net = net
        self.detector = detector
        self.committee = committee
        self.contamination = contamination
        self.class_conditional = class_conditional
        self.semi_supervised = semi_supervised
        self.layers = layers
        self.checkpoints = checkpoints
        self.normalize = normalize
        self.n_neighbors = n_neighbors
        self.n_components = n_components
        self.max_bytes = max_bytes
        self.cv = cv
        self.batch_size = batch_size
        self.memory = memory
        self.task = task
        self.random_state = random_state
        self.verbose = verbose

    @property
    def label_errors_(self) -> LabelErrors:
        """How likely each label is wrong, by the committee."""
        if getattr(self, "committee_", None) is None:
            raise AttributeError(
                "label_errors_ needs predictions of rows that models were not trained on: those of "
                "a fitted committee, with net=None and cv=None. For another method or net, fit "
                "CalibratedDetrimentality(method)."
            )
        return self.committee_.label_errors()

    def _check_parameters(self) -> None:
        check_contamination(self.contamination)
        check_gradient_settings(self)
        if self.n_neighbors is not None:
            check_positive_integer("n_neighbors", self.n_neighbors)
        self._check_committee()
        if self.detector is not None:
            check_detector(self.detector)
        if self.semi_supervised and not self._judges_new_rows():
            raise ValueError(
                f"semi_supervised=True fits on validation rows and scores the training rows, but "
                f"{self.detector!r} scores none but its own. Use novelty=True, or another detector."
            )

    def _check_committee(self) -> None:
        if self.committee is None:
            return
        if not isinstance(self.committee, str):
            check_members(self.committee)
            if self.net is not None:
                raise ValueError(
                    f"Got net={type(self.net).__name__}(...) and a committee of your own, but a "
                    "committee trains its own models. Leave one of them out; a net can be a "
                    "member of the committee, as (name, net)."
                )
        elif self.committee != "auto":
            raise ValueError(
                f"Got committee={self.committee!r}, but expected 'auto', None or a list of "
                f"{BUILT_IN} and (name, estimator)."
            )
        if self._has_committee() and (self.layers, self.normalize) != ("last", "activations"):
            raise ValueError(
                f"Got layers={self.layers!r} and normalize={self.normalize!r}, which choose among "
                "the gradients of one net, but without a net a committee of models is trained, "
                "whose gradients are those at its outputs. Set committee=None for one default "
                "net, or pass a net."
            )

    def _has_committee(self) -> bool:
        return self.committee is not None and self.net is None

    def _takes_weights(self) -> bool:
        return not isinstance(self.net, FrozenEstimator)

    def _trains_net(self) -> bool:
        return not self._has_committee()

    def _prepare(self, rows: Rows, validation: Rows | None) -> tuple[ModelRows, ModelRows | None]:
        if not self._has_committee():
            return super()._prepare(rows, validation)
        check_are_arrays(rows)
        check_shape(rows.inputs)
        members = self.committee
        seed = self._seeds[0]

        def compute() -> Committee:
            return Committee(
                members,
                rows,
                checkpoints=self.checkpoints,
                n_neighbors=self.n_neighbors,
                seed=seed,
            )

        settings = [members, self.checkpoints, self.n_neighbors, seed]
        weighted = [] if rows.weights is None else [rows.weights]
        parts = [rows.inputs, rows.targets, rows.is_numeric, settings, *weighted]
        committee = computed_once(self.memory, key_of(self.memory, parts), ["committee"], compute)
        self._trained: Any = committee  # which is to others what a trained net is
        self.committee_ = committee
        self.net_ = committee.net
        self.trace_ = committee.trace
        keep_out_of_sample(self, committee.predictions_out_of_sample())
        if committee.labels is not None:
            self.classes_ = committee.labels.classes
        if validation is None:
            return committee.coded(rows), None
        if rows.has_arrays:
            check_separate(rows.inputs, validation.inputs)
        return committee.coded(rows), committee.coded(validation)

    def _trace_needs(self) -> TraceNeeds | None:
        if self.n_neighbors is not None:  # the state before training is in every trace
            return TraceNeeds(frozenset({self.checkpoints}))
        return needs_of_checkpoints(self.checkpoints)

    def _needs_validation(self) -> bool:
        return self.semi_supervised

    def _fit_scores(self, rows: ModelRows, validation: ModelRows | None) -> NDArray[np.float64]:
        detector = self._own_detector() if self.detector is None else clone(self.detector)
        self.detector_: Any = detector
        _, detector_seed, self.projection_seed_ = self._seeds
        if self._has_committee():
            values = self.committee_.training_errors()
        else:
            values, self.strategy_, self._contrast = self._training_features(rows)
        trusted = None if validation is None else self._embed(validation)
        if isinstance(detector, NormDetector):
            return fit_norm_detector(detector, values, trusted)
        if self.class_conditional:
            self.detector_ = ClassConditionalDetector(detector, detector_seed)
        return self._fit_detector(values, rows, trusted, validation)

    def _own_detector(self) -> NormDetector:
        """Of classes by a committee, the L1 norm is twice the probability of a wrong label."""
        of_classes = self._has_committee() and self.committee_.kind == "classes"
        return NormDetector(ord=1 if of_classes else 2)

    def _finish(self) -> None:
        self.threshold_ = score_threshold(self.detrimentality_, self.contamination)
        self.labels_ = (self.detrimentality_ > self.threshold_).astype(np.int64)

    def _fit_detector(
        self,
        embedding: np.ndarray,
        rows: ModelRows,
        trusted: np.ndarray | None,
        validation: ModelRows | None,
    ) -> NDArray[np.float64]:
        if isinstance(self.detector_, ClassConditionalDetector):
            labels = self._labels_of(rows)
            if validation is None or trusted is None:
                return self.detector_.fit(embedding, labels)
            return self.detector_.fit(embedding, labels, trusted, self._labels_of(validation))
        self._fitted = FittedDetector(self.detector_, self._seeds[1])
        self.detector_ = self._fitted.detector
        scores = self._fitted.fit(embedding if trusted is None else trusted)
        return scores if trusted is None else self._fitted.score(embedding)

    def _score(self, rows: ModelRows) -> NDArray[np.float64]:
        values = self._embed(rows)
        if isinstance(self.detector_, NormDetector):
            return norms_of(self.detector_, values)
        if isinstance(self.detector_, ClassConditionalDetector):
            return self.detector_.score(values, self._labels_of(rows))
        return self._fitted.score(values)

    def _judges_new_rows(self) -> bool:
        return self.detector is None or can_score_rows(self.detector)

    def _judges_training_rows_as_new(self) -> bool:
        # of images, nets that were trained on a row have a say in it
        return self._has_committee() and self.cv is None and self.committee_.is_out_of_sample

    def _labels_of(self, rows: ModelRows) -> np.ndarray:
        """Name the class of each row as the user does."""
        if self._trained.labels is None or rows.targets is None:
            kind = "a committee" if self._has_committee() else type(self.net_).__name__
            raise ValueError(
                f"class_conditional=True needs a classifier and labels given as y; got {kind} and "
                "targets that are no classes, or none at all."
            )
        labels: np.ndarray = self._trained.labels.decode(rows.targets)
        return labels

    def _training_features(self, rows: ModelRows) -> TrainingFeatures:
        def compute() -> TrainingFeatures:
            return training_features(
                self.net_,
                getattr(self, "trace_", None),
                rows,
                self._settings(),
                n_neighbors=self.n_neighbors,
                reading=self._reading(),
            )

        chosen = [getattr(self, name) for name in _FEATURE_PARAMETERS]
        parameters = [*chosen, self.projection_seed_, self._reading()]
        return computed_once(self.memory, self._trained.key, parameters, compute)

    def _embed(self, rows: ModelRows) -> np.ndarray:
        """Give what the detector judges of rows not trained on."""
        if self._has_committee():
            return self.committee_.errors(rows)
        return features_of(
            self.net_,
            getattr(self, "trace_", None),
            rows,
            self._settings(),
            contrast=self._contrast,
            reading=self._reading(),
        )

    def _reading(self) -> Norm | None:
        factored = isinstance(self.detector_, NormDetector) and self.n_neighbors is None
        return Norm(self.detector_.ord) if factored else None

    def _settings(self) -> EmbeddingSettings:
        trace = getattr(self, "trace_", None)
        return EmbeddingSettings(
            self.layers,
            self.n_components,
            self.projection_seed_,
            self.max_bytes,
            self.batch_size,
            trajectory_of(trace, self.checkpoints, combine="mean", normalize=self.normalize),
        )
