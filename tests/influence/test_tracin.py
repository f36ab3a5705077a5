"""TracIn against explicit gradients, the ideal form, and captum."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from torch import nn

from skinfluence import GradientEmbedding, TraceRecorder, TracIn
from skinfluence.gradients import per_sample_gradients
from skinfluence.gradients._states import net_at
from skinfluence.nets import from_torch
from tests._shared.problems import SmallMlp, blobs, classifier, noisy_blobs

SGD = {"optimizer": torch.optim.SGD, "lr": 0.1, "max_epochs": 6}


class Double(SmallMlp):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.double()


def traced(X, y, *, module=Double, recorder=None, **kwargs):
    recorder = recorder or TraceRecorder(checkpoints="all")
    torch.manual_seed(0)
    net = classifier(module, callbacks=[recorder], **{**SGD, **kwargs})
    return net.fit(X.astype(np.float64), y.astype(np.int64)), recorder.trace_


def gradients_at(net, trace, X, y, layers="all"):
    """The slow reference: dense gradients at each checkpoint, with their learning rates."""
    return [
        (
            float(checkpoint.learning_rate[0]),
            per_sample_gradients(net_at(net, checkpoint.state), X, y, layers=layers),
        )
        for checkpoint in trace.checkpoints
    ]


@pytest.mark.parametrize("layers", ["last", "all", ["body.*"]])
@pytest.mark.parametrize("normalize", [None, "gradient"])
def test_scores_and_influence_are_the_sums_over_checkpoints(layers, normalize):
    X, y, _ = noisy_blobs(n=40)
    X = X.astype(np.float64)
    X_val, y_val = blobs(n=15, seed=1)
    schedule = torch.optim.lr_scheduler.ExponentialLR
    from skorch.callbacks import LRScheduler

    recorder = TraceRecorder(checkpoints="all")
    torch.manual_seed(0)
    net = classifier(Double, callbacks=[recorder, LRScheduler(schedule, gamma=0.5)], **SGD)
    net.fit(X, y)
    trace = recorder.trace_
    assert len({float(c.learning_rate[0]) for c in trace.checkpoints}) == 6
    train = gradients_at(net, trace, X, y, layers)
    query = gradients_at(net, trace, X_val.astype(np.float64), y_val, layers)

    def unit(g):
        return g / np.linalg.norm(g, axis=1, keepdims=True) if normalize else g

    pairs = zip(train, query, strict=True)
    expected = sum(rate * unit(q) @ unit(g).T for (rate, g), (_, q) in pairs)
    method = TracIn(
        FrozenEstimator(net),
        checkpoints="all",
        reference="validation",
        layers=layers,
        normalize=normalize,
    ).fit(X, y, X_val, y_val)
    np.testing.assert_allclose(method.influence(X_val, y_val), expected, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(method.detrimentality_, -expected.mean(0), rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(
        method.score_detrimentality(X[:7], y[:7]), method.detrimentality_[:7], rtol=1e-8
    )
    top = method.proponents(X_val, y_val, k=3)
    np.testing.assert_array_equal(top, np.argsort(-expected, axis=1, kind="stable")[:, :3])
    assert (method.opponents(X_val, y_val, k=1)[:, 0] == expected.argmin(1)).all()
    if normalize is None:
        own = TracIn(FrozenEstimator(net), checkpoints="all", layers=layers).fit(X, y)
        squares = sum(rate * (g**2).sum(1) for rate, g in train)
        np.testing.assert_allclose(own.detrimentality_, squares, rtol=1e-8)


@pytest.mark.parametrize("checkpoints", ["last", 2, "all"])
def test_the_state_before_training_counts_with_the_rate_of_the_first_epoch(checkpoints):
    from skorch.callbacks import LRScheduler

    X, y, _ = noisy_blobs(n=40)
    X_val, y_val = blobs(n=15, seed=1)
    schedule = LRScheduler(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5, step_every="batch")
    recorder = TraceRecorder(checkpoints=checkpoints)
    X, X_val = X.astype(np.float64), X_val.astype(np.float64)
    torch.manual_seed(0)
    net = classifier(Double, callbacks=[recorder, schedule], batch_size=20, **SGD).fit(X, y)
    trace = recorder.trace_
    assert trace.learning_rates[:3, 0].tolist() == [0.1, 0.05, 0.025]
    assert trace.start().epoch == 0
    before = net_at(net, trace.initial_state)
    query, train = (
        per_sample_gradients(before, *rows, layers="all") for rows in ((X_val, y_val), (X, y))
    )
    both = [
        TracIn(
            FrozenEstimator(net),
            reference="validation",
            checkpoints=checkpoints,
            layers="all",
            initial=initial,
        ).fit(X, y, X_val, y_val)
        for initial in (False, True)
    ]
    without, with_it = (method.influence(X_val, y_val) for method in both)
    np.testing.assert_allclose(with_it - without, 0.05 * query @ train.T, rtol=1e-7, atol=1e-9)
    own = [
        TracIn(FrozenEstimator(net), checkpoints=checkpoints, layers="all", initial=initial)
        .fit(X, y)
        .detrimentality_
        for initial in (False, True)
    ]
    np.testing.assert_allclose(own[1] - own[0], 0.05 * (train**2).sum(1), rtol=1e-7)


def test_a_state_before_training_that_nobody_kept_is_refused():
    X, y, _ = noisy_blobs(n=30)
    module, criterion = SmallMlp(), nn.CrossEntropyLoss()
    states = [{name: p.clone() for name, p in module.state_dict().items()}]
    net = from_torch(module, criterion, X, y, states=states)
    with pytest.raises(ValueError, match="give from_torch an initial_state"):
        TracIn(net, initial=True).fit(X, y)
    given = from_torch(
        module, criterion, X, y, states=states, learning_rates=[0.1], initial_state=states[0]
    )
    twice, once = (
        TracIn(given, initial=initial).fit(X, y).detrimentality_ for initial in (True, False)
    )
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-6)
    with pytest.raises(ValueError, match="initial='yes'"):
        TracIn(net, initial="yes").fit(X, y)


def test_embedding_side_by_side_has_tracins_inner_products():
    X, y, _ = noisy_blobs(n=30)
    net, _ = traced(X, y)
    embedding = GradientEmbedding(
        FrozenEstimator(net), checkpoints=3, combine="concat", layers="all", n_components=None
    ).fit_transform(X, y)
    method = TracIn(FrozenEstimator(net), checkpoints=3, layers="all").fit(X, y)
    np.testing.assert_allclose(embedding @ embedding.T, method.influence(X, y), rtol=1e-8)


def test_ideal_tracin_sums_to_the_change_of_the_loss():
    """One row a step: the loss changes of a query telescope over the steps (section 3)."""
    X, y = blobs(n=12)
    recorder = TraceRecorder(steps="all")
    net, trace = traced(X, y, recorder=recorder, batch_size=1, max_epochs=3, lr=0.01)
    X_query, y_query = (torch.as_tensor(part) for part in blobs(n=5, seed=3))
    states = [*trace.step_states, trace.final_state]

    def losses(state):
        with torch.no_grad():
            output = torch.func.functional_call(net.module_, dict(state), X_query.double())
            return nn.functional.cross_entropy(output, y_query, reduction="none").numpy()

    changes = -np.diff([losses(state) for state in states], axis=0)
    ideal = np.zeros((5, 12))
    for rows, change in zip(trace.batch_indices, changes, strict=True):
        ideal[:, rows[0]] += change
    np.testing.assert_allclose(ideal.sum(1), losses(states[0]) - losses(states[-1]), atol=1e-6)
    # and the first-order form, a checkpoint before every step, comes close for small steps
    first_order = np.zeros((5, 12))
    for step, rows in enumerate(trace.batch_indices):
        at = net_at(net, states[step])
        query = per_sample_gradients(at, X_query.numpy(), y_query.numpy(), layers="all")
        row = per_sample_gradients(at, X[rows].astype(float), y[rows], layers="all")
        first_order[:, rows[0]] += 0.01 * (query @ row.T)[:, 0]
    assert np.corrcoef(first_order.ravel(), ideal.ravel())[0, 1] > 0.99


def test_sketch_approaches_the_exact_products():
    X, y, _ = noisy_blobs(n=40)
    net, _ = traced(X, y)
    frozen = FrozenEstimator(net)
    exact = TracIn(frozen, layers="all").fit(X, y).influence(X, y)
    errors = []
    for n_components in (32, 512):
        sketch = TracIn(frozen, layers="all", n_components=n_components, random_state=0).fit(X, y)
        found = sketch.influence(X, y)
        errors.append(np.linalg.norm(found - exact) / np.linalg.norm(exact))
        np.testing.assert_allclose(sketch.detrimentality_, np.diag(found), rtol=1e-6)
    assert errors[1] < 0.2
    assert errors[1] < errors[0] / 2


def test_without_validation_rows_two_halves_judge_each_other():
    X, y, is_noisy = noisy_blobs(n=90)
    method = TracIn(classifier(), reference="validation", random_state=0).fit(X, y)
    assert len(method.folds_) == len(method.net_) == len(method.trace_) == 2
    assert ((method.detrimentality_ > 0) & (method.detrimentality_ < 1)).all()
    assert method.detrimentality_[is_noisy].mean() > method.detrimentality_[~is_noisy].mean()
    influence = method.influence(X[:4], y[:4])
    assert influence.shape == (4, 90)
    assert (influence != 0).all()
    for fold, rows in zip(method.folds_, method._fold_rows, strict=True):
        np.testing.assert_array_equal(influence[:, rows], fold.influence(X[:4], y[:4]))


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_a_share_may_be_held_out(share):
    X, y, _ = noisy_blobs(n=60)
    method = TracIn(reference="validation", validation=share, random_state=0).fit(X, y)
    assert sorted(len(rows) for rows in method._fold_rows) == sorted(
        [round(share * 60), 60 - round(share * 60)]
    )


def test_training_rows_as_validation_rows_are_refused():
    X, y, _ = noisy_blobs(n=60)
    with pytest.raises(ValueError, match="All 60 rows of X_val are training rows"):
        TracIn(reference="validation", random_state=0).fit(X, y, X[::-1], y[::-1])


def test_self_influence_of_unit_gradients_is_refused():
    X, y = blobs(20)
    with pytest.raises(ValueError, match="all rows would score the same"):
        TracIn(normalize="gradient").fit(X, y)
    with pytest.raises(ValueError, match="reference='other'"):
        TracIn(reference="other").fit(X, y)


def test_parameter_groups_count_with_their_own_rate():
    X, y, _ = noisy_blobs(n=30)
    groups = [("head.*", {"lr": 0.05})]
    net, trace = traced(X, y, optimizer__param_groups=groups)
    assert trace.rates_of(trace.checkpoints[0]) == {
        "head.weight": 0.05,
        "head.bias": 0.05,
        "body.0.weight": 0.1,
        "body.0.bias": 0.1,
    }
    expected = 0.0
    for layers, rate in (["head"], 0.05), (["body.*"], 0.1):
        gradients = gradients_at(net, trace, X.astype(np.float64), y, layers)
        expected = expected + sum(rate * (g**2).sum(1) for _, g in gradients)
    method = TracIn(FrozenEstimator(net), checkpoints="all", layers="all").fit(X, y)
    np.testing.assert_allclose(method.detrimentality_, expected, rtol=1e-8)
    uneven = [("head.bias", {"lr": 0.05})]
    net, _ = traced(X, y, optimizer__param_groups=uneven)
    with pytest.raises(ValueError, match=r"layer head .* different learning rates"):
        TracIn(FrozenEstimator(net)).fit(X, y)


def test_frozen_net_without_a_trace_is_refused():
    X, y = blobs(30)
    net = classifier().fit(X, y)
    with pytest.raises(ValueError, match=r"brings no trace.*TraceRecorder\(checkpoints=5\)"):
        TracIn(FrozenEstimator(net)).fit(X, y)


def test_folds_of_a_frozen_net_are_refused():
    X, y = blobs(30)
    net, _ = traced(X, y)
    for method in (TracIn(FrozenEstimator(net), cv=3),):
        with pytest.raises(ValueError, match="frozen"):
            method.fit(X, y)
    with pytest.raises(ValueError, match="give X_val and y_val"):
        TracIn(FrozenEstimator(net), reference="validation").fit(X, y)


def test_agrees_with_captum():
    """captum's TracInCP on the same checkpoints; its loader is given the recorded rates."""
    influence = pytest.importorskip("captum.influence")
    X, y, _ = noisy_blobs(n=24)
    recorder = TraceRecorder(checkpoints="all")
    torch.manual_seed(0)
    net = classifier(callbacks=[recorder], **{**SGD, "max_epochs": 3}).fit(X, y)
    trace = recorder.trace_
    X_query, y_query = blobs(n=6, seed=2)
    states = [(c.state, float(c.learning_rate[0])) for c in trace.checkpoints]

    def load(model, checkpoint):
        model.load_state_dict(states[checkpoint][0])
        return states[checkpoint][1]

    def dataset(X, y):
        return torch.utils.data.TensorDataset(torch.as_tensor(X), torch.as_tensor(y))

    tracin = influence.TracInCP(
        SmallMlp().eval(),
        dataset(X, y),
        checkpoints=list(range(len(states))),
        checkpoints_load_func=load,
        loss_fn=nn.CrossEntropyLoss(reduction="none"),
        sample_wise_grads_per_batch=False,
        batch_size=8,
    )
    theirs = tracin.influence((torch.as_tensor(X_query), torch.as_tensor(y_query))).numpy()
    method = TracIn(FrozenEstimator(net), checkpoints="all", layers="all").fit(X, y)
    ours = method.influence(X_query, y_query)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())
    own = tracin.self_influence().numpy()
    np.testing.assert_allclose(method.detrimentality_, own, rtol=1e-5)


def test_clone_of_a_fitted_method_is_unfitted():
    X, y = blobs(30)
    method = TracIn(random_state=0).fit(X, y)
    assert not hasattr(clone(method), "trace_")
