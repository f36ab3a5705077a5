"""SGD-influence against trainings that really leave a row out, in float64."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetRegressor
from skorch.callbacks import GradientNormClipping, LRScheduler
from torch import nn
from torch.utils.data import WeightedRandomSampler

from skinfluence import AreaUnderMargin, SGDInfluence, TraceRecorder, TracIn
from skinfluence.exceptions import ReplayWarning
from tests._shared.problems import SmallMlp, blobs, classifier, noisy_blobs
from tests._shared.sgd_nets import Double, Line, sgd

OPTIMIZERS = {
    "plain": {},
    "decay": {"optimizer__weight_decay": 0.05},
    "momentum": {"optimizer__momentum": 0.9},
    "dampened": {"optimizer__momentum": 0.9, "optimizer__dampening": 0.4},
    "nesterov": {
        "optimizer__momentum": 0.8,
        "optimizer__nesterov": True,
        "optimizer__weight_decay": 0.05,
    },
    "groups": {"optimizer__param_groups": [("*bias", {"lr": 0.03, "weight_decay": 0.1})]},
}


class TwoLines(Line):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(3, 2, dtype=torch.float64)


def least_squares(n=24):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3))
    return X, (X @ [1.0, -2.0, 0.5] + rng.normal(size=n))[:, None]


def trained(net, X, y):
    torch.manual_seed(0)
    net.fit(X, y)
    return net, next(c for _, c in net.callbacks_ if isinstance(c, TraceRecorder)).trace_


def left_out(net, trace, X, y, row, *, renormalize=False):
    """The slow reference: the same steps with one row's loss left out of its batches."""
    module = copy.deepcopy(net.module_)
    module.load_state_dict(dict(trace.initial_state))
    net = copy.deepcopy(net)
    net.module_ = module
    net.initialize_optimizer()
    loss = nn.MSELoss(reduction="sum") if isinstance(net, NeuralNetRegressor) else None
    for rows, rates in zip(trace.batch_indices, trace.learning_rates, strict=True):
        kept = rows[rows != row]
        for group, rate in zip(net.optimizer_.param_groups, rates, strict=True):
            group["lr"] = rate
        divisor = max(1, len(kept)) if renormalize else len(rows)
        output = module(torch.as_tensor(X[kept]))
        target = torch.as_tensor(y[kept])
        total = (
            loss(output, target)
            if loss
            else nn.functional.cross_entropy(output, target, reduction="sum")
        )
        net.optimizer_.zero_grad()
        (total / divisor).backward()
        net.optimizer_.step()
    return dict(module.named_parameters())


def linear_influence(net, trace, X, y, X_val, y_val, **kwargs):
    """<grad L_val(theta_T), theta_-j - theta_T> of every row, by training again."""
    module = copy.deepcopy(net.module_)
    regression = isinstance(net, NeuralNetRegressor)
    criterion = nn.MSELoss() if regression else nn.CrossEntropyLoss()
    criterion(module(torch.as_tensor(X_val)), torch.as_tensor(y_val)).backward()
    end = dict(module.named_parameters())
    effects = []
    for row in range(len(X)):
        other = left_out(net, trace, X, y, row, **kwargs)
        effects.append(
            sum(float((p.grad * (other[name] - p)).sum().detach()) for name, p in end.items())
        )
    return np.array(effects)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_exact_on_least_squares_for_one_epoch(optimizer):
    X, y = least_squares()
    X_val, y_val = (part + 0.1 for part in least_squares(n=7))
    net, trace = trained(sgd(**OPTIMIZERS[optimizer]), X, y)
    assert trace.replay_error_ < 1e-9
    method = SGDInfluence(FrozenEstimator(net)).fit(X, y, X_val, y_val)
    expected = linear_influence(net, trace, X, y, X_val, y_val)
    np.testing.assert_allclose(-method.detrimentality_, expected, atol=1e-10, rtol=0)
    assert np.abs(expected).max() > 1e-3


def test_exact_with_a_schedule_and_without_the_row_in_the_divisor():
    X, y = least_squares()
    X_val, y_val = (part + 0.1 for part in least_squares(n=7))
    schedule = LRScheduler(torch.optim.lr_scheduler.ExponentialLR, gamma=0.8, step_every="batch")
    recorder = TraceRecorder(steps="all")
    net, trace = trained(sgd(callbacks=[schedule, recorder]), X, y)
    assert len(set(trace.learning_rates[:, 0])) == trace.n_steps
    for renormalize in (False, True):
        method = SGDInfluence(FrozenEstimator(net), renormalize=renormalize)
        found = -method.fit(X, y, X_val, y_val).detrimentality_
        expected = linear_influence(net, trace, X, y, X_val, y_val, renormalize=renormalize)
        # a batch that would be one row smaller is no longer linear in what is left out
        np.testing.assert_allclose(found, expected, atol=1e-10 if not renormalize else 1e-2)
        assert np.corrcoef(found, expected)[0, 1] > 0.99


def test_ranks_like_training_again_and_better_than_cheaper_forms():
    X, y, _ = noisy_blobs(n=60, spread=2.0, n_classes=2)
    X_val, y_val = blobs(n=40, seed=1, spread=2.0, n_classes=2)
    X, X_val = X.astype(np.float64), X_val.astype(np.float64)
    settings = {
        "lr": 0.1,
        "max_epochs": 8,
        "batch_size": 10,
        "optimizer": torch.optim.SGD,
        "module__n_outputs": 2,
    }
    net = classifier(Double, callbacks=[TraceRecorder(steps="all", checkpoints="all")], **settings)
    net, trace = trained(net, X, y)
    truth = linear_influence(net, trace, X, y, X_val, y_val)

    def tau(**kwargs):
        method = SGDInfluence(FrozenEstimator(net), **kwargs).fit(X, y, X_val, y_val)
        return kendalltau(-method.detrimentality_, truth).statistic

    exact = tau()
    assert exact > 0.7
    assert exact > tau(hessian=False)
    assert exact > tau(parameters="final")
    assert exact >= tau(parameters="epoch") - 0.02
    assert tau(parameters="epoch") > tau(parameters="final")


def test_final_parameters_of_the_last_epoch_need_no_states():
    X, y = blobs(n=40)
    X_val, y_val = blobs(n=20, seed=1)
    net, trace = trained(
        classifier(optimizer=torch.optim.SGD, callbacks=[TraceRecorder(order=True)]), X, y
    )
    method = SGDInfluence(FrozenEstimator(net), parameters="final", epochs="last")
    method.fit(X, y, X_val, y_val)
    assert trace.step_states is None
    assert len(trace.checkpoints) == 1
    with pytest.raises(ValueError, match=r"states before its steps.*steps='all'"):
        SGDInfluence(FrozenEstimator(net)).fit(X, y, X_val, y_val)


def test_influence_of_queries_averages_to_the_scores():
    X, y = blobs(n=30)
    X_val, y_val = blobs(n=6, seed=1)
    method = SGDInfluence(epochs=3, random_state=0).fit(X, y, X_val, y_val)
    influence = method.influence(X_val, y_val)
    assert influence.shape == (6, 30)
    np.testing.assert_allclose(-influence.mean(0), method.detrimentality_, rtol=1e-3, atol=1e-6)


@pytest.mark.usefixtures("brief_nets")
def test_trace_on_disk_gives_the_same_scores(tmp_path):
    X, y = blobs(n=30)
    X_val, y_val = blobs(n=12, seed=1)
    memory = SGDInfluence(random_state=0).fit(X, y, X_val, y_val)
    disk = SGDInfluence(storage=tmp_path / "trace", random_state=0).fit(X, y, X_val, y_val)
    np.testing.assert_array_equal(disk.detrimentality_, memory.detrimentality_)
    assert (tmp_path / "trace" / "trace.json").is_file()
    halves = SGDInfluence(storage=tmp_path / "halves", random_state=0).fit(X, y)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["halves-0", "halves-1", "trace"]
    again = SGDInfluence(random_state=0).fit(X, y)
    np.testing.assert_array_equal(halves.detrimentality_, again.detrimentality_)


@pytest.mark.usefixtures("brief_nets")
@pytest.mark.parametrize("storage", [".", "sub/..", "other/run.1"])
def test_halves_have_folders_beside_the_one_named(storage, tmp_path, monkeypatch):
    X, y = blobs(n=30)
    for folder in ("here/sub", "here/other"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    method = SGDInfluence(parameters="final", storage=storage, random_state=0).fit(X, y)
    beside = "here/other/run.1" if "other" in storage else "here"
    for number, fold in enumerate(method.folds_):
        assert Path(fold.storage).resolve() == tmp_path / f"{beside}-{number}"
        assert (tmp_path / f"{beside}-{number}" / "trace.json").is_file()


def test_a_row_twice_in_a_batch_counts_twice():
    X, y = least_squares()
    X_val, y_val = (part + 0.1 for part in least_squares(n=7))
    sampler = WeightedRandomSampler(np.arange(1.0, 25), 24, generator=torch.Generator())
    settings = {"iterator_train__sampler": sampler, "iterator_train__shuffle": False}
    settings["lr"] = 1e-5  # a row of several steps has an effect of second order too
    net, trace = trained(sgd(**settings), X, y)
    assert any(len(np.unique(rows)) < len(rows) for rows in trace.batch_indices)
    method = SGDInfluence(FrozenEstimator(net)).fit(X, y, X_val, y_val)
    expected = linear_influence(net, trace, X, y, X_val, y_val)
    np.testing.assert_allclose(-method.detrimentality_, expected, rtol=1e-3)


WEIGHTS = torch.tensor([1.0, 4.0, 0.5], dtype=torch.float64)
NO_PLAIN_MEAN = {"weights": {"weight": WEIGHTS}, "sum": {"reduction": "sum"}}


def derivative_by_weight(net, trace, X, y, X_val, y_val, row, step=1e-6):
    """The slow reference: how the validation loss changes with a row's weight in its batches."""

    def rows_losses(module, X, y):
        criterion = type(net.criterion_)(weight=net.criterion_.weight, reduction="none")
        return criterion(module(torch.as_tensor(X)), torch.as_tensor(y))

    ends = []
    for weight in (1 + step, 1 - step):
        module = copy.deepcopy(net.module_)
        module.load_state_dict(dict(trace.initial_state))
        optimizer = torch.optim.SGD(module.parameters(), lr=net.lr)
        for rows in trace.batch_indices:
            each = rows_losses(module, X[rows], y[rows])
            whole = net.criterion_(module(torch.as_tensor(X[rows])), torch.as_tensor(y[rows]))
            scale = (whole / each.sum()).detach()  # what each row's loss counts in the batch's
            weights = torch.as_tensor(np.where(rows == row, weight, 1.0))
            optimizer.zero_grad()
            (scale * torch.dot(weights, each)).backward()
            optimizer.step()
        ends.append(float(rows_losses(module, X_val, y_val).detach().mean()))
    return (ends[0] - ends[1]) / (2 * step)


@pytest.mark.parametrize("kind", NO_PLAIN_MEAN)
def test_losses_that_are_no_plain_mean_are_retraced_as_they_are(recwarn, kind):
    X, y, _ = noisy_blobs(n=70)
    X = X.astype(np.float64)
    X, X_val, y, y_val = X[:40], X[40:], y[:40], y[40:]
    net = classifier(
        Double,
        **{f"criterion__{name}": value for name, value in NO_PLAIN_MEAN[kind].items()},
        lr=0.02,
        max_epochs=2,
        batch_size=9,
        optimizer=torch.optim.SGD,
        callbacks=[TraceRecorder(order=True, steps="all")],
    )
    net, trace = trained(net, X, y)
    assert trace.replay_error_ < 1e-6
    method = SGDInfluence(FrozenEstimator(net)).fit(X, y, X_val, y_val)
    assert not [w for w in recwarn if w.category is ReplayWarning]
    for row in range(0, 40, 7):
        expected = derivative_by_weight(net, trace, X, y, X_val, y_val, row)
        np.testing.assert_allclose(method.detrimentality_[row], expected, rtol=1e-4, atol=1e-8)
    with pytest.raises(ValueError, match="no plain mean"):
        method.set_params(renormalize=True).fit(X, y, X_val, y_val)


def test_several_outputs_are_averaged_over():
    X, y = least_squares()
    y = np.hstack([y, -2 * y])
    net, trace = trained(sgd(module=TwoLines), X, y)
    assert trace.replay_error_ < 1e-6
    X_val, y_val = X[:9] + 0.1, y[:9]
    found = SGDInfluence(FrozenEstimator(net)).fit(X, y, X_val, y_val).detrimentality_
    for row in (0, 5, 11):
        module = copy.deepcopy(net.module_)
        module.load_state_dict(dict(trace.initial_state))
        optimizer = torch.optim.SGD(module.parameters(), lr=net.lr)
        for rows in trace.batch_indices:
            kept = rows[rows != row]
            error = module(torch.as_tensor(X[kept])) - torch.as_tensor(y[kept])
            optimizer.zero_grad()
            (error.square().sum() / (2 * len(rows))).backward()
            optimizer.step()
        error = net.module_(torch.as_tensor(X_val)) - torch.as_tensor(y_val)
        gradients = torch.autograd.grad(error.square().sum() / 9, list(net.module_.parameters()))
        moved = zip(module.parameters(), net.module_.parameters(), strict=True)
        effect = sum(
            float((g * (p - q)).detach().sum()) for g, (p, q) in zip(gradients, moved, strict=True)
        )
        np.testing.assert_allclose(found[row], -effect, atol=1e-10)


def test_training_that_is_not_sgd_is_warned_of():
    X, y = blobs(n=30)
    X_val, y_val = blobs(n=12, seed=1)
    with pytest.warns(ReplayWarning, match=r"Steps of Adam differ from SGD by \d"):
        SGDInfluence(classifier(max_epochs=2), random_state=0).fit(X, y, X_val, y_val)
    clipped = classifier(
        optimizer=torch.optim.SGD,
        max_epochs=2,
        callbacks=[GradientNormClipping(gradient_clip_value=1e-3)],
    )
    with pytest.warns(ReplayWarning, match="GradientNormClipping"):
        SGDInfluence(clipped, random_state=0).fit(X, y, X_val, y_val)


def test_batch_normalisation_is_refused_along_the_trajectory():
    class Normalised(SmallMlp):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.body.append(nn.BatchNorm1d(16))

    X, y = blobs(n=30)
    X_val, y_val = blobs(n=12, seed=1)
    net = classifier(Normalised, optimizer=torch.optim.SGD, max_epochs=2)
    with pytest.raises(ValueError, match="batch normalisation"):
        SGDInfluence(net, random_state=0).fit(X, y, X_val, y_val)
    with pytest.warns(ReplayWarning):
        SGDInfluence(net, parameters="final", random_state=0).fit(X, y, X_val, y_val)


def test_net_changed_after_its_training_is_refused():
    X, y = blobs(n=30)
    X_val, y_val = blobs(n=12, seed=1)
    net, _ = trained(
        classifier(optimizer=torch.optim.SGD, callbacks=[TraceRecorder(steps="all")]), X, y
    )
    with torch.no_grad():
        net.module_.head.bias += 1
    with pytest.raises(ValueError, match="not those at the end of its trace"):
        SGDInfluence(FrozenEstimator(net)).fit(X, y, X_val, y_val)


def test_checkpoints_logits_and_order_share_one_training():
    X, y, _ = noisy_blobs(n=60)
    X_val, y_val = blobs(n=12, seed=1)
    net = classifier(optimizer=torch.optim.SGD, lr=0.1, max_epochs=5)
    recorder = TraceRecorder(checkpoints="all", order=True, logits=True)
    shared = TracIn(clone(net).set_params(callbacks=[recorder]), random_state=0).fit(X, y)
    frozen = FrozenEstimator(shared.net_)
    methods = [
        (TracIn(), ()),
        (AreaUnderMargin(), ()),
        (SGDInfluence(parameters="final"), (X_val, y_val)),
        (SGDInfluence(parameters="epoch", epochs=2), (X_val, y_val)),
    ]
    for method, rows in methods:
        alone = clone(method).set_params(net=net, random_state=0).fit(X, y, *rows)
        together = clone(method).set_params(net=frozen, random_state=0).fit(X, y, *rows)
        np.testing.assert_array_equal(together.detrimentality_, alone.detrimentality_)
