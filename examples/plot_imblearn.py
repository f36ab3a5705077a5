"""
Cleaning before over-sampling
=============================

One digit in ten is an 8, and one label in twenty is wrong. Over-sampling the rare class copies
its wrong labels too: most rows labelled "8" by mistake are other digits, and each is now counted
nine times. `DetrimentalSampleCleaner` is a sampler like those of imbalanced-learn, so it goes in
front of them in an ``imblearn.pipeline.Pipeline``, and does nothing when predicting.
"""

# %%
# Three pipelines that differ in their first step
# -----------------------------------------------
# No cleaning; the 5 % of the rows that the gradients find worst removed; and, as control, 5 % of
# the rows removed at random. Data, noise and everything random have the same seed within a row.

import numpy as np
from imblearn.over_sampling import SMOTE
from imblearn.pipeline import make_pipeline
from scipy.stats import t
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, balanced_accuracy_score
from sklearn.model_selection import train_test_split

from skinfluence import DetrimentalSampleCleaner, OutlierGradientDetector, RandomScore
from skinfluence.datasets import make_noisy_labels

RATE, N_SEEDS = 0.05, 5
METRICS = ["average precision", "balanced accuracy"]


def scores_of(pipeline, X_test, y_test):
    precision = average_precision_score(y_test, pipeline.predict_proba(X_test)[:, 1])
    return precision, balanced_accuracy_score(y_test, pipeline.predict(X_test))


def one_seed(seed):
    X, digits = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(
        X / 16, (digits == 8).astype(int), test_size=0.4, stratify=digits, random_state=seed
    )
    y_noisy, is_noisy = make_noisy_labels(y, rate=RATE, random_state=seed)
    methods = {
        "no cleaning": None,
        "cleaned": OutlierGradientDetector(random_state=seed),
        "random removal": RandomScore(random_state=seed),
    }
    scores = {}
    for name, method in methods.items():
        steps = [SMOTE(random_state=seed), LogisticRegression(max_iter=1000)]
        if method is not None:
            steps.insert(0, DetrimentalSampleCleaner(method, contamination=RATE))
        pipeline = make_pipeline(*steps).fit(X, y_noisy)
        scores[name] = scores_of(pipeline, X_test, y_test)
        if name == "cleaned":
            removed = pipeline[0].removed_indices_
    wrong = is_noisy[removed].sum()
    print(f"seed {seed}: {wrong} of the {len(removed)} rows removed had a wrong label,", end=" ")
    print(f"{(y[removed][~is_noisy[removed]] == 1).sum()} were true eights")
    return scores


def main():
    seeds = [one_seed(seed) for seed in range(N_SEEDS)]
    table = {name: np.array([scores[name] for scores in seeds]) for name in seeds[0]}
    print(f"\n{'':<16}" + "".join(f"{metric:>20}" for metric in METRICS))
    for name, values in table.items():
        print(f"{name:<16}" + "".join(f"{value:>20.3f}" for value in values.mean(0)))
    for other in ("no cleaning", "random removal"):
        gains = table["cleaned"] - table[other]
        half = t.ppf(0.975, N_SEEDS - 1) * gains.std(0, ddof=1) / np.sqrt(N_SEEDS)
        for metric, gain, width in zip(METRICS, gains.mean(0), half, strict=True):
            verdict = "no clear difference" if abs(gain) <= width else "clear"
            print(f"cleaned against {other}, {metric}: {gain:+.3f} +- {width:.3f}, {verdict}")


if __name__ == "__main__":
    main()
