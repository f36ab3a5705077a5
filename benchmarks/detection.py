"""Which score finds planted label noise, and what it costs: the choice of the defaults.

    python benchmarks/detection.py --data DIR --seeds 5 6 7 8 9 [--store FILE]

Digits, letter, satellite and mnist10k (at most 4,000 rows each) under four kinds of noise. All
scores of a cell read one training: the default net, 40 epochs, a checkpoint every fourth; only
the score by folds trains nets of its own. Paired seeds: every score sees the same rows, flips and
net. Defaults were chosen on seeds 0-2 and are reported on seeds 5-9. Results are stored cell by
cell, and a run goes on where another stopped.
"""

import argparse
import json
import platform
import time
import warnings
from pathlib import Path

import numpy as np
import sklearn
import torch
from labelled_data import DATASETS, NOISES, add_data_argument, noisy_sample
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinfluence import (
    EL2N,
    AreaUnderMargin,
    ComplexityGap,
    ConfidenceWeightedEntropy,
    ForgettingEvents,
    LossScore,
    NormalizedMargin,
    NormDetector,
    OutlierGradientDetector,
    RandomScore,
    SelfConfidence,
    TraceRecorder,
    TracIn,
)
from skinfluence.nets import default_net

EPOCHS = 40
DEFAULT = "default: mean gradient and neighbor contrast, L2 norm"
PAPER = {"checkpoints": "last", "normalize": None, "n_neighbors": None}
PLAIN = {"n_neighbors": None}  # the trajectory without the neighbors
OUT_OF_FOLD = "self-confidence, out of 5 folds"


def methods(net, seed):
    """All methods that read the one training."""

    def gradients(detector=None, **settings):
        return OutlierGradientDetector(net, detector=detector, random_state=seed, **settings)

    def components():
        return make_pipeline(PCA(32, random_state=seed), KNN())

    return {
        DEFAULT: gradients(),
        "the same, isolation forest": gradients(IForest()),
        "the same, KNN in 32 components": gradients(components()),
        "the same, all layers": gradients(layers="all"),
        "mean gradient, L2 norm": gradients(**PLAIN),
        "mean gradient, isolation forest": gradients(IForest(), **PLAIN),
        "mean gradient, isolation forest a class": gradients(
            IForest(), class_conditional=True, **PLAIN
        ),
        "mean gradient, KNN in 32 components": gradients(components(), **PLAIN),
        "mean gradient of all layers, L2 norm": gradients(layers="all", **PLAIN),
        "mean gradient as it is, L2 norm": gradients(normalize=None, n_neighbors=None),
        "last gradient and neighbor contrast": gradients(checkpoints="last"),
        "isolation forest, last (the paper's)": gradients(IForest(), **PAPER),
        "L1 norm, last (the paper's)": gradients(NormDetector(1), **PAPER),
        "L2 norm, last (the paper's)": gradients(NormDetector(2), **PAPER),
        "TracIn self-influence": TracIn(net, checkpoints=10),
        "mean loss": LossScore(net, checkpoints=10),
        "loss, last": LossScore(net),
        "mean EL2N": EL2N(net, checkpoints=10),
        "EL2N, last": EL2N(net),
        "mean self-confidence": SelfConfidence(net, checkpoints=10),
        "self-confidence, last": SelfConfidence(net),
        "mean normalized margin": NormalizedMargin(net, checkpoints=10),
        "confidence-weighted entropy, last": ConfidenceWeightedEntropy(net),
        "area under the margin": AreaUnderMargin(net),
        "forgetting events": ForgettingEvents(net),
        "random": RandomScore(random_state=seed),
    }


def neighbor_disagreement(X, y):
    scaled = StandardScaler().fit_transform(X)
    near = KNeighborsClassifier(10).fit(scaled, y).kneighbors(return_distance=False)
    return (y[near] != y[:, None]).mean(1)


def evaluate(name, noise, seed, folder):
    """Score one cell; give AUROC, average precision and seconds of every score."""
    X, y, is_noisy = noisy_sample(name, noise, seed, folder)
    results = {}

    def note(label, scores, seconds):
        results[label] = (
            roc_auc_score(is_noisy, scores),
            average_precision_score(is_noisy, scores),
            seconds,
        )

    # the default trains the net that the others read; seconds are processor time
    recorder = TraceRecorder(checkpoints=10, logits=True)
    net = default_net(X, y, random_state=seed).set_params(max_epochs=EPOCHS)
    recorded = sklearn.clone(net).set_params(callbacks=[recorder])
    start = time.process_time()
    trained = OutlierGradientDetector(recorded, random_state=seed).fit(X, y).net_
    total = time.process_time() - start
    training = 0.0
    for label, method in methods(FrozenEstimator(trained), seed).items():
        start = time.process_time()
        scores = method.fit(X, y).detrimentality_
        seconds = time.process_time() - start
        if label == DEFAULT:
            training = total - seconds
        note(label, scores, training + seconds)
    note("label disagreement of 10 neighbors", neighbor_disagreement(X, y), np.nan)
    for label, method in {
        OUT_OF_FOLD: SelfConfidence(net, cv=5, random_state=seed),
        "ComplexityGap (CG-score)": ComplexityGap(),
    }.items():
        start = time.process_time()
        scores = method.fit(X, y).detrimentality_
        note(label, scores, time.process_time() - start)
    return results


def table(results, seeds):
    cells = [(name, noise) for name in DATASETS for noise in NOISES]
    labels = list(next(iter(results.values())))

    def mean(label, cell, column):
        return np.mean([results[_key(*cell, seed)][label][column] for seed in seeds])

    lines = [
        f"AUROC of planted flips, mean of seeds {seeds[0]}-{seeds[-1]}; in brackets the mean "
        "average precision; seconds of one core with training, and as a share of the out-of-fold's",
        "",
        "| score | macro | " + " | ".join(f"{n}, {noise}" for n, noise in cells) + " | s | share |",
        "|---" * (len(cells) + 4) + "|",
    ]
    macro = {label: np.mean([mean(label, cell, 0) for cell in cells]) for label in labels}
    seconds = {label: np.mean([mean(label, cell, 2) for cell in cells]) for label in labels}
    for label in sorted(labels, key=lambda label: -macro[label]):
        precision = np.mean([mean(label, cell, 1) for cell in cells])
        values = " | ".join(f"{mean(label, cell, 0):.3f}" for cell in cells)
        share = seconds[label] / seconds[OUT_OF_FOLD]
        lines.append(
            f"| {label} | {macro[label]:.4f} ({precision:.3f}) | {values} | "
            f"{seconds[label]:.1f} | {share:.2f} |"
        )
    lines += ["", *verdicts(macro, seconds, lambda label, cell: mean(label, cell, 0), cells)]
    return "\n".join(lines)


def verdicts(macro, seconds, auroc, cells):
    best = max(("mean loss", "mean EL2N", "area under the margin"), key=macro.get)
    worst = min(cells, key=lambda cell: auroc(DEFAULT, cell) - auroc("mean loss", cell))
    yield f"default - best of mean loss, mean EL2N, area under the margin ({best}): " + (
        f"{macro[DEFAULT] - macro[best]:+.4f}"
    )
    yield f"default - mean loss in its worst cell {worst}: " + (
        f"{auroc(DEFAULT, worst) - auroc('mean loss', worst):+.4f}"
    )
    for label in (
        "loss, last",
        "L2 norm, last (the paper's)",
        "isolation forest, last (the paper's)",
        OUT_OF_FOLD,
    ):
        yield f"default - {label}: {macro[DEFAULT] - macro[label]:+.4f}"
    yield f"seconds, default / {OUT_OF_FOLD}: {seconds[DEFAULT] / seconds[OUT_OF_FOLD]:.2f}"


def warm_up():
    """Pay for imports and first calls before anything is timed."""
    X, y, _ = noisy_sample("digits", "symmetric 10 %", 0, None, n_rows=200)
    for method in (OutlierGradientDetector(random_state=0), SelfConfidence(random_state=0, cv=2)):
        method.fit(X, y)


def _key(name, noise, seed):
    return f"{name}/{noise}/{seed}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_argument(parser)
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 6, 7, 8, 9])
    parser.add_argument("--store", type=Path, default=Path("output/detection.json"))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warm_up()
    warnings.filterwarnings("ignore", category=UserWarning, module="pyod")
    results = json.loads(arguments.store.read_text()) if arguments.store.exists() else {}
    arguments.store.parent.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        for name in DATASETS:
            for noise in NOISES:
                key = _key(name, noise, seed)
                if key not in results:
                    results[key] = evaluate(name, noise, seed, arguments.data)
                    arguments.store.write_text(json.dumps(results))
    versions = f"torch {torch.__version__}, scikit-learn {sklearn.__version__}"
    print(f"Python {platform.python_version()}, {versions}, {arguments.threads} thread(s)\n")
    print(table(results, arguments.seeds))


if __name__ == "__main__":
    main()
