"""Several methods on one training give what each gives alone."""

import pickle

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from skorch import NeuralNetBinaryClassifier

from skinfluence import (
    EL2N,
    AreaUnderMargin,
    DetrimentalityUnion,
    DetrimentalSampleCleaner,
    KNNShapley,
    LossScore,
    OutlierGradientDetector,
    RandomScore,
    SelfConfidence,
    TracIn,
)
from skinfluence.exceptions import LeakyFeaturesWarning
from tests._shared.counted import counted, n_trainings
from tests._shared.problems import SmallMlp, classifier, noisy_blobs

METHODS = [
    ("loss", LossScore()),
    ("confidence", SelfConfidence(checkpoints=3)),
    ("gradients", OutlierGradientDetector(committee=None, checkpoints=6)),
    ("margin", AreaUnderMargin()),
]


def test_one_training_serves_all_methods(tmp_path):
    X, y, is_noisy = noisy_blobs(n=90)
    names = np.array(["a", "b", "c"])[y]
    union = DetrimentalityUnion(METHODS, counted(tmp_path), random_state=0)
    scores = union.fit_transform(X, names)
    assert n_trainings(tmp_path) == 1
    assert scores.shape == (90, 4)
    for column, (name, _) in zip(scores.T, METHODS):
        assert union.methods_[name].net_ is union.net_
        np.testing.assert_array_equal(column, union.methods_[name].detrimentality_)
        assert roc_auc_score(is_noisy, column) > 0.8
    # the same seed draws the same training
    alone = clone(METHODS[1][1]).set_params(net=counted(tmp_path), random_state=0).fit(X, names)
    np.testing.assert_allclose(scores[:, 1], alone.detrimentality_, rtol=1e-6)
    assert list(union.timings_) == ["training", *dict(METHODS)]
    np.testing.assert_allclose(union.rank_correlation_, spearmanr(scores).statistic, rtol=1e-9)
    assert list(union.get_feature_names_out()) == list(dict(METHODS))
    np.testing.assert_allclose(
        union.detrimentality_, [np.mean(r) for r in spearman_places(scores)], rtol=1e-12
    )


def spearman_places(scores):
    from scipy.stats import rankdata

    return np.transpose([rankdata(column) / (len(scores) + 1) for column in scores.T])


def test_methods_that_cannot_share_train_their_own(tmp_path):
    X, y, _ = noisy_blobs(n=60)
    methods = [
        ("own", LossScore(counted(tmp_path))),
        ("folds", LossScore(classifier(max_epochs=3), cv=2)),
        ("none", RandomScore()),
    ]
    union = DetrimentalityUnion(methods, counted(tmp_path), random_state=0).fit(X, y)
    assert n_trainings(tmp_path) == 1
    assert not hasattr(union, "net_")
    assert "training" not in union.timings_


def test_votes_are_shares_of_methods():
    X, y, _ = noisy_blobs(n=60)
    methods = [("loss", LossScore()), ("confidence", SelfConfidence())]
    union = DetrimentalityUnion(methods, classifier(), aggregate="vote", random_state=0).fit(X, y)
    assert set(union.detrimentality_) <= {0, 0.5, 1}
    assert union.detrimentality_.sum() == 6
    assert union.transform(X[:3]).shape == (3, 2)


def log_likelihood(probabilities, codes):
    own = probabilities[np.arange(len(codes)), codes]
    return np.log(np.maximum(own, 1 / (len(codes) + 1))).mean()


def test_pooled_predictions_tell_right_labels_better_than_each_method():
    X, y, is_noisy = noisy_blobs(n=150)
    names = np.array(["c", "a", "b"])[y]
    methods = [
        ("logistic", SelfConfidence(LogisticRegression())),
        ("neighbors", SelfConfidence(KNeighborsClassifier(9))),
    ]
    union = DetrimentalityUnion(methods, aggregate="pooled", random_state=0).fit(X, names)
    codes = np.searchsorted(union.classes_, names)
    # wrong labels are no measure of what predicts the right ones
    kept = [m.oof_probabilities_[~is_noisy] for m in (*union.methods_.values(), union)]
    *each, pooled = (log_likelihood(probabilities, codes[~is_noisy]) for probabilities in kept)
    assert pooled > max(each)
    np.testing.assert_allclose(union.oof_probabilities_.sum(1), 1)
    assert roc_auc_score(is_noisy, union.detrimentality_) > 0.9
    # the rows' order says nothing
    again = DetrimentalityUnion(methods[::-1], aggregate="pooled", random_state=0).fit(X, names)
    np.testing.assert_allclose(again.detrimentality_, union.detrimentality_, atol=1e-3)


def test_a_method_that_knows_nothing_has_no_say_in_the_pool():
    X, y, _ = noisy_blobs(n=150)
    known = ("logistic", SelfConfidence(LogisticRegression()))
    guess = ("guess", SelfConfidence(DummyClassifier(strategy="uniform", random_state=0)))
    alone, joined = (
        DetrimentalityUnion(methods, aggregate="pooled", random_state=0).fit(X, y)
        for methods in ([known], [guess, known])
    )
    np.testing.assert_allclose(joined.detrimentality_, alone.detrimentality_, atol=1e-6)


def test_numbers_are_pooled_by_their_distance_from_the_weighted_sum():
    X = np.random.default_rng(0).normal(size=(120, 3))
    y = 5 + X @ [1.0, -2.0, 0.5]
    y[:6] += 4
    methods = [("linear", LossScore(LinearRegression())), ("mean", LossScore(DummyRegressor()))]
    union = DetrimentalityUnion(methods, aggregate="pooled", random_state=0).fit(X, y)
    assert set(union.ranking_[:6]) == set(range(6))
    off = np.abs(union.oof_predictions_ - y)
    np.testing.assert_allclose(union.detrimentality_ / union.detrimentality_[0], off / off[0])
    linear = union.methods_["linear"].oof_predictions_
    assert np.corrcoef(union.oof_predictions_, linear)[0, 1] > 0.999


def test_only_predictions_out_of_sample_are_pooled():
    X, y, _ = noisy_blobs(n=60)
    methods = [("loss", LossScore()), ("logistic", SelfConfidence(LogisticRegression()))]
    union = DetrimentalityUnion(methods, classifier(), aggregate="pooled")
    with pytest.raises(ValueError, match=r"\['loss'\] predict no row .* aggregate='rank_mean'"):
        union.fit(X, y)


def test_trusted_rows_go_to_the_methods_that_take_them():
    X, y, _ = noisy_blobs(n=60)
    trusted = noisy_blobs(n=30, seed=3, rate=0.0)[:2]
    methods = [("tracin", TracIn(reference="validation")), ("loss", LossScore())]
    methods.append(("neighbors", KNNShapley()))
    union = DetrimentalityUnion(methods, classifier(), random_state=0).fit(X, y, *trusted)
    expected = KNNShapley(random_state=0).fit(X, y, *trusted).detrimentality_
    np.testing.assert_array_equal(union.scores_[:, 2], expected)


def test_union_cleans():
    X, y, is_noisy = noisy_blobs(n=90)
    union = DetrimentalityUnion(METHODS[:2], classifier(), random_state=0)
    cleaner = DetrimentalSampleCleaner(union, contamination=9).fit(X, y)
    assert is_noisy[cleaner.removed_indices_].mean() > 0.8


@pytest.mark.parametrize(
    "methods", [[], [("a", LossScore()), ("a", LossScore())], [("training", LossScore())]]
)
def test_names_are_checked(methods):
    X, y, _ = noisy_blobs(n=30)
    with pytest.raises(ValueError, match="distinct names"):
        DetrimentalityUnion(methods).fit(X, y)
    with pytest.raises(TypeError, match="expected a detrimentality method"):
        DetrimentalityUnion([("a", 3)]).fit(X, y)
    with pytest.raises(ValueError, match="aggregate='mean'"):
        DetrimentalityUnion([("a", LossScore())], aggregate="mean").fit(X, y)


def test_no_aggregate_gives_columns_alone():
    X, y, _ = noisy_blobs(n=60)
    union = DetrimentalityUnion(METHODS[:2], classifier(), aggregate=None, random_state=0)
    both = clone(union).set_params(aggregate="vote").fit(X, y)
    columns = both.fit_transform(X, y)
    fitted = both.set_params(aggregate=None).fit(X, y)  # nothing is left of the earlier fit
    for name in ("detrimentality_", "ranking_"):
        assert not hasattr(fitted, name)
    np.testing.assert_array_equal(fitted.scores_, columns)
    np.testing.assert_array_equal(union.fit_transform(X, y), columns)
    assert fitted.transform(X[:4]).shape == (4, 2)
    restored = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(restored.transform(X), fitted.transform(X))
    with pytest.raises(ValueError, match=r"several scores a row.*Set its aggregate"):
        DetrimentalSampleCleaner(fitted, contamination=5).fit(X, y)


def test_shared_training_is_found_again(tmp_path):
    X, y, _ = noisy_blobs(n=60)
    memory = str(tmp_path / "cache")
    union = DetrimentalityUnion(METHODS, counted(tmp_path), memory=memory, random_state=0)
    first = clone(union).fit(X, y)
    again = clone(union).set_params(aggregate="vote").fit(X, y)
    assert n_trainings(tmp_path) == 1
    np.testing.assert_array_equal(again.scores_, first.scores_)
    for name, method in again.methods_.items():  # margins need a trace of these very rows
        if name != "margin":
            np.testing.assert_array_equal(method.transform(X), first.methods_[name].transform(X))
    plain = clone(union).set_params(memory=None).fit(X, y)
    np.testing.assert_array_equal(again.scores_, plain.scores_)
    clone(union).set_params(random_state=1).fit(X, y)
    assert n_trainings(tmp_path) == 3
    clone(union).set_params(gradients__checkpoints=3).fit(X, y)  # another recorder, the union's own
    assert n_trainings(tmp_path) == 4


def test_parameters_of_methods_are_reached_by_name():
    union = DetrimentalityUnion(METHODS, classifier())
    parameters = union.get_params()
    assert parameters["confidence"] is METHODS[1][1]
    assert parameters["confidence__checkpoints"] == 3
    assert "confidence" not in union.get_params(deep=False)
    copy = clone(union).set_params(confidence__checkpoints=5, loss=EL2N(), memory="x")
    assert copy.methods[1][1].checkpoints == 5
    assert isinstance(copy.methods[0][1], EL2N)
    assert [name for name, _ in copy.methods] == [name for name, _ in METHODS]
    assert METHODS[1][1].checkpoints == 3
    assert clone(copy).get_params()["confidence__checkpoints"] == 5
    with pytest.raises(ValueError, match="Invalid parameter"):
        union.set_params(nobody__checkpoints=5)


def test_a_grid_search_reaches_into_the_union(tmp_path):
    X, y, _ = noisy_blobs(n=60)
    methods = [("tracin", TracIn()), ("loss", LossScore())]
    union = DetrimentalityUnion(
        methods, counted(tmp_path), memory=str(tmp_path / "cache"), random_state=0
    )
    pipeline = Pipeline([("union", union), ("model", LogisticRegression())])
    grid = {
        "union__tracin__checkpoints": [2, 3],
        "union__loss": [LossScore(), SelfConfidence()],
    }
    search = GridSearchCV(pipeline, grid, cv=2, refit=False, error_score="raise")
    with pytest.warns(LeakyFeaturesWarning):
        search.fit(X, y)
    assert len(search.cv_results_["params"]) == 4
    assert n_trainings(tmp_path) == 4  # two recordings, two folds


@pytest.mark.parametrize("name", ["a__b", "net", "memory"])
def test_names_that_nested_parameters_would_clash_with(name):
    X, y, _ = noisy_blobs(n=30)
    with pytest.raises(ValueError, match="hold no '__' and are none of"):
        DetrimentalityUnion([(name, LossScore())]).fit(X, y)


def test_transform_is_there_only_if_every_method_has_it():
    X, y, _ = noisy_blobs(n=30)
    union = DetrimentalityUnion([("loss", LossScore()), ("random", RandomScore())], classifier())
    assert not hasattr(union, "transform")
    assert not hasattr(union.set_params(random_state=0).fit(X, y), "transform")
    assert hasattr(union.set_params(random=SelfConfidence()).fit(X, y), "transform")
    frame = clone(union).set_output(transform="pandas").fit(X, y).transform(X)
    assert list(frame.columns) == ["loss", "random"]


def test_a_binary_net_takes_the_labels_that_single_methods_take():
    X, y, _ = noisy_blobs(n=60)
    names = np.array(["no", "yes"])[np.minimum(y, 1)]
    net = NeuralNetBinaryClassifier(
        SmallMlp, module__n_outputs=1, max_epochs=3, train_split=None, verbose=0
    )
    union = DetrimentalityUnion([("loss", LossScore()), ("tracin", TracIn(checkpoints=2))], net)
    union.set_params(random_state=0).fit(X, names)
    assert union.classes_.tolist() == ["no", "yes"]
    alone = LossScore(net, random_state=0).fit(X, names)
    np.testing.assert_allclose(union.scores_[:, 0], alone.detrimentality_, rtol=1e-6)
    restored = pickle.loads(pickle.dumps(union))
    np.testing.assert_array_equal(restored.transform(X), union.transform(X))


def test_disabled_callbacks_are_left_disabled(tmp_path):
    X, y, _ = noisy_blobs(n=60)
    net = classifier(max_epochs=3)
    silent = classifier(max_epochs=3, callbacks="disable")
    expected = LossScore(net, checkpoints=2, random_state=0).fit(X, y)
    found = LossScore(silent, checkpoints=2, random_state=0).fit(X, y)
    np.testing.assert_array_equal(found.detrimentality_, expected.detrimentality_)
    union = DetrimentalityUnion(METHODS, net, random_state=0).fit(X, y)
    for memory in (None, str(tmp_path), str(tmp_path)):
        other = DetrimentalityUnion(METHODS, silent, memory=memory, random_state=0).fit(X, y)
        np.testing.assert_array_equal(other.scores_, union.scores_)
    assert silent.callbacks == "disable"


@pytest.mark.parametrize("methods", [[LossScore()], {"loss": LossScore()}, LossScore()])
def test_methods_without_names_are_refused(methods):
    X, y, _ = noisy_blobs(n=30)
    with pytest.raises(ValueError, match=r"expected a list of \(name, method\)"):
        DetrimentalityUnion(methods).fit(X, y)


@pytest.mark.parametrize("method", [LossScore(), DetrimentalityUnion([("loss", LossScore())])])
@pytest.mark.parametrize("net", [None, classifier()])
def test_labels_of_mixed_types_are_refused(method, net):
    X, _, _ = noisy_blobs(n=30)
    with pytest.raises(ValueError, match="y mixes labels of types int, str"):
        clone(method).set_params(net=net).fit(X, np.array([1, "a"] * 15, dtype=object))


def test_trusted_rows_that_no_method_uses_are_refused():
    X, y, _ = noisy_blobs(n=30)
    union = DetrimentalityUnion([("loss", LossScore()), ("random", RandomScore())], classifier())
    with pytest.raises(ValueError, match=r"none of the methods \['loss', 'random'\] uses"):
        union.fit(X, y, X[:9] + 1, y[:9])
