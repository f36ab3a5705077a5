"""Cells of text that a spreadsheet takes for text, and the way back."""

import csv
import re
from collections.abc import Iterable
from pathlib import Path

from skinfluence.rows._containers import is_number

_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def inert(value: object) -> str:
    """Put an apostrophe before what a spreadsheet might run; numbers stay."""
    text = str(value)
    if isinstance(value, int | float) or not _FORMULA.match(text) or is_number(text):
        return text
    return f"'{text}"


def as_it_was(text: str) -> str:
    """Take the apostrophe away again."""
    return text[1:] if text[:1] == "'" and _FORMULA.match(text) else text


def write_rows(path: Path, header: list[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a table of inert cells."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([inert(name) for name in header])
        writer.writerows([inert(value) for value in row] for row in rows)
