"""
Cleaning a table of mixed types
===============================

The Adult census table has numbers, categories and missing values. A tenth of the training labels
is flipped; a pipeline encodes the columns, finds the rows that hurt and trains on the rest.

Give the folder that holds ``adult-train.csv.gz`` and ``adult-test.csv.gz`` (UCI Adult, no header)
as argument or in the environment variable ``SKINFLUENCE_DATA``.
"""

import os
import sys
from pathlib import Path

import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skinfluence import CleanedClassifier, OutlierGradientDetector
from skinfluence.datasets import make_noisy_labels

N_ROWS, SEED = 8000, 0
folder = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("SKINFLUENCE_DATA", "."))


def load(name, n_rows=None):
    table = pd.read_csv(
        folder / name, header=None, na_values="?", skipinitialspace=True, nrows=n_rows
    )
    return table.iloc[:, :-1].rename(columns=str), table.iloc[:, -1].str.strip(" .").to_numpy()


X, y = load("adult-train.csv.gz", N_ROWS)
X_test, y_test = load("adult-test.csv.gz")
y_noisy, is_noisy = make_noisy_labels(y, rate=0.1, random_state=SEED)

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
tree = HistGradientBoostingClassifier(random_state=SEED)
cleaned = CleanedClassifier(tree, OutlierGradientDetector(), contamination=0.1, random_state=SEED)
pipeline = make_pipeline(columns, cleaned).fit(X, y_noisy)
plain = make_pipeline(columns, tree).fit(X, y_noisy)

removed = pipeline[-1].removed_indices_
print(f"removed {len(removed)} rows, {is_noisy[removed].mean():.0%} of them flipped (10 % of all)")
print(f"accuracy on clean labels: all rows {plain.score(X_test, y_test):.3f}, ", end="")
print(f"cleaned {pipeline.score(X_test, y_test):.3f}")
