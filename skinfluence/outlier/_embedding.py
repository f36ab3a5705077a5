"""The gradient embedding: every row as the gradient of its loss."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skinfluence.gradients._embedding import EmbeddingSettings
from skinfluence.gradients._passes import Gathered
from skinfluence.methods._blocks import by_blocks, is_lazy
from skinfluence.methods._gradient_parameters import (
    check_combine,
    check_gradient_settings,
    needs_of_checkpoints,
    trajectory_of,
)
from skinfluence.methods._told_fit import told_fit
from skinfluence.nets._task import settled_task
from skinfluence.nets._trained_net import can_predict_targets, fit_net_of
from skinfluence.rows._containers import check_inputs
from skinfluence.rows._features import warn_of_leaky_features
from skinfluence.rows._rows import ModelRows, Rows
from skinfluence.rows._saved import SavedWithVersion
from skinfluence.rows._seeds import draw_seeds


class GradientEmbedding(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, SavedWithVersion, BaseEstimator
):
    """Embed every row as the gradient of its loss with respect to a net's parameters.

    A net is trained on the rows and their labels. Rows the net agrees with have small gradients;
    a mislabelled row pulls on the parameters in a direction of its own, which is what outlier
    detectors find. Gradients are taken in eval mode, on the rows as given: an augmentation that
    training used is not repeated.

    ``fit_transform(X, y)`` and ``embed(X, y)`` use the labels given. ``transform(X)`` has no
    labels and uses the predicted ones, so on the training rows it differs from
    ``fit_transform`` wherever the net disagrees with a label, which is the very thing a search
    for wrong labels looks at.

    Parameters
    ----------
    net : NeuralNet, FrozenEstimator or None, default=None
        An unfitted skorch net, of which a clone is trained; a fitted one in scikit-learn's
        `FrozenEstimator`, which is taken as it is and left as it is; or None for
        `skinfluence.nets.default_net`. skorch's default split, which would keep a fifth of the
        rows out of training, is switched off unless a callback watches the validation rows.
    layers : "last", "all", or sequence of str, default="last"
        Layers whose trainable parameters count: the one the forward pass enters last, all, or
        names and shell patterns such as ``"body.*"``.
    checkpoints : "last", "all" or int, default="last"
        Where on the training's path to take gradients: at the net as trained, after every epoch,
        or at k epochs evenly spaced, the last among them. A net frozen after training must bring
        them in the trace of a `TraceRecorder`.
    combine : {"mean", "concat"}, default="mean"
        With several checkpoints: their mean gradient; or their gradients side by side, each times
        the root of its learning rate, so that inner products are TracIn's.
    normalize : {None, "activations", "gradient"}, default=None
        At every checkpoint, scale each row's layer inputs to unit norm (Linear and Conv layers
        only; the bias is left out), or its whole gradient.
    n_components : int, "auto" or None, default="auto"
        Width of the embedding. "auto" keeps the gradients as they are up to 1,024 parameters and
        projects them to 1,024 components beyond; None never projects; an int projects to that
        width. The random projection keeps inner products up to a relative error of about
        ``1 / sqrt(n_components)``, and is applied to the factors of the gradients.
    max_bytes : int, default=2**30
        Refuse a larger embedding before computing it.
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
        Seed of the training and the projection. Global generators are neither used nor changed.
    verbose : int, default=0
        1 shows on stderr how far the fit is, and the time left. It does not change the result.

    Attributes
    ----------
    embedding_ : ndarray of shape (n_samples, n_columns)
        The gradients of the training rows at their given labels, in the net's dtype, of the loss
        summed over a row's outputs (not averaged over a batch); `n_columns` is the number of
        parameters, or of components.
    projection_seed_ : int
        Seed of the projection: rows embedded with the same seed and net compare.
    net_ : NeuralNet
        The trained net.
    trace_ : TrainingTrace
        The checkpoints, if there are several.
    classes_ : ndarray of shape (n_classes,)
        The labels, for a classifier.
    strategy_ : dict of str to str
        The route each layer's gradients took: "factored", "functional" or "loop". They give the
        same numbers.
    n_features_in_ : int
        For arrays and data frames.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        For data frames with string column names.

    See Also
    --------
    OutlierGradientDetector : Scores of the training rows, from gradients of a net or a committee.
    skinfluence.gradients.per_sample_gradients : The same of a fitted net, as a function.

    Notes
    -----
    Cost: one training, then, for every checkpoint, one forward pass over the rows for the last
    layer, and about one forward and backward pass for all layers of a perceptron.

    Examples
    --------
    The literal pipeline of outlier gradient analysis:

    >>> from pyod.models.knn import KNN
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from skinfluence import GradientEmbedding
    >>> X, y = load_iris(return_X_y=True)
    >>> GradientEmbedding(random_state=0).fit_transform(X, y).shape
    (150, 195)
    >>> pipeline = make_pipeline(GradientEmbedding(random_state=0), KNN()).fit(X, y)
    >>> pipeline[-1].decision_scores_.shape
    (150,)
    """

    def __init__(
        self,
        net: Any = None,
        *,
        layers: str | Sequence[str] = "last",
        checkpoints: int | str = "last",
        combine: str = "mean",
        normalize: str | None = None,
        n_components: int | str | None = "auto",
        max_bytes: int = 2**30,
        batch_size: int = 1024,
        memory: Any = None,
        task: str | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.net = net
        self.layers = layers
        self.checkpoints = checkpoints
        self.combine = combine
        self.normalize = normalize
        self.n_components = n_components
        self.max_bytes = max_bytes
        self.batch_size = batch_size
        self.memory = memory
        self.task = task
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, *, sample_weight: Any = None) -> Self:
        """Train the net and embed the training rows at their given labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Numbers of any dtype; a table may be a sparse matrix of scipy's. Or a dict of arrays, a
            skorch SliceDict, or a torch data set.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Labels of any kind, or numbers. None only for a data set that holds its targets.
        sample_weight : array-like of shape (n_samples,) or float, optional
            Weights of the rows in the training loss, at least zero; see
            `OutlierGradientDetector.fit`. Gradients are of unweighted rows.

        Returns
        -------
        self
        """
        self.fit_transform(X, y, sample_weight=sample_weight)
        return self

    def fit_transform(self, X: Any, y: Any = None, *, sample_weight: Any = None) -> NDArray[Any]:
        """Train the net and return the gradients of the training rows at their given labels.

        Not the same as ``fit(X, y).transform(X)``, which uses predicted labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            As for `fit`.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            As for `fit`.
        sample_weight : array-like of shape (n_samples,) or float, optional
            As for `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_columns)
            `embedding_`.

        Raises
        ------
        ValueError
            If a row holds NaN, `y` is missing or unsuited, the net does not fit the data, a layer
            name does not exist, or the embedding would exceed `max_bytes`.
        """
        warn_of_leaky_features(self, "the gradients")
        check_gradient_settings(self)
        check_combine(self.combine)
        train_seed, _, self.projection_seed_ = draw_seeds(self.random_state, 3)
        rows = Rows.parse(self, X, y, task=settled_task(self), sample_weight=sample_weight)
        if rows.weights is not None and isinstance(self.net, FrozenEstimator):
            raise ValueError(
                "Got sample_weight, but the net is frozen, and nothing is trained. Pass the net "
                "unfrozen, or leave sample_weight out."
            )
        needs = needs_of_checkpoints(self.checkpoints, self.combine)
        with told_fit(self):
            coded = fit_net_of(self, rows, train_seed, needs)
            self.embedding_, self.strategy_ = self._gather(coded)
        return self.embedding_

    def transform(self, X: Any) -> NDArray[Any]:
        """Return the gradients of rows at their predicted labels.

        A classifier's gradient is taken at the class it predicts. A regression's would be zero at
        the prediction itself; it is taken at a residual as large as the training error.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)

        Returns
        -------
        ndarray of shape (n_samples, n_columns)
        """
        check_is_fitted(self)
        if is_lazy(X):
            return self._by_blocks(self.transform, X)
        X = check_inputs(self, X, reset=False)
        return self._gather(self._trained.predicted_rows(X)).values

    def embed(self, X: Any, y: Any = None) -> NDArray[Any]:
        """Return the gradients of rows at given labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Labels from `classes_`, or numbers. None only for a data set that holds its targets.

        Returns
        -------
        ndarray of shape (n_samples, n_columns)
        """
        check_is_fitted(self)
        if is_lazy(X):
            return self._by_blocks(self.embed, X, y)
        rows = Rows.parse(self, X, y, reset=False)
        return self._gather(self._trained.coded(rows)).values

    def _by_blocks(self, judge: Any, X: Any, y: Any = None) -> NDArray[Any]:
        n_columns, dtype = self.embedding_.shape[1], self.embedding_.dtype
        return by_blocks(judge, X, y, n_columns=n_columns, dtype=dtype)

    def _gather(self, rows: ModelRows) -> Gathered:
        settings = EmbeddingSettings(
            self.layers,
            self.n_components,
            self.projection_seed_,
            self.max_bytes,
            self.batch_size,
            trajectory_of(
                getattr(self, "trace_", None),
                self.checkpoints,
                combine=self.combine,
                normalize=self.normalize,
            ),
        )
        with self._trained.threads():
            return settings.gather(self.net_, rows)

    @property
    def _n_features_out(self) -> int:
        return int(np.shape(self.embedding_)[1])

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.three_d_array = True
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float32"]  # the default net's own
        return tags


# scikit-learn's output wrapper, put around transform when the class is made, would hide it
GradientEmbedding.transform = available_if(can_predict_targets)(  # type: ignore[method-assign]
    GradientEmbedding.transform
)
