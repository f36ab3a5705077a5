"""Estimators that were saved say which version of the package saved them."""

import warnings
from functools import cache
from importlib.metadata import version
from typing import Any

from skinfluence.exceptions import VersionWarning

_KEY = "_skinfluence_version"


class SavedWithVersion:
    """Writes the package's version into what pickle and joblib save, and compares it on load."""

    # Stands before scikit-learn's BaseEstimator, which does this for estimators of its own alone.
    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]
        return {**state, _KEY: _own_version()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        saved = state.pop(_KEY, "unknown")
        if saved != _own_version():
            warnings.warn(
                f"{type(self).__name__} was saved by skinfluence {saved} and is loaded by "
                f"{_own_version()}. It may fail, or score rows otherwise than it did. Load it with "
                f"skinfluence {saved}, or fit it again.",
                VersionWarning,
                stacklevel=2,
            )
        super().__setstate__(state)  # type: ignore[misc]


@cache
def _own_version() -> str:
    return version("skinfluence")
