"""What tells wrong labels from unusable images, on Roman numerals: a table of what was tried.

    python -m benchmarks.studies.kinds --data DIR

AUROC of "wrong label" against "unusable", among all 371 errors of which the kind is known, and
among those of the 372 and the 700 rows that a ranking puts first. Predictions are the committee's
out of sample, and those of a ResNet-18 out of fold that come with the data.
"""

import argparse

import numpy as np
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from benchmarks.data import add_data_argument, files
from skinfluence import OutlierGradientDetector, estimate_label_errors

FIRST = (372, 700)


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
            print(f"| {source} | {name} | " + " | ".join(texts) + " |")
        counts = [f"{is_label[rows].sum()} and {(~is_label[rows]).sum()}" for rows in subsets]
        print(f"| {source} | wrong labels and unusable images | " + " | ".join(counts) + " |")


if __name__ == "__main__":
    main()
