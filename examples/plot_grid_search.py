"""
How much to clean, and by which detector: a grid search
=======================================================

A fifth of the digits' labels is wrong. `CleanedClassifier` removes suspicious rows before it
trains a classifier, so what it removes is a matter of two parameters like any others for
``GridSearchCV``: ``contamination``, how many rows go, and ``method__detector``, what looks at the
gradients.
"""

# %%
# One training a fold
# -------------------
# Every candidate needs a net trained on the training rows of its fold. With ``memory`` on the
# method it is trained once and read back by all other candidates; a callback counts.

import tempfile

import matplotlib.pyplot as plt
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from skorch.callbacks import Callback

from skinfluence import CleanedClassifier, OutlierGradientDetector
from skinfluence.datasets import make_noisy_labels
from skinfluence.nets import default_net

SEED, N_FOLDS = 0, 2
SHARES = [0.0, 0.1, 0.2, 0.3]
DETECTORS = {"default": None, "nearest neighbors": KNN(), "isolation forest": IForest()}

trainings = []


class Count(Callback):
    """Counts the trainings of all clones."""

    def on_train_begin(self, net, **kwargs):  # noqa: D102
        trainings.append(1)


X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(X / 16, y, train_size=600, stratify=y, random_state=SEED)
y_noisy, is_noisy = make_noisy_labels(y, rate=0.2, random_state=SEED)

net = default_net(X, y_noisy, random_state=SEED).set_params(callbacks=[Count()])
grid = {"method__detector": list(DETECTORS.values()), "contamination": SHARES}
with tempfile.TemporaryDirectory() as folder:
    method = OutlierGradientDetector(net, memory=folder, random_state=SEED)
    model = CleanedClassifier(KNeighborsClassifier(3), method, random_state=SEED)
    search = GridSearchCV(model, grid, cv=N_FOLDS, error_score="raise").fit(X, y_noisy)

n_fits = N_FOLDS * len(search.cv_results_["params"]) + 1
print(f"{n_fits} fits (one for the best candidate on all rows), {len(trainings)} nets trained")

# %%
# What the search saw, and what it chose
# --------------------------------------
# The labels of the test folds are noisy too, and no model is right on a wrong one: the scores are
# low for all candidates, and serve to compare them. On rows whose labels are right the choice
# holds.

best = search.best_estimator_
name = list(DETECTORS)[search.best_index_ % len(DETECTORS)]
plain = KNeighborsClassifier(3).fit(X, y_noisy).score(X_test, y_test)
chosen = best.score(X_test, y_test)
removed = best.removed_indices_
print(f"chosen: {name}, contamination {best.contamination}; ", end="")
print(f"{is_noisy[removed].mean() if len(removed) else 0:.0%} of the removed rows were wrong")
verdict = "better" if chosen > plain else "no better"
print(f"accuracy on clean test labels: all rows {plain:.3f}, chosen {chosen:.3f}: {verdict}")

scores = search.cv_results_["mean_test_score"].reshape(len(SHARES), len(DETECTORS))
figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
for detector, column in zip(DETECTORS, scores.T, strict=True):
    axis.plot([100 * share for share in SHARES], column, "o-", label=detector)
axis.plot(100 * best.contamination, search.best_score_, "o", ms=16, mfc="none", mec="black")
axis.axvline(20, color="tab:red", linewidth=0.8, label="share of wrong labels")
axis.set(xlabel="training rows removed (%)", ylabel="accuracy in the search, noisy labels")
axis.legend(title="detector; circled: chosen")
plt.show()
