"""The way back: a person's decisions go into a copy of the table."""

import csv
import io
from pathlib import Path
from typing import Any

from skinfluence.report._cells import as_it_was, write_rows
from skinfluence.report._errors import AuditError
from skinfluence.report._files import written_whole
from skinfluence.report._reading import Table, delimiter_of, read_text

_DECISIONS = ("keep", "relabel", "drop")


def apply_review(review: Path, data: Path, out: Path, *, force: bool = False) -> dict[str, Any]:
    """Write the table as decided, and what was done beside it; changed rows stay, by number."""
    log = out.with_name(f"{out.name}.decisions.csv")
    for path in (out, log):
        if path.exists() and (not force or path.resolve() in {data.resolve(), review.resolve()}):
            raise AuditError(f"{path} exists: name another by --out, or say --force.")
    if data.suffix.lower() == ".parquet":
        raise AuditError(f"apply works on text, byte for byte, but {data} is parquet.")
    table, decided = read_text(data), _decisions(read_text(review))
    if delimiter_of(out) != delimiter_of(data):
        raise AuditError(f"{out} has another ending than {data}: give both the same.")
    assert table.records is not None
    records: list[str | None] = list(table.records)
    done = []
    for line in decided:
        row = line["row"] - 1
        if row >= len(table.cells) or table.fingerprint(row) != line["fingerprint"]:
            done.append([line["row"], line["decision"], "refused: the row has changed", "", ""])
            continue
        done.append(_carry_out(table, records, row, line))
    header = ["row", "decision", "outcome", "before", "after"]
    with written_whole(out, log) as (cleaned, decisions):
        text = table.head + "".join(record for record in records if record is not None)
        cleaned.write_bytes(text.encode())
        write_rows(decisions, header, done)
    outcomes = [entry[2] for entry in done]
    return {
        "kept": outcomes.count("kept"),
        "relabelled": outcomes.count("relabelled"),
        "dropped": outcomes.count("dropped"),
        "refused": [entry[0] for entry in done if str(entry[2]).startswith("refused")],
    }


def _carry_out(
    table: Table, records: list[str | None], row: int, line: dict[str, Any]
) -> list[object]:
    """Change one record as decided."""
    column = _column(table, line["target"])
    before, record = table.cells[row][column], str(records[row])
    if line["decision"] == "keep":
        return [row + 1, "keep", "kept", before, before]
    if line["decision"] == "drop":
        records[row] = None
        return [row + 1, "drop", "dropped", before, ""]
    cells = list(table.cells[row])
    cells[column] = line["suggested"]
    end = record[len(record.rstrip("\r\n")) :]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter_of(table.path), lineterminator=end).writerow(cells)
    records[row] = text.getvalue()
    return [row + 1, "relabel", "relabelled", before, line["suggested"]]


def _column(table: Table, target: str) -> int:
    if target not in table.header:
        raise AuditError(f"{table.path} has no column {target!r}, which the review is of.")
    return table.header.index(target)


def _decisions(review: Table) -> list[dict[str, Any]]:
    """Read the rows with a decision, or say which line holds none that is known."""
    kind = "value" if "suggested_value" in review.header else "label"
    names = ("row", "decision", f"suggested_{kind}", "target", "fingerprint")
    missing = [name for name in names if name not in review.header]
    if missing:
        raise AuditError(f"{review.path} is no review: it has no column {missing[0]!r}.")
    found, seen = [], set()
    for cells in review.cells:
        row, decision, suggested, target, fingerprint = (
            as_it_was(cells[review.header.index(name)]) for name in names
        )
        decision = decision.strip().lower()
        if not decision:
            continue
        if decision not in _DECISIONS:
            raise AuditError(
                f"Row {row} of {review.path} has the decision {decision!r}, but expected keep, "
                "relabel, drop, or nothing."
            )
        if not row.isdecimal() or int(row) < 1 or row in seen:
            raise AuditError(f"{review.path} names row {row!r}, which is no row, or named twice.")
        if decision == "relabel" and not suggested.strip():
            raise AuditError(f"Row {row} of {review.path} is to be relabelled, but to nothing.")
        seen.add(row)
        line = {"row": int(row), "decision": decision, "suggested": suggested, "target": target}
        found.append({**line, "fingerprint": fingerprint})
    return found
