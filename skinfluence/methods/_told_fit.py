"""What a fit says while it lasts, and of what it has kept where it is interrupted."""

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from typing import Any

from joblib import Memory

from skinfluence.rows._parameters import check_verbose, is_integer
from skinfluence.rows._progress import bars_shown
from skinfluence.trace._callbacks import own_recorders

# Parameters that name where finished work is kept, of methods and of what they are made of.
_PLACES = ("memory", "path", "checkpoint", "storage")
_BEGINNING = "The fit was interrupted."


@contextmanager
def told_fit(estimator: Any) -> Iterator[None]:
    """Show bars within the block if `verbose` asks for them; say of an interrupt what is kept."""
    verbose = getattr(estimator, "verbose", 0)
    check_verbose(verbose)
    # of a fold, which another process may fit, the fit that it is a part of tells
    is_fold = getattr(estimator, "_is_fold", False)
    try:
        with bars_shown(wanted=bool(verbose) and not is_fold):
            yield
    except KeyboardInterrupt as interrupt:
        notes = getattr(interrupt, "__notes__", [])
        others = [note for note in notes if not note.startswith(_BEGINNING)]  # that of a part
        interrupt.__notes__ = [*others, f"{_BEGINNING} {_what_is_kept(estimator)}"]
        raise


def _what_is_kept(estimator: Any) -> str:
    parameters = estimator.get_params(deep=True)
    named = {name: name.split("__")[-1] for name in parameters}
    # without a seed, a training is not found again
    is_seeded = any(
        last == "random_state" and is_integer(parameters[name]) for name, last in named.items()
    )
    places = [
        f"{name}={parameters[name]!r}"
        for name, last in named.items()
        if last in _PLACES
        and isinstance(parameters[name], str | PathLike | Memory)
        and parameters[name] != "memory"
        and (is_seeded or last != "memory")
    ]
    for name, value in parameters.items():
        kept = [recorder for recorder in own_recorders(value) if recorder.resume]
        places += [f"{recorder.storage!r}, by the recorder of {name}" for recorder in kept]
    if places:
        return f"The same fit goes on from what is kept in {'; '.join(places)}."
    return "Nothing of it is kept: the same fit starts anew."
