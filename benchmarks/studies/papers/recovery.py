"""Share of wrong labels in the first part of a ranking: TracIn, influence functions, CG-score.

    python -m benchmarks.studies.papers.recovery --data DIR [--seeds 3]

3,000 rows of mnist10k, of which a tenth get another label: of the wrong classes the one that a net
trained on the clean labels finds likeliest, as in TracIn's experiment, or any. The default
perceptron by SGD with momentum for 20 epochs at a rate that falls by ten after epoch 14; TracIn
takes 5 checkpoints with their rates, influence functions the last state, the CG-score no net. Means
over seeds, with random and oracle controls.
"""

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from skorch.callbacks import LRScheduler
from torch.optim.lr_scheduler import StepLR

from benchmarks.data import clean_table
from benchmarks.studies.papers import options_of
from skinfluence import (
    ComplexityGap,
    InfluenceFunction,
    LossScore,
    OutlierGradientDetector,
    RandomScore,
    TraceRecorder,
    TracIn,
)
from skinfluence.datasets import make_noisy_labels
from skinfluence.influence import EKFAC, Exact
from skinfluence.nets import default_net, sgd_net

N_ROWS, RATE = 3000, 0.1
PARTS = (0.05, 0.1, 0.2, 0.3)


def flipped(X, y, kind, seed):
    """Flip a tenth of the labels; give them and which."""
    if kind == "any other class":
        return make_noisy_labels(y, rate=RATE, random_state=seed)
    clean = default_net(X, y, random_state=seed).fit(X, y)
    probabilities = clean.predict_proba(X)
    probabilities[np.arange(len(y)), y] = -1
    rows = np.random.default_rng(seed).permutation(len(y))[: round(RATE * len(y))]
    given = y.copy()
    given[rows] = probabilities[rows].argmax(1)
    return given, given != y


def scores_of(X, y, is_noisy, seed):
    recorder = TraceRecorder(checkpoints=5)
    net = sgd_net(X, y, random_state=seed).set_params(
        max_epochs=20,
        callbacks=[recorder, LRScheduler(StepLR, step_size=14, gamma=0.1)],
        module__center=np.full(X.shape[1], 0.13),  # of all pixels: some are nearly constant
        module__scale=np.full(X.shape[1], 0.31),
    )
    net = FrozenEstimator(net.fit(X, y))
    methods = {
        "TracIn, 5 checkpoints, last layer": TracIn(net),
        "TracIn, 5 checkpoints, all layers": TracIn(net, layers="all"),
        "TracIn, last checkpoint, last layer": TracIn(net, checkpoints="last"),
        "influence on itself, exact, last layer": InfluenceFunction(
            net, solver=Exact(), reference="self", layers="last"
        ),
        "influence on itself, EK-FAC, last layer": InfluenceFunction(
            net, solver=EKFAC(n_corrections=0), reference="self", layers="last"
        ),
        "loss at the end": LossScore(net),
        "loss, mean of 5 checkpoints": LossScore(net, checkpoints=5),
        "CG-score": ComplexityGap(random_state=seed),
        "committee (our default)": OutlierGradientDetector(random_state=seed),
        "random": RandomScore(random_state=seed),
    }
    found = {name: method.fit(X, y).detrimentality_ for name, method in methods.items()}
    return found | {"oracle": is_noisy.astype(float)}


def main():
    options = options_of(__doc__, 3)
    X_all, y_all = clean_table("mnist10k", options.data)
    X_all, y_all = X_all / 255, y_all.astype(np.int64)
    for kind in ("likeliest wrong class", "any other class"):
        found = {}
        for seed in range(options.seeds):
            rows = np.random.default_rng(seed).permutation(len(y_all))[:N_ROWS]
            y, is_noisy = flipped(X_all[rows], y_all[rows], kind, seed)
            for name, scores in scores_of(X_all[rows], y, is_noisy, seed).items():
                order = np.argsort(-scores, kind="stable")
                recovered = np.cumsum(is_noisy[order]) / is_noisy.sum()
                shares = [recovered[round(part * len(y)) - 1] for part in PARTS]
                found.setdefault(name, []).append([*shares, roc_auc_score(is_noisy, scores)])
        print(
            f"\n{kind}, {options.seeds} seeds: share of the flips in the first part of the rows\n"
        )
        title = kind.split()[0]  # tells the columns of the two tables apart
        parts = " | ".join(f"first {part:.0%}, {title}" for part in PARTS)
        print(f"| ranking | {parts} | AUROC, {title} |")
        print("|" + "---|" * (2 + len(PARTS)))
        for name, runs in found.items():
            *shares, auroc = np.mean(runs, axis=0)
            print(f"| {name} | " + " | ".join(f"{s:.1%}" for s in shares) + f" | {auroc:.3f} |")


if __name__ == "__main__":
    main()
