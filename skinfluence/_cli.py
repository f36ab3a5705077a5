"""The command `skinfluence`: audit, apply, demo."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from skinfluence.report import (
    METHODS,
    AuditError,
    Settings,
    apply_review,
    audit_table,
    bars_shown,
    output_folder,
    read_table,
    write_audit,
    write_demo,
    written_whole,
)

_GATE, _USAGE, _INTERRUPTED = 1, 2, 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line."""
        self.exit(_USAGE, f"skinfluence: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, 1 where a gate fails or rows are refused, 2 for bad usage."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except AuditError as error:
        print(f"skinfluence: {error}", file=sys.stderr)
        return _USAGE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"skinfluence: {where}{error.strerror or error}.", file=sys.stderr)
        return _USAGE
    except KeyboardInterrupt:
        print("skinfluence: interrupted; nothing was written.", file=sys.stderr)
        return _INTERRUPTED
    return code


def _parser() -> _Parser:
    parser = _Parser(prog="skinfluence", description="Which rows of a table are wrong?")
    commands = parser.add_subparsers(required=True, metavar="{audit,apply,demo}")
    audit = commands.add_parser("audit", help="look for wrong targets in a table")
    audit.add_argument("data", type=Path, help=".csv, .tsv (UTF-8) or .parquet, with a header")
    audit.add_argument("--target", "-t", required=True, help="the column to audit")
    audit.add_argument("--task", choices=["classification", "regression"])
    audit.add_argument("--id-column", help="names rows; it is not looked at")
    audit.add_argument("--ignore", action="append", default=[], help="a column to leave out")
    audit.add_argument(
        "--by", help="a column of annotators, sources or days to compare; models do not see it"
    )
    audit.add_argument(
        "--method",
        choices=METHODS,
        default="committee",
        help="what judges the rows: a committee of small models, a forest alone, or one net on "
        "five folds",
    )
    audit.add_argument("--device", default="cpu", help="where the net of --method net is trained")
    audit.add_argument("--fdr", type=_share, default=0.2, help="false alarms among flagged rows")
    audit.add_argument(
        "--n-flag", type=_number_of_rows, help="flag so many of the worst rows instead"
    )
    audit.add_argument("--fail-over", type=_share, help="exit 1 if more of the rows look wrong")
    audit.add_argument("--seed", type=_count, default=0)
    audit.add_argument("--out", type=Path, help="folder; by default DATA-audit beside the data")
    _add_common(audit, _audit)
    audit.add_argument("--json", action="store_true", help="print report.json")
    apply = commands.add_parser("apply", help="carry out the decisions of a review")
    apply.add_argument("review", type=Path)
    apply.add_argument("data", type=Path)
    apply.add_argument("--out", type=Path, required=True)
    _add_common(apply, _apply)
    demo = commands.add_parser("demo", help="audit a small table with planted errors")
    demo.add_argument("--out", type=Path, default=Path("skinfluence-demo"))
    demo.add_argument("--seed", type=_count, default=0)
    _add_common(demo, _demo)
    return parser


def _add_common(parser: argparse.ArgumentParser, run: Any) -> None:
    parser.add_argument("--force", action="store_true", help="write over what is there")
    parser.add_argument("--quiet", action="store_true", help="say nothing but errors")
    parser.set_defaults(run=run)


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not in (0, 1)")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def _number_of_rows(text: str) -> int:
    value = _count(text)
    if not value:
        raise argparse.ArgumentTypeError("0 rows are none")
    return value


def _audit(options: argparse.Namespace) -> int:
    data: Path = options.data
    out = options.out or data.with_name(f"{data.stem}-audit")
    names = ("target", "id_column", "by", "task", "fdr", "n_flag", "seed", "method", "device")
    chosen = {name: getattr(options, name) for name in names}
    settings = Settings(ignore=tuple(options.ignore), **chosen)
    facts = _audit_into(data, out, settings, options)
    if options.json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
    if options.fail_over is not None and facts["expected_share"] > options.fail_over:
        print(
            f"skinfluence: {facts['expected_share']:.1%} of the rows are expected to be wrong, "
            f"more than {options.fail_over:.1%}.",
            file=sys.stderr,
        )
        return _GATE
    return 0


def _audit_into(
    data: Path, out: Path, settings: Settings, options: argparse.Namespace
) -> dict[str, Any]:
    """Audit a file, and say what was found."""

    def say(text: str) -> None:
        if not options.quiet:
            print(text, file=sys.stderr, flush=True)

    table = read_table(data)
    with output_folder(out, force=options.force) as folder:
        with bars_shown(wanted=not options.quiet and sys.stderr.isatty()):
            audit = audit_table(table, settings, say)
        facts = write_audit(audit, folder)
    low, high = facts["interval"]
    say(
        f"{facts['expected_errors']:,.0f} of {facts['n_rows']:,} targets are expected to be wrong "
        f"({low:,.0f} to {high:,.0f}); {facts['n_flagged']} are flagged"
    )
    if not facts["errors_told_from_hard_rows"]:
        say("but the data cannot tell errors from rows that are hard to predict")
    say(f"see {out / 'report.html'}, decide in {out / 'review.csv'}")
    return facts


def _apply(options: argparse.Namespace) -> int:
    done = apply_review(options.review, options.data, options.out, force=options.force)
    if not options.quiet:
        print(
            f"{done['relabelled']} rows relabelled, {done['dropped']} dropped, {done['kept']} kept "
            f"as they are; see {options.out}.decisions.csv",
            file=sys.stderr,
        )
    if done["refused"]:
        rows = ", ".join(map(str, done["refused"]))
        print(f"skinfluence: refused, as they have changed: rows {rows}.", file=sys.stderr)
        return _GATE
    return 0


def _demo(options: argparse.Namespace) -> int:
    out: Path = options.out
    data = out.with_name(f"{out.name}.csv")
    if data.exists() and not options.force:
        raise AuditError(f"{data} exists: name another by --out, or say --force.")
    with written_whole(data) as (place,):
        planted = write_demo(place, options.seed)
        settings = Settings(target="grower", seed=options.seed, n_flag=len(planted))
        facts = _audit_into(place, out, settings, options)
    print(f"{len(planted)} errors were planted in {data}, in rows {', '.join(map(str, planted))}.")
    print(f"{facts['expected_errors']:.0f} were expected; the list is {out / 'review.csv'}.")
    return 0
