"""Test accuracy after removing what SGD-influence says is detrimental, by how much is removed.

    python -m benchmarks.studies.sgd_cleaning --data DIR [--seeds 10] [--first-seed 10]

mnist10k, of which a seed draws 5,000 training rows with 20 % pair noise and 5,000 clean ones: 1,000
for the validation loss that influence is of, 1,000 to choose the budget by, 3,000 to test. The net
is the default one by SGD with momentum for 20 epochs, at a learning rate that falls from 0.01 to a
twentieth. It is trained again, from the same initial parameters, without the worst 1 to 70 % by two
forms of SGD-influence (every step at its own parameters; the last epoch at the final ones) and
without as many random rows. The budget is chosen among 1, 5, 10 and 20 % by accuracy on the rows
that are for it; larger ones show where removing hurts. Differences are in points of test accuracy
with 95 % intervals over paired seeds. The settings of the net were chosen on seeds 0 to 2.
"""

import argparse

import numpy as np
from scipy.stats import t
from sklearn.frozen import FrozenEstimator
from skorch.callbacks import LRScheduler
from torch.optim.lr_scheduler import LinearLR

from benchmarks.data import add_data_argument, clean_table
from skinfluence import SGDInfluence, TraceRecorder
from skinfluence.datasets import make_noisy_labels
from skinfluence.nets import sgd_net

BUDGETS = (0.01, 0.05, 0.1, 0.2)
TOO_MANY = (0.3, 0.5, 0.7)
EPOCHS = 20
METHODS = {
    "trajectory, all epochs": {"parameters": "trajectory", "epochs": "all"},
    "final parameters, last epoch": {"parameters": "final", "epochs": "last"},
}
RANDOM = "random rows"


def split(seed, folder):
    X, y = clean_table("mnist10k", folder)
    rows = np.random.default_rng(seed).permutation(len(X))
    parts = np.split(rows, [5000, 6000, 7000])
    X /= 255
    noisy, is_noisy = make_noisy_labels(y[parts[0]], rate=0.2, kind="pair", random_state=seed)
    labels = [noisy, *(y[part] for part in parts[1:])]
    return [(X[part], targets) for part, targets in zip(parts, labels, strict=True)], is_noisy


def make_net(X, y, seed, *callbacks):
    falling = LRScheduler(LinearLR, start_factor=1.0, end_factor=0.05, total_iters=EPOCHS)
    return sgd_net(X, y, random_state=seed).set_params(
        lr=0.01,
        max_epochs=EPOCHS,
        module__center=np.full(
            X.shape[1], 0.13
        ),  # of all pixels, some of which are nearly constant
        module__scale=np.full(X.shape[1], 0.31),
        callbacks=[falling, *callbacks],
    )


def rankings(train, reference, seed):
    """Rank the training rows by each form of influence, through one training."""
    recorder = TraceRecorder(steps="all", max_bytes=2**32)
    net = make_net(*train, seed, recorder).fit(*train)
    found = {
        name: SGDInfluence(FrozenEstimator(net), **settings).fit(*train, *reference).ranking_
        for name, settings in METHODS.items()
    }
    return found | {RANDOM: np.random.default_rng([seed, 1]).permutation(len(train[0]))}


def one_seed(seed, folder):
    """Give accuracy for choosing and for testing, (n_rankings, 1 + n_budgets, 2); recall too."""
    (train, reference, choosing, test), is_noisy = split(seed, folder)
    net = make_net(*train, seed)
    orders = rankings(train, reference, seed)

    def accuracies(removed):
        kept = np.setdiff1d(np.arange(len(is_noisy)), removed)
        net.fit(train[0][kept], train[1][kept])
        return [net.score(*choosing), net.score(*test)]

    none = accuracies(np.empty(0, dtype=int))
    sizes = [round(budget * len(is_noisy)) for budget in BUDGETS + TOO_MANY]
    table = [[none, *(accuracies(order[:size]) for size in sizes)] for order in orders.values()]
    found = [
        [is_noisy[order[:size]].sum() / is_noisy.sum() for size in sizes]
        for order in orders.values()
    ]
    return np.array(table), np.array(found)


def interval(differences):
    points = 100 * np.asarray(differences)
    half = t.ppf(0.975, len(points) - 1) * points.std(ddof=1) / len(points) ** 0.5
    return f"{points.mean():+.2f} ± {half:.2f}"


def report(tables, found):
    names = [*METHODS, RANDOM]
    test, choosing = tables[..., 1], tables[..., 0]
    shares = [f"{budget:.0%}" for budget in BUDGETS + TOO_MANY]
    print(f"Test accuracy with no row removed: {test[:, 0, 0].mean():.4f}, {len(test)} seeds\n")
    print("Points gained over removing none:\n")
    print("| removed by | " + " | ".join(shares) + " |")
    print("|" + "---|" * (1 + len(shares)))
    for i, name in enumerate(names):
        cells = [interval(test[:, i, k] - test[:, i, 0]) for k in range(1, 1 + len(shares))]
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("\nShare of the flipped rows that are among those removed:\n")
    print("| removed by | " + " | ".join(shares) + " |")
    print("|" + "---|" * (1 + len(shares)))
    for i, name in enumerate(names):
        print(f"| {name} | " + " | ".join(f"{v:.1%}" for v in found[:, i].mean(0)) + " |")
    print("\nBudget chosen among the first four by the rows kept for it:\n")
    print("| removed by | budgets chosen | over none | over as many random rows |")
    print("|---|---|---|---|")
    seeds = np.arange(len(test))
    for i, name in enumerate(names[:-1]):
        best = 1 + choosing[:, i, 1 : 1 + len(BUDGETS)].argmax(1)
        chosen = test[seeds, i, best]
        counts = [f"{shares[k - 1]}: {(best == k).sum()}" for k in np.unique(best)]
        over = [interval(chosen - test[:, i, 0]), interval(chosen - test[seeds, -1, best])]
        print(f"| {name} | {', '.join(counts)} | " + " | ".join(over) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_argument(parser)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=10)
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    results = [one_seed(seed, options.data) for seed in seeds]
    report(np.array([table for table, _ in results]), np.array([found for _, found in results]))


if __name__ == "__main__":
    main()
