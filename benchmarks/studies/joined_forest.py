"""A random forest beside the default: in a union, or as a member of its committee.

    python -m benchmarks.studies.joined_forest --data DIR --seeds 0 1

Printed for satellite and letter with a fifth of the labels turned into one other: AUROC and
average precision of the default, of the forest's self-confidence out of bag, of the union of both
by mean rank and by pooling what they predict, and of the default with the forest as a further
member, out of fold, which gets its weight by how well it predicts labels.
"""

import argparse

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.data import add_data_argument, load
from skinfluence import DetrimentalityUnion, OutlierGradientDetector, SelfConfidence
from skinfluence.outlier.committee._committee import ALWAYS

CELLS = (("satellite", "pair 20 %"), ("letter", "pair 20 %"))


def methods(seed):
    default = OutlierGradientDetector(random_state=seed)
    forest = RandomForestClassifier(random_state=seed)
    alone = SelfConfidence(forest)
    both = [("default", default), ("forest", alone)]
    members = [*ALWAYS, ("further forest", forest)]
    return {
        "default": default,
        "forest": alone,
        "union, mean rank": DetrimentalityUnion(both),
        "union, pooled": DetrimentalityUnion(both, aggregate="pooled"),
        "forest in the committee": OutlierGradientDetector(committee=members, random_state=seed),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args()
    print("| set | method | AUROC | average precision |\n|---|---|---|---|")
    for cell in CELLS:
        found = {}
        for seed in options.seeds:
            problem = load(*cell, seed, options.data)
            is_error = problem.is_error[problem.scored]
            for name, method in methods(seed).items():
                scores = method.fit(problem.X, problem.y).detrimentality_[problem.scored]
                pair = roc_auc_score(is_error, scores), average_precision_score(is_error, scores)
                found.setdefault(name, []).append(pair)
        for name, pairs in found.items():
            auroc, precision = np.mean(pairs, axis=0)
            print(f"| {', '.join(cell)} | {name} | {auroc:.3f} | {precision:.3f} |", flush=True)


if __name__ == "__main__":
    main()
