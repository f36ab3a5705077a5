"""One label a row of several annotators: how often it is right, and whether the weak are known.

    python -m benchmarks.studies.annotators --data DIR
    python -m benchmarks.studies.annotators --data DIR --simulated
    python -m benchmarks.studies.annotators --data DIR --tried

Two sets whose rows were labelled by several people and have a true label besides: music (700 rows
of 10 genres) and LabelMe (1,000 rows of 8 scenes, features of a pretrained net). Printed for votes
(ties at random, the mean of ten draws), Dawid and Skene's method, `AnnotatorConsensus` by labels
alone and with a logistic regression of the inputs, and cleanlab's CROWDLAB by the same logistic
regression out of fold, if cleanlab is installed: the share of right labels; area under the curve
of the rows whose consensus is wrong; correlation of the annotators' estimated quality with the
share of their labels that is right, over all and over those of 10 labels and more; and the share
of the intervals that hold it. Besides, how much of that correlation hangs on single annotators.

With --simulated, the same of simulated crowds, in which few give most of the labels: their mistakes
are independent; some always say the same; some rows are hard for all; mistakes go to the most
similar class; both; those who err on a row mostly err alike. With --tried, other estimates of
quality.
"""

import argparse

import numpy as np
from scipy.optimize import minimize
from scipy.special import betaln, expit, logit, softmax
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.data import add_data_argument
from benchmarks.data.files import arrays
from skinfluence import AnnotatorConsensus, OutlierGradientDetector
from skinfluence.cleaning._dawid_skene import Annotations, dawid_skene, vote_shares

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


def real(name, folder):
    """Give inputs, rows, annotators and labels of one set, and the true labels."""
    stored = arrays(folder, f"{name}_crowd")
    rows, who, labels = stored["answers"].T.astype(int)
    who = np.unique(who, return_inverse=True)[1]
    return stored["X"].reshape(len(stored["X"]), -1), rows, who, labels, stored["gold"].astype(int)


def crowd(kind, seed, *, n_rows=600, n_classes=6, n_annotators=60):
    """Simulate what `real` gives."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(n_classes, size=n_rows)
    centers = 0.9 * rng.normal(size=(n_classes, 20))
    X = centers[truth] + rng.normal(size=(n_rows, 20))
    busy = rng.pareto(0.7, n_annotators) + 0.2
    chosen = [
        rng.choice(n_annotators, number, replace=False, p=busy / busy.sum())
        for number in rng.integers(2, 5, n_rows)
    ]
    rows, who = np.repeat(np.arange(n_rows), [len(each) for each in chosen]), np.concatenate(chosen)
    rates = rng.beta(2, 6, n_annotators)[who]
    if kind in {"hard rows", "hard rows, similar class"}:
        rates = np.minimum(0.9, rates * rng.choice([0.3, 3.0], n_rows, p=[0.7, 0.3])[rows])
    other = (truth[rows] + rng.integers(1, n_classes, len(rows))) % n_classes
    often = rng.random(len(rows))
    if kind in {"similar class", "hard rows, similar class"}:
        nearest = np.square(centers[:, None] - centers).sum(2).argsort(1)[:, 1]
        other = np.where(often < 0.8, nearest[truth[rows]], other)
    if kind == "alike":
        same = (truth + rng.integers(1, n_classes, n_rows)) % n_classes
        other = np.where(often < 0.6, same[rows], other)
    labels = np.where(rng.random(len(rows)) < rates, other, truth[rows])
    if kind == "always the same":
        fixed = np.where(rng.random(n_annotators) < 0.15, rng.integers(n_classes), -1)[who]
        labels = np.where(fixed >= 0, fixed, labels)
    return X, rows, np.unique(who, return_inverse=True)[1], labels, truth


KINDS = (
    "independent",
    "always the same",
    "hard rows",
    "similar class",
    "hard rows, similar class",
    "alike",
)
SEEDS = range(5)


def shares_right(data):
    """Give the share of each annotator's labels that is right, and how many there are."""
    _, rows, who, labels, truth = data
    n_labels = np.bincount(who)
    return np.bincount(who, labels == truth[rows]) / n_labels, n_labels


def correlations(quality, share, n_labels):
    """Correlate estimated quality with the truth: of all, and of those with 10 labels and more."""
    return [
        np.corrcoef(quality[some], share[some])[0, 1] for some in (n_labels > 0, n_labels >= 10)
    ]


def figures(data, find):
    """Measure one method on one crowd."""
    X, rows, who, labels, truth = data
    share, n_labels = shares_right(data)
    found, scores, quality, intervals = find(X, rows, who, labels, truth.max() + 1)
    accuracy = np.mean([(one == truth).mean() for one in found])
    wrong = np.mean([roc_auc_score(one != truth, scores) for one in found])
    hold = np.nan
    if intervals is not None:
        hold = ((intervals[:, 0] <= share) & (share <= intervals[:, 1])).mean()
    return [accuracy, wrong, *correlations(quality, share, n_labels), hold], quality


HEADER = (
    "| method | right | wrong rows | quality | of 10 and more | intervals |\n"
    "|---|---|---|---|---|---|"
)


def line(method, measured):
    """Print a line of a table."""
    accuracy, wrong, every, known, hold = measured
    hold = "" if np.isnan(hold) else f"{hold:.2f}"
    print(f"| {method} | {accuracy:.3f} | {wrong:.3f} | {every:.2f} | {known:.2f} | {hold} |")


def measure(name, data):
    """Print the table of one set, and what single annotators do to the correlation."""
    _, rows, _, _, truth = data
    share, n_labels = shares_right(data)
    print(
        f"\n{name}: {len(truth)} rows, {len(rows)} labels by {len(n_labels)} annotators, "
        f"{(n_labels >= 10).sum()} of them with 10 labels or more; "
        f"{np.average(share, weights=n_labels):.3f} of the labels right\n"
    )
    print(HEADER)
    for method, find in METHODS.items():
        try:
            measured, quality = figures(data, find)
        except ImportError as error:
            print(f"| {method} | {error} | | | | |")
            continue
        line(method, measured)
        if method == "AnnotatorConsensus, logistic":
            told = hangs_on(quality, share, n_labels)
    print(f"\n{told}")


def hangs_on(quality, share, n_labels):
    """Say how the correlation of quality varies with who is there."""
    everyone = np.arange(len(share))
    without = [
        np.corrcoef(np.delete(quality, one), np.delete(share, one))[0, 1] for one in everyone
    ]
    one = int(np.argmax(without))
    rng = np.random.default_rng(0)
    drawn = rng.choice(everyone, (2000, len(everyone)))
    spread = [np.corrcoef(quality[some], share[some])[0, 1] for some in drawn]
    low, high = np.quantile(spread, [0.05, 0.95])
    return (
        f"AnnotatorConsensus, logistic: annotators drawn with replacement give a correlation of "
        f"{low:.2f} to {high:.2f} (90 %); without the one that lowers it most ({n_labels[one]} "
        f"labels, {share[one]:.2f} of them right, estimated {quality[one]:.2f}) it is "
        f"{without[one]:.2f}."
    )


def simulate():
    """Print a table for each kind of crowd, the mean of five."""
    for kind in KINDS:
        crowds = [crowd(kind, seed) for seed in SEEDS]
        print(f"\n{kind}\n\n{HEADER}")
        for method, find in METHODS.items():
            if "cleanlab" not in method:
                line(method, np.mean([figures(data, find)[0] for data in crowds], axis=0))


# What was tried for the quality of annotators, and is not in the package.


def rounds(data, predict, *, share=1.0):
    """Go on from the labels alone, two times, with what a model says of rows out of sample."""
    X, rows, who, labels, truth = data
    given = Annotations(rows, who, labels, (len(X), who.max() + 1, truth.max() + 1))
    found = dawid_skene(given, vote_shares(given), pooling=3.0)
    for _ in range(2):
        said = predict(X, found.probabilities)
        prior = 0.99 * said + 0.01 / said.shape[1]
        found = dawid_skene(given, found.probabilities, pooling=3.0, prior=prior**share)
    return given, found


def by_logistic(X, probabilities):
    """Predict rows by the model of the study, out of fold."""
    said = np.zeros_like(probabilities)
    for train, held in KFold(5, shuffle=True, random_state=0).split(X):
        model = clone(MODEL).fit(X[train], probabilities[train].argmax(1))
        said[np.ix_(held, model.classes_)] = model.predict_proba(X[held])
    return said


def by_soft_logistic(X, probabilities):
    """Do so with every row as likely of each class as it is believed to be."""
    said = np.zeros_like(probabilities)
    for train, held in KFold(5, shuffle=True, random_state=0).split(X):
        row, code = np.nonzero(probabilities[train] > 0.01)
        weights = probabilities[train][row, code]
        model = clone(MODEL).fit(X[train][row], code, logisticregression__sample_weight=weights)
        said[np.ix_(held, model.classes_)] = model.predict_proba(X[held])
    return said


def by_committee(X, probabilities):
    """Predict rows by the default committee of `OutlierGradientDetector`, out of sample."""
    method = OutlierGradientDetector(random_state=0).fit(X, probabilities.argmax(1))
    said = np.zeros_like(probabilities)
    said[:, method.classes_] = method.oof_probabilities_
    return said


def others_say(given, found):
    """Give how likely each label is right by what all but its annotator say."""
    others = np.log(np.maximum(found.probabilities[given.rows], 1e-300))
    others -= np.log(found.confusions[given.annotators, :, given.labels])
    return softmax(others, axis=1)[np.arange(len(given.rows)), given.labels]


def shrunk(right, n_labels):
    """Draw shares to that of all, as far as a beta distribution of abilities says."""

    def loss(parameters):
        mean, size = expit(parameters[0]), np.exp(parameters[1])
        a, b = mean * size, (1 - mean) * size
        return -(betaln(right + a, n_labels - right + b) - betaln(a, b)).sum()

    start = [logit(right.sum() / n_labels.sum()), 2.0]
    found = minimize(loss, start, method="Nelder-Mead").x
    size = min(np.exp(found[1]), 1e6)
    return (right + size * expit(found[0])) / (n_labels + size)


def try_others(data):
    """Print the correlation of quality by other estimates."""
    _, rows, who, _, truth = data
    share, n_labels = shares_right(data)

    def told(what, quality, found):
        every, known = correlations(quality, share, n_labels)
        accuracy = (found.probabilities.argmax(1) == truth).mean()
        print(f"| {what} | {accuracy:.3f} | {every:.2f} | {known:.2f} |")

    print("\n| estimate | right | quality | of 10 and more |\n|---|---|---|---|")
    tried = {
        "logistic": (by_logistic, 1.0),
        "logistic, its say halved": (by_logistic, 0.5),
        "logistic, trained on probabilities": (by_soft_logistic, 1.0),
        "the default committee": (by_committee, 1.0),
    }
    for what, (predict, part) in tried.items():
        given, found = rounds(data, predict, share=part)
        right = np.bincount(who, found.probabilities[rows, given.labels])
        told(what, right / n_labels, found)
        if what == "logistic":
            left_out = np.bincount(who, others_say(given, found))
            told("by the others' labels and the model alone", left_out / n_labels, found)
            told("drawn to the mean of all (beta-binomial)", shrunk(right, n_labels), found)
    truly = np.eye(truth.max() + 1)[truth]
    given, found = rounds(data, lambda X, _: by_logistic(X, truly))
    right = np.bincount(who, found.probabilities[rows, given.labels])
    told("logistic, trained on the true labels", right / n_labels, found)


def main():
    """Print what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_argument(parser)
    parser.add_argument("--simulated", action="store_true", help="simulated crowds")
    parser.add_argument("--tried", action="store_true", help="other estimates of quality")
    arguments = parser.parse_args()
    if arguments.simulated:
        simulate()
        return
    for name in SETS:
        data = real(name, arguments.data)
        if arguments.tried:
            print(f"\n{name}")
            try_others(data)
        else:
            measure(name, data)
    if arguments.tried:
        for kind in ("independent", "hard rows, similar class"):
            print(f"\nsimulated, {kind}")
            try_others(crowd(kind, 0))


if __name__ == "__main__":
    main()
