"""Whether targets are classes: what the models of a method are for, and what a cleaner is for."""

from sklearn.frozen import FrozenEstimator

from skinfluence.methods._base import BaseDetrimentality
from skinfluence.nets._task import task_of
from skinfluence.rows._rows import Rows


def check_kind(owner: str, method: BaseDetrimentality, classifies: bool) -> None:
    """Refuse a method whose net or estimator is for targets of the other kind."""
    kind, other = ("classes", "numbers") if classifies else ("numbers", "classes")
    for name, task in _tasks_of(method).items():
        if (task == "regression") is classifies:
            raise ValueError(
                f"{owner} is for targets that are {kind}, but its method has {name}={task!r}. "
                f"Leave it out, or use {'CleanedRegressor' if classifies else 'CleanedClassifier'}."
            )
    for name, model in _models_of(method).items():
        if _is_for_classes(model) is not (not classifies):
            continue
        raise ValueError(
            f"{owner} is for targets that are {kind}, but its method has {name}="
            f"{type(model).__name__}, which is for {other}. Give the method a model for {kind}, "
            f"or use {'CleanedRegressor' if classifies else 'CleanedClassifier'}."
        )


def check_estimator_kind(owner: str, estimator: object, classifies: bool) -> None:
    """Refuse an estimator that is for targets of the other kind."""
    kind, other = ("classes", "numbers") if classifies else ("numbers", "classes")
    if _is_for_classes(estimator) is (not classifies):
        raise ValueError(
            f"{owner} is for targets that are {kind}, but estimator={type(estimator).__name__} is "
            f"for {other}. Give it a {'classifier' if classifies else 'regressor'}, or use "
            f"{'CleanedRegressor' if classifies else 'CleanedClassifier'}."
        )


def decided_kind(method: BaseDetrimentality, rows: Rows) -> bool:
    """Decide whether targets are classes where no class name says so; the method is fitted."""
    tasks = set(_tasks_of(method).values())
    if hasattr(method, "classes_") or tasks:
        return tasks != {"regression"}
    kinds = {_is_for_classes(model) for model in _models_of(method).values()} - {None}
    return kinds == {True} if kinds else rows.has_classes


def _tasks_of(method: BaseDetrimentality) -> dict[str, str]:
    """List what a method and its parts were told of the targets."""
    parameters = method.get_params().items()
    return {n: v for n, v in parameters if n.split("__")[-1] == "task" and v is not None}


def _models_of(method: BaseDetrimentality) -> dict[str, object]:
    """List the nets and estimators of a method and of its parts, out of their frames."""
    return {
        name: value.estimator if isinstance(value, FrozenEstimator) else value
        for name, value in method.get_params().items()
        # what is inside a detector judges gradients, not targets
        if name.split("__")[-1] in {"net", "estimator"} and "detector" not in name.split("__")
    }


def _is_for_classes(model: object) -> bool | None:
    """Say what a model is for; None if it does not tell."""
    task = task_of(model)
    return None if task is None else task == "classification"
