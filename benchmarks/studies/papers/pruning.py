"""Accuracy after leaving out rows with a low CG-score, beside random rows and high scores.

    python -m benchmarks.studies.papers.pruning --data DIR [--seeds 3]

2,000 clean rows of mnist10k, the default perceptron trained again from the same initial parameters
on what is kept, 4,000 test rows. Differences from all rows in points of accuracy, with 95 %
intervals over paired seeds.
"""

import numpy as np
from sklearn.base import clone

from benchmarks.data import clean_table
from benchmarks.studies.cleaning import interval
from benchmarks.studies.papers import options_of
from skinfluence import ComplexityGap
from skinfluence.nets import default_net

N_TRAIN, N_TEST = 2000, 4000
SHARES = (0.2, 0.4, 0.6, 0.8)


def one_seed(X, y, seed):
    """Give the accuracy on all rows, and {arm: accuracies by share left out}."""
    rows = np.random.default_rng(seed).permutation(len(y))
    train, test = rows[:N_TRAIN], rows[N_TRAIN : N_TRAIN + N_TEST]
    net = default_net(X[train], y[train], random_state=seed)
    gap = ComplexityGap(random_state=seed).fit(X[train], y[train]).detrimentality_
    orders = {
        "lowest CG-score": gap,
        "highest CG-score": -gap,
        "random": np.random.default_rng([seed, 1]).random(N_TRAIN),
    }

    def accuracy(kept):
        return clone(net).fit(X[train[kept]], y[train[kept]]).score(X[test], y[test])

    return accuracy(np.arange(N_TRAIN)), {
        name: [accuracy(np.sort(np.argsort(s)[round(share * N_TRAIN) :])) for share in SHARES]
        for name, s in orders.items()
    }


def main():
    options = options_of(__doc__, 3)
    X, y = clean_table("mnist10k", options.data)
    runs = [one_seed(X / 255, y.astype(np.int64), seed) for seed in range(options.seeds)]
    before = np.array([run[0] for run in runs])
    print(f"{options.seeds} seeds; test accuracy on all rows {before.mean():.1%}\n")
    print("| left out | " + " | ".join(f"{share:.0%}" for share in SHARES) + " |")
    print("|" + "---|" * (1 + len(SHARES)))
    for name in runs[0][1]:
        after = np.array([run[1][name] for run in runs])
        gains = [interval(after[:, k] - before) for k in range(len(SHARES))]
        print(f"| {name} | " + " | ".join(gains) + " |")


if __name__ == "__main__":
    main()
