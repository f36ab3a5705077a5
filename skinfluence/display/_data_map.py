"""A map of the training set: how sure the training was of each label, and how steadily."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skinfluence.display._answers import checked_flags, seen_by
from skinfluence.display._course import codes_in, confidence_in, course_of
from skinfluence.display._style import ALERT, INK, MAIN, QUIET, axes_for
from skinfluence.rows._rows import Rows
from skinfluence.rows._targets import check_class_labels, check_targets, classes_and_codes

# What a training gives so much on the mean, it believes, or holds for possible; beyond that
# deviation, it wavers.
_BELIEVED, _POSSIBLE, _WAVERS = 2 / 3, 1 / 3, 0.2
# Of more rows than this, markers are smaller.
_CROWD = 1500
REGIONS = ("easy", "ambiguous", "hard", "wrong")
_LOOKS: dict[str, dict[str, Any]] = {
    "easy": {"marker": ".", "c": QUIET, "s": 12, "linewidths": 0},
    "ambiguous": {"marker": "o", "facecolors": "none", "edgecolors": MAIN, "s": 24},
    "hard": {"marker": "^", "facecolors": "none", "edgecolors": INK, "s": 28},
    "wrong": {"marker": "x", "c": ALERT, "s": 28, "linewidths": 1.3},
}


def regions_of(
    confidence: NDArray[np.float64], spread: NDArray[np.float64], other: NDArray[np.float64]
) -> np.ndarray:
    """Name the region of each row: one of `REGIONS`."""
    rest = np.where((confidence >= _POSSIBLE) | (spread > _WAVERS), "ambiguous", "hard")
    rest = np.where(confidence >= _BELIEVED, "easy", rest)
    return np.where(other >= _BELIEVED, "wrong", rest)


class DataMapDisplay:
    """Map of the training rows: mean confidence in the label given, against its spread.

    Confidence is the probability of the label given, along a training. Rows at the upper left are
    learnt at once; those at the right, the training wavers about; those at the lower left, it
    never believes. Use `from_estimator` or `from_predictions` to make one.

    Parameters
    ----------
    confidence : ndarray of shape (n_samples,)
        Mean over the training.
    spread : ndarray of shape (n_samples,)
        Standard deviation over the training.
    other : ndarray of shape (n_samples,)
        Mean probability of the likeliest other class.
    out_of_sample : bool, default=False
        Whether the nets that are asked were not trained on the row.
    is_noisy : ndarray of shape (n_samples,) or None, default=None
        Boolean: which rows are known to be noisy. They are circled.

    Attributes
    ----------
    regions_ : ndarray of shape (n_samples,)
        "wrong": another class has a mean probability of 2/3 or more. Of the others, "easy": the
        label given has; else "ambiguous": it has 1/3, or a spread above 0.2; else "hard": no label
        is believed. The borders are for the eye, and no test.
    ax_ : matplotlib Axes
        What was drawn on.
    figure_ : matplotlib Figure
        What holds it.

    Notes
    -----
    The map of the paper is in sample: its net is trained on the rows. So it is with one net, at the
    checkpoints of the method or in the logits that were recorded. The nets of a committee are asked
    about rows they were not trained on, which keeps wrong labels from climbing.

    References
    ----------
    Swayamdipta, Schwartz, Lourie, Wang, Hajishirzi, Smith, Choi. "Dataset Cartography: Mapping and
    Diagnosing Datasets with Training Dynamics". EMNLP 2020, arXiv 2009.10795, section 2. Seedat,
    Crabbé, Bica, van der Schaar. "Data-IQ: Characterizing Subgroups with Heterogeneous Outcomes in
    Tabular Data". NeurIPS 2022, arXiv 2210.13043, for rows that stay in doubt.

    Examples
    --------
    >>> import numpy as np
    >>> from skinfluence.display import DataMapDisplay
    >>> probabilities = np.array([  # after each of two epochs, of three rows, for two classes
    ...     [[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]],
    ...     [[1.0, 0.0], [0.1, 0.9], [0.6, 0.4]],
    ... ])
    >>> display = DataMapDisplay.from_predictions(probabilities, ["a", "a", "b"])
    >>> display.regions_.tolist()
    ['easy', 'wrong', 'ambiguous']
    """

    def __init__(
        self,
        confidence: NDArray[np.float64],
        spread: NDArray[np.float64],
        other: NDArray[np.float64],
        *,
        out_of_sample: bool = False,
        is_noisy: ArrayLike | None = None,
    ) -> None:
        self.confidence = confidence
        self.spread = spread
        self.other = other
        self.out_of_sample = out_of_sample
        self.is_noisy = None if is_noisy is None else checked_flags(is_noisy, len(confidence))

    @classmethod
    def from_estimator(
        cls, method: Any, X: Any, y: Any, *, is_noisy: ArrayLike | None = None, ax: Any = None
    ) -> Self:
        """Draw the map of the training of a fitted method.

        Parameters
        ----------
        method : BaseDetrimentality or Pipeline
            Fitted on classes, with a committee or one net, and `checkpoints` or logits recorded.
        X, y : as the method was fitted on
        is_noisy : array-like of shape (n_samples,), optional
            Boolean: which rows are known to be noisy.
        ax : matplotlib Axes, optional
            None makes a figure.

        Returns
        -------
        DataMapDisplay

        Raises
        ------
        ValueError
            If the method followed no training of a classifier.
        """
        method, X = seen_by(method, X)
        rows = Rows.parse(method, X, y, reset=False)
        course = course_of(method, rows)
        codes = codes_in(course.classes, check_class_labels(rows.known_targets()))
        found = confidence_in(course.probabilities, codes)
        given = found.mean, found.spread, found.mean_other
        return cls(*given, out_of_sample=course.out_of_sample, is_noisy=is_noisy).plot(ax)

    @classmethod
    def from_predictions(
        cls,
        probabilities: ArrayLike,
        y: ArrayLike,
        *,
        classes: ArrayLike | None = None,
        is_noisy: ArrayLike | None = None,
        ax: Any = None,
    ) -> Self:
        """Draw the map of class probabilities along a training.

        Parameters
        ----------
        probabilities : array-like of shape (n_epochs, n_samples, n_classes)
            After each epoch, or at each checkpoint; NaN for rows that an epoch did not see.
        y : array-like of shape (n_samples,)
            The labels given.
        classes : array-like of shape (n_classes,), optional
            The labels, in the order of the columns; by default those of `y`, sorted.
        is_noisy : array-like of shape (n_samples,), optional
            Boolean: which rows are known to be noisy.
        ax : matplotlib Axes, optional
            None makes a figure.

        Returns
        -------
        DataMapDisplay

        Raises
        ------
        ValueError
            If shapes disagree, or `y` holds labels that are none of `classes`.
        """
        course = np.asarray(probabilities, dtype=np.float64)
        if course.ndim != 3 or len(course) < 2:
            raise ValueError(
                f"Got probabilities of shape {course.shape}, but expected (n_epochs, n_samples, "
                "n_classes) with at least two epochs."
            )
        labels = check_class_labels(check_targets(y, course.shape[1]))
        names = classes_and_codes(labels)[0] if classes is None else np.asarray(classes)
        if len(names) != course.shape[2]:
            raise ValueError(
                f"Got {course.shape[2]} columns of probabilities and {len(names)} classes. Name "
                "the classes of all columns by classes=."
            )
        found = confidence_in(course, codes_in(names, labels))
        return cls(found.mean, found.spread, found.mean_other, is_noisy=is_noisy).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            None makes a figure.

        Returns
        -------
        self
        """
        ax = axes_for("DataMapDisplay", ax, (6.4, 5.4))
        shrink = max(0.3, min(1.0, _CROWD / len(self.confidence)))
        self.regions_ = regions_of(self.confidence, self.spread, self.other)
        for region in REGIONS:
            rows = self.regions_ == region
            label = f"{region} ({int(rows.sum()):,})"
            look = {**_LOOKS[region], "s": _LOOKS[region]["s"] * shrink}
            ax.scatter(self.spread[rows], self.confidence[rows], label=label, **look)
        if self.is_noisy is not None:
            rows = np.asarray(self.is_noisy)
            look = {"marker": "o", "s": 90 * shrink, "facecolors": "none", "edgecolors": INK}
            label = f"known to be noisy ({int(rows.sum()):,})"
            look["linewidths"] = 0.6
            ax.scatter(self.spread[rows], self.confidence[rows], label=label, **look)
        who = "nets not trained on the row" if self.out_of_sample else "a net trained on the row"
        ax.set_xlabel("spread of the confidence over the training (standard deviation)")
        ax.set_ylabel("mean confidence in the label given")
        ax.set_xlim(left=-0.01)
        ax.set_ylim(-0.03, 1.03)
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1.0), "borderaxespad": 0.2}
        ax.legend(title=f"confidence of {who}", ncols=3, fontsize=9, **place)
        self.ax_, self.figure_ = ax, ax.figure
        return self
