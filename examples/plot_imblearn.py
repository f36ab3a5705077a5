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

import matplotlib.pyplot as plt
import numpy as np
from imblearn.over_sampling import SMOTE
from imblearn.pipeline import make_pipeline
from scipy.stats import t
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import train_test_split

from skinfluence import DetrimentalSampleCleaner, OutlierGradientDetector, RandomScore
from skinfluence.datasets import make_noisy_labels

RATE, N_SEEDS = 0.05, 5


def one_seed(seed):
    X, digits = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(
        X / 16, (digits == 8).astype(int), test_size=0.4, stratify=digits, random_state=seed
    )
    y_noisy, is_noisy = make_noisy_labels(y, rate=RATE, random_state=seed)
    methods = {
        "no cleaning": None,
        "random removal": RandomScore(random_state=seed),
        "cleaned": OutlierGradientDetector(random_state=seed),
    }
    scores = {}
    for name, method in methods.items():
        steps = [SMOTE(random_state=seed), LogisticRegression(max_iter=1000)]
        if method is not None:
            steps.insert(0, DetrimentalSampleCleaner(method, contamination=RATE))
        pipeline = make_pipeline(*steps).fit(X, y_noisy)
        scores[name] = average_precision_score(y_test, pipeline.predict_proba(X_test)[:, 1])
    removed = pipeline[0].removed_indices_
    return scores, is_noisy[removed].mean()


seeds, shares_wrong = zip(*(one_seed(seed) for seed in range(N_SEEDS)), strict=True)
print(f"{np.mean(shares_wrong):.0%} of the rows that the cleaner removed had a wrong label")

# %%
# Who gains
# ---------
# Average precision on right labels, one line a seed, and the mean gain with its 95 % interval.

table = {name: np.array([scores[name] for scores in seeds]) for name in seeds[0]}
for other in ("no cleaning", "random removal"):
    gains = table["cleaned"] - table[other]
    half = t.ppf(0.975, N_SEEDS - 1) * gains.std(ddof=1) / np.sqrt(N_SEEDS)
    verdict = "no clear difference" if abs(gains.mean()) <= half else "clear"
    print(f"cleaned against {other}: {gains.mean():+.3f} +- {half:.3f}, {verdict}")

figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
values = np.array(list(table.values()))
axis.plot(values, "o-", color="tab:blue", alpha=0.35)
axis.plot(values.mean(1), "o", color="black", ms=10, label=f"mean of {N_SEEDS} seeds")
axis.set_xticks(range(len(table)), table)
axis.margins(x=0.15)
axis.set_ylabel('average precision, "is it an 8?"')
axis.legend(loc="upper left")
plt.show()
