"""The role ``:measured:`file; row; column```: a figure from a table of benchmarks/results.

Figures are read when the manual is built, so that a page never quotes one that a new run of the
benchmark has replaced. A row or column that is gone fails the build.
"""

import re
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxRole

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def cells(line):
    """Split a row of a Markdown table."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def figure(file, row, column):
    """Read a cell of the first table that has both: the number it begins with, as it stands."""
    header = []
    for line in (RESULTS / file).read_text().splitlines():
        if not line.startswith("|"):
            header = []
        elif not header:
            header = cells(line)
        elif cells(line)[0] == row and column in header:
            return re.match(r"[+-]?[\d.]+(e-?\d+)?", cells(line)[header.index(column)])[0]
    raise ValueError(f"{file} has no table with a row {row!r} and a column {column!r}")


class Measured(SphinxRole):
    """The figure, to as many digits as a fourth argument says, or as it stands."""

    def run(self):
        """Put the figure in place of the role."""
        file, row, column, *digits = (part.strip() for part in self.text.split(";"))
        try:
            value = figure(file, row, column)
        except ValueError as error:
            message = self.inliner.reporter.error(str(error), line=self.lineno)
            return [self.inliner.problematic(self.rawtext, self.rawtext, message)], [message]
        self.env.note_dependency(str(RESULTS / file))
        text = f"{float(value):.{digits[0]}f}" if digits else value
        return [nodes.inline(text, text, classes=["measured"])], []


def setup(app):
    """Add the role."""
    app.add_role("measured", Measured())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
