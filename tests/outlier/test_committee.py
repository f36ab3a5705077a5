"""The committee: members judge rows they did not see, and what they say is pooled as it should."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyod.models.knn import KNN
from scipy import sparse
from scipy.optimize import check_grad, nnls
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris, make_friedman1, make_regression
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline

from skinfluence import (
    CalibratedDetrimentality,
    CleanedClassifier,
    CleanedRegressor,
    DetrimentalityUnion,
    DetrimentalSampleCleaner,
    LossScore,
    OutlierGradientDetector,
)
from skinfluence.datasets import make_noisy_labels
from skinfluence.exceptions import LeakyFeaturesWarning
from skinfluence.methods._pool import Pool, error_vectors, fit_pool
from skinfluence.methods._transitions import noise_transitions
from skinfluence.nets import _default
from skinfluence.nets._stacked import MemberLoss, PerceptronCommittee, StackedPerceptrons
from skinfluence.nets._trained_net import train_net
from skinfluence.outlier.committee import _committee, _members
from skinfluence.outlier.committee._committee import ALWAYS
from skinfluence.outlier.committee._inputs import InputViews, Seen
from skinfluence.outlier.committee._kernels import (
    WIDTHS,
    KernelMachine,
    draw_landmarks,
    median_distance,
)
from skinfluence.outlier.committee._members import (
    Forest,
    Kernels,
    Neighbors,
    OutOfFold,
    Targets,
    boosts_cheaply,
)
from skinfluence.rows._rows import Rows
from skinfluence.rows._threads import one_thread
from skinfluence.trace._needs import TraceNeeds
from tests._shared.problems import classifier, noisy_blobs, regressor

X, Y, IS_NOISY = noisy_blobs(n=120)
CHEAP = ["forest", "neighbors", "kernels"]


def fitted(X, y, **settings):
    return OutlierGradientDetector(**{"random_state": 0, "committee": CHEAP, **settings}).fit(X, y)


# Kernel machines


def left_out_by_hand(features, y, penalty):
    """Fit ridge regression anew without each row; the mean stays that of all rows."""
    centered, target = features - features.mean(0), y - y.mean(0)
    found = np.empty(y.shape)
    n_rows, width = features.shape
    # an unpenalised constant column stands for the means
    design = np.hstack([centered, np.ones((n_rows, 1))])
    penalties = np.diag([penalty] * width + [0.0])
    for row in range(n_rows):
        kept = np.arange(n_rows) != row
        gram = design[kept].T @ design[kept] + penalties
        found[row] = design[row] @ np.linalg.solve(gram, design[kept].T @ target[kept])
    return found + y.mean(0)


@settings(max_examples=15, deadline=None)
@given(
    n_rows=st.integers(8, 40),
    n_columns=st.integers(1, 6),
    width=st.sampled_from(WIDTHS),
    seed=st.integers(0, 99),
)
def test_leaving_out_in_closed_form_is_training_without_the_row(n_rows, n_columns, width, seed):
    rng = np.random.default_rng(seed)
    rows, y = rng.normal(size=(n_rows, n_columns)), rng.normal(size=(n_rows, 2))
    landmarks = draw_landmarks(rows, rng)
    machine = KernelMachine(landmarks, width and width * median_distance(landmarks))
    found = machine.fit(rows, y)
    features = machine._kernel_of(rows) @ machine._basis
    centered = features - features.mean(0)
    largest = np.linalg.eigvalsh(centered.T @ centered).max()
    by_hand = {
        power: left_out_by_hand(features, y, largest * 10.0**power)
        for power in np.arange(-5.5, 1, 0.5)
    }
    errors = {power: np.square(each - y).sum() for power, each in by_hand.items()}
    best = min(errors, key=errors.get)
    np.testing.assert_allclose(np.square(found - y).sum(), errors[best], rtol=1e-5)
    np.testing.assert_allclose(found, by_hand[best], rtol=1e-4, atol=1e-6)


def test_features_are_a_kernels_and_chunks_do_not_count(monkeypatch):
    rng = np.random.default_rng(0)
    rows, y = rng.normal(size=(60, 3)), rng.normal(size=(60, 2))
    machine = KernelMachine(rows, 2.0)
    features = machine._kernel_of(rows) @ machine._basis
    squares = np.square(rows[:, None] - rows).sum(2)
    np.testing.assert_allclose(features @ features.T, np.exp(-squares / 2.0), atol=1e-5)
    whole = machine.fit(rows, y), machine.predict(rows[:7])
    monkeypatch.setattr("skinfluence.outlier.committee._kernels._CHUNK", 11)
    monkeypatch.setattr("skinfluence.outlier.committee._kernels._KEPT", 0)
    parts = machine.fit(rows, y), machine.predict(rows[:7])
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)


def test_of_many_rows_some_choose_the_penalty(monkeypatch):
    rng = np.random.default_rng(0)
    rows, y = rng.normal(size=(60, 3)), rng.normal(size=(60, 1))
    y[::3] += 20 * np.sign(rows[::3, :1])  # a third of the rows says that there is something
    machine = KernelMachine(rows, 2.0)
    features = machine._kernel_of(rows) @ machine._basis
    centered = features - features.mean(0)
    largest = np.linalg.eigvalsh(centered.T @ centered).max()
    by_hand = [
        left_out_by_hand(features, y, largest * 10.0**power) for power in np.arange(-5.5, 1, 0.5)
    ]
    monkeypatch.setattr("skinfluence.outlier.committee._kernels._CHOOSING", 20)
    best = min(by_hand, key=lambda each: np.square(each - y)[::3].sum())
    np.testing.assert_allclose(machine.fit(rows, y), best, rtol=1e-4, atol=1e-6)
    best_of_all = min(by_hand, key=lambda each: np.square(each - y).sum())
    monkeypatch.undo()
    np.testing.assert_allclose(machine.fit(rows, y), best_of_all, rtol=1e-4, atol=1e-6)
    assert not np.allclose(best, best_of_all)  # else the test could not fail


def test_sparse_rows_give_the_kernel_of_dense_ones():
    rows = sparse.random(50, 30, 0.2, format="csr", random_state=0)
    y = np.random.default_rng(0).normal(size=(50, 1))
    for width in (1.0, None):
        dense = KernelMachine(rows.toarray(), width).fit(rows.toarray(), y)
        np.testing.assert_allclose(KernelMachine(rows, width).fit(rows, y), dense, atol=1e-8)


# Pooling


def pooled_loss(weights, outputs, codes):
    centered = outputs - outputs.mean(2, keepdims=True)
    return -log_softmax(np.tensordot(weights, centered, 1), axis=1)[
        np.arange(len(codes)), codes
    ].mean()


def test_weights_make_labels_likeliest():
    rng = np.random.default_rng(0)
    codes = rng.integers(3, size=300)
    truth = np.eye(3)[codes]
    good, poor = truth + rng.normal(size=truth.shape), 0.2 * truth + rng.normal(size=truth.shape)
    outputs = np.stack([good, 7 * poor, rng.normal(size=truth.shape)])
    pool = Pool.fit(outputs, codes, "classes")
    assert (pool.weights >= 0).all()
    found = pooled_loss(pool.weights, outputs, codes)
    for member in range(3):
        single = min(
            pooled_loss(scale * np.eye(3)[member], outputs, codes)
            for scale in np.geomspace(0.01, 10, 60)
        )
        assert found < single + 1e-3
    np.testing.assert_allclose(pool.predict(outputs).sum(1), 1)
    # what a member's outputs are measured in does not count
    scaled = Pool.fit(outputs * np.array([3.0, 0.1, 10.0])[:, None, None], codes, "classes")
    np.testing.assert_allclose(
        scaled.weights * [3.0, 0.1, 10.0], pool.weights, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("kind", ["classes", "classes, wrong at times", "labels"])
def test_the_slope_of_the_likelihood_is_right(kind, monkeypatch):
    from skinfluence.methods import _pool

    rng = np.random.default_rng(1)
    outputs = rng.normal(size=(4, 30, 3))
    targets = rng.integers(2, size=(30, 3)) if kind == "labels" else rng.integers(3, size=30)
    seen = []

    def look(loss, start, **_):
        for weights in rng.random((3, 4)):
            seen.append(check_grad(lambda w: loss(w)[0], lambda w: loss(w)[1], weights))
        return type("Found", (), {"x": start})

    monkeypatch.setattr(_pool, "minimize", look)
    fit = _pool.fit_pool if "wrong" in kind else Pool.fit
    fit(outputs, targets, kind.split(",")[0])
    assert max(seen) < 1e-5


def test_numbers_are_pooled_by_robust_least_squares():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(200, 1))
    outputs = np.stack([y + 0.5 * rng.normal(size=y.shape) for _ in range(3)])
    clean = Pool.fit(outputs, y, "numbers").weights
    np.testing.assert_allclose(clean, nnls(outputs[:, :, 0].T, y[:, 0])[0], atol=0.1)
    spoilt = y.copy()
    spoilt[:10] += 100
    np.testing.assert_allclose(Pool.fit(outputs, spoilt, "numbers").weights, clean, atol=0.1)
    assert np.abs(nnls(outputs[:, :, 0].T, spoilt[:, 0])[0] - clean).max() > 0.2


def test_exact_members_are_no_division_by_zero():
    y = np.arange(10.0)[:, np.newaxis]
    np.testing.assert_allclose(Pool.fit(y[np.newaxis], y, "numbers").weights, [1])
    assert Pool.fit(np.zeros((2, 10, 3)), np.arange(10) % 3, "classes").weights.shape == (2,)


# Errors


def test_errors_are_the_gradient_of_the_loss_at_the_pooled_outputs():
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(size=(20, 4)), requires_grad=True)
    codes = rng.integers(4, size=20)
    transitions = noise_transitions(softmax(logits.detach().numpy(), axis=1), codes)
    shifted = logits + torch.tensor(np.log(transitions[:, codes].T))
    torch.nn.functional.cross_entropy(shifted, torch.tensor(codes), reduction="sum").backward()
    predicted = softmax(logits.detach().numpy(), axis=1)
    found = error_vectors(predicted, codes, "classes", transitions)
    np.testing.assert_allclose(found, logits.grad.numpy(), atol=1e-12)


# Members


def seen(X, seed=0):
    return Seen(X, InputViews(X, seed))


def test_trees_that_drew_a_row_do_not_judge_it():
    forest = Forest(3)
    found = forest.fit(seen(X), Targets(Y, "classes"))
    scaled = seen(X).scaled
    plain = RandomForestClassifier(200, max_samples=0.5, oob_score=True, random_state=3)
    n_votes = 200 * np.exp(-0.5)  # a tree draws half as many rows, with return
    np.testing.assert_allclose(
        softmax(found[0], axis=1),
        (plain.fit(scaled, Y).oob_decision_function_ * n_votes + 1 / 3) / (n_votes + 1),
    )


@pytest.mark.parametrize("k", [1, 5])
def test_neighbors_are_other_rows(k):
    twice = np.repeat(X[:40], 2, axis=0)  # equal rows are neighbors of each other
    labels = np.arange(80) % 3
    found = Neighbors(k, 0).fit(seen(twice), Targets(labels, "classes"))
    scaled = (twice - twice.mean(0)) / twice.std(0)
    near = NearestNeighbors(n_neighbors=k).fit(scaled).kneighbors(return_distance=False)
    votes = np.stack([(labels[near] == c).mean(1) for c in range(3)], axis=1)
    ours = softmax(found[0], axis=1)
    if k == 1:  # the other of the two
        votes = np.eye(3)[labels[np.arange(80) ^ 1]]
        np.testing.assert_allclose(ours, (votes + 1 / 3) / 2)
    else:
        np.testing.assert_allclose(ours.sum(1), 1)
        assert np.corrcoef(ours.ravel(), votes.ravel())[0, 1] > 0.8


def test_neighbors_of_many_rows_are_looked_for_among_some(monkeypatch):
    monkeypatch.setattr("skinfluence.outlier.committee._members._REFERENCE", 50)
    member = Neighbors(5, 0)
    found = member.fit(seen(X), Targets(Y, "classes"))
    assert found.shape == (1, len(X), 3)
    assert (found[0].argmax(1) == Y).mean() > 0.7


@pytest.mark.parametrize(
    ("n_columns", "targets", "joins"),
    [
        (400, Targets(np.arange(6) % 2, "classes"), True),
        (401, Targets(np.arange(6) % 2, "classes"), False),
        (100, Targets(np.arange(6) % 4, "classes"), True),
        (101, Targets(np.arange(6) % 4, "classes"), False),
        (400, Targets(np.zeros((6, 1)), "numbers"), True),
        (2, Targets(np.zeros((6, 2)), "numbers"), False),
        (2, Targets(np.zeros((6, 2)), "labels"), False),
    ],
)
def test_boosted_trees_join_where_they_are_not_dear(n_columns, targets, joins):
    assert boosts_cheaply(np.zeros((6, n_columns)), targets) == joins
    assert not boosts_cheaply(sparse.csr_array((6, n_columns)), targets)
    assert not boosts_cheaply(np.zeros((6, 1, 2, 2)), targets)


def test_boosted_trees_find_what_needs_few_columns_of_many():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(600, 60))
    truth = ((np.abs(table[:, 0]) < 0.7) | (table[:, 1] > 1)).astype(int)
    labels, is_noisy = make_noisy_labels(truth, rate=0.1, random_state=0)
    method = OutlierGradientDetector(random_state=0).fit(table, labels)
    assert method.committee_.weights["boosted"] > 0.1
    without = OutlierGradientDetector(committee=[*ALWAYS], random_state=0).fit(table, labels)
    found, lost = (roc_auc_score(is_noisy, m.detrimentality_) for m in (method, without))
    assert found > 0.98
    assert lost < 0.97


def test_boosted_trees_that_cannot_be_grown_are_refused():
    method = OutlierGradientDetector(committee=["boosted"])
    with pytest.raises(ValueError, match=r"'boosted' in committee.*one class or one number"):
        method.fit(X, np.column_stack([Y == 0, Y == 1]).astype(int))
    with pytest.raises(ValueError, match=r"'boosted' in committee.*dense rows"):
        method.fit(sparse.csr_array(X), Y)


def test_out_of_fold_models_never_saw_the_row():
    class Memory(LogisticRegression):
        def fit(self, X, y):
            self.rows_ = {tuple(row) for row in X}
            return super().fit(X, y)

        def predict_proba(self, X):
            assert not any(tuple(row) in self.rows_ for row in X)
            return super().predict_proba(X)

    OutOfFold("memory", Memory(), 10, 0).fit(seen(X), Targets(Y, "classes"))


def test_a_class_of_one_row_is_no_error_out_of_fold():
    labels = np.where(np.arange(len(Y)) == 7, 3, Y)
    found = OutOfFold("one", LogisticRegression(), 10, 0).fit(seen(X), Targets(labels, "classes"))
    assert np.isfinite(found).all()


# Perceptrons


@pytest.mark.parametrize("kind", ["classes", "labels", "numbers"])
def test_a_stacked_net_trains_its_members_as_they_would_be_alone(kind):
    torch.manual_seed(0)
    rows = torch.randn(30, 4)
    y = torch.randint(3, (30,)) if kind == "classes" else torch.rand(30, 3).round()
    trains = (torch.rand(30, 2) < 0.5).float()
    net = StackedPerceptrons(n_inputs=4, n_outputs=3, n_members=2, dropout=0.0)
    MemberLoss(kind)(net(rows, trains), y).backward()
    for member in range(2):
        alone = StackedPerceptrons(n_inputs=4, n_outputs=3, n_members=1, dropout=0.0)
        with torch.no_grad():
            for own, stacked in zip(alone.parameters(), net.parameters(), strict=True):
                own.copy_(stacked[member : member + 1])
        kept = trains[:, member] > 0
        outputs = alone(rows[kept], trains[kept, :1])[0][:, 0]
        plain = {
            "classes": torch.nn.functional.cross_entropy,
            "labels": torch.nn.functional.binary_cross_entropy_with_logits,
            "numbers": torch.nn.functional.mse_loss,
        }[kind]
        plain(outputs, y[kept]).backward()
        for own, stacked in zip(alone.parameters(), net.parameters(), strict=True):
            torch.testing.assert_close(own.grad[0], stacked.grad[member], rtol=1e-4, atol=1e-6)


def perceptrons(codes, seed=0):
    rows = np.ascontiguousarray(X, dtype=np.float32)
    return rows, PerceptronCommittee.fit(rows, codes, "classes", checkpoints=3, seed=seed)


def test_perceptrons_judge_rows_they_did_not_train_on():
    rows, committee = perceptrons(Y)
    assert (committee.trains.sum(1) == committee.trains.shape[1] / 2).all()
    found, total = committee.out_of_bag(rows), np.zeros((len(rows), 3))
    module = committee.net.module_.eval()
    for checkpoint in committee.trace.checkpoints:
        module.load_state_dict(checkpoint.state)
        with torch.no_grad():
            outputs = module(torch.from_numpy(rows), torch.zeros(len(rows), 8))[0].softmax(-1)
        for row, trains in enumerate(committee.trains):
            total[row] += outputs[row, trains == 0].mean(0).double().numpy()
    np.testing.assert_allclose(found, total / len(committee.trace.checkpoints), atol=1e-6)


def test_a_rows_own_label_does_not_count_out_of_bag():
    other = Y.copy()
    other[5] = (Y[5] + 1) % 3
    for codes in (Y, other):
        _, committee = perceptrons(codes)
        judges = committee.trains[5] == 0
        states = committee.trace.checkpoints[-1].state
        found = {name: state[judges] for name, state in states.items()}
        if codes is Y:
            first = found
    for name, state in found.items():
        torch.testing.assert_close(state, first[name])


# As a whole


@pytest.mark.parametrize("seed", [0, 1])
def test_flipped_digits_are_found(seed):
    X, y = load_digits(return_X_y=True)
    given_, is_noisy = make_noisy_labels(y[:600], rate=0.15, random_state=seed)
    scores = OutlierGradientDetector(random_state=0).fit(X[:600], given_).detrimentality_
    assert roc_auc_score(is_noisy, scores) > 0.99


def test_shifted_numbers_are_found():
    X, y = make_friedman1(300, random_state=0, noise=0.5)
    rng = np.random.default_rng(0)
    wrong = rng.permutation(300)[:30]
    y[wrong] += rng.choice([-8, 8], 30)
    method = OutlierGradientDetector(random_state=0).fit(X, y)
    assert roc_auc_score(np.isin(np.arange(300), wrong), method.detrimentality_) > 0.97
    # in units of the spread of the residuals
    assert 0.3 < np.median(method.detrimentality_) < 1.5


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_unit_of_numbers_does_not_count(scale):
    X, y = make_friedman1(80, random_state=0)
    smooth = ["neighbors", "kernels"]  # trees split by the last digits of ties
    plain, scaled = (
        fitted(X, each, committee=smooth).detrimentality_ for each in (y, scale * y + 7)
    )
    np.testing.assert_allclose(scaled, plain, rtol=1e-4)


def test_wrong_entries_of_several_labels_are_found():
    labels = np.column_stack([Y > 0, Y > 1]).astype(int)
    labels[:6, 1] = 1 - labels[:6, 1]
    scores = fitted(X, labels).detrimentality_
    assert roc_auc_score(np.arange(len(X)) < 6, scores) > 0.8


def test_sparse_rows_score_as_dense_ones_and_stay_sparse(monkeypatch):
    words = sparse.random(90, 3000, 0.01, format="csr", random_state=0)
    counts = np.asarray(words[:, :50].sum(1)).ravel()
    labels = (counts > np.median(counts)).astype(int)
    dense = OutlierGradientDetector(random_state=0).fit(words.toarray(), labels)

    def refuse(self, *_, **__):
        assert self.shape[1] < 3000, "the table was made dense"
        return original(self)

    original = sparse.csr_array.toarray
    for kind in (sparse.csr_array, sparse.csr_matrix):
        monkeypatch.setattr(kind, "toarray", refuse)
    method = OutlierGradientDetector(random_state=0).fit(words, labels)
    # trees see other columns first: the order of entries differs
    np.testing.assert_allclose(method.detrimentality_, dense.detrimentality_, atol=0.2)
    assert np.corrcoef(method.detrimentality_, dense.detrimentality_)[0, 1] > 0.95
    assert method.score_detrimentality(words[:5], labels[:5]).shape == (5,)
    assert method.n_features_in_ == 3000


def test_neighbors_of_sparse_rows_hold_few_distances_at_once(monkeypatch):
    words = sparse.random(2500, 2000, 0.02, format="csr", random_state=0)
    rows = Seen(words, InputViews(words, 0))
    peaks, outputs = [], []
    for mebibytes in (1024, 8):
        monkeypatch.setattr(_members, "_DISTANCES", mebibytes)
        tracemalloc.start()
        member = Neighbors(10, 0)
        found = member.fit(rows, Targets(np.arange(2500) % 2, "classes"))
        outputs.append([found, member.predict(rows)])
        peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()
    np.testing.assert_array_equal(*outputs)
    assert peaks[0] > 2500**2 * 8 / 2**20  # all distances
    assert peaks[1] < peaks[0] / 2


def test_sparse_rows_go_through_what_cleans_and_calibrates():
    words, labels = sparse.csr_matrix(X), Y
    method = OutlierGradientDetector(committee=CHEAP)
    model = CleanedClassifier(LogisticRegression(), method, contamination=5, random_state=0)
    assert model.fit(words, labels).predict(words).shape == Y.shape
    cleaner = DetrimentalSampleCleaner(method, contamination=5, random_state=0)
    assert cleaner.fit_resample(words, labels)[0].shape == (len(X) - 5, X.shape[1])
    calibrated = CalibratedDetrimentality(method, random_state=0).fit(words, labels)
    assert calibrated.p_values_.shape == Y.shape


def test_images_get_nets_of_their_own(brief_nets):
    images = X[:, :, np.newaxis, np.newaxis] * np.ones((1, 1, 6, 6))
    method = OutlierGradientDetector(random_state=0).fit(images, Y)
    assert set(method.committee_.weights) >= {"nets", "forest", "neighbors", "linear"}
    assert len(method.net_) == len(method.trace_) == 3
    assert method.score_detrimentality(images[:4], Y[:4]).shape == (4,)


@pytest.mark.parametrize("checkpoints", [3, "all"])
def test_points_of_a_training_on_images_count_by_what_halves_say_of_each_other(
    brief_nets, monkeypatch, checkpoints
):
    images = X[:, :, np.newaxis, np.newaxis] * np.ones((1, 1, 6, 6), dtype=np.float32)
    # so that halves take more epochs than all rows, and points of the training must be matched
    monkeypatch.setattr(_default, "_MAX_EPOCHS", 5)
    monkeypatch.setattr(_default, "_STEPS", 5)
    method = fitted(images, Y, committee=["perceptrons"], checkpoints=checkpoints)
    committee = method.committee_
    (member,) = committee._members
    first, _, on_all = member.trained
    assert (len(first.net.history), len(on_all.net.history)) == (5, 3)
    _, of_halves = committee.along_training(images, np.arange(len(Y)))
    assert len(of_halves) == 3
    targets = Targets(Y, "classes")
    points = Pool.fit(targets.as_outputs(of_halves, _members._VOTES_OF_A_MODEL), Y, "classes")
    assert points.weights.min() >= 0
    added = np.zeros((len(Y), 3))
    for weight, point in zip(points.weights, on_all.trace.evenly_spaced(3), strict=True):
        outputs = targets.as_outputs(
            on_all.probabilities_at(images, [point.state]), _members._VOTES_OF_A_MODEL
        )
        added += weight * (outputs - outputs.mean(1, keepdims=True))
    np.testing.assert_allclose(committee.judged, committee._pool.predict(added[None]), atol=1e-6)
    new = np.mean([member._along(net, images[:4]) for net in member.trained], axis=0)
    expected = committee._pool.predict(
        points.added(targets.as_outputs(new, _members._VOTES_OF_A_MODEL))[np.newaxis]
    )
    np.testing.assert_allclose(committee.pooled(images[:4]), expected, atol=1e-6)


def test_images_are_judged_between_what_halves_and_all_weight_make_of_the_net_on_all(
    brief_nets, monkeypatch
):
    images = X[:, :, np.newaxis, np.newaxis] * np.ones((1, 1, 6, 6), dtype=np.float32)
    fitted_on = []

    def recorded(outputs, *others):
        fitted_on.append(outputs)
        return fit_pool(outputs, *others)

    monkeypatch.setattr(_committee, "fit_pool", recorded)
    committee = fitted(images, Y, committee=["perceptrons", "forest"]).committee_
    of_all, of_nets = fitted_on
    np.testing.assert_array_equal(of_nets, of_all[:1])
    on_all = committee._members[0]._in_sample
    by_all = fit_pool(of_all, Y, "classes")[0].predict(np.concatenate([on_all, of_all[1:]]))
    by_net = fit_pool(of_nets, Y, "classes")[0].predict(on_all)
    assert np.abs(by_all - by_net).max() > 0.05
    np.testing.assert_allclose(committee.judged, (by_all + by_net) / 2, atol=1e-12)


def test_members_and_models_of_ones_own():
    members = ["kernels", ("logistic", LogisticRegression()), ("tree", RandomForestClassifier(5))]
    method = fitted(X, Y, committee=members)
    assert list(method.committee_.weights) == [
        *("kernel 0.25", "kernel 1", "kernel 4", "linear", "logistic", "tree")
    ]
    assert max(method.committee_.weights.values()) == 1
    assert method.net_ is None
    assert roc_auc_score(IS_NOISY, method.detrimentality_) > 0.9
    np.testing.assert_array_equal(
        fitted(X, Y, committee=members).detrimentality_, method.detrimentality_
    )
    numbers = fitted(X, X[:, 0] + X[:, 1], committee=[("ridge", Ridge())])
    np.testing.assert_allclose(numbers.committee_.predict(X), X[:, 0] + X[:, 1], rtol=0.1, atol=0.1)


@pytest.mark.slow
def test_a_net_of_ones_own_is_a_member_that_never_saw_the_row(tmp_path):
    net = classifier(max_epochs=3)
    labels = np.array(["low", "middle", "top"])[Y]
    settings = {"committee": ["kernels", ("mine", net)], "checkpoints": 2, "memory": str(tmp_path)}
    method, again = (fitted(X, labels, **settings) for _ in range(2))
    np.testing.assert_array_equal(method.detrimentality_, again.detrimentality_)
    assert method.committee_.weights["mine"] >= 0
    assert method.score_detrimentality(X[:5], labels[:5]).shape == (5,)
    assert not hasattr(net, "module_")

    found = softmax(OutOfFold("mine", net, 2, 0).fit(seen(X), Targets(Y, "classes"))[0], axis=1)
    needs = TraceNeeds(frozenset({2}))
    for train, held in StratifiedKFold(5, shuffle=True, random_state=0).split(X, Y):
        alone = train_net(net, Rows(X[train], Y[train], is_numeric=False), 0, needs=needs)
        expected = alone.class_probabilities(X[held], alone.trace)
        # as 100 votes and one for all alike
        np.testing.assert_allclose(found[held], (100 * expected + 1 / 3) / 101, rtol=1e-6)


def test_a_regressor_net_is_a_member():
    method = fitted(X, X[:, 0], committee=[("mine", regressor(max_epochs=20))])
    assert np.corrcoef(method.committee_.predict(X).ravel(), X[:, 0])[0, 1] > 0.9


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"committee": "all"}, ValueError, "expected 'auto', None or a list"),
        ({"committee": ["trees"]}, ValueError, "expected 'auto', None or a list"),
        ({"committee": []}, TypeError, "expected 'auto', None or a list"),
        ({"committee": [LogisticRegression()]}, TypeError, "expected 'auto', None or a list"),
        ({"committee": [("a", LogisticRegression)]}, TypeError, "expected an instance"),
        ({"committee": [("net", regressor())]}, TypeError, "but y holds classes"),
        ({"committee": [("a", FrozenEstimator(classifier()))]}, TypeError, "may not be frozen"),
        ({"committee": ["forest", "forest"]}, ValueError, "expected distinct"),
        ({"committee": ["forest"], "net": classifier()}, ValueError, "a committee of your own"),
        ({"layers": "all"}, ValueError, "Set committee=None for one default net"),
        ({"normalize": None}, ValueError, "Set committee=None for one default net"),
    ],
)
def test_what_is_no_committee_is_refused(settings, error, message):
    with pytest.raises(error, match=message):
        OutlierGradientDetector(**settings).fit(X, Y)


def test_a_net_of_ones_own_and_none_have_no_committee(brief_nets):
    for given_ in ({"net": classifier()}, {"committee": None}):
        method = OutlierGradientDetector(random_state=0, **given_).fit(X, Y)
        assert not hasattr(method, "committee_")
        assert method.strategy_


@pytest.mark.slow
def test_other_methods_predict_by_the_committee():
    method = fitted(X, Y, checkpoints=10)
    committee = method.committee_
    assert (committee.predict(X) == Y)[~IS_NOISY].mean() > 0.95
    np.testing.assert_allclose(committee.pooled(X).sum(1), 1)
    model = CleanedClassifier(
        LogisticRegression(), clone(method), contamination="disagreement", random_state=0
    ).fit(X, Y)
    wrong = np.flatnonzero(committee.judged_labels() != Y)
    assert IS_NOISY[wrong].mean() > 0.5
    assert np.isin(model.removed_indices_, np.arange(len(X))).all()
    regression = CleanedRegressor(Ridge(), fitted(X, X[:, 0]), contamination=3, random_state=0)
    assert regression.fit(X, X[:, 0]).n_trainings_ >= 1


def test_predicted_targets_stand_in_for_labels():
    method = fitted(X, Y)
    predicted = method.committee_.predict(X)
    np.testing.assert_array_equal(
        method.transform(X)[:, 0], method.score_detrimentality(X, predicted)
    )
    numbers = fitted(X, X[:, 0])
    assert (numbers.transform(X) > 0).all()


def test_a_search_over_detectors_trains_one_committee_a_fold(tmp_path, monkeypatch):
    trained = []
    fit = Forest.fit
    monkeypatch.setattr(Forest, "fit", lambda *args: trained.append(1) or fit(*args))
    method = OutlierGradientDetector(committee=CHEAP, memory=str(tmp_path), random_state=0)
    pipeline = make_pipeline(method, LogisticRegression())
    grid = {"outliergradientdetector__detector": [None, KNN(), KNN(n_neighbors=3)]}
    with pytest.warns(LeakyFeaturesWarning):
        GridSearchCV(pipeline, grid, cv=3, refit=False).fit(X, Y)
    assert len(trained) == 3
    plain = clone(method).set_params(memory=None).fit(X, Y)
    for _ in range(2):
        np.testing.assert_array_equal(
            clone(method).fit(X, Y).detrimentality_, plain.detrimentality_
        )


def test_methods_of_a_union_have_their_own_models():
    methods = [("outlier", OutlierGradientDetector(committee=CHEAP)), ("loss", LossScore())]
    union = DetrimentalityUnion(methods, random_state=0).fit(X, Y)
    assert hasattr(union.methods_["outlier"], "committee_")
    assert roc_auc_score(IS_NOISY, union.detrimentality_) > 0.9


@pytest.mark.parametrize("n_rows", [2, 3, 5, 9])
def test_few_rows(n_rows):
    labels = np.array([0, 1, *np.zeros(n_rows - 2, dtype=int)])
    method = OutlierGradientDetector(random_state=0).fit(X[:n_rows], labels)
    assert np.isfinite(method.detrimentality_).all()


def test_columns_that_do_not_vary_and_rows_of_zeros():
    table = np.hstack([X, np.full((len(X), 2), 3.0)])
    np.testing.assert_allclose(
        fitted(table, Y, committee=["kernels", "neighbors"]).detrimentality_,
        fitted(X, Y, committee=["kernels", "neighbors"]).detrimentality_,
        rtol=1e-6,
    )
    few = np.zeros((len(X), 400))
    few[:, :2] = X[:, :2]
    few[3] = 0
    words = sparse.csr_matrix(few)
    assert np.isfinite(fitted(words, Y).detrimentality_).all()


def test_rows_that_are_all_alike_have_the_others_targets():
    method = fitted(np.ones((30, 3)), np.arange(30) % 3)
    assert np.ptp(method.detrimentality_) < 0.2
    y = np.arange(30.0)[:, np.newaxis]
    for width in (1.0, None):
        alike = np.zeros((30, 3))
        found = KernelMachine(alike[:10], width).fit(alike, y)
        np.testing.assert_allclose(found, (y.sum() - y) / 29)


@pytest.mark.parametrize("far", [1.7e9, -4e12])
def test_a_column_far_from_zero_counts_as_near(far):
    near, away = X - 0.5, X.astype(np.float64) - 0.5
    away[:, 0] += far
    expected = fitted(near.astype(np.float64), Y).detrimentality_
    np.testing.assert_allclose(fitted(away, Y).detrimentality_, expected, atol=0.02)


class ThreadCounter(LogisticRegression):
    def fit(self, X, y):
        self.threads_ = torch.get_num_threads()
        return super().fit(X, y)


def test_one_thread_within_and_as_many_as_before_after(monkeypatch):
    found, fit = [], Kernels.fit
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(
        Kernels, "fit", lambda *args: found.append(torch.get_num_threads()) or fit(*args)
    )
    try:
        method = fitted(X, Y, committee=["kernels", ("own", ThreadCounter())])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert found == [1]
    # models of one's own choose their threads themselves
    assert {model.threads_ for model in method.committee_._members[1]._models} == {2}


def test_iris_without_flips_looks_clean():
    X, y = load_iris(return_X_y=True)
    method = OutlierGradientDetector(random_state=0).fit(X, y)
    assert np.median(method.detrimentality_) < 0.01


@pytest.mark.parametrize("far", [1e4, 1e6, 1e9])
def test_one_number_far_off_does_not_hide_the_others(far):
    X, y = make_regression(200, 5, noise=5, random_state=0)
    rng = np.random.default_rng(0)
    wrong = rng.permutation(200)[:20]
    y[wrong] += 200
    others = np.setdiff1d(np.arange(200), wrong)
    y[others[0]] = far
    scores = fitted(X, y).detrimentality_
    assert scores.argmax() == others[0]
    rest = np.arange(200) != others[0]
    assert roc_auc_score(np.isin(np.arange(200), wrong)[rest], scores[rest]) > 0.95


def test_a_committee_that_knows_nothing_names_no_label():
    X = np.random.default_rng(0).normal(size=(90, 4))
    y = np.repeat(list("bca"), 30)
    method = fitted(X, y, committee=["kernels"])
    committee = method.committee_
    committee.out_of_sample[:] = 1 / 3
    np.testing.assert_array_equal(committee.judged_labels(), y)


def test_the_container_of_a_table_does_not_count():
    counts = np.random.default_rng(0).poisson(np.where(Y, 6, 2)[:, np.newaxis], (len(Y), 6))
    for table in (X, counts, np.hstack([counts, np.zeros((len(Y), 400))])):
        smooth = ["neighbors", "kernels"]
        dense = fitted(table, Y, committee=smooth).detrimentality_
        for kind in (sparse.csr_matrix, sparse.coo_array):
            found = fitted(kind(table), Y, committee=smooth).detrimentality_
            np.testing.assert_allclose(found, dense, atol=1e-6)


def test_columns_of_zeros_do_not_make_words_of_numbers():
    smooth = ["neighbors", "kernels"]
    plain = fitted(X, Y, committee=smooth).detrimentality_
    wide = np.hstack([X, np.zeros((len(X), 400))])
    np.testing.assert_allclose(fitted(wide, Y, committee=smooth).detrimentality_, plain, atol=1e-6)


def test_indices_of_eight_bytes_are_taken():
    rows = sparse.csr_array(X)
    rows.indices, rows.indptr = rows.indices.astype(np.int64), rows.indptr.astype(np.int64)
    assert fitted(rows, Y).detrimentality_.shape == Y.shape


@pytest.mark.parametrize("kind", [sparse.dok_array, sparse.lil_array, sparse.bsr_array])
def test_cleaners_take_rows_of_any_sparse_kind(kind):
    cleaner = DetrimentalSampleCleaner(
        OutlierGradientDetector(committee=CHEAP), contamination=4, random_state=0
    )
    assert cleaner.fit_resample(kind(X), Y)[0].shape == (len(X) - 4, X.shape[1])


def test_trusted_rows_must_be_other_rows():
    with pytest.raises(ValueError, match="are training rows"):
        OutlierGradientDetector(committee=CHEAP, semi_supervised=True).fit(X, Y, X, Y)


def test_blocks_of_one_thread_that_overlap_leave_the_threads_as_they_were():
    from threadpoolctl import threadpool_info

    def threads():
        found = [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]
        return found, torch.get_num_threads()

    torch_before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        before = threads()
        first, second = one_thread(), one_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert threads()[1] == 1
        second.__exit__(None, None, None)
        assert threads() == before
    finally:
        torch.set_num_threads(torch_before)


@pytest.mark.parametrize(
    ("members", "y", "message"),
    [
        ([("ridge", Ridge())], Y, "a classifier with predict_proba is needed"),
        ([("linear model", LogisticRegression())], X[:, 0], "a regressor is needed"),
    ],
)
def test_models_of_the_other_kind_are_refused(members, y, message):
    with pytest.raises(TypeError, match=message):
        fitted(X, y, committee=members)


def test_a_committee_without_members_is_refused():
    with pytest.raises(ValueError, match="leaves no member"):
        fitted(X, Y, committee=["neighbors"], n_neighbors=None)
    with pytest.raises(ValueError, match="expected distinct ones, and none of"):
        fitted(X, Y, committee=["kernels", ("linear", LogisticRegression())])


def test_a_class_of_one_row_among_two():
    labels = np.zeros(len(X), dtype=int)
    labels[3] = 1
    method = fitted(X, labels, committee=[("model", LogisticRegression())])
    assert np.isfinite(method.detrimentality_).all()


def test_classes_that_cannot_be_kept_are_named(tmp_path):
    class Local(LogisticRegression):
        pass

    with pytest.raises(ValueError, match="cannot be kept in memory="):
        fitted(X, Y, committee=[("local", Local())], memory=str(tmp_path))
