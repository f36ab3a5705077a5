"""The parameters that methods on gradients share: checked, and turned into what is recorded."""

from typing import Any

from skinfluence.gradients._passes import (
    Trajectory,
)
from skinfluence.gradients._trajectory import MeanOf, SideBySide
from skinfluence.rows._parameters import check_parameter, check_positive_integer
from skinfluence.trace._recorder import TraceRecorder
from skinfluence.trace._training_trace import TrainingTrace


def check_n_components(n_components: Any) -> None:
    """Refuse an `n_components` that is neither "auto" nor None nor a positive integer.

    Parameters
    ----------
    n_components : "auto", None or int

    Raises
    ------
    ValueError
        With the value.
    """
    if n_components is not None and n_components != "auto":
        check_positive_integer("n_components", n_components)


def check_checkpoints(checkpoints: Any) -> None:
    """Refuse `checkpoints` other than "last", "all" and a positive integer.

    Parameters
    ----------
    checkpoints : "last", "all" or int

    Raises
    ------
    ValueError
        With the value.
    """
    if checkpoints not in {"last", "all"}:
        check_positive_integer("checkpoints", checkpoints)


def check_gradient_settings(estimator: Any) -> None:
    """Check the parameters that `GradientEmbedding` shares with methods on it.

    Parameters
    ----------
    estimator : estimator

    Raises
    ------
    ValueError
        Naming the parameter and its value.
    """
    check_positive_integer("batch_size", estimator.batch_size)
    check_positive_integer("max_bytes", estimator.max_bytes)
    check_n_components(estimator.n_components)
    check_checkpoints(estimator.checkpoints)
    check_normalize(estimator.normalize)


def check_normalize(normalize: Any) -> None:
    """Refuse an unknown `normalize`.

    Parameters
    ----------
    normalize : {None, "activations", "gradient"}
    """
    check_parameter(
        "normalize",
        normalize,
        'None, "activations" or "gradient"',
        holds=lambda value: value in {None, "activations", "gradient"},
    )


def check_combine(combine: Any) -> None:
    """Refuse an unknown `combine`.

    Parameters
    ----------
    combine : {"mean", "concat"}
    """
    check_parameter(
        "combine", combine, '"mean" or "concat"', holds=lambda value: value in {"mean", "concat"}
    )


def recorder_of(checkpoints: int | str, combine: str = "mean") -> TraceRecorder | None:
    """Say what must be recorded for gradients at some checkpoints.

    Parameters
    ----------
    checkpoints : "last", "all" or int
    combine : {"mean", "concat"}

    Returns
    -------
    TraceRecorder or None
        None if the trained net alone is enough.
    """
    if checkpoints == "last" and combine == "mean":
        return None
    return TraceRecorder(checkpoints=checkpoints)


def trajectory_of(
    trace: TrainingTrace | None, checkpoints: int | str, *, combine: str, normalize: str | None
) -> Trajectory | None:
    """Choose checkpoints of a trace and how to combine the gradients there.

    Parameters
    ----------
    trace : TrainingTrace or None
        None where `recorder_of` asks for none.
    checkpoints : "last", "all" or int
    combine : {"mean", "concat"}
    normalize : {None, "activations", "gradient"}

    Returns
    -------
    Trajectory or None
        None for plain gradients at the net's present parameters.
    """
    if combine == "concat":
        assert trace is not None
        chosen = trace.evenly_spaced(checkpoints)
        weighted = SideBySide([trace.rates_of(checkpoint) for checkpoint in chosen])
        return Trajectory([checkpoint.state for checkpoint in chosen], weighted, normalize)
    if checkpoints == "last":
        return None if normalize is None else Trajectory([None], MeanOf(), normalize)
    assert trace is not None
    states = [checkpoint.state for checkpoint in trace.evenly_spaced(checkpoints)]
    return Trajectory(list(states), MeanOf(), normalize)
