"""What a user would reach for instead, each in a few lines of scikit-learn.

"confidence" and "margin" are cleanlab's self-confidence and normalized margin, turned so that
higher = more suspect, of probabilities by models that did not see the row.
"""

import numpy as np
from sklearn.ensemble import (
    BaggingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from benchmarks.methods.method import CLASSES, NUMBERS, Parts, method

N_FOLDS = 5
N_TREES = 300
N_NEIGHBORS = 10


def suspicion(probabilities, y):
    """Give one minus the confidence and the margin of the given label."""
    rows, codes = np.arange(len(y)), np.unique(y, return_inverse=True)[1]
    confidence = probabilities[rows, codes]
    others = probabilities.copy()
    others[rows, codes] = -np.inf
    return {"confidence": 1 - confidence, "margin": (1 + others.max(1) - confidence) / 2}


def _scaled(model, problem):
    return make_pipeline(StandardScaler(), model) if problem.needs_scaling else model


def _out_of_fold(model, problem, seed):
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed)
    return cross_val_predict(model, problem.flat, problem.y, cv=folds, method="predict_proba")


def _classifier(name, trainings):
    """Register a function that gives probabilities as a method with both scores."""

    def register(probabilities):
        parts = [f"{name}, confidence", f"{name}, margin"]

        @method(name, group="peer", tasks=(CLASSES,), parts=parts, trainings=trainings)
        def score(problem, seed):
            found = suspicion(probabilities(problem, seed), problem.y)
            return Parts({f"{name}, {kind}": values for kind, values in found.items()})

        return probabilities

    return register


@_classifier("logistic out of fold", N_FOLDS)
def _logistic(problem, seed):
    return _out_of_fold(_scaled(LogisticRegression(max_iter=1000), problem), problem, seed)


@_classifier("forest out of bag", 1)
def _forest(problem, seed):
    forest = RandomForestClassifier(N_TREES, oob_score=True, random_state=seed)
    return forest.fit(problem.flat, problem.y).oob_decision_function_


@_classifier("forest out of fold", N_FOLDS)
def _forest_by_folds(problem, seed):
    return _out_of_fold(RandomForestClassifier(N_TREES, random_state=seed), problem, seed)


@_classifier("boosted out of fold", N_FOLDS)
def _boosted(problem, seed):
    return _out_of_fold(HistGradientBoostingClassifier(random_state=seed), problem, seed)


@method("Data-OOB", group="peer", tasks=(CLASSES,), trainings=1)
def _data_oob(problem, seed):
    """Count the trees that did not see the row and are wrong about it (Kwon and Zou 2023)."""
    # fully grown trees give 0 or 1, so that the mean of their probabilities is the share of votes
    trees = BaggingClassifier(DecisionTreeClassifier(), 100, oob_score=True, random_state=seed)
    trees.fit(problem.flat, problem.y)
    return suspicion(trees.oob_decision_function_, problem.y)["confidence"]


def _nearest(problem):
    X = StandardScaler().fit_transform(problem.flat) if problem.needs_scaling else problem.flat
    model = NearestNeighbors(n_neighbors=N_NEIGHBORS).fit(X)
    return problem.y[model.kneighbors(return_distance=False)]


@method("nearest inputs", group="peer", tasks=(CLASSES,))
def _disagreement(problem, seed):
    return (_nearest(problem) != problem.y[:, None]).mean(1)


def _residuals(model, problem, seed):
    folds = KFold(N_FOLDS, shuffle=True, random_state=seed)
    return np.abs(problem.y - cross_val_predict(model, problem.flat, problem.y, cv=folds))


@method("linear residual out of fold", group="peer", tasks=(NUMBERS,), trainings=N_FOLDS)
def _linear_residual(problem, seed):
    return _residuals(_scaled(RidgeCV(np.logspace(-3, 3, 13)), problem), problem, seed)


@method("boosted residual out of fold", group="peer", tasks=(NUMBERS,), trainings=N_FOLDS)
def _boosted_residual(problem, seed):
    return _residuals(HistGradientBoostingRegressor(random_state=seed), problem, seed)


@method("forest residual out of bag", group="peer", tasks=(NUMBERS,), trainings=1)
def _forest_residual(problem, seed):
    forest = RandomForestRegressor(N_TREES, oob_score=True, random_state=seed)
    return np.abs(problem.y - forest.fit(problem.flat, problem.y).oob_prediction_)


@method("nearest residual", group="peer", tasks=(NUMBERS,))
def _nearest_residual(problem, seed):
    return np.abs(problem.y - _nearest(problem).mean(1))
