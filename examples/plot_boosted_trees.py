"""
Boosted trees on what other models keep
=======================================

Wrong labels are wrong for all models. Rows that a :doc:`committee </committee>` of small models
finds detrimental are taken out, and boosted trees, which are not among them, are trained on the
rest. A fifth of the digits' training labels is wrong; the test labels are right.
"""

# %%
# The committee chooses, the trees are trained
# --------------------------------------------

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import train_test_split

from skinfluence import CleanedClassifier, OutlierGradientDetector
from skinfluence.datasets import make_noisy_labels
from skinfluence.metrics import removal_curve

SEED, RATE = 0, 0.2

X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(X / 16, y, test_size=0.4, stratify=y, random_state=SEED)
y_noisy, is_noisy = make_noisy_labels(y, rate=RATE, random_state=SEED)

# The trees draw features, or seeds would make no difference below; they take few and large steps
# to be quick.
trees = HistGradientBoostingClassifier(
    learning_rate=0.3, max_iter=10, max_features=0.3, random_state=SEED
)
method = OutlierGradientDetector(random_state=SEED)
model = CleanedClassifier(trees, method, contamination=RATE, random_state=SEED).fit(X, y_noisy)
removed = model.removed_indices_
print(f"removed {len(removed)} of {len(X)} rows, {is_noisy[removed].mean():.0%} of them wrong")
print(f"accuracy: all rows {trees.fit(X, y_noisy).score(X_test, y_test):.3f}, ", end="")
print(f"cleaned {model.score(X_test, y_test):.3f}")

# %%
# How much removal helps, and whether any removal would
# -----------------------------------------------------
# The curve trains the trees without the worst 10, 20 and 40 %, and without as many rows drawn at
# random. Both are paired by seed.

curve = removal_curve(
    trees,
    X,
    y_noisy,
    model.method_.detrimentality_,
    X_test=X_test,
    y_test=y_test,
    budgets=(0, 0.1, 0.2, 0.4),
    n_seeds=4,
    random_state=SEED,
)
gain = curve.against_all_rows()
print(f"removing {RATE:.0%}: {gain.mean[2]:+.3f} [{gain.low[2]:+.3f}, {gain.high[2]:+.3f}]")

figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
shares = 100 * curve.budgets
for column in curve.scores:
    axis.plot(shares, column, ".", color="tab:blue", alpha=0.4)
axis.plot(shares, curve.mean, "o-", color="tab:blue", label="most detrimental rows removed")
axis.plot(shares, curve.random_mean, "s--", color="gray", label="random rows removed")
axis.axvline(100 * RATE, color="tab:red", linewidth=0.8, label="share of wrong labels")
axis.set(xlabel="training rows removed (%)", ylabel="accuracy on clean test rows")
axis.legend()
plt.show()
