"""One label a row of several annotators: how often it is right, and whether the weak are known.

    python -m benchmarks.studies.annotators --data DIR

Two sets whose rows were labelled by several people and have a true label besides: music (700 rows
of 10 genres) and LabelMe (1,000 rows of 8 scenes, features of a pretrained net). Printed for votes
(ties at random, the mean of ten draws), Dawid and Skene's method, `AnnotatorConsensus` by labels
alone and with a logistic regression of the inputs, and cleanlab's CROWDLAB by the same logistic
regression out of fold, if cleanlab is installed: the share of right labels; area under the curve
of the rows whose consensus is wrong; correlation of the annotators' estimated quality with the
share of their labels that is right, over all and over those of 10 labels and more; and the share
of the intervals that hold it.
"""

import argparse

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.data import add_data_argument
from benchmarks.data.files import arrays
from skinfluence import AnnotatorConsensus

SETS = ("music", "labelme")
MODEL = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))


def by_votes(X, rows, who, labels, n_classes):
    """Give the mean over draws of what ties become; quality is agreement with the votes."""
    votes = np.zeros((len(X), n_classes))
    np.add.at(votes, (rows, labels), 1)
    rng = np.random.default_rng(0)
    draws = [(votes + rng.random(votes.shape) / 2).argmax(1) for _ in range(10)]
    agrees = np.mean([draw[rows] == labels for draw in draws], axis=0)
    quality = np.bincount(who, agrees) / np.bincount(who)
    return draws, 1 - votes.max(1) / votes.sum(1), quality, None


def by_consensus(estimator, pooling):
    def find(X, rows, who, labels, n_classes):
        method = AnnotatorConsensus(estimator, pooling=pooling, random_state=0)
        method.fit(X, labels, rows=rows, annotators=who)
        found = method.classes_[method.probabilities_.argmax(1)]
        return [found], method.detrimentality_, method.quality_, method.quality_interval_

    return find


def by_crowdlab(X, rows, who, labels, n_classes):
    from cleanlab.multiannotator import get_label_quality_multiannotator, get_majority_vote_label

    matrix = np.full((len(X), who.max() + 1), np.nan)
    matrix[rows, who] = labels
    majority = get_majority_vote_label(matrix)
    predicted = cross_val_predict(MODEL, X, majority, cv=5, method="predict_proba")
    found = get_label_quality_multiannotator(matrix, predicted, verbose=False)
    of_rows = found["label_quality"]
    quality = found["annotator_stats"]["annotator_quality"].sort_index().to_numpy()
    consensus = of_rows["consensus_label"].to_numpy()
    return [consensus], 1 - of_rows["consensus_quality_score"].to_numpy(), quality, None


METHODS = {
    "votes": by_votes,
    "Dawid and Skene": by_consensus(None, 0),
    "AnnotatorConsensus": by_consensus(None, 3.0),
    "AnnotatorConsensus, logistic": by_consensus(MODEL, 3.0),
    "CROWDLAB, logistic (cleanlab)": by_crowdlab,
}


def measure(name, folder):
    stored = arrays(folder, f"{name}_crowd")
    X = stored["X"].reshape(len(stored["X"]), -1)
    rows, who, labels = stored["answers"].T
    who, truth = np.unique(who, return_inverse=True)[1], stored["gold"]
    right = labels == truth[rows]
    n_labels = np.bincount(who)
    share, many = np.bincount(who, right) / n_labels, n_labels >= 10
    print(
        f"\n{name}: {len(truth)} rows, {len(rows)} labels by {len(n_labels)} annotators, "
        f"{many.sum()} of them with 10 labels or more; {right.mean():.3f} of the labels right\n"
    )
    print("| method | right | wrong rows | quality | of 10 and more | intervals |")
    print("|---|---|---|---|---|---|")
    for method, find in METHODS.items():
        try:
            found, scores, quality, intervals = find(X, rows, who, labels, truth.max() + 1)
        except ImportError as error:
            print(f"| {method} | {error} | | | | |")
            continue
        accuracy = np.mean([(one == truth).mean() for one in found])
        wrong = np.mean([roc_auc_score(one != truth, scores) for one in found])
        every, known = (
            np.corrcoef(quality[some], share[some])[0, 1] for some in (n_labels > 0, many)
        )
        hold = ""
        if intervals is not None:
            hold = f"{((intervals[:, 0] <= share) & (share <= intervals[:, 1])).mean():.2f}"
        print(f"| {method} | {accuracy:.3f} | {wrong:.3f} | {every:.2f} | {known:.2f} | {hold} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_argument(parser)
    arguments = parser.parse_args()
    for set_name in SETS:
        measure(set_name, arguments.data)
