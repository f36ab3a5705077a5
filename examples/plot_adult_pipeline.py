"""
A table of mixed types: who gains by cleaning, and who does not
===============================================================

The Adult census table has numbers, categories and missing values, and its classes overlap: no
model tells all incomes by what is known of a person. A tenth of the training labels is flipped.
One pipeline encodes the columns and trains on what a :doc:`committee </committee>` of small models
keeps; the last step is any classifier.

.. figure:: /_static/adult.png
   :alt: Accuracy of five classifiers on all rows, cleaned rows, and rows without the flips

   A single tree and the nearest neighbors learn wrong labels by heart, and cleaning gives back
   what the flips cost; the tree gains even more, because right labels that are unlikely go, too.
   Boosted trees and logistic regression average over many rows and lose little to random flips:
   taking out exactly the flipped rows, which nobody can, gains them a point at most. Cleaning
   cannot gain what was not lost.

The table (UCI Adult, no header) does not come with the examples, so this page is not run when the
manual is built. Give the folder that holds ``adult-train.csv.gz`` and ``adult-test.csv.gz`` as
argument or in the environment variable ``SKINFLUENCE_DATA``.
"""

# %%
# The table, and a tenth of its labels flipped
# --------------------------------------------

import os
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skinfluence import CleanedClassifier, OutlierGradientDetector
from skinfluence.datasets import make_noisy_labels

N_ROWS, RATE, SEED = 4000, 0.1, 0
folder = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("SKINFLUENCE_DATA", "."))


def load(name, n_rows):
    table = pd.read_csv(
        folder / name, header=None, na_values="?", skipinitialspace=True, nrows=n_rows
    )
    return table.iloc[:, :-1].rename(columns=str), table.iloc[:, -1].str.strip(" .").to_numpy()


X, y = load("adult-train.csv.gz", N_ROWS)
X_test, y_test = load("adult-test.csv.gz", 8000)
y_noisy, is_noisy = make_noisy_labels(y, rate=RATE, random_state=SEED)

# %%
# One pipeline, five classifiers
# ------------------------------
# The committee that looks for wrong labels is trained once: ``memory`` keeps it for the other
# classifiers.

columns = make_column_transformer(
    (
        make_pipeline(SimpleImputer(), StandardScaler()),
        make_column_selector(dtype_include="number"),
    ),
    (
        OneHotEncoder(min_frequency=20, handle_unknown="infrequent_if_exist", sparse_output=False),
        make_column_selector(dtype_exclude="number"),
    ),
)
classifiers = {
    "one tree": DecisionTreeClassifier(random_state=SEED),
    "3 nearest neighbors": KNeighborsClassifier(3),
    "random forest": RandomForestClassifier(random_state=SEED),
    "boosted trees": HistGradientBoostingClassifier(random_state=SEED),
    "logistic regression": LogisticRegression(max_iter=1000),
}
accuracy = {}
with tempfile.TemporaryDirectory() as cache:
    for name, classifier in classifiers.items():
        method = OutlierGradientDetector(memory=cache, random_state=SEED)
        cleaned = CleanedClassifier(classifier, method, contamination=RATE, random_state=SEED)
        pipeline = make_pipeline(columns, cleaned).fit(X, y_noisy)
        plain = make_pipeline(columns, classifier)
        accuracy[name] = {
            "all rows": plain.fit(X, y_noisy).score(X_test, y_test),
            "cleaned": pipeline.score(X_test, y_test),
            "without exactly the flips": plain.fit(X[~is_noisy], y[~is_noisy]).score(
                X_test, y_test
            ),
        }
removed = pipeline[-1].removed_indices_
print(f"removed {len(removed)} rows, {is_noisy[removed].mean():.0%} of them flipped (10 % of all)")
for name, scores in accuracy.items():
    print(f"{name:<20}" + ", ".join(f"{kind} {score:.3f}" for kind, score in scores.items()))

# %%
# What each gains
# ---------------
# A third of the removed rows carry the label they came with. Where classes overlap, a flipped label
# looks like an unlikely one: read the list before you delete from it.

figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
table = pd.DataFrame(accuracy).T[::-1]
axis.hlines(table.index, table.min(axis=1), table.max(axis=1), color="lightgray", linewidth=3)
marks = {
    "all rows": ("o", "tab:red"),
    "cleaned": ("o", "tab:blue"),
    "without exactly the flips": ("|", "black"),
}
for kind, (mark, color) in marks.items():
    axis.plot(table[kind], table.index, mark, color=color, ms=11, mew=2, label=kind)
axis.set_xlabel("accuracy on test rows with the labels they came with")
axis.legend(loc="lower left")
axis.margins(y=0.15)
# sphinx_gallery_thumbnail_path = '_static/adult.png'
plt.show()
