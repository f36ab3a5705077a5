"""Every public estimator against scikit-learn's checks and the project's own."""

import inspect
import pickle
import random

import numpy as np
import pytest
import torch
from pyod.models.knn import KNN
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import (
    parametrize_with_checks,
)

import skinfluence
from skinfluence import (
    EL2N,
    AreaUnderMargin,
    BaseDetrimentality,
    CalibratedDetrimentality,
    CleanedClassifier,
    ComplexityGap,
    ConfidenceWeightedEntropy,
    DetrimentalityUnion,
    ForgettingEvents,
    GradientEmbedding,
    GraNd,
    InfluenceFunction,
    InnerProductInfluence,
    LeaveOneOut,
    LossScore,
    MirroredInfluence,
    NormalizedMargin,
    NormDetector,
    OutlierGradientDetector,
    SelfConfidence,
    SGDInfluence,
    TraceRecorder,
)
from tests._shared.instances import SMALLEST
from tests._shared.problems import blobs, classifier, fitted_classifier, noisy_blobs, paper_method

DETECTORS = [
    OutlierGradientDetector(random_state=0),
    OutlierGradientDetector(detector=NormDetector(), random_state=0),
    OutlierGradientDetector(
        committee=None, detector=NormDetector(ord=1), layers="all", random_state=0
    ),
    OutlierGradientDetector(committee=None, random_state=0),
    OutlierGradientDetector(classifier(), detector=KNN(), random_state=0),
]
BRIEF = classifier(max_epochs=12)
SCORES = [
    LossScore(BRIEF, random_state=0),
    SelfConfidence(BRIEF, checkpoints=3, random_state=0),
    NormalizedMargin(BRIEF, random_state=0),
    ConfidenceWeightedEntropy(BRIEF, checkpoints="all", random_state=0),
    EL2N(BRIEF, random_state=0),
    GraNd(BRIEF, epoch=6, n_seeds=2, random_state=0),
]
OF_TRAINING = [AreaUnderMargin(BRIEF, random_state=0), ForgettingEvents(BRIEF, random_state=0)]
METHODS = [*DETECTORS, *SCORES, *OF_TRAINING]


def name_of(method):
    detector = getattr(method, "detector", None)
    return f"{type(method).__name__} {'' if detector is None else detector!r}".strip()


every_method = pytest.mark.parametrize("method", METHODS, ids=name_of)
every_detector = pytest.mark.parametrize("method", DETECTORS, ids=name_of)
# The scores of a frozen net depend on the rows alone: nothing random, nothing of the training.
every_deterministic = pytest.mark.parametrize("method", [*DETECTORS[1:], *SCORES], ids=name_of)
every_judge_of_new_rows = pytest.mark.parametrize("method", [*DETECTORS, *SCORES], ids=name_of)
WITH_NET = [*METHODS, GradientEmbedding(random_state=0)]


def recorded_classifier(X, y):
    """A fitted net with the trace that any of the methods may ask for."""
    recorder = TraceRecorder(checkpoints="all", logits=True)
    return fitted_classifier(X, y, callbacks=[recorder], max_epochs=12)


def outcome(fitted, X):
    return fitted.transform(X) if hasattr(fitted, "transform") else fitted.detrimentality_


# Checks that fit in every sparse format there is.
LONG_CHECKS = {"check_estimator_sparse_array", "check_estimator_sparse_matrix"}
# Checks that compare what fits give. Others ask for errors, attributes and untouched inputs, which
# are the same however long a net is trained.
OF_RESULTS = {
    "check_classifiers_train",
    "check_estimators_pickle",
    "check_f_contiguous_array_estimator",
    "check_fit_idempotent",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_pipeline_consistency",
    "check_regressors_train",
    "check_sample_weights_not_an_array",
    "check_sample_weights_pandas_series",
    "check_transformer_data_not_an_array",
    "check_transformer_general",
}
# As of scikit-learn's own nets: batches, folds and bootstrap samples are drawn of rows.
DRAWN = "rows of weight zero, and rows that are there twice, change what is drawn"


# Nets whose rows validate each other, in halves, refuse those they were trained on.
TWICE = "without X_val, and rows are there several times: in both halves, which is refused"
HALVED = (InfluenceFunction, InnerProductInfluence, LeaveOneOut, MirroredInfluence, SGDInfluence)


def drawn_alike(estimator):
    """Seed the halves: once in a thousand draws they share no row, and nothing is refused."""
    return estimator.set_params(random_state=0) if isinstance(estimator, HALVED) else estimator


def not_equivalent(estimator):
    takes = "sample_weight" in inspect.signature(estimator.fit).parameters
    # which they compare
    reason = DRAWN if takes and hasattr(estimator, "transform") else None
    found = {}
    if isinstance(estimator, HALVED):
        reason = reason or TWICE
        names = ("weights_shape", "weights_not_overwritten")
        found = {f"check_sample_{name}": TWICE for name in names}
    names = ("dense", "sparse") if reason else ()
    return found | {f"check_sample_weight_equivalence_on_{name}_data": reason for name in names}


def every_check(holds):
    """Give the checks of each estimator whose name `holds` keeps."""
    mark = parametrize_with_checks(list(SMALLEST.values()), expected_failed_checks=not_equivalent)
    names, pairs = mark.args
    # a pair, or a pytest.param with its values
    checks = [(getattr(pair, "values", pair)[1].func.__name__, pair) for pair in pairs]
    kept = [pair for name, pair in checks if holds(name)]
    assert 0 < len(kept) < len(checks)
    return pytest.mark.parametrize(names, kept, **mark.kwargs)


@pytest.mark.usefixtures("brief_nets")
@every_check(lambda name: name not in LONG_CHECKS)
def test_sklearn_check(estimator, check):
    check(drawn_alike(estimator))


@pytest.mark.slow
@pytest.mark.usefixtures("brief_nets")
@every_check(LONG_CHECKS.__contains__)
def test_long_sklearn_check(estimator, check):
    check(drawn_alike(estimator))


@pytest.mark.slow
@every_check(OF_RESULTS.__contains__)
def test_sklearn_check_of_fully_trained_nets(estimator, check):
    check(drawn_alike(estimator))


@parametrize_with_checks([SelfConfidence(GaussianNB(), cv=2, random_state=0)])
def test_sklearn_check_with_a_model(estimator, check):
    check(estimator)


# What a model in a net's place cannot do as scikit-learn's checks ask.
OUT_OF_SAMPLE = "training rows are judged out of sample, others by the model trained on all"
DIFFERS = {f"check_transformer_{name}": OUT_OF_SAMPLE for name in ("general", "data_not_an_array")}
HEAVY = "every tree draws the heaviest rows, which none is left to judge: refused, and said so"
TOO_FEW = {"check_fit2d_1feature": "of ten rows, folds within folds leave one of a class"}


def expected_failures(estimator):
    found = {}
    net = getattr(estimator, "net", None)
    if isinstance(estimator, CalibratedDetrimentality):
        return TOO_FEW
    if isinstance(net, Ridge | LogisticRegression):
        found |= DIFFERS
    if isinstance(net, RandomForestClassifier):
        found |= {"check_sample_weights_not_overwritten": HEAVY}
    if isinstance(net, Ridge | LogisticRegression | RandomForestClassifier):
        found |= not_equivalent(estimator)
    if isinstance(estimator, DetrimentalityUnion):
        found |= {"check_sample_weight_equivalence_on_dense_data": OUT_OF_SAMPLE}
    return found


@pytest.mark.slow
@parametrize_with_checks(
    [
        LossScore(Ridge()),
        NormalizedMargin(RandomForestClassifier(60, random_state=0)),
        ConfidenceWeightedEntropy(LogisticRegression()),
        EL2N(make_pipeline(StandardScaler(), GaussianNB())),
        DetrimentalityUnion([("loss", LossScore())], net=GaussianNB()),
        CalibratedDetrimentality(SelfConfidence(GaussianNB()), cv=2),
        CalibratedDetrimentality(make_pipeline(StandardScaler(), LossScore(GaussianNB())), cv=2),
        CleanedClassifier(LogisticRegression(), SelfConfidence(GaussianNB()), contamination=0.1),
        CleanedClassifier(
            LogisticRegression(),
            make_pipeline(StandardScaler(), ComplexityGap()),
            contamination=0.1,
        ),
    ],
    expected_failed_checks=expected_failures,
)
def test_sklearn_check_of_pipelines_and_other_models(estimator, check):
    check(estimator)


def test_table_of_instances_is_complete():
    public = {
        value
        for value in (getattr(skinfluence, name) for name in dir(skinfluence))
        if inspect.isclass(value) and issubclass(value, BaseEstimator)
    }
    assert {cls for cls in public if not inspect.isabstract(cls)} == set(SMALLEST)


def test_public_names_are_listed():
    values = {name: getattr(skinfluence, name) for name in dir(skinfluence)}
    ours = {n: v for n, v in values.items() if getattr(v, "__module__", "").startswith("skinfl")}
    public = {n for n, v in ours.items() if inspect.isclass(v) or inspect.isfunction(v)}
    assert set(skinfluence.__all__) == {name for name in public if not name.startswith("__")}


@every_method
def test_planted_flips_score_above_clean_rows(method):
    X, y, is_noisy = noisy_blobs(n=120)
    scores = clone(method).fit(X, y).detrimentality_
    assert np.median(scores[is_noisy]) > np.quantile(scores[~is_noisy], 0.95)


@pytest.mark.usefixtures("brief_nets")
@every_method
def test_shape_dtype_and_ranking(method):
    X, y, _ = noisy_blobs()
    fitted = clone(method).fit(X, y)
    assert fitted.detrimentality_.shape == (len(X),)
    assert fitted.detrimentality_.dtype == np.float64
    assert np.isfinite(fitted.detrimentality_).all()
    assert sorted(fitted.ranking_) == list(range(len(X)))
    np.testing.assert_array_equal(fitted.decision_scores_, fitted.detrimentality_)
    assert not hasattr(clone(method), "decision_scores_")
    assert (np.diff(fitted.detrimentality_[fitted.ranking_]) <= 0).all()
    assert fitted.fit_transform(X, y).shape == (len(X), 1)
    assert hasattr(fitted, "transform") == hasattr(fitted, "score_detrimentality")
    if hasattr(fitted, "transform"):
        assert fitted.transform(X[:5]).shape == (5, 1)
        assert fitted.score_detrimentality(X[:5], y[:5]).shape == (5,)


def test_ties_are_ranked_in_the_order_of_the_rows():
    X, y, _ = noisy_blobs()
    X[:] = X[0]  # one input: the score depends on the label alone
    method = paper_method(detector=NormDetector(), random_state=0).fit(X, y)
    for label in np.unique(y):
        rows = method.ranking_[y[method.ranking_] == label]
        assert (np.diff(rows) > 0).all()


@every_deterministic
def test_rows_may_come_in_any_order(method):
    X, y, _ = noisy_blobs()
    frozen = FrozenEstimator(recorded_classifier(X, y))
    order = np.random.default_rng(0).permutation(len(X))
    straight = clone(method).set_params(net=frozen).fit(X, y).detrimentality_
    permuted = clone(method).set_params(net=frozen).fit(X[order], y[order]).detrimentality_
    np.testing.assert_allclose(permuted, straight[order], rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("brief_nets")
@every_method
@pytest.mark.parametrize(
    "names", [["a", "b", "c"], [-1, 7, 100], [0.0, 1.0, 2.0]], ids=["strings", "gaps", "floats"]
)
def test_names_of_labels_do_not_count(method, names):
    X, y, _ = noisy_blobs()
    plain = clone(method).fit(X, y)
    named = clone(method).fit(X, np.array(names)[y])
    np.testing.assert_array_equal(named.detrimentality_, plain.detrimentality_)
    assert list(named.classes_) == names


@every_deterministic
@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batch_size_changes_nothing(method, batch_size):
    X, y, _ = noisy_blobs()
    frozen = FrozenEstimator(recorded_classifier(X, y))
    method = clone(method).set_params(net=frozen)
    expected = method.fit(X, y).detrimentality_
    found = clone(method).set_params(batch_size=batch_size).fit(X, y).detrimentality_
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("estimator", WITH_NET, ids=name_of)
def test_net_is_left_as_it_was(estimator):
    X, y, _ = noisy_blobs()
    net = recorded_classifier(X, y)
    net.module_.train()
    state = {name: value.clone() for name, value in net.module_.state_dict().items()}
    attributes = set(vars(net))
    fitted = clone(estimator).set_params(net=FrozenEstimator(net)).fit(X, y)
    outcome(fitted, X)
    assert fitted.net_ is net
    assert net.module_.training
    assert set(vars(net)) == attributes
    for name, value in net.module_.state_dict().items():
        assert torch.equal(value, state[name])
    unfitted = classifier()
    clone(estimator).set_params(net=unfitted).fit(X, y)
    assert not getattr(unfitted, "initialized_", False)


@pytest.mark.usefixtures("brief_nets")
@pytest.mark.parametrize("estimator", WITH_NET, ids=name_of)
@pytest.mark.parametrize("random_state", [0, None])
def test_global_generators_and_threads_are_left_alone(estimator, random_state):
    X, y, _ = noisy_blobs()
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    threads = torch.get_num_threads()
    fitted = clone(estimator).set_params(random_state=random_state).fit(X, y)
    outcome(fitted, X)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]
    assert torch.get_num_threads() == threads


@pytest.mark.usefixtures("brief_nets")
@pytest.mark.parametrize("estimator", WITH_NET, ids=name_of)
def test_seed_alone_decides(estimator):
    X, y, _ = noisy_blobs()
    torch.manual_seed(1)
    np.random.seed(1)
    first = clone(estimator).fit_transform(X, y)
    torch.manual_seed(2)
    np.random.seed(2)
    np.testing.assert_array_equal(clone(estimator).fit_transform(X, y), first)
    other = clone(estimator).set_params(random_state=1).fit_transform(X, y)
    assert not np.array_equal(other, first)
    again = clone(estimator).set_params(random_state=np.random.RandomState(5))
    same = clone(estimator).set_params(random_state=np.random.RandomState(5))
    np.testing.assert_array_equal(again.fit_transform(X, y), same.fit_transform(X, y))


@pytest.mark.usefixtures("brief_nets")
@pytest.mark.parametrize("estimator", WITH_NET, ids=name_of)
def test_clone_and_pickle(estimator):
    X, y, _ = noisy_blobs()
    fitted = clone(estimator).fit(X, y)
    restored = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(outcome(restored, X), outcome(fitted, X))
    fresh = clone(fitted)
    assert not hasattr(fresh, "net_")


@every_judge_of_new_rows
def test_given_and_predicted_labels_differ_and_say_so(method):
    X, y, is_noisy = noisy_blobs(n=120)
    fitted = clone(method).fit(X, y)
    given, predicted = fitted.detrimentality_, fitted.transform(X)[:, 0]
    larger = given[is_noisy] - predicted[is_noisy] > 1e-6 * np.abs(predicted[is_noisy])
    assert larger.mean() > 0.9
    for function in (method.transform, method.fit_transform, GradientEmbedding.transform):
        assert "predicted labels" in function.__doc__
    # where the label given is the one predicted, the two agree unless a detector knows its own
    # training rows (as KNN does), or a row scored anew is its own neighbor
    detector = getattr(fitted, "detector_", NormDetector())
    if isinstance(detector, NormDetector) and getattr(fitted, "n_neighbors", None) is None:
        agree = ~is_noisy
        np.testing.assert_allclose(predicted[agree], given[agree], rtol=1e-3, atol=1e-5)


@every_detector
@pytest.mark.parametrize("contamination", [0, -0.1, 0.51, 1.0, "auto", None, True])
def test_contamination_is_checked_at_fit(method, contamination):
    X, y = blobs(30)
    with pytest.raises(ValueError, match=r"contamination=.*expected a float in \(0, 0.5\]"):
        clone(method).set_params(contamination=contamination).fit(X, y)


@pytest.mark.usefixtures("brief_nets")
@every_detector
def test_contamination_marks_that_share(method):
    X, y, _ = noisy_blobs(n=100)
    for contamination in (0.05, 0.5):
        fitted = clone(method).set_params(contamination=contamination).fit(X, y)
        assert set(fitted.labels_) <= {0, 1}
        np.testing.assert_array_equal(fitted.labels_, fitted.detrimentality_ > fitted.threshold_)
        assert fitted.labels_.sum() <= contamination * 100


def test_base_class_cannot_be_used_alone():
    with pytest.raises(TypeError, match="abstract"):
        BaseDetrimentality()


@pytest.mark.parametrize("cls", [*SMALLEST, BaseDetrimentality], ids=lambda cls: cls.__name__)
def test_every_constructor_parameter_and_default_is_documented(cls):
    if inspect.isabstract(cls):
        assert "Higher = more detrimental" in inspect.getdoc(cls)
        return
    document = inspect.getdoc(cls)
    for name, parameter in inspect.signature(cls.__init__).parameters.items():
        if name == "self":
            continue
        lines = [line for line in document.splitlines() if line.startswith(f"{name} : ")]
        assert lines, f"{cls.__name__}: {name} is not documented"
        if parameter.default is inspect.Parameter.empty:
            continue
        default = repr(parameter.default).replace("'", '"')
        if isinstance(parameter.default, int) and parameter.default == 2**30:
            default = "2**30"
        assert f"default={default}" in lines[0] or "optional" in lines[0], lines[0]


def test_every_score_states_its_sign():
    for cls in SMALLEST:
        if issubclass(cls, BaseDetrimentality):
            assert "Higher =\n        more detrimental" in cls.__doc__ or (
                "Higher = more detrimental" in cls.__doc__
            )
