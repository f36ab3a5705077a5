"""Processor time of scoring by outlier gradients beside influence by the Hessian, one trained net.

    python -m benchmarks.studies.papers.run_time --data DIR [--repeats 3]

4,000 rows of mnist10k, a tenth of the labels flipped, 200 clean validation rows, perceptron
784-64-64-10 trained once by Adam, one thread. As in the published table the training is not
counted, but what is needed of gradients is. Last layer (650 parameters), and all 55,050 where no
matrix of that size is needed. Medians, and how well each score finds the flips (AUROC).
"""

import argparse
import time
import warnings

import numpy as np
import torch
from pyod.models.iforest import IForest
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score

from benchmarks.data import add_data_argument, clean_table
from skinfluence import (
    InfluenceFunction,
    InnerProductInfluence,
    LossScore,
    NormDetector,
    OutlierGradientDetector,
    RandomScore,
)
from skinfluence.datasets import make_noisy_labels
from skinfluence.influence import EKFAC, ConjugateGradient, DataInf, Exact, LiSSA
from skinfluence.nets import default_net

PAPER = {"checkpoints": "last", "normalize": None, "n_neighbors": None}


def methods(net):
    """Give every method by its name; those of influence take validation rows."""

    def outliers(detector, layers="last"):
        return OutlierGradientDetector(
            net, detector=detector, layers=layers, random_state=0, **PAPER
        )

    def influence(solver, layers="last", curvature="ggn", reference="validation"):
        return InfluenceFunction(
            net,
            solver=solver,
            layers=layers,
            curvature=curvature,
            reference=reference,
            random_state=0,
        )

    return {
        "loss": LossScore(net),
        "outliers, L1 norm": outliers(NormDetector(1)),
        "outliers, L2 norm": outliers(NormDetector(2)),
        "outliers, isolation forest": outliers(IForest()),
        "outliers, L2 norm, all layers": outliers(NormDetector(2), "all"),
        "gradient tracing": InnerProductInfluence(net, layers="last"),
        "gradient tracing, all layers": InnerProductInfluence(net, layers="all"),
        "DataInf": influence(DataInf()),
        "LiSSA": influence(LiSSA()),
        "conjugate gradient": influence(ConjugateGradient()),
        "conjugate gradient, all layers": influence(ConjugateGradient(), "all"),
        "exact Hessian": influence(Exact(), curvature="hessian"),
        "DataInf, self": influence(DataInf(), reference="self"),
        "EK-FAC, self": influence(EKFAC(n_corrections=0), reference="self"),
        "random": RandomScore(random_state=0),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_argument(parser)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    X, y = clean_table("mnist10k", options.data)
    rows = np.random.default_rng(0).permutation(len(y))
    train, validation = rows[:4000], rows[4000:4200]
    X /= 255
    given, is_noisy = make_noisy_labels(y[train], rate=0.1, random_state=0)
    net = default_net(X[train], given, random_state=0)
    start = time.process_time()
    frozen = FrozenEstimator(net.fit(X[train], given.astype(np.int64)))
    training = time.process_time() - start
    found = {}
    for _ in range(options.repeats):
        for name, method in methods(frozen).items():
            judged = (X[validation], y[validation]) if method._needs_validation() else ()
            start = time.process_time()
            scores = method.fit(X[train], given, *judged).detrimentality_
            seconds = time.process_time() - start
            found.setdefault(name, []).append((seconds, roc_auc_score(is_noisy, scores)))
    unit = np.median([seconds for seconds, _ in found["outliers, L2 norm"]])
    print(f"training {training:.1f} s\n\n| score | seconds | times the L2 norm | AUROC |")
    print("|---|---|---|---|")
    for name, runs in found.items():
        seconds, auroc = np.median(runs, axis=0)
        print(f"| {name} | {seconds:.2f} | {seconds / unit:.1f} | {auroc:.3f} |")


if __name__ == "__main__":
    main()
