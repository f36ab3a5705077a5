"""What tells kinds of fault apart: a table of what was tried, and what `explain` says.

    python -m benchmarks.studies.kinds --data DIR

On Roman numerals, AUROC of "wrong label" against "unusable", among all 371 errors of which the kind
is known, and among those of the 372 and the 700 rows that a ranking puts first. Predictions are the
committee's out of sample, and those of a ResNet-18 out of fold that come with the data.

Then the kinds that `explain` names: on Roman numerals, of both kinds of error and of the other rows
among the first 372, and on digits with 10 % of the labels flipped, of the worst rows.
"""

import argparse
from collections import Counter

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from benchmarks.data import add_data_argument, files
from skinfluence import OutlierGradientDetector, estimate_label_errors
from skinfluence.datasets import make_noisy_labels
from skinfluence.display._kinds import N_NEAR, fault_of, stands_alone
from skinfluence.display._nearest import closest_distances, comparable

FIRST = (372, 700)
KINDS = ("wrong label", "rare", "ambiguous", None)


def of_predictions(probabilities, codes):
    """Give what predictions say: each higher for what should be a wrong label."""
    rows = np.arange(len(codes))
    own, others = probabilities[rows, codes], probabilities.copy()
    others[rows, codes] = 0
    logs = np.log(np.clip(probabilities, 1e-12, 1))
    errors = estimate_label_errors(probabilities, codes)
    return {
        "P(likeliest other class)": others.max(1),
        "the same, after the link": errors.p_other,
        "its share of what is left": others.max(1) / np.maximum(1 - own, 1e-12),
        "P(wrong)": errors.p_wrong,
        "negative entropy": (probabilities * logs).sum(1),
    }


def of_inputs(X):
    near = NearestNeighbors(n_neighbors=16).fit(X).kneighbors(X)[0][:, 1:].mean(1)
    pca = PCA(50, random_state=0).fit(X)
    off = np.square(X - pca.inverse_transform(pca.transform(X))).mean(1)
    return {"nearness of the nearest 15": -near, "fit of 50 components": -off, "ink": X.mean(1)}


def kinds_of(method, X, y):
    """Name every row's kind of fault as `explain` does, by one search for all."""
    table = comparable(np.asarray(X))
    closest = closest_distances(table)
    distances, near = NearestNeighbors(n_neighbors=N_NEAR).fit(table).kneighbors()  # but themselves
    codes = np.searchsorted(method.classes_, y)
    found = [
        fault_of(
            method.oof_probabilities_[row],
            method.classes_,
            codes[row],
            y[near[row]],
            stands_alone(distances[row], closest),
            transitions=method.committee_.transitions,
        ).kind
        for row in range(len(y))
    ]
    return np.array(found, dtype=object)


def counted(kinds):
    counts = Counter(kinds.tolist())
    return [counts[kind] for kind in KINDS]


def of_digits(seeds):
    X, y = load_digits(return_X_y=True)
    for seed in seeds:
        y_noisy, is_noisy = make_noisy_labels(y, rate=0.1, random_state=seed)
        method = OutlierGradientDetector(random_state=seed).fit(X, y_noisy)
        kinds, order = kinds_of(method, X, y_noisy), method.ranking_
        flips, right = order[is_noisy[order]], order[~is_noisy[order]]
        for name, rows in (
            ("the ten worst rows", order[:10]),
            ("all flips", flips),
            ("the 20 worst right rows", right[:20]),
            ("the 100 worst right rows", right[:100]),
        ):
            yield [f"digits, seed {seed}", name, is_noisy[rows].sum(), *counted(kinds[rows])]


def of_roman(method, X, codes, is_label, either):
    is_right = np.ones(len(codes), dtype=bool)
    is_right[either] = False
    kinds, first = kinds_of(method, X, codes), method.ranking_[: FIRST[0]]
    for name, rows in (
        ("wrong labels", np.flatnonzero(is_label)),
        ("unusable images", np.setdiff1d(either, np.flatnonzero(is_label))),
        (f"wrong labels of the first {FIRST[0]}", first[is_label[first]]),
        (f"unusable images of the first {FIRST[0]}", first[~is_right[first] & ~is_label[first]]),
        (f"other rows of the first {FIRST[0]}", first[is_right[first]]),
    ):
        yield ["Roman numerals", name, is_label[rows].sum(), *counted(kinds[rows])]


def print_rows(rows):
    for cells in rows:
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_argument(parser)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    stored = files.arrays(options.data, "roman_numerals")
    X = (stored["X"].reshape(len(stored["X"]), -1) / 255).astype(np.float32)
    codes = np.unique(stored["given"], return_inverse=True)[1]
    is_label = stored["action"] == "Fix Data Label"
    either = np.flatnonzero(is_label | (stored["action"] == "Remove Bad Data"))
    method = OutlierGradientDetector(random_state=options.seed).fit(X, codes)
    published = np.clip(stored["resnet18_pred_probs"], 0, 1)
    published = published / published.sum(1, keepdims=True)
    own = published[np.arange(len(codes)), codes]
    rankings = {"committee": method.ranking_, "ResNet-18": np.argsort(own, kind="stable")}
    probabilities = {"committee": method.committee_.out_of_sample, "ResNet-18": published}
    print("| by | what | all errors | " + " | ".join(f"of the first {n}" for n in FIRST) + " |")
    print("|" + "---|" * (3 + len(FIRST)))
    for source, ranking in rankings.items():
        subsets = [either, *(np.intersect1d(ranking[:n], either) for n in FIRST)]
        found = of_predictions(probabilities[source], codes)
        found |= of_inputs(X) if source == "committee" else {}
        for name, values in found.items():
            texts = [f"{roc_auc_score(is_label[rows], values[rows]):.3f}" for rows in subsets]
            print(f"| {source} | {name} | " + " | ".join(texts) + " |", flush=True)
        counts = [f"{is_label[rows].sum()} and {(~is_label[rows]).sum()}" for rows in subsets]
        print(f"| {source} | wrong labels and unusable images | " + " | ".join(counts) + " |")
    print("\n| set | of | wrong labels among them | " + " | ".join(map(str, KINDS)) + " |")
    print("|" + "---|" * (3 + len(KINDS)))
    print_rows(of_roman(method, X, codes, is_label, either))
    print_rows(of_digits(range(options.seed, options.seed + 3)))


if __name__ == "__main__":
    main()
