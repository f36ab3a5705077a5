"""A random forest beside the default: in a union, or as a member of its committee.

    python -m benchmarks.studies.joined_forest --data DIR --seeds 0 1

Printed for satellite and letter with a fifth of the labels turned into one other: AUROC and
average precision of the default, of the forest's self-confidence out of bag, of the union of both
by mean rank and by pooling what they predict, and of the default with the forest as a further
member, out of fold, which gets its weight by how well it predicts labels; and how far each is from
the default, with 95 % intervals over paired seeds.
"""

import argparse

import numpy as np
from scipy.stats import t
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


def half_width(differences):
    """Give half of a 95 % interval of their mean; of one, it is not known."""
    n = len(differences)
    if n < 2:
        return np.nan
    return t.ppf(0.975, n - 1) * differences.std(ddof=1) / n**0.5


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args()
    print("| set | method | AUROC | less the default's | average precision | less the default's |")
    print("|---|---|---|---|---|---|")
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
            values, less = np.array(pairs), np.array(pairs) - found["default"]
            shown = [
                f"{of.mean():.4f} | {off.mean():+.4f} ± {half_width(off):.4f}"
                for of, off in zip(values.T, less.T, strict=True)
            ]
            print(f"| {', '.join(cell)} | {name} | {' | '.join(shown)} |", flush=True)


if __name__ == "__main__":
    main()
