"""What may be asked of a `TraceRecorder`."""

from typing import Any

from skinfluence._validation import check_parameter, check_positive_integer


def check_recorder(recorder: Any) -> None:
    """Refuse settings of a `TraceRecorder` that are out of range.

    Parameters
    ----------
    recorder : TraceRecorder

    Raises
    ------
    ValueError
        With the value.
    """
    checkpoints = recorder.checkpoints
    if checkpoints not in {"last", "all"}:
        check_positive_integer("checkpoints", checkpoints)
    check_parameter(
        "steps",
        recorder.steps,
        '"all", "last_epoch" or None',
        holds=lambda steps: steps in {"all", "last_epoch", None},
    )
    check_parameter(
        "resume",
        recorder.resume,
        "True or False, and True only with a folder as storage",
        holds=lambda resume: resume is False or (resume is True and recorder.storage != "memory"),
    )
    check_positive_integer("max_bytes", recorder.max_bytes)


def too_large(recorder: Any, needed: int) -> str:
    """Say that a trace would not fit into memory, and what would.

    Parameters
    ----------
    recorder : TraceRecorder
    needed : int
        Bytes.

    Returns
    -------
    str
    """
    cheaper = "fewer checkpoints" if recorder.steps is None else "steps='last_epoch'"
    if recorder.steps == "last_epoch":
        cheaper = "larger batches"
    return (
        f"The trace would take {needed} bytes in memory, more than max_bytes="
        f"{recorder.max_bytes}. Ask for {cheaper}, give a folder as storage, or raise max_bytes."
    )
