"""How many wrong labels are expected among the worst rows, and how many there are.

    python -m benchmarks.studies.calibration --data DIR --seeds 5 6 7

Six data sets (at most 4,000 rows) as they are and with two kinds of planted noise. Printed for
`OutlierGradientDetector` and `SelfConfidence`, in percent of all rows, at budgets of 2, 5, 10, 20
and 30 %: the number planted among the worst rows ("true"), `expected_errors`, and what was not
chosen: rows whose label the held-out net does not predict ("disagree"), and the two-groups model
of the p-values, with the share of clean rows from those above a half ("groups"; Storey 2002).
The choice was made on seeds 0-2. Errors that the sets hold unplanted count as clean.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_wine

from benchmarks.data import add_data_argument, clean_table
from skinfluence import CalibratedDetrimentality, OutlierGradientDetector, SelfConfidence
from skinfluence.datasets import make_noisy_labels

SETS = ("wine", "breast cancer", "digits", "letter", "satellite", "adult")
NOISES = {
    "none": ("symmetric", 0.0),
    "symmetric 10 %": ("symmetric", 0.1),
    "pair 20 %": ("pair", 0.2),
}
SHARES = (0.02, 0.05, 0.1, 0.2, 0.3)
METHODS = {"gradients": OutlierGradientDetector(committee=None), "confidence": SelfConfidence()}


def rows_of(name, folder):
    if name in {"wine", "breast cancer"}:
        X, y = (load_wine if name == "wine" else load_breast_cancer)(return_X_y=True)
        return X.astype(np.float32), y
    if name != "adult":
        return clean_table(name, folder)
    import pandas as pd

    table = pd.read_csv(Path(folder) / "adult-train.csv.gz")
    target = table.columns[-1]
    y = np.unique(table[target].astype(str), return_inverse=True)[1]
    return pd.get_dummies(table.drop(columns=target)).to_numpy(np.float32), y


def two_groups(method, budget):
    """Count the rows less the clean ones that p-values let expect among them."""
    p = np.sort(method.p_values_)
    numbers = np.arange(1, len(p) + 1)
    clean_share = min(1, ((p > 0.5).sum() + 1) / (0.5 * len(p)))
    wrong = np.clip(numbers - clean_share * len(p) * p, 0, numbers)
    return np.maximum.accumulate(wrong)[budget - 1]


def counts(method, is_noisy):
    budgets = [max(1, round(share * len(is_noisy))) for share in SHARES]
    worst = [method.ranking_[:budget] for budget in budgets]
    found = {
        "true": [is_noisy[rows].sum() for rows in worst],
        "expected": [method.expected_errors(budget) for budget in budgets],
        "disagree": [(~method.looks_clean_[rows]).sum() for rows in worst],
        "groups": [two_groups(method, budget) for budget in budgets],
    }
    return {name: 100 * np.array(values) / len(is_noisy) for name, values in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_argument(parser)
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 6, 7])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    arguments = parser.parse_args()
    errors = {}
    for name in arguments.sets:
        X, y = rows_of(name, arguments.data)
        for noise, (kind, rate) in NOISES.items():
            found = {method: [] for method in METHODS}
            for seed in arguments.seeds:
                rows = np.random.default_rng(seed).permutation(len(X))[:4000]
                y_noisy, is_noisy = y[rows], np.zeros(len(rows), dtype=bool)
                if rate:
                    y_noisy, is_noisy = make_noisy_labels(
                        y[rows], rate=rate, kind=kind, random_state=seed
                    )
                for label, method in METHODS.items():
                    calibrated = CalibratedDetrimentality(method, random_state=seed)
                    found[label].append(counts(calibrated.fit(X[rows], y_noisy), is_noisy))
            for label, cells in found.items():
                print(f"\n{name}, {noise}, {label}")
                for kind_of_count in cells[0]:
                    values = np.array([cell[kind_of_count] for cell in cells])
                    print(f"  {kind_of_count:9}", *(f"{v:5.1f}" for v in values.mean(0)))
                    off = np.abs(values - [cell["true"] for cell in cells])
                    errors.setdefault((label, kind_of_count), {})[name, noise] = off.mean()
            print(end="", flush=True)
    print("\nmean absolute difference from the truth, percent of the rows")
    for (label, kind_of_count), by_cell in errors.items():
        by_set = {
            s: np.mean([v for (n, _), v in by_cell.items() if n == s]) for s in arguments.sets
        }
        listing = ", ".join(f"{n} {v:.2f}" for n, v in by_set.items())
        print(f"  {label} {kind_of_count:9} {listing}")


if __name__ == "__main__":
    main()
