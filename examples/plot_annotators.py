"""
Several annotators, one label a row
===================================

Thirty people labelled handwritten digits, three of them each digit. Ten take care, ten are in a
hurry, and ten guess one digit in three. `AnnotatorConsensus` finds the likeliest label of each row
and how far each person is to be trusted, without a single label that is known to be right.
"""

# %%
# What they said
# --------------
# Labels come in long form: one entry a label, with the number of its row and the name of who gave
# it. A matrix with one column a person, NaN where there is no label, would do as well.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from skinfluence import AnnotatorConsensus

X, truth = load_digits(return_X_y=True)
X = X / 16
rng = np.random.default_rng(0)
error_rates = np.repeat([0.05, 0.15, 0.35], 10)
rows = np.repeat(np.arange(len(X)), 3)
people = np.concatenate([rng.choice(30, 3, replace=False) for _ in X])
wrong = rng.random(len(rows)) < error_rates[people]
said = np.where(wrong, (truth[rows] + rng.integers(1, 10, len(rows))) % 10, truth[rows])

# %%
# Whom to believe
# ---------------
# Votes count everybody alike. The consensus gives careful people more weight, and a classifier may
# add what the picture itself looks like; it never saw the row that it speaks of.

votes = np.zeros((len(X), 10))
np.add.at(votes, (rows, said), 1)
by_labels = AnnotatorConsensus().fit(None, said, rows=rows, annotators=people)
with_inputs = AnnotatorConsensus(LogisticRegression(max_iter=200), cv=3, random_state=0)
with_inputs.fit(X, said, rows=rows, annotators=people)

for name, found in {
    "votes": votes.argmax(1),
    "consensus of the labels": by_labels.consensus_,
    "and of the pictures": with_inputs.consensus_,
}.items():
    print(f"{name}: {np.mean(found == truth):.1%} right")

# %%
# How good each of them is
# ------------------------
# Estimated quality with its 95 % interval, against the share of right labels that only we know.

share_right = np.bincount(people, said == truth[rows]) / with_inputs.n_labels_
order = with_inputs.quality_.argsort()
quality, (low, high) = with_inputs.quality_[order], with_inputs.quality_interval_[order].T

figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
places = np.arange(30)
axis.errorbar(
    places, quality, [quality - low, high - quality], fmt="o", color="black", label="estimated"
)
axis.plot(places, share_right[order], "x", color="tab:orange", ms=8, mew=2, label="true")
axis.set_xlabel("annotators, the least reliable first")
axis.set_ylabel("share of right labels")
axis.legend()
plt.show()

# %%
# Rows still in doubt are worth a fourth opinion: `detrimentality_` ranks them.

worst = with_inputs.detrimentality_.argsort()[::-1][:50]
share = np.mean(with_inputs.consensus_[worst] != truth[worst])
print(f"of the 50 rows most in doubt, {share:.0%} have a wrong consensus")
