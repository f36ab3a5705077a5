"""
How much to clean, and by which detector: a grid search
=======================================================

A fifth of the digits' labels is wrong. `CleanedClassifier` removes suspicious rows before it
trains a classifier, so what it removes is a matter of two parameters like any others:
``contamination``, how many rows go, and ``method__detector``, what looks at the gradients.
"""

# %%
# One training a fold
# -------------------
# Every candidate needs a net trained on the training rows of its fold. With ``memory`` on the
# method it is trained once and read back by all other candidates.

import tempfile

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


def search(X, y, memory):
    net = default_net(X, y, random_state=SEED).set_params(callbacks=[Count()])
    method = OutlierGradientDetector(net, memory=memory, random_state=SEED)
    model = CleanedClassifier(KNeighborsClassifier(3), method, random_state=SEED)
    grid = {"method__detector": list(DETECTORS.values()), "contamination": SHARES}
    return GridSearchCV(model, grid, cv=N_FOLDS, error_score="raise").fit(X, y)


def main():
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(
        X / 16, y, train_size=600, stratify=y, random_state=SEED
    )
    y_noisy, is_noisy = make_noisy_labels(y, rate=0.2, random_state=SEED)
    with tempfile.TemporaryDirectory() as folder:
        found = search(X, y_noisy, folder)
    n_fits = N_FOLDS * len(found.cv_results_["params"]) + 1
    print(
        f"{n_fits} fits (one for the best candidate on all rows), {len(trainings)} nets trained\n"
    )

    # The labels of the test folds are noisy too, and no model is right on a wrong one: the scores
    # are low for all candidates, and serve to compare them.
    scores = found.cv_results_["mean_test_score"].reshape(len(SHARES), len(DETECTORS))
    print("accuracy in the search" + "".join(f"{name:>20}" for name in DETECTORS))
    for share, row in zip(SHARES, scores, strict=True):
        print(f"{share:>10.0%} removed    " + "".join(f"{score:>20.3f}" for score in row))

    best = found.best_estimator_
    name = list(DETECTORS)[found.best_index_ % len(DETECTORS)]
    plain = KNeighborsClassifier(3).fit(X, y_noisy).score(X_test, y_test)
    chosen = best.score(X_test, y_test)
    removed = best.removed_indices_
    print(f"\nchosen: {name}, contamination {best.contamination}")
    if len(removed):
        print(f"removed {len(removed)} rows, {is_noisy[removed].mean():.0%} of them wrong")
    verdict = "better" if chosen > plain else "no better"
    print(f"accuracy on clean test labels: all rows {plain:.3f}, chosen {chosen:.3f}: {verdict}")


if __name__ == "__main__":
    main()
