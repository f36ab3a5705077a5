"""The files of an audit: all of them, or none."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from skinfluence.report._audit import Audit
from skinfluence.report._cells import write_rows
from skinfluence.report._errors import AuditError
from skinfluence.report._files import put_in_place, uninterrupted
from skinfluence.report._html import write_html
from skinfluence.report._words import Words

_LIBRARIES = ("skinfluence", "scikit-learn", "torch", "skorch", "skrub", "pandas", "numpy")


@contextmanager
def output_folder(out: Path, *, force: bool) -> Iterator[Path]:
    """Give a folder to write to, whose files come to `out` when all went well."""
    if out.exists() and not out.is_dir():
        raise AuditError(f"{out} is a file, but expected a folder to write to.")
    if out.is_dir() and any(out.iterdir()) and not force:
        raise AuditError(f"Folder {out} is not empty: name another by --out, or say --force.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise AuditError(f"Cannot write beside {out}: {error.strerror}.") from None
    is_new = False
    try:
        yield folder
        is_new = not out.exists()
        out.mkdir(exist_ok=True)
        with uninterrupted():
            put_in_place({path: out / path.name for path in sorted(folder.iterdir())}, folder)
    except OSError as error:
        raise AuditError(f"Cannot write to {out}: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if is_new and out.is_dir() and not any(out.iterdir()):
            out.rmdir()


def write_audit(audit: Audit, folder: Path) -> dict[str, Any]:
    """Write the four files; give the facts of report.json."""
    facts = facts_of(audit)
    _write_scores(audit, folder / "scores.csv")
    _write_review(audit, folder / "review.csv")
    text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    write_html(audit, facts, folder / "report.html")
    return facts


def facts_of(audit: Audit) -> dict[str, Any]:
    """Gather what the report says, as plain values."""
    errors, settings = audit.errors, audit.settings
    facts: dict[str, Any] = {
        "file": audit.table.path.name,
        "target": settings.target,
        "task": "regression" if audit.is_numeric else "classification",
        "n_rows": len(audit.given),
        "expected_errors": errors.expected,
        "expected_share": errors.expected / len(audit.given),
        "interval": list(errors.interval),
        "errors_told_from_hard_rows": errors.is_known,
        "n_flagged": len(audit.flagged),
        "flagged_by": f"--n-flag {settings.n_flag}"
        if settings.n_flag is not None
        else f"a rate of false alarms of {settings.fdr:g}",
        "n_to_review": len(audit.review),
        "conflicting_pairs": (audit.conflicts + 1).tolist(),
        "columns": [vars(column) for column in audit.columns],
        "warnings": audit.warnings,
        "not_checked": [
            "whether rows are missing, or belong to another table",
            "errors in other columns than the target",
            "errors that all models repeat, such as a rule that mislabels a whole kind of rows",
            "whether people agree where classes shade into each other: there, hard rows may look "
            "like errors, and fewer are wrong than are expected or flagged",
        ],
        "settings": {**vars(settings), "ignore": list(settings.ignore)},
        "versions": {name: version(name) for name in _LIBRARIES},
        "seconds": round(audit.seconds, 1),
    }
    if not audit.is_numeric:
        classes, counts = np.unique(audit.given, return_counts=True)
        facts["classes"] = dict(zip(classes.tolist(), counts.tolist(), strict=True))
    if hasattr(audit.method, "committee_"):
        weights = audit.method.committee_.weights
        facts["weights_of_members"] = {name: round(value, 3) for name, value in weights.items()}
    if audit.groups is not None:
        rows = audit.groups.reset_index(names="group").to_dict("records")
        facts["groups"] = [{k: _plain(v) for k, v in row.items()} for row in rows]
    return facts


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if value != value else value  # noqa: PLR0124 - NaN has no place in JSON


def _kind(audit: Audit) -> str:
    return "value" if audit.is_numeric else "label"


def _identity(audit: Audit) -> tuple[list[str], list[list[object]]]:
    """Give what names each row: its number, and its id if there is one."""
    numbers: list[list[object]] = [[row + 1] for row in range(len(audit.given))]
    if audit.settings.id_column is None:
        return ["row"], numbers
    ids = audit.table.column(audit.settings.id_column)
    named = [[*number, name] for number, name in zip(numbers, ids, strict=True)]
    return ["row", "id"], named


def _write_scores(audit: Audit, path: Path) -> None:
    names, identity = _identity(audit)
    words = Words(audit)
    flags = np.zeros(len(audit.given), dtype=bool)
    flags[audit.flagged] = True
    columns = [audit.issues[name].tolist() for name in audit.issues.columns]
    columns += [audit.errors.p_wrong.tolist(), np.where(flags, "yes", "no").tolist()]
    rows = (
        [*identity[row], *(column[row] for column in columns), words.reason(row)]
        for row in range(len(audit.given))
    )
    header = [*names, *audit.issues.columns, "p_wrong", "flagged", "reason"]
    write_rows(path, header, rows)


def _write_review(audit: Audit, path: Path) -> None:
    names, identity = _identity(audit)
    words = Words(audit)
    kind, table, flagged = _kind(audit), audit.table, set(audit.flagged.tolist())
    features = [number for number, name in enumerate(table.header) if name != audit.settings.target]
    header = [*names, "decision", f"suggested_{kind}", f"given_{kind}", "flagged", "reason"]
    header += [
        words.near_name.replace(" ", "_"),
        "target",
        "fingerprint",
        *(f"data.{table.header[number]}" for number in features),
    ]
    given = table.column(audit.settings.target)
    rows = (
        [
            *identity[row],
            "",
            audit.suggested[row],
            given[row],
            "yes" if row in flagged else "no",
            words.reason(row),
            words.near(near),
            audit.settings.target,
            table.fingerprint(row),
            *(table.cells[row][number] for number in features),
        ]
        for row, near in zip(audit.review.tolist(), audit.nearest, strict=True)
    )
    write_rows(path, header, rows)
