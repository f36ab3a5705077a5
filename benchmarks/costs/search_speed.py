"""What `memory` saves a grid search over detectors, as a ratio in one run.

    python -m benchmarks.costs.search_speed [--images]

`GridSearchCV` over 6 detectors, 3 contaminations and 5 folds of `CleanedClassifier` with logistic
regression, on the digits with 10 % flipped labels; the method's net is the default one, a
perceptron of the 64 pixels or, with --images, a small convolutional net for 40 epochs. Without
memory the net is trained for each of the 91 fits, with memory once for each of the 6 training sets,
so that the ratio is below 15. Processor time of one process, trainings as counted, and the best
score, which must be the same. Every detector is fitted once before: some compile themselves at the
first fit of a process, which would count against the search that comes first.
"""

import argparse
import tempfile
import time

from pyod.models.ecod import ECOD
from pyod.models.hbos import HBOS
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback

from skinfluence import CleanedClassifier, NormDetector, OutlierGradientDetector
from skinfluence.datasets import make_noisy_labels
from skinfluence.nets import default_net

DETECTORS = (NormDetector(), NormDetector(ord=1), IForest(), KNN(), HBOS(), ECOD())
CONTAMINATIONS = (0.05, 0.1, 0.2)


trainings = []


class Count(Callback):
    """Counts trainings in all clones; in a list that is no part of the net, which is hashed."""

    def on_train_begin(self, net, **kwargs):
        trainings.append(1)


class Flat(LogisticRegression):
    """Logistic regression of images or tables."""

    def fit(self, X, y):
        return super().fit(X.reshape(len(X), -1), y)

    def predict(self, X):
        return super().predict(X.reshape(len(X), -1))


def search(X, y, memory):
    trainings.clear()
    net = default_net(X, y, random_state=0).set_params(callbacks=[Count()])
    if X.ndim == 4:
        net.set_params(max_epochs=40)
    method = OutlierGradientDetector(net, memory=memory, random_state=0)
    grid = {"method__detector": DETECTORS, "contamination": CONTAMINATIONS}
    model = CleanedClassifier(Flat(max_iter=1000), method, random_state=0)
    start = time.process_time()
    found = GridSearchCV(model, grid, cv=5, scoring="accuracy").fit(X, y)
    return time.process_time() - start, len(trainings), found.best_score_


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", action="store_true")
    options = parser.parse_args()
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype("float32")
    if options.images:
        X = X.reshape(-1, 1, 8, 8)
    y, _ = make_noisy_labels(y, rate=0.1, random_state=0)
    for detector in DETECTORS:
        OutlierGradientDetector(detector=detector, random_state=0).fit(X[:100], y[:100])
    with tempfile.TemporaryDirectory() as folder:
        results = {"with memory": search(X, y, folder), "without": search(X, y, None)}
    for name, (seconds, count, score) in results.items():
        print(f"{name:12} {seconds:8.1f} s  {count:3} trainings  best score {score:.6f}")
    print(f"ratio {results['without'][0] / results['with memory'][0]:.1f}")


if __name__ == "__main__":
    main()
