"""Whether the trace that a frozen net brings is what a method needs."""

from typing import Any

from skinfluence.trace._recorder import TraceRecorder
from skinfluence.trace._training_trace import TrainingTrace, fingerprint_of, target_fingerprint_of


def check_trace(trace: TrainingTrace | None, wanted: TraceRecorder, X: Any, y: Any) -> None:
    """Refuse a frozen net's trace that lacks what a method needs, or is of other rows.

    Parameters
    ----------
    trace : TrainingTrace or None
    wanted : TraceRecorder
        As the method would record itself.
    X : what the net takes
        The rows to be scored.
    y : ndarray or None
        Their targets, as the net takes them.

    Raises
    ------
    ValueError
        Naming the recorder to train with, or saying that rows or targets are others.
    """
    lacking = ["trace"] if trace is None else _lacking(trace, wanted)
    if lacking:
        asked = {
            "checkpoints": wanted.checkpoints,
            "order": wanted.order,
            "steps": wanted.steps,
            "logits": wanted.logits,
        }
        defaults = TraceRecorder().get_params()
        call = ", ".join(f"{k}={v!r}" for k, v in asked.items() if v != defaults[k])
        raise ValueError(
            f"The frozen net brings no {' and no '.join(lacking)}. Train it with "
            f"callbacks=[TraceRecorder({call})], or pass the net unfrozen to have it trained and "
            "recorded."
        )
    assert trace is not None
    if not (wanted.order or wanted.steps or wanted.logits):
        return
    other = fingerprint_of(X)
    n_samples = len(X) if hasattr(X, "__len__") and not isinstance(X, dict) else trace.n_samples
    if trace.n_samples != n_samples or (
        other is not None and trace.fingerprint not in {None, other}
    ):
        raise ValueError(
            f"The frozen net's trace is of {trace.n_samples} rows; the {n_samples} rows given are "
            "others, or in another order, so what was recorded row by row does not belong to "
            "them. Pass the X that the net was trained on."
        )
    targets = target_fingerprint_of(y)
    if targets is not None and trace.target_fingerprint not in {None, targets}:
        raise ValueError(
            "The targets given are not those that the frozen net was trained on, or in another "
            "order, so what was recorded of its steps is not of them. Pass the y that the net was "
            "trained on, or the net unfrozen to have it trained on these."
        )


def _lacking(trace: TrainingTrace, wanted: TraceRecorder) -> list[str]:
    n_epochs = trace.checkpoints[-1].epoch
    needed = {"last": 1, "all": n_epochs}.get(str(wanted.checkpoints), wanted.checkpoints)
    lacking = []
    if len(trace.checkpoints) < min(int(needed), n_epochs):
        lacking.append(f"{needed} checkpoints (its trace holds {len(trace.checkpoints)})")
    if wanted.order and trace.batch_indices is None:
        lacking.append("order of the rows")
    if wanted.logits and trace.logits is None:
        lacking.append("logits")
    whole = trace.step_states is not None and len(trace.step_states) == trace.n_steps
    if (wanted.steps == "all" and not whole) or (
        wanted.steps == "last_epoch" and trace.step_states is None
    ):
        lacking.append("states before its steps")
    return lacking
