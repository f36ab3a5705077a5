"""How displays look: forms that tell things apart in print, colors that all eyes tell apart."""

from textwrap import fill
from typing import Any

from skinfluence.display._optional import load_pyplot

# Of Okabe and Ito; in grey, from dark to light: INK, MAIN, ALERT, QUIET.
INK = "black"
MAIN = "#0072B2"
ALERT = "#D55E00"
QUIET = "#999999"
PALE = "#D9D9D9"
# Lines of several methods: color, dashes, marker.
LINES = (
    (MAIN, "-", "o"),
    (ALERT, "--", "s"),
    ("#009E73", "-.", "^"),
    (INK, (0, (5, 1, 1, 1, 1, 1)), "D"),
    ("#CC79A7", (0, (1, 1)), "v"),
    ("#56B4E9", (0, (8, 2)), "P"),
)
# Light to dark, by lightness alone; the lightest is not white, the darkest not black.
SHADES = "Greys"
# Width of a letter on the mean, in units of the font size.
_LETTER = 0.57


def axes_for(what: str, ax: Any, size: tuple[float, float] | None = None) -> Any:
    """Give axes to draw on: those given, or those of a new figure of that size in inches."""
    if ax is not None:
        return ax
    pyplot = load_pyplot(what)
    _, ax = pyplot.subplots(figsize=size, layout="constrained")
    return ax


def wrapped(ax: Any, text: str, size: float) -> str:
    """Break a heading of that font size into lines as wide as the axes, or a figure they fill."""
    figure = ax.figure
    alone = len(figure.axes) == 1
    width = figure.get_figwidth() if alone else ax.get_window_extent().width / figure.dpi
    return fill(text, max(12, int(width * 72 / (size * _LETTER))))


def shorten(value: object, most: int = 14) -> str:
    """Write a label or a number within so many characters."""
    text = _digits(value) if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _digits(number: float) -> str:
    """Write a number with three digits, or all that are before the point."""
    size = abs(number)
    return f"{number:,.0f}" if 999.5 <= size < 1e7 else f"{number:.3g}"


def counted(n: int, what: str) -> str:
    """Count things: one row, 1,200 rows."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def line_style(number: int) -> dict[str, Any]:
    """Give the line of the method with that number, unlike those before it."""
    color, dashes, marker = LINES[number % len(LINES)]
    look = {"color": color, "linestyle": dashes, "linewidth": 1.8}
    # where dashes come again, markers begin
    return look if number < len(LINES) else {**look, "marker": marker, "markevery": 0.1}
