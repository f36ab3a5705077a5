"""What share of clean new rows a threshold marks that is to mark a tenth.

    python -m benchmarks.studies.monitoring --data DIR --seeds 0 1 2

Half the rows are fitted on, as they are or with 10 % of their labels flipped; the other half, with
labels as they are, stand for those to come. Printed for each set: the mean over seeds of the share
above `threshold_for_new_rows` at rate .1 of the committee, among all rows and among those whose
label is right, and of other methods that judge training rows as new ones; and, for comparison, the
share above the 10 % threshold of the training rows' own scores, where a net judged them in sample
or folds did.
"""

import argparse
import warnings

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.data import add_data_argument
from benchmarks.data.sets import CLEAN, clean_table
from skinfluence import (
    LossScore,
    OutlierGradientDetector,
    SelfConfidence,
    threshold_for_new_rows,
)
from skinfluence.datasets import make_noisy_labels

SETS = CLEAN
NOISE = (0.0, 0.1)
MOST_ROWS = 4000


def judges(seed):
    """Give methods, and what their thresholds are asked for; None for the training rows' own."""
    forest = RandomForestClassifier(random_state=seed)
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    return [
        ("committee", OutlierGradientDetector(random_state=seed), ("all", "right")),
        ("forest, out of bag", SelfConfidence(forest), ("all",)),
        ("forest, cv=5", SelfConfidence(forest, cv=5, random_state=seed), ("all",)),
        ("logistic, out of fold", SelfConfidence(linear, random_state=seed), ("all",)),
        ("one net", OutlierGradientDetector(committee=None, random_state=seed), (None,)),
        ("one net's loss", LossScore(random_state=seed), (None,)),
        ("one net's loss, cv=3", LossScore(cv=3, random_state=seed), (None,)),
    ]


def shares(X, y, noise, seed):
    """Give the share of the clean new rows that each threshold marks."""
    if len(X) > MOST_ROWS:
        X, _, y, _ = train_test_split(X, y, train_size=MOST_ROWS, stratify=y, random_state=seed)
    X, X_new, y, y_new = train_test_split(X, y, test_size=0.5, stratify=y, random_state=seed)
    if noise:
        y, _ = make_noisy_labels(y, rate=noise, random_state=seed)
    found = {}
    for name, method, asked in judges(seed):
        scores = method.fit(X, y).score_detrimentality(X_new, y_new)
        for among in asked:
            if among is None:
                key, threshold = f"{name}, its own rows", np.quantile(method.detrimentality_, 0.9)
            else:
                key = name if among == "all" else f"{name}, among right"
                threshold = threshold_for_new_rows(method, among=among)
            found[key] = (scores > threshold).mean()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    add_data_argument(parser)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sets", nargs="+", default=SETS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for noise in NOISE:
        names = None
        for name in options.sets:
            X, y = clean_table(name, options.data)
            rows = [shares(X, y, noise, seed) for seed in options.seeds]
            if names is None:
                names = list(rows[0])
                print(f"\nwrong labels among the training rows: {noise:.0%}\n")
                print(f"| set | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}")
            means = [f"{np.mean([row[key] for row in rows]):.3f}" for key in names]
            print(f"| {name} | {' | '.join(means)} |", flush=True)


if __name__ == "__main__":
    main()
