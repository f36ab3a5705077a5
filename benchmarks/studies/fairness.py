"""Remove the rows most detrimental to a validation objective, retrain, and look at a test set.

Adult (census income), sex as the sensitive attribute, 5 seeds. For each seed the same net is
trained before and after removing 2 % of the training rows, with the same initial weights; random
rows and the rows most detrimental to the validation loss are controls. Objectives see validation
rows only.

    python -m benchmarks.studies.fairness --data DIR     (or SKINFLUENCE_DATA=DIR)

DIR holds adult-train.csv.gz and adult-test.csv.gz.
"""

import argparse
import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

from skinfluence.exceptions import ValidationOverlapWarning
from skinfluence.influence import (
    AdversarialLoss,
    DemographicParity,
    EqualOpportunity,
    InfluenceFunction,
    InnerProductInfluence,
    ValidationLoss,
)

COLUMNS = [
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education-num",
    "marital-status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
    "native-country",
    "income",
]
NUMERIC = ["age", "education-num", "capital-gain", "capital-loss", "hours-per-week"]
SEEDS = range(5)
N_TRAIN, N_VAL = 4000, 8000
SHARE = 0.02
EPS = 0.05


class Perceptron(nn.Sequential):
    """One hidden layer."""

    def __init__(self, n_inputs):
        super().__init__(nn.Linear(n_inputs, 32), nn.ReLU(), nn.Linear(32, 2))


def read(path):
    table = pd.read_csv(path, header=None, names=COLUMNS, skipinitialspace=True)
    table["income"] = table["income"].str.rstrip(".")
    return table


def arrays(folder):
    """Encode both files; returns (X, y, is_male) of the training and of the test file."""
    train, test = read(folder / "adult-train.csv.gz"), read(folder / "adult-test.csv.gz")
    kinds = [name for name in COLUMNS if name not in {*NUMERIC, "fnlwgt", "income"}]
    scaler = StandardScaler().fit(np.log1p(train[NUMERIC]))
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(train[kinds])

    def encode(table):
        X = np.hstack([scaler.transform(np.log1p(table[NUMERIC])), encoder.transform(table[kinds])])
        y = (table["income"] == ">50K").to_numpy().astype(np.int64)
        return X.astype(np.float32), y, (table["sex"] == "Male").to_numpy()

    return encode(train), encode(test)


def trained(X, y, seed):
    torch.manual_seed(seed)
    return NeuralNetClassifier(
        Perceptron,
        module__n_inputs=X.shape[1],
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        batch_size=64,
        max_epochs=60,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    ).fit(X, y)


def attacked(net, X, y):
    X = torch.tensor(X, requires_grad=True)
    nn.functional.cross_entropy(net.module_.eval()(X), torch.tensor(y)).backward()
    return (X + EPS * X.grad.sign()).detach().numpy()


def measures(net, X, y, male):
    chance = net.predict_proba(X)[:, 1]
    decided = chance > 0.5
    clear = np.clip(np.where(y == 1, chance, 1 - chance), 1e-12, None)
    rich = y == 1
    moved = net.predict_proba(attacked(net, X, y))
    hit = np.clip(moved[np.arange(len(y)), y], 1e-12, None)
    return {
        "accuracy": (decided == y).mean(),
        "loss": -np.log(clear).mean(),
        "parity gap": abs(decided[male].mean() - decided[~male].mean()),
        "opportunity gap": abs(decided[male & rich].mean() - decided[~male & rich].mean()),
        "attacked accuracy": (moved.argmax(1) == y).mean(),
        "attacked loss": -np.log(hit).mean(),
    }


def removals(net, X, y, val, seed):
    """Name the rows to remove, by method."""
    budget = int(SHARE * len(X))
    X_val, y_val, male_val = val
    chosen = {"random": np.random.default_rng(seed).permutation(len(X))[:budget]}
    for cls in (InnerProductInfluence, InfluenceFunction):
        for objective in (
            ValidationLoss(),
            DemographicParity(),
            EqualOpportunity(),
            AdversarialLoss(EPS),
        ):
            method = cls(FrozenEstimator(net), objective=objective, batch_size=2048)
            groups = {"sensitive_val": male_val} if objective.needs_groups else {}
            with warnings.catch_warnings():  # Adult holds each tenth row twice or more
                warnings.simplefilter("ignore", ValidationOverlapWarning)
                method.fit(X, y, X_val=X_val, y_val=y_val, **groups)
            short = cls.__name__.removesuffix("Influence").removesuffix("Function")
            chosen[f"{short} {type(objective).__name__}"] = method.ranking_[:budget]
    return chosen


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("SKINFLUENCE_DATA"))
    folder = parser.parse_args().data
    if folder is None:
        parser.error("name the folder of the data: --data DIR or SKINFLUENCE_DATA=DIR")
    (X, y, male), test = arrays(Path(folder))
    found = {}
    for seed in SEEDS:
        order = np.random.default_rng(seed).permutation(len(X))
        rows, held = order[:N_TRAIN], order[N_TRAIN : N_TRAIN + N_VAL]
        before = trained(X[rows], y[rows], seed)
        found.setdefault("none", []).append(measures(before, *test))
        val = (X[held], y[held], male[held])
        for name, removed in removals(before, X[rows], y[rows], val, seed).items():
            kept = np.delete(rows, removed)
            after = trained(X[kept], y[kept], seed)
            found.setdefault(name, []).append(measures(after, *test))
    report(found)


def report(found):
    print(f"Adult: {N_TRAIN} training rows, {N_VAL} validation rows, {SHARE:.0%} removed,")
    print(f"mean of {len(SEEDS)} seeds (standard deviation). FGSM eps {EPS} on encoded inputs.\n")
    names = list(found["none"][0])
    print(f"{'removed by':<32}" + "".join(f"{name:>20}" for name in names))
    for method, runs in found.items():
        cells = [(np.mean([r[n] for r in runs]), np.std([r[n] for r in runs])) for n in names]
        print(f"{method:<32}" + "".join(f"{mean:>12.4f} ({std:.4f})" for mean, std in cells))


if __name__ == "__main__":
    main()
