"""The report: one file that asks nothing of the network."""

import base64
import io
from pathlib import Path
from typing import Any

from skinfluence.display import DataMapDisplay, DetrimentalityDisplay, NoiseMatrixDisplay
from skinfluence.report._audit import Audit
from skinfluence.report._errors import AuditError

_MOST_ROWS = 200
_MOST_CLASSES = 30


def write_html(audit: Audit, facts: dict[str, Any], path: Path) -> None:
    """Fill the template; all that comes from the table is escaped."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError:
        raise AuditError(
            "A report needs jinja2, which is not installed: pip install 'skinfluence[audit]'."
        ) from None
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, loader=PackageLoader("skinfluence.report", ".")
    )
    environment.filters["values_of"] = lambda line: list(line.values())
    page = environment.get_template("report.html.jinja").render(
        facts={"classes": None, "groups": None, **facts},
        rows=_rows(audit),
        header=_header(audit),
        pictures=_pictures(audit),
        code=code_of(audit),
    )
    path.write_text(page, encoding="utf-8")


def code_of(audit: Audit) -> str:
    """Write the lines of Python that score the rows alike."""
    settings = audit.settings
    reader = "read_parquet" if audit.table.records is None else "read_csv"
    options = "" if audit.table.records is None else ", skipinitialspace=True"
    if audit.table.path.suffix.lower() in {".tsv", ".tab"}:
        options += ", sep='\\t'"
    left_out = [settings.target, *filter(None, [settings.id_column]), *settings.ignore]
    task = "regression" if audit.is_numeric else "classification"
    y = f"table[{settings.target!r}]" + ("" if audit.is_numeric else ".astype(str)")
    return f"""import pandas
import skrub
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from skinfluence import OutlierGradientDetector

table = pandas.{reader}({audit.table.path.name!r}{options})
texts = skrub.StringEncoder(random_state={settings.seed})
columns = make_pipeline(
    skrub.TableVectorizer(high_cardinality=texts), SimpleImputer(strategy="median")
)
X = columns.fit_transform(table.drop(columns={list(dict.fromkeys(left_out))!r}))
y = {y}.to_numpy()
method = OutlierGradientDetector(task={task!r}, random_state={settings.seed}).fit(X, y)
method.ranking_  # rows from 0, most detrimental first
"""


def _header(audit: Audit) -> list[str]:
    kind = "value" if audit.is_numeric else "label"
    names = ["row", *(["id"] if audit.settings.id_column else [])]
    return [*names, f"given {kind}", f"suggested {kind}", "chance wrong", "why", *_shown(audit)]


def _shown(audit: Audit) -> list[str]:
    left_out = {audit.settings.target, audit.settings.id_column, *audit.settings.ignore}
    return [name for name in audit.table.header if name not in left_out]


def _rows(audit: Audit) -> list[list[str]]:
    """Give the texts of the worst rows."""
    from skinfluence.report._output import reason_of

    table, settings = audit.table, audit.settings
    given = table.column(settings.target)
    ids = table.column(settings.id_column) if settings.id_column else None
    shown = [table.header.index(name) for name in _shown(audit)]
    lines = []
    for row in audit.review[:_MOST_ROWS].tolist():
        suggested = audit.suggested[row]
        text = f"{suggested:.6g}" if audit.is_numeric else str(suggested)
        first = [str(row + 1), *([ids[row]] if ids else []), given[row], text]
        wrong = f"{audit.errors.p_wrong[row]:.3f}"
        cells = [table.cells[row][number] for number in shown]
        lines.append([*first, wrong, reason_of(audit, row), *cells])
    return lines


def _pictures(audit: Audit) -> list[tuple[str, str]]:
    """Draw what there is to see, as (what it is, data address of an SVG)."""
    drawn: list[tuple[str, Any, tuple[Any, ...]]] = [
        ("How the scores are spread", DetrimentalityDisplay, (audit.method,))
    ]
    if not audit.is_numeric:
        data = audit.method, audit.inputs, audit.given
        if len(audit.method.classes_) <= _MOST_CLASSES:
            matrix = "Labels given against classes expected"
            drawn.append((matrix, NoiseMatrixDisplay, (audit.method, audit.given)))
        drawn.append(("How sure the training was of each label", DataMapDisplay, data))
    return [(name, _svg(display, arguments)) for name, display, arguments in drawn]


def _svg(display: Any, arguments: tuple[Any, ...]) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # without pyplot, which would keep the figure and ask for a screen
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    settings: Any = {"text.parse_math": False, "svg.hashsalt": "skinfluence"}
    with mpl.rc_context(settings):
        drawn = display.from_estimator(*arguments, ax=figure.add_subplot())
        if drawn.ax_.get_yscale() == "log":  # whose own labels are mathematics
            drawn.ax_.yaxis.set_major_formatter("{x:,.0f}")
            drawn.ax_.yaxis.set_minor_formatter("")
        for crowd in drawn.ax_.collections:  # of many thousand points, one picture
            crowd.set_rasterized(len(crowd.get_offsets()) > 2000)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None}, dpi=150)
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()
