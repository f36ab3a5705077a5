"""Pipelines that end in a method, and rows that are left to others to check."""

from typing import Any

from sklearn.pipeline import Pipeline

from skinfluence.rows._seeds import seed_unset, seeded_clone


def final_step(estimator: Any) -> Any:
    """Give the last step of a pipeline; anything else is its own."""
    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator


def takes_raw(estimator: object) -> bool:
    """Tell whether an estimator, as it is set, hands rows on as they come."""
    if isinstance(estimator, Pipeline):
        return True
    ask = getattr(estimator, "_takes_raw", None)
    return ask is not None and bool(ask())


def as_last_step_sees(estimator: Any, X: Any) -> Any:
    """Transform rows by the steps before the last of a fitted pipeline; otherwise, do nothing."""
    for _, step in estimator.steps[:-1] if isinstance(estimator, Pipeline) else ():
        # what resamples training rows leaves new ones alone
        if step is not None and not isinstance(step, str) and not hasattr(step, "fit_resample"):
            X = step.transform(X)
    return X


def seeded_method(method: Any, seed: int) -> Any:
    """Clone a method, with a seed where its own `random_state` is None, and in steps before it."""
    copy = seeded_clone(method, seed, deep=False)
    for _, step in copy.steps if isinstance(copy, Pipeline) else ():
        if hasattr(step, "get_params"):
            seed_unset(step, seed, deep=step is not final_step(copy))
    return copy
