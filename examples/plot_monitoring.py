"""
New batches of labelled rows: which are worse than the old ones
===============================================================

A method is fitted on rows whose labels are a tenth wrong. From then on batches of labelled rows
arrive, and at some point somebody starts to label carelessly. The threshold is set so that a tenth
of rightly labelled rows is above it: a batch of which more is marked has more wrong labels, and
the rows that are marked are those to look at. See :doc:`/monitoring`.
"""

# %%
# A method, and its threshold for new rows
# ----------------------------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skinfluence import OutlierGradientDetector, score_detrimentality, threshold_for_new_rows
from skinfluence.datasets import make_noisy_labels

RATE, N_BATCHES = 0.1, 8
X, y = load_digits(return_X_y=True)
X, X_new, y, y_new = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)
y_noisy, _ = make_noisy_labels(y, rate=0.1, random_state=0)
method = OutlierGradientDetector(random_state=0).fit(X, y_noisy)
threshold = threshold_for_new_rows(method, rate=RATE, among="right")

# %%
# Batches, the last three labelled carelessly
# -------------------------------------------
# Every threshold from the training rows' own scores would be one of rows that the models know.

wrong_shares = [0.0] * 5 + [0.1, 0.2, 0.3]
batches = np.array_split(np.random.default_rng(0).permutation(len(X_new)), N_BATCHES)
marked, found = [], []
for rows, share in zip(batches, wrong_shares, strict=True):
    given, is_wrong = y_new[rows], np.zeros(len(rows), dtype=bool)
    if share:
        given, is_wrong = make_noisy_labels(given, rate=share, random_state=1)
    above = score_detrimentality(method, X_new[rows], given) > threshold
    marked.append(above.mean())
    found.append(above[is_wrong].mean() if share else np.nan)

print(f"right labels, {RATE:.0%} asked for: {np.mean(marked[:5]):.1%} marked")
for share, part, hit in zip(wrong_shares[5:], marked[5:], found[5:], strict=True):
    print(f"{share:.0%} wrong labels: {part:.0%} marked, with {hit:.0%} of the wrong ones")

# %%
# What is marked, batch by batch
# ------------------------------

size = len(batches[0])
spread = 2 * np.sqrt(RATE * (1 - RATE) / size)
figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
numbers = np.arange(1, N_BATCHES + 1)
axes.axhspan(RATE - spread, RATE + spread, color="0.9", label="two standard errors of a batch")
axes.axhline(RATE, color="0.4", linestyle="--", label="rate asked for")
axes.plot(numbers, marked, "o-", label="share marked")
axes.plot(numbers, wrong_shares, "x:", label="share of wrong labels")
axes.set(xlabel=f"batch of {size} rows", ylabel="share of the rows", ylim=(0, None))
axes.legend()
plt.show()
