"""Tables out of files: as text, cell by cell, and as typed columns."""

import codecs
import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skinfluence.display._optional import load_pandas
from skinfluence.report._errors import AuditError

_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_LONGEST_CELL = 2**30


@dataclass(frozen=True)
class Table:
    """The rows of a file."""

    path: Path
    header: list[str]
    cells: list[list[str]]  # as text
    records: list[str] | None  # the very characters of each row; None of a parquet file
    head: str  # the very characters of the header
    typed: Any  # data frame

    def column(self, name: str) -> list[str]:
        """Give the texts of a column."""
        number = self.header.index(name)
        return [row[number] for row in self.cells]

    def fingerprint(self, row: int) -> str:
        """Name what a row holds, to see later whether it was changed."""
        content = "\x1f".join(self.cells[row])
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def delimiter_of(path: Path) -> str:
    """Tell what stands between the cells by the name of the file."""
    if path.suffix.lower() not in _DELIMITERS:
        raise AuditError(f"{path} is none of the kinds that are read: .csv, .tsv, .parquet.")
    return _DELIMITERS[path.suffix.lower()]


def read_table(path: Path) -> Table:
    """Read a file, or say in one line what is wrong with it."""
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path)
    return read_text(path)


def read_text(path: Path) -> Table:
    """Read a file of delimited text."""
    pandas = load_pandas("audit")

    delimiter, content = delimiter_of(path), _content(path)
    text = _decoded(path, content)
    lines = list(io.StringIO(text, newline=""))
    try:
        header, cells, records, head = _split(path, lines, delimiter)
        typed = pandas.read_csv(
            io.StringIO(text),
            sep=delimiter,
            skipinitialspace=True,
            index_col=False,
            low_memory=False,
        )
    except (csv.Error, pandas.errors.ParserError) as error:
        raise AuditError(f"{path} cannot be read: {_one_line(error)}") from None
    if typed.shape != (len(cells), len(header)):
        raise AuditError(
            f"{path} is read as {typed.shape[0]} rows of {typed.shape[1]} cells by pandas, but has "
            f"{len(cells)} rows of {len(header)}. Are its quotation marks in pairs?"
        )
    typed.columns = header
    if content.startswith(codecs.BOM_UTF8):  # which what is written has, too
        head = f"\ufeff{head}"
    return Table(path, header, cells, records, head, typed)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise AuditError(f"There is no file {path}.") from None
    except IsADirectoryError:
        raise AuditError(f"{path} is a folder, but expected a file.") from None
    except PermissionError:
        raise AuditError(f"{path} may not be read: permission denied.") from None


def _decoded(path: Path, content: bytes) -> str:
    if b"\0" in content[:65536]:
        raise AuditError(f"{path} is a binary file, but expected text: .csv or .tsv in UTF-8.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise AuditError(
            f"{path} is not in UTF-8: line {line} holds the byte 0x{content[error.start]:02x}. "
            "Save it in UTF-8."
        ) from None


def _split(
    path: Path, lines: list[str], delimiter: str
) -> tuple[list[str], list[list[str]], list[str], str]:
    """Cut the lines into rows and cells; every row must have a cell for each column."""
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    rows: list[list[str]] = []
    records, before = [], 0
    for row in reader:
        if row:
            if rows and len(row) != len(rows[0]):
                raise AuditError(
                    f"Line {before + 1} of {path} has {len(row)} cells, but the header has "
                    f"{len(rows[0])}."
                )
            rows.append(row)
            records.append("".join(lines[before : reader.line_num]))
        before = reader.line_num
    if len(rows) < 2:
        raise AuditError(f"{path} has no rows: expected a header and rows under it.")
    # as pandas names what has no name, such as the index of a table that it wrote
    header = [name or f"Unnamed: {number}" for number, name in enumerate(rows[0])]
    _check_header(path, header)
    return header, rows[1:], records[1:], records[0]


def _check_header(path: Path, header: list[str]) -> None:
    for mark in ";\t,":
        if len(header) == 1 and mark in header[0]:
            raise AuditError(
                f"{path} has one column, {header[0]!r}. Is {mark!r} what stands between its cells? "
                "A .csv file has commas, a .tsv file tabs."
            )
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise AuditError(f"{path} has more than one column named {twice[0]!r}.")


def _read_parquet(path: Path) -> Table:
    pandas = load_pandas("audit")

    content = _content(path)
    try:
        typed = pandas.read_parquet(io.BytesIO(content))
    except ImportError:
        raise AuditError(
            "Parquet needs pyarrow, which is not installed: pip install 'skinfluence[audit]'."
        ) from None
    except (OSError, ValueError) as error:
        raise AuditError(f"{path} cannot be read as parquet: {_one_line(error)}") from None
    if not len(typed):
        raise AuditError(f"{path} has no rows.")
    typed = typed.reset_index(drop=True)
    typed.columns = [str(name) for name in typed.columns]
    header = list(typed.columns)
    _check_header(path, header)
    texts = typed.astype(object).where(typed.notna(), "")
    cells = [[str(value) for value in row] for row in texts.itertuples(index=False, name=None)]
    return Table(path, header, cells, None, "", typed)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
