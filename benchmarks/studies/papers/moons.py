"""Half moons: Table 1 of outlier gradient analysis, its detectors and its budgets, with controls.

    python -m benchmarks.studies.papers.moons [--seeds 10] [--width 16]

250 rows, of which 20 labels are flipped, two features, two hidden layers of ReLU. As in the
published code: Adam at 0.001 with weight decay 0.0001, 5,000 steps on all rows at once, one output;
gradients of the last layer at the end of training. The published code has two units a layer
(`--width 2`). A method's worst rows are removed and the net is trained again from the same initial
parameters, all nets of all seeds and methods side by side. Test rows: 1,000 new ones. Label scores
are fed the labels given and, as in the published code, the predicted ones. Influence gets 100 clean
validation rows, and stands in the table once more with its ranking reversed.
"""

import argparse
import warnings

import numpy as np
import torch
from pyod.models.ecod import ECOD
from pyod.models.hbos import HBOS
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from pyod.models.lof import LOF
from pyod.models.ocsvm import OCSVM
from sklearn.datasets import make_moons
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetBinaryClassifier
from torch import nn

from benchmarks.studies.cleaning import interval
from skinfluence import (
    ConfidenceWeightedEntropy,
    InfluenceFunction,
    InnerProductInfluence,
    NormalizedMargin,
    NormDetector,
    OutlierGradientDetector,
    SelfConfidence,
)
from skinfluence.datasets import make_noisy_moons
from skinfluence.influence import DataInf, Exact, LiSSA

N_ROWS, N_FLIPPED = 250, 20
STEPS, RATE, DECAY = 5000, 0.001, 0.0001
BUDGETS = (0.025, 0.05, 0.075, 0.1, 0.125)
TABLE_BUDGET = 0.1
SWEPT = ("L1 norm", "L2 norm", "isolation forest", "self-confidence, given labels", "random")
LABEL_SCORES = {
    "self-confidence": SelfConfidence,
    "normalized margin": NormalizedMargin,
    "confidence-weighted entropy": ConfidenceWeightedEntropy,
}
DETECTORS = {
    "isolation forest": IForest(),
    "L1 norm": NormDetector(1),
    "L2 norm": NormDetector(2),
    "nearest neighbors": KNN(),
    "local outlier factor": LOF(),
    "ECOD": ECOD(),
    "histograms": HBOS(),
    "one-class SVM": OCSVM(),
}


class Mlp(nn.Sequential):
    """Two hidden layers and one logit."""

    def __init__(self, width):
        hidden = [nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
        super().__init__(*hidden, nn.Linear(width, 1))


def split(seed, noise):
    """Draw standardised training, validation and test rows."""
    data = make_noisy_moons(noise=noise, random_state=seed)
    others = make_moons(1100, noise=noise, random_state=1000 + seed)
    scaler = StandardScaler().fit(data.X)
    X, X_other = (scaler.transform(part).astype(np.float32) for part in (data.X, others[0]))
    return (
        X,
        data.y,
        data.is_noisy,
        (X_other[:100], others[1][:100]),
        (X_other[100:], others[1][100:]),
    )


def initial_net(width, seed):
    net = NeuralNetBinaryClassifier(Mlp, module__width=width, train_split=None, verbose=0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net.initialize()
    net.classes_inferred_ = np.arange(2)
    return net


def train(modules, Xs, ys, kept):
    """Train nets side by side, each on its own rows; write the parameters into the modules."""
    stacked = [torch.stack(p).detach() for p in zip(*_all(modules), strict=True)]
    parameters = [p.requires_grad_() for p in stacked]
    X, y, weight = (torch.tensor(np.stack(part), dtype=torch.float32) for part in (Xs, ys, kept))
    weight /= weight.sum(1, keepdim=True)
    # every net has its own loss, and Adam's steps are element by element
    optimizer = torch.optim.Adam(parameters, lr=RATE, weight_decay=DECAY)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(
            _logits(parameters, X), y, reduction="none"
        )
        (loss * weight).sum().backward()
        optimizer.step()
    with torch.no_grad():
        for i, module in enumerate(modules):
            for mine, all_of_them in zip(module.parameters(), parameters, strict=True):
                mine.copy_(all_of_them[i])


def _all(modules):
    return [list(module.parameters()) for module in modules]


def _logits(parameters, X):
    for weight, bias in zip(parameters[::2], parameters[1::2], strict=True):
        if weight is not parameters[0]:
            X = X.relu()
        X = torch.baddbmm(bias[:, None], X, weight.mT)
    return X[..., 0]


def scores_of(net, X, y, is_noisy, validation, seed):
    """Score the rows by every method, higher = removed first."""
    frozen, found = FrozenEstimator(net), {}
    predicted = net.predict(X).astype(int)
    for name, score in LABEL_SCORES.items():
        for fed, labels in {"given": y, "predicted": predicted}.items():
            found[f"{name}, {fed} labels"] = score(frozen).fit(X, labels).detrimentality_
    paper = {"checkpoints": "last", "normalize": None, "n_neighbors": None}
    for name, detector in DETECTORS.items():
        method = OutlierGradientDetector(frozen, detector=detector, random_state=seed, **paper)
        found[name] = method.fit(X, y).detrimentality_
    by_class = OutlierGradientDetector(
        frozen, detector=IForest(), class_conditional=True, random_state=seed, **paper
    )
    found["isolation forest, one a class"] = by_class.fit(X, y).detrimentality_
    # the exact Hessian has negative eigenvalues; the Gauss-Newton matrix has none
    influences = {
        "gradient tracing": InnerProductInfluence(frozen, layers="last"),
        "influence, exact": InfluenceFunction(frozen, solver=Exact(), layers="last"),
        "influence, LiSSA": InfluenceFunction(
            frozen, solver=LiSSA(), layers="last", random_state=seed
        ),
        "influence, DataInf": InfluenceFunction(frozen, solver=DataInf(), layers="last"),
    }
    for name, method in influences.items():
        found[name] = method.fit(X, y, *validation).detrimentality_
        found[f"{name}, reversed"] = -found[name]
    found["committee (our default)"] = (
        OutlierGradientDetector(random_state=seed).fit(X, y).detrimentality_
    )
    found["random"] = np.random.default_rng([seed, 1]).random(len(y))
    found["oracle"] = is_noisy + 0.5 * found["random"]
    return found


def run(seeds, width, noise):
    """Give (hits, test accuracy) by method and budget, for every seed, and accuracies before."""
    problems = [split(seed, noise) for seed in seeds]
    nets = [initial_net(width, seed) for seed in seeds]
    everything = np.ones(N_ROWS)
    train(
        [net.module_ for net in nets],
        [p[0] for p in problems],
        [p[1] for p in problems],
        [everything for _ in problems],
    )
    arms = []
    for seed, problem, net in zip(seeds, problems, nets, strict=True):
        X, y, is_noisy, validation, _ = problem
        for name, scores in scores_of(net, X, y, is_noisy, validation, seed).items():
            for budget in BUDGETS if name in SWEPT else (TABLE_BUDGET,):
                kept = everything.copy()
                kept[np.argsort(-scores, kind="stable")[: round(budget * N_ROWS)]] = 0
                hits = int(is_noisy[kept == 0].sum())
                arms.append((seed, name, budget, kept, hits, initial_net(width, seed)))
        kept = np.where(is_noisy, 0.0, 1.0)
        arms.append((seed, "oracle, no other row", 0.08, kept, N_FLIPPED, initial_net(width, seed)))
    where = dict(zip(seeds, problems, strict=True))
    train(
        [arm[5].module_ for arm in arms],
        [where[arm[0]][0] for arm in arms],
        [where[arm[0]][1] for arm in arms],
        [arm[3] for arm in arms],
    )
    before = [accuracy(net, p[4]) for net, p in zip(nets, problems, strict=True)]
    results = {}
    for seed, name, budget, _, hits, net in arms:
        results.setdefault((name, budget), []).append((hits, accuracy(net, where[seed][4])))
    return np.array(before), {key: np.array(value).T for key, value in results.items()}


def accuracy(net, rows):
    with torch.no_grad():
        logits = net.module_(torch.tensor(rows[0]))[:, 0].numpy()
    return float(np.mean((logits > 0) == rows[1]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--noise", type=float, default=0.1)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    before, results = run(range(options.seeds), options.width, options.noise)
    print(f"width {options.width}, noise {options.noise:g}, {options.seeds} seeds; ", end="")
    print(f"test accuracy on all rows {before.mean():.1%}\n")
    columns = ("hits of 20", "detection accuracy", "test accuracy", "points gained")
    width = f"width {options.width}"  # tells the columns of two runs apart
    print("| removed by | " + " | ".join(f"{column}, {width}" for column in columns) + " |")
    print("|---|---|---|---|---|")
    for (name, budget), (hits, after) in results.items():
        if budget == TABLE_BUDGET or name.startswith("oracle,"):
            removed = budget * N_ROWS
            right = (N_ROWS - N_FLIPPED - removed + 2 * hits.mean()) / N_ROWS
            print(f"| {name} | {hits.mean():.1f} | {right:.1%} | {after.mean():.1%} | ", end="")
            print(f"{interval(after - before)} |")
    print("\nBy budget, points gained over all rows:\n")
    print("| removed by | " + " | ".join(f"{b:.1%}, {width}" for b in BUDGETS) + " |")
    print("|" + "---|" * (1 + len(BUDGETS)))
    for name in SWEPT:
        gains = [interval(results[name, budget][1] - before) for budget in BUDGETS]
        print(f"| {name} | " + " | ".join(gains) + " |")


if __name__ == "__main__":
    main()
