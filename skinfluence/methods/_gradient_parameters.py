"""The parameters that methods on gradients share: checked, and turned into what is recorded."""

from typing import Any

from skinfluence.gradients._passes import Trajectory
from skinfluence.gradients._trajectory import MeanOf, SideBySide
from skinfluence.rows._parameters import check_parameter, check_positive_integer
from skinfluence.trace._needs import TraceNeeds, check_checkpoints
from skinfluence.trace._training_trace import TrainingTrace


def check_n_components(n_components: object) -> None:
    """Refuse an `n_components` that is neither "auto" nor None nor a positive integer."""
    if n_components is not None and n_components != "auto":
        check_positive_integer("n_components", n_components)


def check_gradient_settings(estimator: Any) -> None:
    """Check the parameters that `GradientEmbedding` shares with methods on it."""
    check_positive_integer("batch_size", estimator.batch_size)
    check_positive_integer("max_bytes", estimator.max_bytes)
    check_n_components(estimator.n_components)
    check_checkpoints(estimator.checkpoints)
    check_normalize(estimator.normalize)


def check_normalize(normalize: object) -> None:
    """Refuse an unknown `normalize`."""
    check_parameter(
        "normalize",
        normalize,
        'None, "activations" or "gradient"',
        holds=lambda value: value in {None, "activations", "gradient"},
    )


def check_combine(combine: object) -> None:
    """Refuse an unknown `combine`."""
    check_parameter(
        "combine", combine, '"mean" or "concat"', holds=lambda value: value in {"mean", "concat"}
    )


def needs_of_checkpoints(checkpoints: int | str, combine: str = "mean") -> TraceNeeds | None:
    """Say what gradients at some checkpoints need; None if the trained net alone is enough."""
    if checkpoints == "last" and combine == "mean":
        return None
    return TraceNeeds(frozenset({checkpoints}))


def trajectory_of(
    trace: TrainingTrace | None,
    checkpoints: int | str,
    *,
    combine: str,
    normalize: str | None,
    initial: bool = False,
) -> Trajectory | None:
    """Choose checkpoints and how to combine their gradients; None for those of the net itself."""
    if combine == "concat":
        assert trace is not None
        chosen = [*([trace.start()] if initial else []), *trace.evenly_spaced(checkpoints)]
        weighted = SideBySide([trace.rates_of(checkpoint) for checkpoint in chosen])
        return Trajectory([checkpoint.state for checkpoint in chosen], weighted, normalize)
    if checkpoints == "last":
        return None if normalize is None else Trajectory([None], MeanOf(), normalize)
    assert trace is not None
    states = [checkpoint.state for checkpoint in trace.evenly_spaced(checkpoints)]
    return Trajectory(list(states), MeanOf(), normalize)
