"""Whether captum, dattri and kronfluence give the same numbers on the same checkpoints.

    python -m benchmarks.studies.peers_agreement

Three small nets in float64, trained here by plain SGD at a rate that falls: a perceptron (tanh) and
a convolutional net (ReLU) on 150 digits, a tenth of them flipped, a perceptron on 150 rows of
diabetes; 30 other rows are the queries. captum and dattri come with the bench extra; kronfluence
does not, because it brings torchvision. Every peer that is installed gets the states and rates of
our trace and computes what it says it computes. Two differences a line: the largest one over the
largest score, and the largest one relative to the score it is of. The second table holds settings
under which a peer computes something else than its name says, and approximations.
"""

import argparse
import copy
import tempfile
import warnings
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import torch
from sklearn.datasets import load_diabetes, load_digits
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import LRScheduler
from torch import nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

from skinfluence import InfluenceFunction, TraceRecorder, TracIn
from skinfluence.datasets import make_noisy_labels
from skinfluence.influence import EKFAC, ConjugateGradient, DataInf, Exact

N_TRAIN, N_QUERY = 150, 30
DAMPING = 0.5
REQUIRED = 1e-5


class Perceptron(nn.Module):
    """Two narrow hidden layers, small enough for whole Hessians."""

    def __init__(self, n_inputs, n_outputs):
        super().__init__()
        layers = nn.Linear(n_inputs, 12), nn.Tanh(), nn.Linear(12, 8), nn.Tanh()
        self.body, self.last = nn.Sequential(*layers), nn.Linear(8, n_outputs)
        self.double()

    def forward(self, X):
        return self.last(self.body(X))


class ConvNet(nn.Module):
    """One convolution, for images of 8 x 8."""

    def __init__(self):
        super().__init__()
        layers = nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
        self.body, self.last = nn.Sequential(*layers), nn.Linear(54, 10)
        self.double()

    def forward(self, X):
        return self.last(self.body(X))


class Case:
    """A trained net with its trace, training rows and queries."""

    def __init__(self, name, module, X, y, criterion, lr, **shape):
        self.name, self.criterion = name, criterion
        self.is_regression = criterion is nn.MSELoss
        rows = np.random.default_rng(0).permutation(len(y))[: N_TRAIN + N_QUERY]
        self.X, self.X_query = np.split(X[rows], [N_TRAIN])
        self.y, self.y_query = np.split(y[rows], [N_TRAIN])
        if not self.is_regression:
            self.y, _ = make_noisy_labels(self.y, rate=0.1, random_state=0)
        recorder = TraceRecorder(checkpoints=4)
        net = (NeuralNetRegressor if self.is_regression else NeuralNetClassifier)(
            module,
            **{f"module__{key}": value for key, value in shape.items()},
            criterion=criterion,
            optimizer=torch.optim.SGD,
            lr=lr,
            max_epochs=20,
            batch_size=25,
            train_split=None,
            callbacks=[recorder, LRScheduler(StepLR, step_size=8, gamma=0.3)],
            verbose=0,
        )
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net.fit(self.X, self.y)
        self.net = FrozenEstimator(net)
        self.module = net.module_.eval()
        self.states = [(c.state, float(c.learning_rate[0])) for c in recorder.trace_.checkpoints]

    def loss(self, reduction):
        return self.criterion(reduction=reduction)

    def loader(self, *, queries=False, batch_size=None):
        X, y = (self.X_query, self.y_query) if queries else (self.X, self.y)
        data = TensorDataset(torch.tensor(X), torch.tensor(y))
        return DataLoader(data, batch_size=batch_size or len(y))

    def influence(self, method):
        """Fit one of our methods on the net and give its (n_query, n_train)."""
        return method.fit(self.X, self.y).influence(self.X_query, self.y_query)


def cases():
    X, y = load_digits(return_X_y=True)
    X = X / 16
    yield Case("perceptron", Perceptron, X, y, nn.CrossEntropyLoss, 0.3, n_inputs=64, n_outputs=10)
    yield Case("convolutional", ConvNet, X.reshape(-1, 1, 8, 8), y, nn.CrossEntropyLoss, 0.3)
    X, y = load_diabetes(return_X_y=True)
    y = ((y - y.mean()) / y.std())[:, None]
    X /= X.std(0)
    yield Case("regression", Perceptron, X, y, nn.MSELoss, 0.05, n_inputs=10, n_outputs=1)


# --- ours ----------------------------------------------------------------------------------------
def tracin(case, layers):
    return TracIn(case.net, checkpoints=4, layers=layers)


def ours(case):
    """Every quantity that is compared, by its name."""

    def function(solver, curvature, damping=DAMPING):
        settings = {"solver": solver, "curvature": curvature, "damping": damping}
        method = InfluenceFunction(case.net, reference="self", **settings)
        # ours is of leaving one of n rows out; the peers leave the 1 / n to the reader
        return N_TRAIN * case.influence(method), N_TRAIN * method.detrimentality_

    found = {}
    for layers, what in {"all": "TracIn, all layers", "last": "TracIn, last layer"}.items():
        method = tracin(case, layers)
        found[what], found[f"{what}, self"] = case.influence(method), method.detrimentality_
    cosine = tracin(case, "all").set_params(normalize="gradient", reference="validation")
    cosine.fit(case.X, case.y, X_val=case.X_query, y_val=case.y_query)
    found["TracIn, cosines"] = cosine.influence(case.X_query, case.y_query)
    exact, found["Hessian influence, self"] = function(Exact(), "hessian")
    found["Hessian influence"] = exact
    found["Hessian influence, conjugate gradient"] = function(
        ConjugateGradient(tol=1e-12), "hessian"
    )[0]
    found["DataInf"], found["DataInf, self"] = function(DataInf(), "ggn")
    ekfac = function(EKFAC(n_corrections=0), "ggn")
    found["EK-FAC influence"], found["EK-FAC influence, self"] = ekfac
    products = [(rate, one.numpy()) for rate, one in by_checkpoint(case)]
    found["rates squared"] = sum(rate**2 * one for rate, one in products)
    weight = [case.module.last.weight]
    products = [(rate, one.numpy()) for rate, one in by_checkpoint(case, weight)]
    found["last layer's weights, no bias"] = sum(rate * one for rate, one in products)
    last = TracIn(case.net, checkpoints="last", layers="all")
    rate = case.states[-1][1]
    found["inner products"] = case.influence(last) / rate
    found["inner products, self"] = last.detrimentality_ / rate
    return found


def by_checkpoint(case, parameters=None):
    """Yield rates and inner products of gradients at every checkpoint, by a backward pass a row."""
    parameters = parameters or [*case.module.parameters()]
    for state, rate in case.states:
        case.module.load_state_dict(state)
        rows = [
            [gradient(case, x, y, parameters) for x, y in case.loader(queries=q, batch_size=1)]
            for q in (True, False)
        ]
        yield rate, torch.stack(rows[0]) @ torch.stack(rows[1]).T
    case.module.load_state_dict(case.states[-1][0])


def gradient(case, x, y, parameters):
    loss = case.loss("sum")(case.module(x), y)
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])


def by_backward_passes(case):
    """Yield TracIn again, by a backward pass a row: who is right where two differ."""
    products = sum(rate * one for rate, one in by_checkpoint(case))
    yield "TracIn, all layers", "a backward pass a row", True, products


# --- captum --------------------------------------------------------------------------------------
def captum_tracin(kind, case, loss, **settings):
    from captum import influence

    def load(module, i):
        module.load_state_dict(case.states[i][0])
        return case.states[i][1]

    return getattr(influence, kind)(
        case.module,
        train_dataset=case.loader(),
        checkpoints=range(len(case.states)),
        checkpoints_load_func=load,
        loss_fn=loss,
        **settings,
    )


def by_captum(case):
    """Yield (what, how, whether it claims the same, scores)."""
    from captum.influence import NaiveInfluenceFunction

    query = next(iter(case.loader(queries=True)))
    by_row = {"loss": case.loss("none")}
    batched = {"loss": case.loss("sum"), "sample_wise_grads_per_batch": True}
    if not case.is_regression:  # its loss by rows must be one number a row
        method = captum_tracin("TracInCP", case, **by_row)
        yield "TracIn, all layers", "TracInCP", True, method.influence(query)
        yield "TracIn, all layers, self", "TracInCP", True, method.self_influence()
    method = captum_tracin("TracInCP", case, **batched)
    yield "TracIn, all layers", "TracInCP, by batches", True, method.influence(query)
    yield "TracIn, all layers, self", "TracInCP, by batches", True, method.self_influence()
    train, queries = case.loader(), case.loader(queries=True)
    products = (
        method.compute_intermediate_quantities(queries)
        @ method.compute_intermediate_quantities(train).T
    )
    yield "TracIn, all layers", "TracInCP, product of its embeddings", False, products
    yield "rates squared", "TracInCP, product of its embeddings", True, products
    fast = captum_tracin("TracInCPFast", case, case.loss("sum"), final_fc_layer="last")
    scores = fast.influence(query)
    yield "TracIn, last layer", "TracInCPFast", False, scores
    yield "last layer's weights, no bias", "TracInCPFast", True, scores
    last = captum_tracin("TracInCP", case, layers=["last"], **batched)
    yield "TracIn, last layer", "TracInCP, one layer", True, last.influence(query)
    yield "TracIn, last layer, self", "TracInCP, one layer", True, last.self_influence()
    case.module.requires_grad_(True)  # which it took from the other layers
    naive = NaiveInfluenceFunction(
        case.module,
        case.loader(),
        checkpoint=None,
        checkpoints_load_func=lambda module, _: module.load_state_dict(case.states[-1][0]) and 1.0,
        loss_fn=case.loss("sum"),
        sample_wise_grads_per_batch=True,
        projection_dim=sum(p.numel() for p in case.module.parameters()),
        hessian_reg=DAMPING * N_TRAIN,
        hessian_inverse_tol=0.0,
        show_progress=False,
    )
    # its Hessian is of the sum over the rows
    scores = N_TRAIN * naive.influence(query)
    yield "Hessian influence", "NaiveInfluenceFunction", True, scores
    yield (
        "Hessian influence, self",
        "NaiveInfluenceFunction",
        True,
        (N_TRAIN * naive.self_influence()),
    )


# --- dattri --------------------------------------------------------------------------------------
def by_dattri(case):
    """Yield as `by_captum` does."""
    from dattri import algorithm
    from dattri.task import AttributionTask

    def loss(parameters, data):
        X, y = data
        output = torch.func.functional_call(case.module, parameters, X)
        return case.loss("mean")(output, y)

    def loss_of_one(parameters, data):
        X, y = data
        output = torch.func.functional_call(case.module, parameters, X[None])
        return case.loss("mean")(output, y[None])

    train, queries = case.loader(), case.loader(queries=True)
    rates = torch.tensor([rate for _, rate in case.states])
    task = AttributionTask(loss_of_one, case.module, [state for state, _ in case.states])
    for normalized in (False, True):
        method = algorithm.TracInAttributor(task, rates, normalized_grad=normalized)
        projected = method.attribute(train, queries).T
        method.projector_kwargs = None  # there is no other way to leave the projection out
        scores = method.attribute(train, queries).T
        if normalized:
            yield "TracIn, cosines", "TracInAttributor, normalized", True, scores
            continue
        yield "TracIn, all layers", "TracInAttributor", True, scores
        own = method.self_attribute(train)
        yield "TracIn, all layers, self", "TracInAttributor", True, own
        yield "TracIn, all layers", "TracInAttributor, as it comes: projected", False, projected
    names = ["last.weight", "last.bias"]
    method = algorithm.TracInAttributor(task, rates, normalized_grad=False, layer_name=names)
    method.projector_kwargs = None
    scores = method.attribute(train, queries).T
    yield "TracIn, last layer", "TracInAttributor, layer_name", True, scores
    task = AttributionTask(loss, case.module, case.states[-1][0])
    for kind, settings in {
        "Explicit": {},
        # it keeps what autograd needs of every step, and never stops before the last
        "CG": {"max_iter": 60},
    }.items():
        method = getattr(algorithm, f"IFAttributor{kind}")(task, regularization=DAMPING, **settings)
        method.cache(train)
        title = f"IFAttributor{kind}"
        suffix = "" if kind == "Explicit" else ", conjugate gradient"
        yield f"Hessian influence{suffix}", title, True, method.attribute(train, queries).T
        if kind == "Explicit":
            yield "Hessian influence, self", title, True, method.self_attribute(train)
            halves = case.loader(batch_size=N_TRAIN // 2)
            method.cache(halves)
            scores = method.attribute(halves, queries).T
            yield "Hessian influence", f"{title}, rows in two batches", False, scores
    method = algorithm.IFAttributorCG(task, regularization=DAMPING)
    method.cache(train)
    scores = method.attribute(train, queries).T
    yield "Hessian influence", "IFAttributorCG, as it comes: 10 steps", False, scores
    method = algorithm.IFAttributorDataInf(task, regularization=DAMPING)
    method.cache(train)
    yield "DataInf", "IFAttributorDataInf", True, method.attribute(train, queries).T


# --- kronfluence ---------------------------------------------------------------------------------
def by_kronfluence(case):
    """Yield as `by_captum` does."""
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task

    class OfNet(Task):
        def compute_train_loss(self, batch, model, sample=False):
            X, y = batch
            output = model(X)
            if sample:
                if not case.is_regression:
                    raise ValueError("drawn labels only estimate the Gauss-Newton matrix")
                # The squared error's second derivative is 2. Targets drawn at this distance give
                # it exactly, whatever the sign, where there is one output.
                y = output.detach() + 0.5**0.5
            return case.loss("sum")(output, y)

        def compute_measurement(self, batch, model):
            return self.compute_train_loss(batch, model)

    task = OfNet()
    model = prepare_model(copy.deepcopy(case.module), task)
    data, queries = case.loader().dataset, case.loader(queries=True).dataset
    precise = dict.fromkeys(("per_sample_gradient_dtype", "precondition_dtype"), torch.float64)
    for strategy, what in {"identity": "inner products", "ekfac": "EK-FAC influence"}.items():
        if strategy == "ekfac" and not case.is_regression:
            continue
        with tempfile.TemporaryDirectory() as folder:
            analyzer = Analyzer(
                "agreement", model, task, output_dir=folder, disable_tqdm=True, cpu=True
            )
            factors = FactorArguments(
                strategy=strategy,
                activation_covariance_dtype=torch.float64,
                gradient_covariance_dtype=torch.float64,
                lambda_dtype=torch.float64,
                per_sample_gradient_dtype=torch.float64,
                eigendecomposition_dtype=torch.float64,
            )
            batches = {"per_device_batch_size": N_TRAIN}
            analyzer.fit_all_factors("f", data, factor_args=factors, **batches)
            scores = ScoreArguments(damping_factor=DAMPING, score_dtype=torch.float64, **precise)
            analyzer.compute_pairwise_scores(
                "p",
                "f",
                queries,
                data,
                per_device_query_batch_size=N_QUERY,
                per_device_train_batch_size=N_TRAIN,
                score_args=scores,
            )
            analyzer.compute_self_scores(
                "s", "f", data, per_device_train_batch_size=N_TRAIN, score_args=scores
            )
            yield what, strategy, True, analyzer.load_pairwise_scores("p")["all_modules"]
            yield f"{what}, self", strategy, True, analyzer.load_self_scores("s")["all_modules"]


PEERS = {
    "none": by_backward_passes,
    "captum": by_captum,
    "dattri": by_dattri,
    "kronfluence": by_kronfluence,
}


def compare(case, peers):
    """Give a line for everything a peer computes: differences, and whether it claims the same."""
    found = ours(case)
    lines = []
    # captum and dattri add up in the default dtype, whatever the net's
    torch.set_default_dtype(torch.float64)
    try:
        for peer in peers:
            for what, how, is_same, scores in PEERS[peer](case):
                theirs, expected = scores.detach().numpy(), found[what]
                differences = np.abs(expected - theirs)
                largest = differences.max() / np.abs(theirs).max()
                relative = (differences / np.abs(theirs)).max()
                lines.append((case.name, what, peer, how, is_same, largest, relative))
    finally:
        torch.set_default_dtype(torch.float32)
    return lines


def table(lines):
    print("| net | quantity | peer | how | of the largest score | of the score itself |")
    print("|---|---|---|---|---|---|")
    for name, what, peer, how, _, largest, relative in lines:
        print(f"| {name} | {what} | {peer} | {how} | {largest:.1e} | {relative:.1e} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", nargs="+", default=PEERS, choices=PEERS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    peers = [p for p in options.peers if p == "none" or find_spec(p)]
    packages = ["torch", *(peer for peer in peers if peer != "none")]
    print(", ".join(f"{package} {version(package)}" for package in packages))
    lines = [line for case in cases() for line in compare(case, peers)]
    same = [line for line in lines if line[4]]
    print("\n## The same quantity\n")
    table(same)
    print("\n| peer | lines | largest difference, of the largest score | of the score itself |")
    print("|---|---|---|---|")
    for peer in peers:
        worst = np.array([line[5:] for line in same if line[2] == peer]).max(0)
        number = sum(line[2] == peer for line in same)
        print(f"| {peer} | {number} | {worst[0]:.1e} | {worst[1]:.1e} |")
    print(f"\nAbove {REQUIRED:g} of the largest score:", end=" ")
    print(", ".join(f"{x[0]} {x[1]} {x[2]} {x[3]}" for x in same if x[5] > REQUIRED) or "none")
    print("\n## Something else than the name says, or an approximation\n")
    table([line for line in lines if not line[4]])


if __name__ == "__main__":
    main()
