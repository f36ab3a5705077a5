"""The report: one file that asks nothing of the network."""

import base64
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from skinfluence.display import DataMapDisplay, DetrimentalityDisplay, NoiseMatrixDisplay
from skinfluence.display._course import lacks_course
from skinfluence.report._audit import Audit
from skinfluence.report._errors import AuditError
from skinfluence.report._words import Words

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
    environment.filters["values_of"] = lambda line: [_shortly(value) for value in line.values()]
    page = environment.get_template("report.html.jinja").render(
        facts={"classes": None, "groups": None, "weights_of_members": None, **facts},
        rows=_rows(audit),
        header=_header(audit),
        shown=_shown(audit),
        pictures=_pictures(audit),
        code=code_of(audit),
    )
    path.write_text(page, encoding="utf-8")


def code_of(audit: Audit) -> str:
    """Write the lines of Python that score the rows alike."""
    settings, (imports, lines) = audit.settings, audit.choice.code()
    target, seed = settings.target, settings.seed
    reader, options = "read_parquet", ""
    y = f"table[{target!r}]"
    if audit.table.records is not None:
        reader, options = "read_csv", ", skipinitialspace=True"
        if audit.table.path.suffix.lower() in {".tsv", ".tab"}:
            options += ", sep='\\t'"
        if not audit.is_numeric:  # as it stands there: "01" is another class than "1"
            options += f", converters={{{target!r}: str.strip}}"
            if "None" in audit.given:  # which pandas takes for a missing one all the same
                y += ".fillna('None')"
    elif not audit.is_numeric:
        y += ".astype(str).str.strip()"
    return "\n".join(
        [
            "import pandas",
            "import skrub",
            "from sklearn.impute import SimpleImputer",
            "from sklearn.pipeline import make_pipeline",
            *imports,
            "",
            f"table = pandas.{reader}({audit.table.path.name!r}{options})",
            f"texts = skrub.StringEncoder(random_state={seed})",
            "columns = make_pipeline(",
            '    skrub.TableVectorizer(high_cardinality=texts), SimpleImputer(strategy="median")',
            ")",
            f"X = columns.fit_transform(table.drop(columns={settings.left_out!r}))",
            f"y = {y}.to_numpy()",
            *lines,
            "method.ranking_  # rows from 0, most detrimental first",
            "",
        ]
    )


def _header(audit: Audit) -> list[str]:
    kind = "value" if audit.is_numeric else "label"
    names = ["row", *(["id"] if audit.settings.id_column else [])]
    names += [f"given {kind}", f"suggested {kind}", "chance wrong", "why", Words(audit).near_name]
    return names


def _shown(audit: Audit) -> list[str]:
    hidden = {audit.settings.target, audit.settings.id_column, *audit.settings.ignore}
    return [name for name in audit.table.header if name not in hidden]


def _shortly(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _rows(audit: Audit) -> list[tuple[list[str], list[str]]]:
    """Give what is said of the worst rows, and the rows."""
    table, settings = audit.table, audit.settings
    given = table.column(settings.target)
    ids = table.column(settings.id_column) if settings.id_column else None
    shown = [table.header.index(name) for name in _shown(audit)]
    lines, words = [], Words(audit)
    for row, near in zip(audit.review[:_MOST_ROWS].tolist(), audit.nearest, strict=False):
        suggested = audit.suggested[row]
        text = f"{suggested:.6g}" if audit.is_numeric else str(suggested)
        first = [str(row + 1), *([ids[row]] if ids else []), given[row], text]
        wrong = f"{audit.errors.p_wrong[row]:.3f}"
        cells = [table.cells[row][number] for number in shown]
        lines.append(([*first, wrong, words.reason(row), words.near(near)], cells))
    return lines


def _pictures(audit: Audit) -> list[tuple[str, str]]:
    """Draw what there is to see, as (what it is, data address of an SVG)."""
    method, scores = audit.method, audit.method.detrimentality_
    last = scores[method.ranking_[len(audit.flagged) - 1 : len(audit.flagged) + 1]]
    threshold = float(last.mean()) if len(audit.flagged) and len(last) == 2 else None
    of_scores = partial(DetrimentalityDisplay.from_predictions, scores, threshold=threshold)
    drawn: list[tuple[str, Callable[..., Any]]] = [("How the scores are spread", of_scores)]
    if not audit.is_numeric:
        if len(method.classes_) <= _MOST_CLASSES:
            matrix = partial(NoiseMatrixDisplay.from_estimator, method, audit.given)
            drawn.append(("Labels given against classes expected", matrix))
        if not lacks_course(method):
            course = partial(DataMapDisplay.from_estimator, method, audit.inputs, audit.given)
            drawn.append(("How sure the training was of each label", course))
    return [(name, _svg(draw)) for name, draw in drawn]


def _svg(draw: Callable[..., Any]) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # without pyplot, which would keep the figure and ask for a screen
    figure = Figure(figsize=(5.4, 4.1), layout="constrained")
    settings: Any = {"text.parse_math": False, "svg.hashsalt": "skinfluence"}
    with mpl.rc_context(settings):
        drawn = draw(ax=figure.add_subplot())
        if drawn.ax_.get_yscale() == "log":  # whose own labels are mathematics
            drawn.ax_.yaxis.set_major_formatter("{x:,.0f}")
            drawn.ax_.yaxis.set_minor_formatter("")
        for crowd in drawn.ax_.collections:  # of many thousand points, one picture
            crowd.set_rasterized(len(crowd.get_offsets()) > 2000)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None}, dpi=150, bbox_inches="tight")
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()
