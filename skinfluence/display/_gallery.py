"""The most detrimental rows as they are, each with the rows nearest to it that say otherwise."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skinfluence.display._answers import answers_of, checked_flags, checked_scores
from skinfluence.display._columns import columns_apart, columns_of, peers_of
from skinfluence.display._nearest import comparable, distances_to, nearest
from skinfluence.display._style import ALERT, INK, PALE, QUIET, axes_for, counted, shorten, wrapped
from skinfluence.rows._containers import n_samples_of
from skinfluence.rows._parameters import check_positive_integer, is_integer
from skinfluence.rows._targets import check_targets, is_regression_target

# Inches: of a tile with its text, of the small images in it, of a letter of a table, of its line.
_TILE, _SMALL = (1.5, 2.45), 0.52
_LETTER, _LINE = 0.082, 0.24
_TITLE = 9
# Characters of a column, and of a text that is the only one.
_TEXT, _LONG_TEXT = 28, 70


@dataclass(frozen=True)
class Sample:
    """A row as it is shown: an image, or what its columns hold.

    Attributes
    ----------
    row : int
        Its number in the training set.
    label : object
        The label or number given.
    content : ndarray or list of str
        The image, (height, width) or (height, width, 3); or a text for each column shown.
    """

    row: int
    label: object
    content: Any


@dataclass(frozen=True)
class Suspect:
    """A row of the gallery.

    Attributes
    ----------
    sample : Sample
        The row.
    score : float
        Its detrimentality.
    predicted : object or None
        The label or number predicted.
    contradicting : list of Sample
        The nearest rows with other labels than its own; of numbers, the nearest rows.
    is_noisy : bool or None
        Whether it is known to be noisy, if that is known.
    """

    sample: Sample
    score: float
    predicted: object | None
    contradicting: list[Sample]
    is_noisy: bool | None


class SampleGalleryDisplay:
    """The most detrimental rows, as image tiles or lines of a table, with what contradicts them.

    Each row is shown with the label given, the label predicted, its score and the nearest rows that
    have other labels. Use `from_estimator` or `from_predictions` to make one.

    Parameters
    ----------
    suspects : list of Suspect
        The rows, in the order in which they are shown.
    columns : list of str or None, default=None
        The names of the columns shown; None for images.
    predicted_by : str, default="predicted"
        What the prediction is called: "in sample" where the net was trained on the row.

    Attributes
    ----------
    rows_ : ndarray of shape (n_shown,)
        The numbers of the rows.
    ax_ : matplotlib Axes
        What was drawn on.
    figure_ : matplotlib Figure
        What holds it.

    Notes
    -----
    Rows are near by the Euclidean distance of what the method sees of them: standardised columns of
    a table, pixels of images, directions of sparse rows. Other containers have no nearest rows. Of
    a table with many columns, those are shown in which the rows are set apart most from the rows
    given the same label (see `explain`).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skinfluence import KNNShapley
    >>> from skinfluence.display import SampleGalleryDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> method = KNNShapley(random_state=0).fit(X, y)
    >>> display = SampleGalleryDisplay.from_estimator(method, X, y, rows=6, image_shape=(8, 8))
    >>> bool((display.rows_ == method.ranking_[:6]).all())
    True
    """

    def __init__(
        self,
        suspects: list[Suspect],
        *,
        columns: list[str] | None = None,
        predicted_by: str = "predicted",
    ) -> None:
        self.suspects = suspects
        self.columns = columns
        self.predicted_by = predicted_by

    @classmethod
    def from_estimator(
        cls,
        method: Any,
        X: Any,
        y: Any,
        *,
        rows: int | ArrayLike = 12,
        n_contradicting: int = 3,
        image_shape: Sequence[int] | None = None,
        n_columns: int = 6,
        is_noisy: ArrayLike | None = None,
        ax: Any = None,
    ) -> Self:
        """Show rows that a fitted method was fitted on.

        Parameters
        ----------
        method : BaseDetrimentality or Pipeline
            Fitted; or a fitted pipeline that ends in a method, and `X` as it goes in.
        X : data frame, array of rows or images, or list of texts
            As the method was fitted on. Images are (n, height, width), (n, channels, height,
            width), or of any shape with `image_shape`.
        y : array-like of shape (n_samples,)
            The targets it was fitted on.
        rows : int or array-like of int, default=12
            How many of the most detrimental rows, or which rows.
        n_contradicting : int, default=3
            How many of the nearest rows with other labels to show for each.
        image_shape : tuple of int, optional
            (height, width) of images that are stored as rows of a table.
        n_columns : int, default=6
            Of a table, how many columns to show at most.
        is_noisy : array-like of shape (n_samples,), optional
            Boolean: which rows are known to be noisy. They are framed or marked.
        ax : matplotlib Axes, optional
            None makes a figure, as large as the rows need.

        Returns
        -------
        SampleGalleryDisplay

        Raises
        ------
        TypeError
            If rows of `X` are neither images nor lines of a table.
        ValueError
            If `X` and `y` are not those of the method, or a parameter is out of range.
        """
        answers = answers_of(method, X, y, budget=0)
        predictions = answers.predictions
        seen_in = predictions is not None and not predictions.out_of_sample
        suspects, columns = suspects_of(
            X,
            answers.given,
            scores=answers.detrimentality,
            predicted=None if predictions is None else predictions.values,
            table=comparable(answers.rows.inputs),
            choice=Choice(rows, n_contradicting, image_shape, n_columns),
            is_noisy=is_noisy,
            is_numeric=answers.is_numeric,
        )
        by = "in sample" if seen_in else "predicted"
        return cls(suspects, columns=columns, predicted_by=by).plot(ax)

    @classmethod
    def from_predictions(
        cls,
        X: Any,
        y: ArrayLike,
        detrimentality: ArrayLike,
        *,
        predicted: ArrayLike | None = None,
        rows: int | ArrayLike = 12,
        n_contradicting: int = 3,
        image_shape: Sequence[int] | None = None,
        n_columns: int = 6,
        is_noisy: ArrayLike | None = None,
        ax: Any = None,
    ) -> Self:
        """Show rows by their scores.

        Parameters
        ----------
        X, y : as for `from_estimator`
        detrimentality : array-like of shape (n_samples,)
            Higher = more detrimental.
        predicted : array-like of shape (n_samples,), optional
            Labels or numbers, by models that were not trained on the row.
        rows, n_contradicting, image_shape, n_columns, is_noisy, ax : as for `from_estimator`

        Returns
        -------
        SampleGalleryDisplay

        Raises
        ------
        TypeError
            If rows of `X` are neither images nor lines of a table.
        ValueError
            If shapes disagree, or a parameter is out of range.
        """
        scores = checked_scores(detrimentality)
        if len(scores) != n_samples_of(X):
            raise ValueError(f"Got {len(scores)} scores for {n_samples_of(X)} rows of X.")
        given = check_targets(y, len(scores)).reshape(-1)
        values = None if predicted is None else check_targets(predicted, len(scores)).reshape(-1)
        suspects, columns = suspects_of(
            X,
            given,
            scores=scores,
            predicted=values,
            table=comparable(np.asarray(X) if columns_of(X) is not None else X),
            choice=Choice(rows, n_contradicting, image_shape, n_columns),
            is_noisy=is_noisy,
            is_numeric=is_regression_target(given),
        )
        return cls(suspects, columns=columns).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            None makes a figure, as large as the rows need.

        Returns
        -------
        self
        """
        self.rows_ = np.array([suspect.sample.row for suspect in self.suspects], dtype=np.intp)
        ax = self._draw_tiles(ax) if self.columns is None else self._draw_table(ax)
        ax.set_axis_off()
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_tiles(self, ax: Any) -> Any:
        """Draw images side by side: the row large, what contradicts it in small ones below."""
        n_across = min(6 if len(self.suspects) <= 18 else 8, len(self.suspects))
        n_down = -(-len(self.suspects) // n_across)
        width, height = _TILE
        if not any(suspect.contradicting for suspect in self.suspects):
            height -= _SMALL
        heading = self._heading("framed in bold")
        n_lines = 1 + len(heading) * _TITLE // (n_across * width * 120)
        size = n_across * width, n_down * height + 0.15 * (n_lines + 1)
        ax = axes_for("SampleGalleryDisplay", ax, size)
        for number, suspect in enumerate(self.suspects):
            left = number % n_across * width + 0.1
            top = -(number // n_across) * height
            _draw_tile(ax, suspect, left, top, self.predicted_by)
        ax.set_xlim(0, n_across * width)
        ax.set_ylim(-n_down * height, 0)
        ax.set_aspect("equal")
        ax.set_title(wrapped(ax, heading, _TITLE), fontsize=_TITLE)
        return ax

    def _draw_table(self, ax: Any) -> Any:
        """Draw lines of text: the row on a grey ground, what contradicts it below."""
        lines = list(_lines(self.suspects))
        assert self.columns is not None
        header = ["row", "score", "given", self.predicted_by, *map(shorten, self.columns)]
        table = [header, *(texts for texts, _ in lines)]
        widths = [max(len(line[i]) for line in table) + 2 for i in range(len(header))]
        starts = np.concatenate([[0], np.cumsum(widths)])
        size = starts[-1] * _LETTER + 0.3, (len(table) + 1.5) * _LINE
        ax = axes_for("SampleGalleryDisplay", ax, size)
        font = {"family": "monospace", "fontsize": _fitting(ax, size), "va": "center"}
        for place, text in zip(starts[:-1], header, strict=True):
            ax.text(place + 0.5, 0, text, fontweight="bold", **font)
        for number, (texts, suspect) in enumerate(lines, start=1):
            color = INK if suspect is not None else "#555555"
            if suspect is not None:
                ax.axhspan(-number - 0.5, -number + 0.5, color=PALE, linewidth=0)
            weight = "bold" if suspect is not None and suspect.is_noisy else "normal"
            for place, text in zip(starts[:-1], texts, strict=True):
                ax.text(place + 0.5, -number, text, color=color, fontweight=weight, **font)
        ax.set_xlim(0, starts[-1])
        ax.set_ylim(-len(table) + 0.3, 0.8)
        ax.set_title(wrapped(ax, self._heading("in bold"), _TITLE), fontsize=_TITLE)
        return ax

    def _heading(self, mark: str) -> str:
        known = [suspect.is_noisy for suspect in self.suspects if suspect.is_noisy is not None]
        heading = counted(len(self.suspects), "row")
        if any(suspect.contradicting for suspect in self.suspects):
            heading += ", below each the nearest rows"
            if not any(isinstance(s.sample.label, float) for s in self.suspects):
                heading += " with other labels"
        heading += f"; {sum(known)} known to be noisy, {mark}" if known else ""
        return heading


@dataclass(frozen=True)
class Choice:
    """What is to be shown."""

    rows: Any
    n_contradicting: int
    image_shape: Sequence[int] | None
    n_columns: int
    all_labels: bool = False


def suspects_of(
    X: Any,
    given: np.ndarray,
    *,
    scores: NDArray[np.float64],
    predicted: np.ndarray | None,
    table: Any,
    choice: Choice,
    is_noisy: ArrayLike | None,
    is_numeric: bool,
) -> tuple[list[Suspect], list[str] | None]:
    """Choose rows and what contradicts them, as they are shown; and the columns, of a table."""
    rows = _chosen(choice.rows, scores)
    noisy = None if is_noisy is None else checked_flags(is_noisy, len(scores))
    near: list[NDArray[np.intp]] = [np.empty(0, dtype=np.intp) for _ in rows]
    if table is not None and choice.n_contradicting:
        check_positive_integer("n_contradicting", choice.n_contradicting)
        for number, away in enumerate(distances_to(table, rows)):
            other = given != given[rows[number]]
            if is_numeric or choice.all_labels:
                other[:] = True
            near[number] = nearest(away, other, choice.n_contradicting)
    images = _images(X, choice.image_shape)
    columns = None
    if images is None:
        columns = _shown_columns(X, rows, given, choice.n_columns, is_numeric=is_numeric)
    labels = given.tolist()

    def sample(row: int) -> Sample:
        if columns is None:
            assert images is not None
            return Sample(row, labels[row], images[row])
        most = _LONG_TEXT if len(columns) == 1 else _TEXT
        texts = [shorten(values[row : row + 1].tolist()[0], most) for values in columns.values()]
        return Sample(row, labels[row], texts)

    suspects = [
        Suspect(
            sample(row),
            float(scores[row]),
            None if predicted is None else predicted[row : row + 1].tolist()[0],
            [sample(other) for other in others.tolist()],
            None if noisy is None else bool(noisy[row]),
        )
        for row, others in zip(rows.tolist(), near, strict=True)
    ]
    return suspects, None if columns is None else list(columns)


def _chosen(rows: Any, scores: NDArray[np.float64]) -> NDArray[np.intp]:
    if is_integer(rows):
        check_positive_integer("rows", rows)
        return np.argsort(-scores, kind="stable")[:rows]
    chosen = np.asarray(rows)
    if chosen.ndim != 1 or chosen.dtype.kind not in "iu" or not len(chosen):
        raise ValueError(
            f"Got rows={rows!r}, but expected how many of the worst rows, or a list of row numbers."
        )
    if chosen.min() < 0 or chosen.max() >= len(scores):
        raise ValueError(f"Got rows up to {chosen.max()}, but there are {len(scores)}.")
    return chosen.astype(np.intp)


def _images(X: Any, shape: Sequence[int] | None) -> np.ndarray | None:
    """Give images with their channels last, each from 0 to 1 if it has colors; None of a table."""
    if shape is None and getattr(X, "ndim", 2) < 3:
        return None
    images = np.asarray(X)
    if shape is not None:
        if len(shape) != 2 or int(np.prod(shape)) != images[0].size:
            raise ValueError(
                f"Got image_shape={tuple(shape)!r}, but expected (height, width) of the "
                f"{images[0].size} pixels of a row."
            )
        return images.reshape(len(images), *shape)
    if images.ndim == 3:
        return images
    if images.ndim != 4:
        raise ValueError(
            f"Got X of shape {images.shape}, but expected images of shape (n, height, width) or "
            "(n, channels, height, width). Give their first channel, or image_shape."
        )
    if images.shape[1] != 3:
        return images[:, 0]
    low, high = images.min(), images.max()
    return np.asarray(np.moveaxis((images - low) / ((high - low) or 1), 1, -1))


def _shown_columns(
    X: Any, rows: NDArray[np.intp], given: np.ndarray, n_columns: int, *, is_numeric: bool
) -> dict[str, np.ndarray]:
    """Choose the columns in which the rows are set apart most, in the order of the table."""
    columns = columns_of(X)
    if columns is None:
        raise TypeError(
            f"Got X of type {type(X).__name__}, whose rows are neither images nor lines of a "
            "table. "
            "Call from_predictions with what is to be seen of them as X: a data frame, images, or "
            "a list of texts."
        )
    check_positive_integer("n_columns", n_columns)
    if len(columns) <= n_columns:
        return columns
    rarity = dict.fromkeys(columns, 0.0)
    for row in rows.tolist():
        for apart in columns_apart(columns, row, peers_of(row, given, is_numeric=is_numeric)):
            rarity[apart.name] += float(np.log(apart.share))
    kept = sorted(columns, key=lambda name: rarity[name])[:n_columns]
    return {name: values for name, values in columns.items() if name in kept}


def _draw_tile(ax: Any, suspect: Suspect, left: float, top: float, predicted_by: str) -> None:
    """Draw one row in a tile of `_TILE` inches, from its upper left corner."""
    width = _TILE[0] - 0.2
    text = {"fontsize": 7.5, "va": "center", "ha": "left"}
    score = f"row {suspect.sample.row}, score {suspect.score:.3g}"
    ax.text(left, top - 0.13, score, color="#555555", **{**text, "fontsize": 6.5})
    lines = [f"given {shorten(suspect.sample.label)}"]
    if suspect.predicted is not None:
        lines.append(f"{predicted_by} {shorten(suspect.predicted)}")
    for number, line in enumerate(lines):
        ax.text(left, top - 0.3 - 0.16 * number, line, **text)
    above = top - 0.57
    _draw_image(ax, suspect.sample.content, left, above, width)
    if suspect.is_noisy:
        corner = left, above - width
        ax.add_patch(_frame(ax, corner, width))
    step = width / max(3, len(suspect.contradicting))
    small = step - 0.05
    for number, other in enumerate(suspect.contradicting):
        place = left + number * step
        _draw_image(ax, other.content, place, above - width - 0.04, small)
        label = shorten(other.label, 7)
        ax.text(place, above - width - small - 0.1, label, **{**text, "fontsize": 6, "va": "top"})


def _frame(ax: Any, corner: tuple[float, float], width: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, width, width, fill=False, edgecolor=ALERT, linewidth=3)


def _draw_image(ax: Any, image: np.ndarray, left: float, top: float, side: float) -> None:
    """Draw an image into a square, in grey from white to black if it has one channel."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    extent = (left, left + width * scale, top - height * scale, top)
    ax.imshow(image, cmap="gray_r", extent=extent, interpolation="nearest", zorder=1)
    x0, x1, y0, y1 = extent
    ax.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color=QUIET, linewidth=0.5)


def _lines(suspects: list[Suspect]) -> Any:
    """Give the texts of each line of the table, and whose it is; None of what contradicts."""
    for suspect in suspects:
        predicted = "" if suspect.predicted is None else shorten(suspect.predicted)
        first = [str(suspect.sample.row), f"{suspect.score:.3g}", shorten(suspect.sample.label)]
        yield [*first, predicted, *suspect.sample.content], suspect
        for other in suspect.contradicting:
            yield [f" {other.row}", "", shorten(other.label), "", *other.content], None


def _fitting(ax: Any, size: tuple[float, float]) -> float:
    """Choose the font size with which the table fits into the axes."""
    box = ax.get_window_extent()
    share = min(1.0, box.width / ax.figure.dpi / size[0], box.height / ax.figure.dpi / size[1])
    return 8.5 * max(float(share), 0.3)
