"""LeaveOneOut against trainings written out by hand, in float64."""

import os

import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetRegressor
from skorch.callbacks import Callback, GradientNormClipping, LRScheduler
from skorch.dataset import ValidSplit
from torch import nn

from skinfluence import LeaveOneOut, SGDInfluence, TraceRecorder, TrainingTrace
from skinfluence.exceptions import HeldOutRowsWarning
from skinfluence.rows._progress import listening
from skinfluence.valuation.leave_one_out import _leave_one_out, _replay
from tests._shared.problems import SmallMlp, blobs, classifier, noisy_blobs
from tests._shared.processes import begin
from tests._shared.work_files import kept


class Line(nn.Module):
    def __init__(self, n_inputs=3, n_outputs=1):
        super().__init__()
        self.line = nn.Linear(n_inputs, n_outputs, dtype=torch.float64)

    def forward(self, X):
        return self.line(X)


class Mlp(SmallMlp):
    def __init__(self, dtype=torch.float64):
        super().__init__(n_hidden=8)
        self.to(dtype)


class Dropping(Mlp):
    def forward(self, X):
        return self.head(nn.functional.dropout(self.body(X), 0.05, self.training))


class Normed(Mlp):
    def __init__(self, dtype=torch.float64):
        super().__init__(dtype)
        self.body.append(nn.BatchNorm1d(8, dtype=dtype))


class Branching(Mlp):
    """What vmap refuses."""

    def forward(self, X):
        output = super().forward(X)
        return output if output.sum().item() else output + 1


def sgd(module=Mlp, **kwargs):
    settings = {"optimizer": torch.optim.SGD, "lr": 0.2, "max_epochs": 3, "batch_size": 7}
    return classifier(module, **{**settings, **kwargs})


def problem(n=24, dtype=np.float64):
    X, y, _ = noisy_blobs(n=n, spread=1.5)
    X_val, y_val = blobs(n=30, seed=1, spread=1.5)
    return X.astype(dtype), y, X_val.astype(dtype), y_val


def fitted(net, X, y, *callbacks):
    recorder = TraceRecorder(order=True)
    net = clone(net).set_params(callbacks=[*callbacks, recorder])
    torch.manual_seed(0)
    net.fit(X, y)
    return net, recorder.trace_


def replayed_by_hand(net, trace, X, y, X_val, y_val, row, *, weight=None):
    """The same steps as plain torch: one row's loss out of the sum, the same divisor."""
    module = type(net.module_)(**net.get_params_for("module"))
    module.load_state_dict(trace.initial_state)
    module.train()
    regression = isinstance(net, NeuralNetRegressor)

    def losses(rows, target):
        if regression:
            return ((rows - target) ** 2).mean(1)
        return nn.functional.cross_entropy(rows, target, weight, reduction="none")

    X, y, X_val, y_val = map(torch.as_tensor, (X, y, X_val, y_val))
    settings = net.get_params_for("optimizer")
    groups = settings.pop("param_groups", None)
    parameters = dict(module.named_parameters())
    if groups:
        biases = [p for n, p in parameters.items() if n.endswith("bias")]
        others = [p for n, p in parameters.items() if not n.endswith("bias")]
        parameters = [{"params": biases, **groups[0][1]}, {"params": others}]
    else:
        parameters = list(parameters.values())
    optimizer = net.optimizer(parameters, **settings)
    for rows, rates in zip(trace.batch_indices, trace.learning_rates):
        for group, rate in zip(optimizer.param_groups, rates):
            group["lr"] = float(rate)
        kept = torch.as_tensor(rows[rows != row])
        divisor = len(rows) if weight is None else float(weight[y[rows]].sum())

        def closure(kept=kept, divisor=divisor):
            optimizer.zero_grad()
            loss = losses(module(X[kept]), y[kept]).sum() / divisor
            loss.backward()
            return loss

        optimizer.step(closure)
    module.eval()
    with torch.no_grad():
        found = losses(module(X_val), y_val)
        return float(found.sum()) / len(y_val)


NETS = {
    "sgd": sgd(),
    "momentum": sgd(optimizer__momentum=0.8, optimizer__nesterov=True),
    "decay and groups": sgd(
        optimizer__weight_decay=0.1,
        optimizer__param_groups=[("*bias", {"lr": 0.05, "weight_decay": 0.0})],
    ),
    "adam": sgd(optimizer=torch.optim.Adam, lr=0.02),
    "rmsprop": sgd(optimizer=torch.optim.RMSprop, lr=0.01, optimizer__centered=True),
    "not stacked": sgd(Branching),
    "no elementwise optimiser": sgd(
        optimizer=torch.optim.LBFGS, lr=0.1, max_epochs=1, optimizer__max_iter=3
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_replay_against_plain_torch(name):
    X, y, X_val, y_val = problem()
    net, trace = fitted(NETS[name], X, y)
    method = LeaveOneOut(FrozenEstimator(net)).fit(X, y, X_val, y_val)
    alone = name in {"not stacked", "no elementwise optimiser"}
    assert method.strategy_ == ("one by one" if alone else "stacked")
    assert method.replay_distance_ < 1e-9
    whole = replayed_by_hand(net, trace, X, y, X_val, y_val, -1)
    expected = [
        whole - replayed_by_hand(net, trace, X, y, X_val, y_val, row) for row in range(len(X))
    ]
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(method.detrimentality_, expected, atol=1e-10)
    np.testing.assert_allclose(method.loss_, whole, atol=1e-10)
    np.testing.assert_allclose(method.loss_ - method.losses_without_, expected, atol=1e-10)


@pytest.mark.parametrize("name", ["sgd", "momentum", "decay and groups", "adam", "rmsprop"])
def test_stacks_and_single_trainings_agree(name, monkeypatch):
    X, y, X_val, y_val = problem()
    schedule = LRScheduler(torch.optim.lr_scheduler.ExponentialLR, gamma=0.7, step_every="batch")
    net, _ = fitted(NETS[name], X, y, schedule)
    method = LeaveOneOut(FrozenEstimator(net))
    stacked = clone(method).fit(X, y, X_val, y_val)
    monkeypatch.setattr(_replay, "_can_stack", lambda _: False)
    alone = clone(method).fit(X, y, X_val, y_val)
    assert (stacked.strategy_, alone.strategy_) == ("stacked", "one by one")
    np.testing.assert_allclose(stacked.detrimentality_, alone.detrimentality_, atol=1e-11)
    assert stacked.replay_distance_ < 1e-9


def test_least_squares_by_hand_for_one_epoch():
    """Each row is used once: its step is undone, then the later steps are linear maps."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 3))
    y = (X @ [1.0, -2.0, 0.5] + rng.normal(size=12))[:, None]
    X_val = rng.normal(size=(5, 3))
    y_val = (X_val @ [1.0, -2.0, 0.5])[:, None]
    settings = {"lr": 0.05, "max_epochs": 1, "batch_size": 4, "train_split": None, "verbose": 0}
    net = NeuralNetRegressor(Line, optimizer=torch.optim.SGD, **settings)
    net, trace = fitted(net.set_params(iterator_train__shuffle=True), X, y)
    method = LeaveOneOut(FrozenEstimator(net)).fit(X, y, X_val, y_val)
    A, A_val = np.c_[X, np.ones(12)], np.c_[X_val, np.ones(5)]
    start = np.r_[
        trace.initial_state["line.weight"].numpy()[0], trace.initial_state["line.bias"].numpy()
    ]

    def loss_without(row):
        theta = start.copy()
        for rows in trace.batch_indices:
            kept = rows[rows != row]
            theta -= 0.05 * 2 / len(rows) * A[kept].T @ (A[kept] @ theta - y[kept, 0])
        return float(((A_val @ theta - y_val[:, 0]) ** 2).mean())

    expected = [loss_without(-1) - loss_without(row) for row in range(12)]
    np.testing.assert_allclose(method.detrimentality_, expected, atol=1e-12)
    # and to first order it is what SGD-influence computes
    recorder = TraceRecorder(steps="all")
    again = clone(net).set_params(callbacks=[recorder])
    torch.manual_seed(0)
    again.fit(X, y)
    estimate = SGDInfluence(FrozenEstimator(again)).fit(X, y, X_val, y_val).detrimentality_
    assert np.corrcoef(estimate, expected)[0, 1] > 0.95


def test_the_divisor_is_that_of_the_loss():
    X, y, X_val, y_val = problem()
    weight = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    net, trace = fitted(sgd(criterion__weight=weight), X, y)
    method = LeaveOneOut(FrozenEstimator(net)).fit(X, y, X_val, y_val)
    args = (net, trace, X, y, X_val, y_val)
    whole = replayed_by_hand(*args, -1, weight=weight)
    expected = [whole - replayed_by_hand(*args, row, weight=weight) for row in range(24)]
    np.testing.assert_allclose(method.detrimentality_, expected, atol=1e-10)
    summed, _ = fitted(sgd(criterion__reduction="sum", lr=0.01), X, y)
    assert LeaveOneOut(FrozenEstimator(summed)).fit(X, y, X_val, y_val).replay_distance_ < 1e-9
    # a mean over rows and outputs
    net = NeuralNetRegressor(
        Line,
        module__n_inputs=4,
        module__n_outputs=2,
        optimizer=torch.optim.SGD,
        lr=0.05,
        batch_size=5,
        max_epochs=2,
        train_split=None,
        verbose=0,
    )
    Y, Y_val = X[:, :2] ** 2, X_val[:, :2] ** 2
    net, trace = fitted(net, X, Y)
    method = LeaveOneOut(FrozenEstimator(net)).fit(X, Y, X_val, Y_val)
    args = (net, trace, X, Y, X_val, Y_val)
    whole = replayed_by_hand(*args, -1)
    expected = [whole - replayed_by_hand(*args, row) for row in range(24)]
    # a row's loss is summed over its outputs
    np.testing.assert_allclose(method.detrimentality_, 2 * np.array(expected), atol=1e-10)


def test_from_scratch_against_the_loop():
    X, y, X_val, y_val = problem(n=15, dtype=np.float32)
    net = sgd(SmallMlp, max_epochs=4)
    method = LeaveOneOut(net, retrain="scratch", random_state=0).fit(X, y, X_val, y_val)
    seed = method._seeds[0]

    def loss_without(rows):
        torch.manual_seed(seed)
        trained = clone(net).fit(X[rows], y[rows])
        with torch.no_grad():
            output = trained.module_.eval()(torch.as_tensor(X_val)).double()
        return float(nn.functional.cross_entropy(output, torch.as_tensor(y_val)))

    everything = np.arange(15)
    whole = loss_without(everything)
    expected = [whole - loss_without(np.delete(everything, row)) for row in range(15)]
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(method.detrimentality_, expected, atol=1e-7)
    assert not hasattr(method, "trace_")
    assert not hasattr(method, "strategy_")


def test_from_scratch_targets_get_the_shape_of_the_outputs():
    X, _, X_val, _ = problem(n=10)
    settings = {"optimizer": torch.optim.SGD, "lr": 0.05, "max_epochs": 2, "verbose": 0}
    net = NeuralNetRegressor(Line, module__n_inputs=4, train_split=None, **settings)
    flat = LeaveOneOut(net, retrain="scratch", random_state=0)
    column = clone(flat).fit(X, X[:, :1], X_val, X_val[:, :1])
    flat.fit(X, X[:, 0], X_val, X_val[:, 0])
    np.testing.assert_array_equal(flat.detrimentality_, column.detrimentality_)


@pytest.mark.parametrize("retrain", ["replay", "scratch"])
def test_planted_flips_are_harmful(retrain):
    X, y, is_noisy = noisy_blobs(n=40, n_classes=2, spread=0.8)
    X_val, y_val = blobs(n=60, seed=1, n_classes=2, spread=0.8)
    net = classifier(max_epochs=10, batch_size=10, optimizer=torch.optim.SGD, lr=0.1)
    method = LeaveOneOut(net, retrain=retrain, random_state=0).fit(X, y, X_val, y_val)
    scores = method.detrimentality_
    assert scores.dtype == np.float64
    assert np.median(scores[is_noisy]) > np.quantile(scores[~is_noisy], 0.9)
    np.testing.assert_array_equal(method.ranking_, np.argsort(-scores, kind="stable"))
    assert (method.losses_without_ < method.loss_)[is_noisy].mean() > 0.7


class Damping(Callback):
    def on_grad_computed(self, net, named_parameters, **kwargs):
        net.module_.head.weight.grad.mul_(0.9)


@pytest.mark.parametrize(
    ("net", "cause"),
    [
        (sgd(Dropping), "dropout"),
        (sgd(Normed), "BatchNorm"),
        (sgd(callbacks=[GradientNormClipping(0.1)]), "here: GradientNormClipping"),
        (sgd(callbacks=[Damping()]), "here: Damping"),
    ],
    ids=["dropout", "batch norm", "clipping", "own callback"],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_what_cannot_be_replayed_is_refused(net, cause, dtype):
    X, y, X_val, y_val = problem()
    method = LeaveOneOut(clone(net).set_params(module__dtype=dtype), random_state=0)
    with pytest.raises(ValueError, match=rf"(?s)cannot be replayed.*{cause}.*scratch"):
        method.fit(X, y, X_val, y_val)
    method.set_params(retrain="scratch", subset=[0]).fit(X, y, X_val, y_val)


def test_other_parameters_or_targets_than_those_of_the_training_are_refused():
    X, y, X_val, y_val = problem()
    net, _ = fitted(sgd(), X, y)
    other = np.where(np.arange(24) == 3, (y + 1) % 3, y)
    with pytest.raises(ValueError, match="targets given are not those"):
        LeaveOneOut(FrozenEstimator(net)).fit(X, other, X_val, y_val)
    with torch.no_grad():
        net.module_.head.bias += 0.01
    with pytest.raises(ValueError, match="load other parameters after training"):
        LeaveOneOut(FrozenEstimator(net)).fit(X, y, X_val, y_val)


@pytest.mark.parametrize("retrain", ["replay", "scratch"])
def test_workers_change_nothing(retrain, monkeypatch):
    monkeypatch.setattr(_replay, "_MAX_STACK", 5)
    X, y, X_val, y_val = problem(n=16, dtype=np.float32)
    net = sgd(SmallMlp, max_epochs=2)
    threads = torch.get_num_threads()
    scores = [
        LeaveOneOut(net, retrain=retrain, n_jobs=n_jobs, random_state=0)
        .fit(X, y, X_val, y_val)
        .detrimentality_
        for n_jobs in (None, 2)
    ]
    np.testing.assert_array_equal(*scores)
    assert torch.get_num_threads() == threads


def test_size_of_stacks_and_who_is_in_them_change_nothing(monkeypatch):
    X, y, X_val, y_val = problem()
    method = LeaveOneOut(sgd(), random_state=0)
    expected = clone(method).fit(X, y, X_val, y_val).detrimentality_
    monkeypatch.setattr(_replay, "_MAX_STACK", 5)
    found = clone(method).fit(X, y, X_val, y_val).detrimentality_
    np.testing.assert_allclose(found, expected, atol=1e-12)
    subset = [17, 3, 11]
    some = clone(method).set_params(subset=subset).fit(X, y, X_val, y_val)
    np.testing.assert_allclose(some.detrimentality_, expected[subset], atol=1e-12)
    np.testing.assert_array_equal(some.rows_, subset)
    assert set(some.ranking_) == set(subset)
    assert expected[some.ranking_[0]] == expected[subset].max()
    assert np.isnan(some.losses_without_).sum() == len(X) - 3


def test_subsets_that_make_no_sense_are_refused():
    X, y, X_val, y_val = problem()
    net = sgd(max_epochs=1)
    for subset in ([24], [-1], [1, 1], [], [True, False], [0.5], 3, "all"):
        with pytest.raises(ValueError, match=r"(?s)Got subset=.*distinct row numbers from 0 to 23"):
            LeaveOneOut(net, subset=subset).fit(X, y, X_val, y_val)
    with pytest.raises(ValueError, match="subset and no X_val"):
        LeaveOneOut(net, subset=[1]).fit(X, y)
    with pytest.raises(ValueError, match="None for fit_transform"):
        LeaveOneOut(net, subset=[1]).fit_transform(X, y, X_val, y_val)


def test_parameters_are_checked(tmp_path):
    X, y, X_val, y_val = problem()
    net, _ = fitted(sgd(), X, y)
    cases = [
        ({"retrain": "again"}, "retrain='again'"),
        ({"retrain": "scratch", "net": FrozenEstimator(net)}, "frozen net, whose seed"),
        ({"path": tmp_path / "no" / "a.npz", "random_state": 0}, "a file in a folder that exists"),
        ({"path": tmp_path, "random_state": 0}, "a file in a folder that exists"),
        ({"path": tmp_path / "a.npz"}, "random_state=None.*integer together with path"),
    ]
    for parameters, message in cases:
        with pytest.raises(ValueError, match=message):
            LeaveOneOut(**parameters).fit(X, y, X_val, y_val)
    unordered = sgd()
    torch.manual_seed(0)
    unordered.fit(X, y)
    with pytest.raises(ValueError, match=r"TraceRecorder\(order=True\)"):
        LeaveOneOut(FrozenEstimator(unordered)).fit(X, y, X_val, y_val)


def test_two_folds_are_quantiles_of_each_fold(tmp_path):
    X, y, _, _ = problem()
    method = LeaveOneOut(sgd(), path=tmp_path / "run.npz", random_state=0).fit(X, y)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run-0.npz", "run-1.npz"]
    assert len(method.folds_) == 2
    np.testing.assert_array_equal(method.rows_, np.arange(24))
    for fold, rows in zip(method.folds_, method._fold_rows):
        expected = rankdata(fold.detrimentality_) / (len(rows) + 1)
        np.testing.assert_allclose(method.detrimentality_[rows], expected)
    again = clone(method).fit(X, y)
    np.testing.assert_array_equal(again.detrimentality_, method.detrimentality_)


def test_names_of_labels_and_global_state_do_not_count():
    X, y, X_val, y_val = problem()
    names = np.array(["c", "d", "e"])
    net = sgd()
    plain = LeaveOneOut(net, random_state=0).fit(X, y, X_val, y_val)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    named = LeaveOneOut(net, random_state=0).fit(X, names[y], X_val, names[y_val])
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])
    np.testing.assert_array_equal(named.detrimentality_, plain.detrimentality_)
    assert list(named.classes_) == list(names)


def test_a_stopped_run_keeps_what_is_done_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(_replay, "_MAX_STACK", 5)
    X, y, X_val, y_val = problem()
    path = tmp_path / "run.npz"
    method = LeaveOneOut(sgd(), path=path, random_state=0)
    expected = clone(method).set_params(path=None).fit(X, y, X_val, y_val).detrimentality_
    run, calls = _replay._run_stack, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 4:  # the whole training, and two stacks of five
            raise KeyboardInterrupt
        return run(*args)

    monkeypatch.setattr(_replay, "_run_stack", interrupted)
    with pytest.raises(KeyboardInterrupt):
        method.fit(X, y, X_val, y_val)
    assert not hasattr(method, "detrimentality_")
    assert np.isfinite(method.losses_without_).sum() == 10
    np.testing.assert_array_equal(kept(path)["losses"], method.losses_without_)
    calls.clear()
    monkeypatch.setattr(_replay, "_run_stack", lambda *args: (calls.append(args), run(*args))[1])
    resumed = clone(method).fit(X, y, X_val, y_val).detrimentality_
    np.testing.assert_array_equal(resumed, expected)
    assert len(calls) == 4  # the whole training, and what was missing: 5, 5, 4
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]


def test_files_of_something_else_are_refused(tmp_path):
    X, y, X_val, y_val = problem()
    path = tmp_path / "run.npz"
    method = LeaveOneOut(sgd(), path=path, random_state=0, subset=[1, 2]).fit(X, y, X_val, y_val)
    same = "belongs to other data or parameters"
    for data in ((X + 1, y, X_val, y_val), (X, y[::-1], X_val, y_val), (X, y, X_val, y_val[::-1])):
        with pytest.raises(ValueError, match=same):
            clone(method).fit(*data)
    for change in ({"random_state": 1}, {"net__lr": 0.1}, {"retrain": "scratch"}):
        with pytest.raises(ValueError, match=same):
            clone(method).set_params(**change).fit(X, y, X_val, y_val)
    more = clone(method).set_params(subset=[2, 3], n_jobs=2).fit(X, y, X_val, y_val)
    assert more.detrimentality_[0] == method.detrimentality_[1]
    assert np.isfinite(kept(path)["losses"]).sum() == 3
    edited = type("Mlp", (Mlp,), {"forward": lambda self, X: super(Mlp, self).forward(-X)})
    edited.__module__, edited.__qualname__ = Mlp.__module__, Mlp.__qualname__
    with pytest.raises(ValueError, match=same):  # of another code by the same name
        clone(method).set_params(net__module=edited).fit(X, y, X_val, y_val)
    path.write_text("something else")
    with pytest.raises(ValueError, match="not a file this method wrote"):
        clone(method).fit(X, y, X_val, y_val)
    assert path.read_text() == "something else"


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    X, y, X_val, y_val = problem()
    path = tmp_path / "run.npz"
    method = LeaveOneOut(sgd(), path=path, random_state=0, subset=[1, 2]).fit(X, y, X_val, y_val)
    before = path.read_bytes()

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    other = clone(method).set_params(subset=[3])
    with pytest.raises(OSError, match="No space left") as caught:
        other.fit(X, y, X_val, y_val)
    assert any("could not be written to" in note for note in caught.value.__notes__)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]
    assert np.isfinite(other.losses_without_[3])


def count_stacks(connection, method, waits):
    """Fit, with stacks of five rows; say how many there were, or wait within the third."""
    _replay._MAX_STACK, _leave_one_out.PERIOD = 5, 0.0
    run, calls = _replay._run_stack, []

    def counted(*args):
        calls.append(args)
        if waits and len(calls) > 3:
            connection.send("waiting")
            connection.recv()
        return run(*args)

    _replay._run_stack = counted
    scores = method.fit(*problem()).detrimentality_
    connection.send((len(calls), scores))


def test_a_killed_process_goes_on(tmp_path):
    method = LeaveOneOut(sgd(), path=str(tmp_path / "run.npz"), random_state=0)
    first, said = begin(count_stacks, method, True)
    assert said.recv() == "waiting"
    first.kill()
    first.join()
    assert np.isfinite(kept(tmp_path / "run.npz")["losses"]).sum() == 10
    n_stacks, scores = begin(count_stacks, method, False)[1].recv()
    assert n_stacks == 4
    expected = clone(method).set_params(path=None).fit(*problem()).detrimentality_
    np.testing.assert_allclose(scores, expected, atol=1e-12)


def test_rows_left_out_are_told_of_stack_by_stack(monkeypatch):
    monkeypatch.setattr(_replay, "_MAX_STACK", 8)
    said = []
    with listening(lambda _, *what: said.append(what)):
        LeaveOneOut(sgd(), random_state=0).fit(*problem())
    assert [s for s in said if s[0] == "rows"][-4:] == [("rows", n, 24) for n in (0, 8, 16, 24)]


def test_rows_held_out_by_the_nets_own_split_have_no_effect():
    X, y, X_val, y_val = problem()
    net = sgd(train_split=ValidSplit(4, stratified=True))
    with pytest.warns(HeldOutRowsWarning):
        method = LeaveOneOut(net, random_state=0).fit(X, y, X_val, y_val)
    used = np.unique(np.concatenate(method.trace_.batch_indices))
    unused = np.setdiff1d(np.arange(24), used)
    assert len(unused) == 6
    np.testing.assert_allclose(method.detrimentality_[unused], 0, atol=1e-12)
    assert (np.abs(method.detrimentality_[used]) > 1e-9).all()


def test_the_net_and_its_trace_are_left_alone():
    X, y, X_val, y_val = problem()
    net, trace = fitted(sgd(), X, y)
    states = {
        id(s): {n: t.clone() for n, t in s.items()}
        for s in (trace.initial_state, trace.final_state)
    }
    parameters = {n: t.clone() for n, t in net.module_.state_dict().items()}
    for _ in range(2):
        LeaveOneOut(FrozenEstimator(net)).fit(X, y, X_val, y_val)
    for state in (trace.initial_state, trace.final_state):
        assert all(torch.equal(t, states[id(state)][n]) for n, t in state.items())
    assert all(torch.equal(t, parameters[n]) for n, t in net.module_.state_dict().items())
    assert net.module_.training


@pytest.mark.parametrize("resume", [False, True])
def test_trainings_without_a_row_are_not_recorded(resume, tmp_path):
    X, y, X_val, y_val = problem()
    recorder = TraceRecorder(order=True, storage=tmp_path / "t", resume=resume)
    settings = {"retrain": "scratch", "subset": [0, 5], "random_state": 0}
    net = sgd(callbacks=[("mine", recorder), Callback()])
    method = LeaveOneOut(net, **settings).fit(X, y, X_val, y_val)
    assert TrainingTrace.load(tmp_path / "t").n_samples == len(X)
    assert [name for name, _ in method.net_.callbacks_ if name == "mine"]
    plain = LeaveOneOut(sgd(), **settings).fit(X, y, X_val, y_val)
    np.testing.assert_array_equal(method.losses_without_, plain.losses_without_)
