"""What is odd about the columns of a table."""

from dataclasses import dataclass

import numpy as np

from skinfluence.report._reading import Table

# A column with few values that tells so many rows' classes, where not all are of one, leaks them.
_LEAKS, _MOST_OF_ONE = 0.99, 0.95
_FEW_VALUES = 0.05
# So many spaces in a cell, on the mean, and it holds sentences.
_SPACES = 3


@dataclass(frozen=True)
class Column:
    """A column, and a remark on it, or none."""

    name: str
    kind: str
    n_missing: int
    n_distinct: int
    note: str


def columns_in(
    table: Table, features: list[str], given: np.ndarray, *, is_numeric: bool
) -> list[Column]:
    """Describe the columns that the target is judged by."""
    found = []
    for name in features:
        typed = table.typed[name]
        n_distinct = int(typed.nunique())
        whole = typed.dtype.kind not in "fb"
        note = ""
        if n_distinct == len(given) and whole and not _is_prose(table.column(name)):
            note = "has another value in every row: name it by --id-column or --ignore"
        elif n_distinct <= 1:
            note = "has one value alone"
        elif _leaks(np.array(table.column(name)), n_distinct, given, is_numeric=is_numeric):
            note = "nearly tells the target by itself: does it hold it?"
        found.append(Column(name, str(typed.dtype), int(typed.isna().sum()), n_distinct, note))
    return found


def _is_prose(texts: list[str]) -> bool:
    """Tell sentences, which hardly ever repeat, from names."""
    return sum(text.count(" ") for text in texts) >= _SPACES * len(texts)


def _leaks(texts: np.ndarray, n_distinct: int, given: np.ndarray, *, is_numeric: bool) -> bool:
    """Tell whether the rows with the same value are nearly all of one class."""
    if is_numeric or n_distinct > max(2, _FEW_VALUES * len(given)):
        return False
    values = np.unique(texts, return_inverse=True)[1]
    classes = np.unique(given, return_inverse=True)[1]
    counts = np.zeros((values.max() + 1, classes.max() + 1))
    np.add.at(counts, (values, classes), 1)
    told, largest = counts.max(1).sum() / len(given), counts.sum(0).max() / len(given)
    return bool(told >= _LEAKS and largest <= _MOST_OF_ONE)
