"""What kind of targets an estimator is for, as far as its parameters settle it."""

from typing import Any

from sklearn.base import is_classifier, is_regressor
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from skinfluence.gradients._skorch import is_net, kind_of
from skinfluence.rows._parameters import check_choice
from skinfluence.rows._targets import TASKS

_MODELS = {"net", "estimator"}
_TARGETS = {"classification": "classes", "regression": "numbers"}


def settled_task(owner: Any, implied: str | None = None) -> str | None:
    """Find the one kind of target that all parameters are for; None leaves it to the values."""
    said, models = [], []
    for name, value in _parameters_that_count(owner).items():
        *owners, last = name.split("__")
        if {*owners} & {*_MODELS, "detector"}:  # judges gradients, or is a part of a model
            continue
        if last == "task":
            check_choice(name, value, TASKS)
            if value is not None:
                said.append((f"{name}={value!r} is for", value))
        elif last in _MODELS:
            model = value.estimator if isinstance(value, FrozenEstimator) else value
            task = task_of_model(model)
            if task is not None:
                models.append((f"{name}={type(model).__name__} is for", task))
    claims: list[tuple[str, str]] = [*said, *models]
    if implied is not None:
        claims.insert(0, (f"{type(owner).__name__} is for targets that are", implied))
    if len({task for _, task in claims}) < 2:
        return claims[0][1] if claims else None
    (first, task), (second, other) = claims[0], next(c for c in claims if c[1] != claims[0][1])
    fix = "Make them agree"
    if implied is not None:
        other_class = "CleanedRegressor" if implied == "classification" else "CleanedClassifier"
        fix = f"Give it parts for {_TARGETS[implied]}, or use {other_class}"
    raise ValueError(
        f"{first} {_TARGETS[task]}, but {second} {_TARGETS[other]}. {fix}; a net says by its class "
        "what it is for, NeuralNetClassifier or NeuralNetRegressor, and needs no task besides."
    )


def _parameters_that_count(owner: Any) -> dict[str, Any]:
    """Leave out what steps before the last one of a pipeline hold, such as models that impute."""
    parameters: dict[str, Any] = owner.get_params()
    before = tuple(
        f"{name}__{step}__"
        for name, value in parameters.items()
        if isinstance(value, Pipeline)
        for step, _ in value.steps[:-1]
    )
    return {name: value for name, value in parameters.items() if not name.startswith(before)}


def task_of_model(model: Any) -> str | None:
    """Say what a net or another model is for; None if it does not tell."""
    if is_net(model):
        kinds = {"classes": "classification", "binary": "classification"}
        return {**kinds, "regression": "regression"}.get(kind_of(model))
    if isinstance(model, type) or not hasattr(model, "__sklearn_tags__"):
        return None
    if is_classifier(model):
        return "classification"
    return "regression" if is_regressor(model) else None
