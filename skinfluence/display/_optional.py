"""Libraries that are imported when something is drawn or put into a table."""

from importlib import import_module
from typing import Any


def load_pandas(what: str) -> Any:
    """Import pandas, or say how to get it."""
    return _load("pandas", what, "frame")


def load_pyplot(what: str) -> Any:
    """Import matplotlib's pyplot, or say how to get it."""
    return _load("matplotlib.pyplot", what, "plot")


def _load(module: str, what: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        library = module.partition(".")[0]
        raise ImportError(
            f"{what} needs {library}, which is not installed. Install it, by pip install {library} "
            f"or pip install 'skinfluence[{extra}]'."
        ) from error
