"""Scores of how well class probabilities agree with the label given."""

from abc import abstractmethod

import numpy as np
from torch import Tensor

from skinfluence.dynamics._checkpoint_mean import CheckpointMean
from skinfluence.dynamics._formulas import (
    Codes,
    Matrix,
    Vector,
    confidence_weighted_entropy,
    error_norm,
    log_softmax,
    normalized_margin,
    self_confidence,
)
from skinfluence.gradients._net_loss import Nested, NetLoss
from skinfluence.gradients._outputs import class_codes, class_scores
from skinfluence.nets._judges import check_model
from skinfluence.nets._predictions import check_given_net_has_classes


class ClassScore(CheckpointMean):
    """A function of class probabilities and the label, averaged over checkpoints."""

    @staticmethod
    @abstractmethod
    def _formula(log_p: Matrix, y: Codes) -> Vector:
        """Score rows by their log probabilities and labels, as in `_formulas`."""

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_given_net_has_classes(self.net)
        check_model(self.net, cv=self.cv, checkpoints=self.checkpoints, needs_classes=True)

    def _read(self, net_loss: NetLoss, X: Nested, y: Tensor) -> Vector:
        log_p = log_softmax(class_scores(self.net_, net_loss.forward(X)))
        return self._formula(log_p, class_codes(y, log_p.shape[1]))

    def _of_predictions(self, predicted: Matrix, targets: Codes) -> Vector:
        return self._formula(np.log(np.maximum(predicted, np.finfo(np.float64).tiny)), targets)


class SelfConfidence(ClassScore):
    """Score training rows by the probability the net gives their label, negated.

    Answers: is this row mislabelled or hard? It says little about whether removing the row would
    lower a validation loss. With ``cv=5`` it is cross-validated confidence, the usual measure of
    confident learning.

    Parameters
    ----------
    net : NeuralNet, classifier, FrozenEstimator or None, default=None
        As for `GradientEmbedding`; it must be a classifier. A frozen net must bring a trace if
        there are several checkpoints. Or a scikit-learn classifier with `predict_proba`, which
        gets `X` as it is and judges rows that it was not trained on: out of bag if it draws
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
        ``-p_y``, float64, in [-1, 0]; with `cv` of a net, quantiles in (0, 1).
        Higher = more detrimental.
    ranking_ : ndarray of shape (n_samples,)
        Row numbers, most detrimental first.
    net_ : NeuralNet or classifier
        The trained net, or the model trained on all rows.
    trace_ : TrainingTrace
        The checkpoints, if there are several.
    classes_ : ndarray of shape (n_classes,)
        The labels.
    folds_ : list of SelfConfidence
        With `cv`, one fitted on each fold's training rows; `net_` and `trace_` are lists then.
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
        At fit, if the net has no class probabilities, as in a regression.

    See Also
    --------
    NormalizedMargin : Against the likeliest other class.
    LossScore : The same order at one checkpoint, for cross-entropy.

    Notes
    -----
    The score is ``-p_y``. Its order does not tell apart rows whose p_y is 1 in float64; the loss
    does.

    Cost: one training; one forward pass over the rows for each checkpoint.

    References
    ----------
    Northcutt, Jiang, Chuang. "Confident Learning: Estimating Uncertainty in Dataset Labels". JAIR
    2021, arXiv 1911.00068. Minus the "self-confidence" of the cleanlab package.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.metrics import roc_auc_score
    >>> from skinfluence import SelfConfidence
    >>> from skinfluence.datasets import make_noisy_labels
    >>> X, y = load_iris(return_X_y=True)
    >>> y_noisy, is_noisy = make_noisy_labels(y, rate=0.1, random_state=0)
    >>> scores = SelfConfidence(checkpoints=10, random_state=0).fit(X, y_noisy).detrimentality_
    >>> bool(roc_auc_score(is_noisy, scores) > 0.9)
    True
    """

    _formula = staticmethod(self_confidence)


class NormalizedMargin(ClassScore):
    """Score training rows by how far the likeliest other class is above the given one.

    Answers: is this row mislabelled or hard? It says little about whether removing the row would
    lower a validation loss. It suits labels that are confused with one certain other.

    Parameters
    ----------
    net : NeuralNet, classifier, FrozenEstimator or None, default=None
        As for `GradientEmbedding`; it must be a classifier. A frozen net must bring a trace if
        there are several checkpoints. Or a scikit-learn classifier with `predict_proba`, which
        gets `X` as it is and judges rows that it was not trained on: out of bag if it draws
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
        ``max_{k != y} p_k - p_y``, float64, in [-1, 1]; with `cv`,
        quantiles in (0, 1). Higher = more detrimental.
    ranking_ : ndarray of shape (n_samples,)
        Row numbers, most detrimental first.
    net_ : NeuralNet or classifier
        The trained net, or the model trained on all rows.
    trace_ : TrainingTrace
        The checkpoints, if there are several.
    classes_ : ndarray of shape (n_classes,)
        The labels.
    folds_ : list of NormalizedMargin
        With `cv`, one fitted on each fold's training rows; `net_` and `trace_` are lists then.
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
        At fit, if the net has no class probabilities, as in a regression.

    See Also
    --------
    SelfConfidence : The probability of the given label alone.
    AreaUnderMargin : The margin of logits, averaged over the training.

    Notes
    -----
    The score is ``max_{k != y} p_k - p_y``: positive where the net predicts another class. For two
    classes it is in the order of `SelfConfidence`.

    Cost: one training; one forward pass over the rows for each checkpoint.

    References
    ----------
    Northcutt, Jiang, Chuang. "Confident Learning: Estimating Uncertainty in Dataset Labels". JAIR
    2021, arXiv 1911.00068. ``1 - 2 q``, with q the "normalized margin" of the cleanlab
    package.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.metrics import roc_auc_score
    >>> from skinfluence import NormalizedMargin
    >>> from skinfluence.datasets import make_noisy_labels
    >>> X, y = load_iris(return_X_y=True)
    >>> y_noisy, is_noisy = make_noisy_labels(y, rate=0.1, random_state=0)
    >>> scores = NormalizedMargin(checkpoints=10, random_state=0).fit(X, y_noisy).detrimentality_
    >>> bool(roc_auc_score(is_noisy, scores) > 0.9)
    True
    """

    _formula = staticmethod(normalized_margin)


class ConfidenceWeightedEntropy(ClassScore):
    """Score training rows by the entropy of the prediction over the confidence in their label.

    Answers: is this row mislabelled or hard? It says little about whether removing the row would
    lower a validation loss.

    Parameters
    ----------
    net : NeuralNet, classifier, FrozenEstimator or None, default=None
        As for `GradientEmbedding`; it must be a classifier. A frozen net must bring a trace if
        there are several checkpoints. Or a scikit-learn classifier with `predict_proba`, which
        gets `X` as it is and judges rows that it was not trained on: out of bag if it draws
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
        ``-log(1 + x) / x``, see the notes, float64, in [-1, 0]; with `cv`, quantiles in (0, 1).
        Higher = more detrimental.
    ranking_ : ndarray of shape (n_samples,)
        Row numbers, most detrimental first.
    net_ : NeuralNet or classifier
        The trained net, or the model trained on all rows.
    trace_ : TrainingTrace
        The checkpoints, if there are several.
    classes_ : ndarray of shape (n_classes,)
        The labels.
    folds_ : list of ConfidenceWeightedEntropy
        With `cv`, one fitted on each fold's training rows; `net_` and `trace_` are lists then.
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
        At fit, if the net has no class probabilities, as in a regression.

    See Also
    --------
    SelfConfidence : The denominator alone.

    Notes
    -----
    With ``x = -sum_k p_k log p_k / (log(n_classes) p_y)`` the score is ``-log(1 + x) / x``, which
    grows with x and, unlike x, can be averaged over checkpoints: it is minus the score of the
    cleanlab package. That one raises p_y to at least 1e-6, so that a net very sure of another class
    (where the entropy vanishes, too) makes a row look clean; here the two are divided as they are.

    Cost: one training; one forward pass over the rows for each checkpoint.

    References
    ----------
    Kuan, Mueller. "Model-agnostic label quality scoring to detect real-world label errors". ICML
    2022 DataPerf Workshop.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.metrics import roc_auc_score
    >>> from skinfluence import ConfidenceWeightedEntropy
    >>> from skinfluence.datasets import make_noisy_labels
    >>> X, y = load_iris(return_X_y=True)
    >>> y_noisy, is_noisy = make_noisy_labels(y, rate=0.1, random_state=0)
    >>> method = ConfidenceWeightedEntropy(checkpoints=10, random_state=0).fit(X, y_noisy)
    >>> scores = method.detrimentality_
    >>> bool(roc_auc_score(is_noisy, scores) > 0.9)
    True
    """

    _formula = staticmethod(confidence_weighted_entropy)


class EL2N(ClassScore):
    """Score training rows by the Euclidean norm of their error, predicted less given.

    Answers: is this row mislabelled or hard? It says little about whether removing the row would
    lower a validation loss.

    Parameters
    ----------
    net : NeuralNet, classifier, FrozenEstimator or None, default=None
        As for `GradientEmbedding`; it must be a classifier. A frozen net must bring a trace if
        there are several checkpoints. Or a scikit-learn classifier with `predict_proba`, which
        gets `X` as it is and judges rows that it was not trained on: out of bag if it draws
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
        ``|p - onehot(y)|_2``, float64, in [0, sqrt(2)]; with `cv`,
        quantiles in (0, 1). Higher = more detrimental.
    ranking_ : ndarray of shape (n_samples,)
        Row numbers, most detrimental first.
    net_ : NeuralNet or classifier
        The trained net, or the model trained on all rows.
    trace_ : TrainingTrace
        The checkpoints, if there are several.
    classes_ : ndarray of shape (n_classes,)
        The labels.
    folds_ : list of EL2N
        With `cv`, one fitted on each fold's training rows; `net_` and `trace_` are lists then.
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
        At fit, if the net has no class probabilities, as in a regression.

    See Also
    --------
    GraNd : The norm of the gradient, to which this is an approximation.
    OutlierGradientDetector : With one net and ``n_neighbors=None`` nearly this.

    Notes
    -----
    The score is ``|p - onehot(y)|_2``. For cross-entropy, the gradient of the logits is that error,
    so that the last layer's gradient has the norm ``|p - onehot(y)|_2 |h|_2``, with h the input of
    that layer and a 1 for the bias. The paper averages over some ten trainings at an early epoch;
    here the mean is over checkpoints of one.

    Cost: one training; one forward pass over the rows for each checkpoint.

    References
    ----------
    Paul, Ganguli, Dziugaite. "Deep Learning on a Data Diet: Finding Important Examples Early in
    Training". NeurIPS 2021, arXiv 2107.07075, section 2.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.metrics import roc_auc_score
    >>> from skinfluence import EL2N
    >>> from skinfluence.datasets import make_noisy_labels
    >>> X, y = load_iris(return_X_y=True)
    >>> y_noisy, is_noisy = make_noisy_labels(y, rate=0.1, random_state=0)
    >>> scores = EL2N(checkpoints=10, random_state=0).fit(X, y_noisy).detrimentality_
    >>> bool(roc_auc_score(is_noisy, scores) > 0.9)
    True
    """

    _formula = staticmethod(error_norm)
