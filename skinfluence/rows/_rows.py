"""Rows as a net takes them."""

from typing import Any, NamedTuple


class Rows(NamedTuple):
    """Rows as a net takes them.

    Attributes
    ----------
    inputs : ndarray, dict of arrays, or torch data set
    targets : ndarray or None
        None if a data set holds them.
    """

    inputs: Any
    targets: Any
