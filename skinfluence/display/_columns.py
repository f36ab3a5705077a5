"""Tables as they are shown, and which columns set a row apart from its class."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

# So many rows, or a tenth of all if that is more, have a number near enough to be compared with.
_FEWEST_PEERS = 20


class ColumnApart(NamedTuple):
    """A column of a row, and how it compares with the rows like it.

    Attributes
    ----------
    name : str
        Of the column.
    value : object
        What the row has there.
    typical : object
        The median of the other rows given its label; of what are no numbers, the most frequent.
    share : float
        Of these rows, the share that is at least as far from the median; of what are no numbers,
        the share with the same value.
    """

    name: str
    value: object
    typical: object
    share: float


def columns_of(X: Any) -> dict[str, np.ndarray] | None:
    """Read the columns of a table, or a list of texts, by name; None of what is neither."""
    if issparse(X) or isinstance(X, Mapping):
        return None
    if hasattr(X, "columns"):
        return {str(name): np.asarray(X[name]) for name in X.columns}
    if not (isinstance(X, list | tuple) or hasattr(X, "shape")):
        return None
    table = np.asarray(X)
    if table.ndim == 1:
        return {"text": table}
    if table.ndim > 2:
        return None
    return {f"x{number}": table[:, number] for number in range(table.shape[1])}


def peers_of(row: int, given: np.ndarray, *, is_numeric: bool) -> NDArray[np.intp]:
    """Name the other rows with the label of a row; of numbers, those with the nearest ones."""
    if not is_numeric:
        peers = np.flatnonzero(given == given[row])
    else:
        n_peers = max(_FEWEST_PEERS, len(given) // 10)
        peers = np.argsort(np.abs(given - given[row]), kind="stable")[: n_peers + 1]
    return np.asarray(peers[peers != row])


def columns_apart(
    columns: dict[str, np.ndarray], row: int, peers: NDArray[np.intp]
) -> list[ColumnApart]:
    """Compare a row with others, column by column; what fewest of them have comes first."""
    if not len(peers):
        return []
    found = [(_apart(name, values, row, peers)) for name, values in columns.items()]
    order = sorted(range(len(found)), key=lambda i: (found[i][0].share, -found[i][1]))
    return [found[i][0] for i in order]


def _apart(
    name: str, values: np.ndarray, row: int, peers: NDArray[np.intp]
) -> tuple[ColumnApart, float]:
    """Compare a row in one column; and say how far off it is, to tell equal shares apart."""
    value = values[row].item() if hasattr(values[row], "item") else values[row]
    others = values[peers]
    if values.dtype.kind in "iuf" and value == value:  # noqa: PLR0124 - NaN is no number
        others = others.astype(np.float64)
        others = others[~np.isnan(others)]
        middle = float(np.median(others)) if len(others) else float("nan")
        off = abs(value - middle)
        far = int((np.abs(others - middle) >= off).sum())
        spread = float(np.nanstd(values.astype(np.float64))) or 1.0
        return ColumnApart(name, value, middle, (1 + far) / (1 + len(peers))), off / spread
    texts = np.array([str(other) for other in others])
    kinds, counts = np.unique(texts, return_counts=True)
    same = int((texts == str(value)).sum())
    typical = str(kinds[counts.argmax()])
    return ColumnApart(name, value, typical, (1 + same) / (1 + len(peers))), 0.0
