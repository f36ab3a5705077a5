"""Why a row scores as it does: all that is known of it is gathered, and drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from skinfluence.display._answers import Answers, answers_of, method_of
from skinfluence.display._columns import columns_apart, columns_of, peers_of
from skinfluence.display._course import (
    codes_in,
    confidence_in,
    course_of,
    lacks_course,
    learnt_at,
)
from skinfluence.display._explanation import Explanation, Learning, RelatedRow
from skinfluence.display._gallery import Choice, SampleGalleryDisplay, Suspect, suspects_of
from skinfluence.display._kinds import N_NEAR, Fault, fault_of, stands_alone
from skinfluence.display._nearest import (
    closest_distances,
    comparable,
    distances_to,
    nearest,
)
from skinfluence.display._style import ALERT, MAIN, axes_for, shorten, wrapped
from skinfluence.rows._parameters import check_non_negative_integer, check_parameter, is_integer

# Nearly equal rows are nearer than that share of the typical distance, as for `conflicting_rows`.
_NEARLY = 0.1
_PANEL = (4.6, 3.6)


def explain(
    method: Any,
    X: Any,
    y: Any,
    row: int,
    *,
    n_neighbors: int = 5,
    n_influential: int = 3,
    n_columns: int = 5,
    image_shape: Sequence[int] | None = None,
) -> Explanation:
    """Gather what speaks for and against the label of one training row.

    Parameters
    ----------
    method : BaseDetrimentality or Pipeline
        Fitted; or a fitted pipeline that ends in a method, and `X` as it goes in.
    X, y : as the method was fitted on
        All training rows, in their order.
    row : int
        The number of the row, such as one of `ranking_`.
    n_neighbors : int, default=5
        How many of the nearest rows to name.
    n_influential : int, default=3
        How many proponents and opponents to name, of a method with `influence`.
    n_columns : int, default=5
        How many columns of a table to name.
    image_shape : tuple of int, optional
        (height, width) of images that are stored as rows of a table.

    Returns
    -------
    Explanation
        Print it, or call its `display`.

    Raises
    ------
    TypeError
        If `method` is no method of this package.
    ValueError
        If `row` is no row, or `X` and `y` are not those of the method.

    Notes
    -----
    Rows are near by the Euclidean distance of what the method sees of them: standardised columns of
    a table, pixels of images, directions of sparse rows. Nearly equal rows are nearer than a tenth
    of the typical distance, which is the median from a row to the nearest other one, over 200 rows.

    A column is judged by the other rows that were given the same label (of numbers, by the tenth of
    the rows whose numbers are nearest): which share of them is at least as far from their median,
    or, where it holds no numbers, has the same value. The columns with the smallest shares come
    first. Each column is judged alone, so that a row whose columns are common, but not together, is
    not seen.

    The kind of fault is said by plain grounds, in this order. "wrong label": another label has a
    probability above a half, by models that were not trained on the row (of a committee, the label
    given known, too, which is right more often than not), and most of the five nearest rows are
    given it. "rare": the nearest row is farther away than that of nine rows in
    ten. "ambiguous": of the label given and the likeliest other one, the less likely has at least
    half the probability of the other, or the other is likelier and the five nearest rows are given
    both. Inputs that are unusable cannot be told from wrong labels
    (``benchmarks/results/label_errors.md``).

    Cost: the distances from the row to all others and among 200 of them; where a training was
    followed, the row's forward passes; where the method has `influence`, one query.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skinfluence import OutlierGradientDetector
    >>> from skinfluence.display import explain
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> y[3] = 2
    >>> method = OutlierGradientDetector(committee=["kernels"], random_state=0).fit(X, y)
    >>> why = explain(method, X, y, 3, n_neighbors=3)
    >>> why.given, why.predicted, [near.label for near in why.neighbors]
    (2, 0, [0, 0, 0])
    >>> print(why.text.splitlines()[0])
    Row 3: detrimentality ..., number 1 of 150 from the most detrimental down.
    """
    answers = answers_of(method, X, y, budget=0)
    n_rows = len(answers.given)
    check_parameter(
        "row",
        row,
        f"the number of a row, from 0 to {n_rows - 1}",
        holds=lambda value: is_integer(value) and 0 <= value < n_rows,
    )
    counts = {"n_neighbors": n_neighbors, "n_influential": n_influential, "n_columns": n_columns}
    for name, value in counts.items():
        check_non_negative_integer(name, value)
    method = method_of(method)
    found = answers.predictions
    place = _placed(answers, row)
    neighbors, conflicts = _related(answers, row, n_neighbors, place)
    helpful, harmful = _influential(method, answers, row, n_influential)
    is_image = image_shape is not None or getattr(X, "ndim", 2) > 2
    columns = None if is_image else columns_of(X)
    apart = []
    if columns is not None and n_columns:
        peers = peers_of(row, answers.given, is_numeric=answers.is_numeric)
        apart = columns_apart(columns, row, peers)[:n_columns]
    suspect, shown = None, None
    if is_image or columns is not None:
        choice = Choice([row], 3, image_shape, 4, True)
        suspect, shown = _as_shown(X, answers, choice, None if place is None else place.table)
    return Explanation(
        row=int(row),
        n_rows=n_rows,
        detrimentality=float(answers.detrimentality[row]),
        place=1 + int(np.flatnonzero(np.argsort(-answers.detrimentality, kind="stable") == row)[0]),
        given=_item(answers.given, row),
        predicted=None if found is None else _item(found.values, row),
        confidence=None
        if found is None or found.confidence is None
        else float(found.confidence[row]),
        out_of_sample=found is not None and found.out_of_sample,
        p_value=None if answers.p_values is None else float(answers.p_values[row]),
        learning=None if lacks_course(method) else _learning(method, answers, row),
        neighbors=neighbors,
        conflicts=conflicts,
        proponents=helpful,
        opponents=harmful,
        columns=apart,
        fault=_fault(method, answers, row, place),
        _suspect=suspect,
        _shown=shown,
    )


class ExplanationDisplay:
    """An explanation as a picture: confidence along the training, the row and those nearest to it.

    Use `from_estimator` or `from_predictions` to make one, or the `display` of an `Explanation`.

    Parameters
    ----------
    explanation : Explanation
        From `explain`.

    Attributes
    ----------
    panels_ : dict of str to matplotlib Axes
        "learning" and "rows", as far as there is something to show; else "text".
    ax_ : matplotlib Axes
        What was drawn on.
    figure_ : matplotlib Figure
        What holds it.
    """

    def __init__(self, explanation: Explanation) -> None:
        self.explanation = explanation

    @classmethod
    def from_estimator(
        cls,
        method: Any,
        X: Any,
        y: Any,
        row: int,
        *,
        image_shape: Sequence[int] | None = None,
        ax: Any = None,
    ) -> Self:
        """Explain a row and draw it.

        Parameters
        ----------
        method, X, y, row, image_shape : as for `explain`
        ax : matplotlib Axes, optional
            None makes a figure.

        Returns
        -------
        ExplanationDisplay
        """
        return cls(explain(method, X, y, row, image_shape=image_shape)).plot(ax)

    @classmethod
    def from_predictions(cls, explanation: Explanation, *, ax: Any = None) -> Self:
        """Draw an explanation.

        Parameters
        ----------
        explanation : Explanation
            From `explain`.
        ax : matplotlib Axes, optional
            None makes a figure.

        Returns
        -------
        ExplanationDisplay
        """
        return cls(explanation).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            None makes a figure.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the axes were not made by ``subplots`` or the like.
        """
        why = self.explanation
        names = [name for name, has in (("learning", why.learning), ("rows", why._suspect)) if has]
        names = names or ["text"]
        wide = why._shown is not None
        widths = [_PANEL[0] * (1.9 if name == "rows" and wide else 1) for name in names]
        ax = axes_for("ExplanationDisplay", ax, (sum(widths), _PANEL[1]))
        ax.set_axis_off()
        parts = [f"row {why.row}, number {why.place:,} of {why.n_rows:,}"]
        parts.append(f"given {shorten(why.given)}")
        if why.predicted is not None:
            by = "predicted" if why.out_of_sample else "in sample"
            parts.append(f"{by} {shorten(why.predicted)}")
        if why.neighbors and "rows" in names:
            parts.append("below it the nearest rows")
        place = ax.get_subplotspec()
        if place is None:
            raise ValueError(
                "Got axes that stand in no grid, but an explanation has several panels, which "
                "share a cell of one. Make the axes by pyplot.subplots."
            )
        grid = place.subgridspec(1, len(names), width_ratios=widths)
        panels = zip(names, grid, strict=True)
        self.panels_ = {name: ax.figure.add_subplot(cell) for name, cell in panels}
        for name, panel in self.panels_.items():
            _DRAWN[name](why, panel)
        first = self.panels_[names[0]]
        first.set_title(wrapped(first, ", ".join(parts), 9), fontsize=9, loc="left")
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _draw_learning(why: Explanation, ax: Any) -> None:
    learning = why.learning
    assert learning is not None
    ax.plot(learning.epochs, learning.given, color=MAIN, marker="o", label=f"given: {why.given}")
    rival = f"other: {shorten(learning.rival)}"
    ax.plot(learning.epochs, learning.other, color=ALERT, linestyle="--", marker="s", label=rival)
    ax.set_ylim(-0.03, 1.03)
    ax.set_xlabel("epochs of the training")
    trained = (
        "nets not trained on the row" if learning.out_of_sample else "a net trained on the row"
    )
    ax.set_ylabel(f"probability, by {trained}", fontsize=8)
    ax.legend(fontsize=9)


def _draw_rows(why: Explanation, ax: Any) -> None:
    assert why._suspect is not None
    by = "predicted" if why.out_of_sample else "in sample"
    SampleGalleryDisplay([why._suspect], columns=why._shown, predicted_by=by).plot(ax)
    ax.set_title("")  # the figure has one


def _draw_text(why: Explanation, ax: Any) -> None:
    ax.set_axis_off()
    ax.text(0, 0.95, why.text, va="top", wrap=True, fontsize=9)


_DRAWN = {"learning": _draw_learning, "rows": _draw_rows, "text": _draw_text}


@dataclass(frozen=True)
class _Place:
    """Where a row lies among the others."""

    table: Any
    distances: NDArray[np.float64]  # to all rows; infinite to itself
    closest: NDArray[np.float64]  # of some rows, to the nearest one that is not equal


def _placed(answers: Answers, row: int) -> _Place | None:
    """Measure where a row lies, if distances between rows mean something."""
    table = comparable(answers.rows.inputs)
    if table is None:
        return None
    return _Place(table, distances_to(table, np.array([row]))[0], closest_distances(table))


def _related(
    answers: Answers, row: int, k: int, place: _Place | None
) -> tuple[list[RelatedRow], list[RelatedRow]]:
    """Find the nearest rows, and those that are as good as equal and say otherwise."""
    if place is None:
        return [], []
    table, distances = place.table, place.distances.copy()
    unit = (float(np.median(place.closest)) if len(place.closest) else 0.0) or 1.0
    differs = answers.given != answers.given[row]
    close = np.flatnonzero(differs & (distances <= _NEARLY * unit))
    equal = np.array([_are_equal(table, row, other) for other in close.tolist()], dtype=bool)
    distances[close[equal]] = 0.0
    if answers.is_numeric:  # which differ nearly always
        close = close[equal]
    conflicts = close[np.argsort(distances[close], kind="stable")]
    everywhere = np.ones(len(distances), dtype=bool)
    near = nearest(distances, everywhere, k)
    related = [_row_of(answers, i, distances[i] / unit) for i in (*near, *conflicts)]
    return related[: len(near)], related[len(near) :]


def _fault(method: Any, answers: Answers, row: int, place: _Place | None) -> Fault | None:
    """Name the kind of fault, where classes are predicted out of sample and rows have places."""
    found = answers.predictions
    if found is None or found.confidence is None or not found.out_of_sample or place is None:
        return None
    near = nearest(place.distances, np.ones(len(place.distances), dtype=bool), N_NEAR)
    code = codes_in(method.classes_, answers.given[[row]])[0]
    committee = getattr(method, "committee_", None)
    return fault_of(
        np.asarray(method.oof_probabilities_[row], dtype=np.float64),
        method.classes_,
        code,
        answers.given[near],
        stands_alone(place.distances, place.closest),
        transitions=None if committee is None else committee.transitions,
    )


def _are_equal(table: Any, row: int, other: int) -> bool:
    if issparse(table):
        return bool((table[[row]] != table[[other]]).nnz == 0)
    return bool((table[row] == table[other]).all())


def _influential(
    method: Any, answers: Answers, row: int, k: int
) -> tuple[list[RelatedRow], list[RelatedRow]]:
    """Find the other rows that lower and raise the loss of a row most, if the method tells."""
    if not k or not hasattr(method, "influence"):
        return [], []
    values = method._influence_on_given(answers.rows.part(np.array([row])))[0]
    others = np.setdiff1d(np.arange(len(values)), [row])
    order = others[np.argsort(-values[others], kind="stable")]
    lower = [i for i in order[:k] if values[i] > 0]
    higher = [i for i in order[::-1][:k] if values[i] < 0]
    return (
        [_row_of(answers, i, values[i]) for i in lower],
        [_row_of(answers, i, values[i]) for i in higher],
    )


def _learning(method: Any, answers: Answers, row: int) -> Learning:
    course = course_of(method, answers.rows, np.array([row]))
    codes = codes_in(course.classes, answers.given[[row]])
    found = confidence_in(course.probabilities, codes)
    is_seen = ~np.isnan(found.given[:, 0])
    mean = np.nanmean(course.probabilities, axis=0)[0]
    mean[codes[0]] = -np.inf
    predicted = course.probabilities[is_seen, 0].argmax(1) == codes[0]
    return Learning(
        epochs=course.epochs[is_seen],
        given=found.given[is_seen, 0],
        rival=_item(course.classes, int(mean.argmax())),
        other=found.other[is_seen, 0],
        learnt_at=learnt_at(course.epochs[is_seen], predicted),
        out_of_sample=course.out_of_sample,
    )


def _as_shown(
    X: Any, answers: Answers, choice: Choice, table: Any
) -> tuple[Suspect, list[str] | None]:
    predictions = answers.predictions
    suspects, columns = suspects_of(
        X,
        answers.given,
        scores=answers.detrimentality,
        predicted=None if predictions is None else predictions.values,
        table=table,
        choice=choice,
        is_noisy=None,
        is_numeric=answers.is_numeric,
    )
    return suspects[0], columns


def _row_of(answers: Answers, row: int, value: float) -> RelatedRow:
    return RelatedRow(int(row), _item(answers.given, row), float(value))


def _item(values: np.ndarray, place: int) -> object:
    item: object = values[place : place + 1].tolist()[0]
    return item
