"""Which labels are given to rows of which class: expected counts, as a matrix."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skinfluence.display._answers import method_of, out_of_sample_probabilities
from skinfluence.display._style import SHADES, axes_for, shorten
from skinfluence.nets._labels import Labels
from skinfluence.rows._containers import check_finite
from skinfluence.rows._targets import check_class_labels, check_targets, classes_and_codes

# Of more classes than this, cells would be too small for their counts at the usual size.
_MOST_AT_USUAL_SIZE = 12


def confident_disagreements(
    probabilities: NDArray[np.float64], codes: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Tell which rows a net confidently counts to another class than the given one."""
    counted = confident_classes(probabilities, codes)
    return np.asarray((counted >= 0) & (counted != codes))


def confident_classes(
    probabilities: NDArray[np.float64], codes: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Say which class a net confidently counts each row to, -1 for none."""
    # As for the confident joint of Northcutt et al. 2021: of the classes whose probability reaches
    # the mean that rows given this class have for it, the likeliest. A class given to no row is
    # never counted.
    thresholds = np.full(probabilities.shape[1], np.inf)
    for code in np.unique(codes):
        thresholds[code] = probabilities[codes == code, code].mean()
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    return np.where(confident.max(1) >= 0, confident.argmax(1), -1)


def expected_counts(
    probabilities: NDArray[np.float64], codes: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Expect how many rows given each class are of each class: (n_classes, n_classes)."""
    n_classes = probabilities.shape[1]
    counted = confident_classes(probabilities, codes)
    joint = np.zeros((n_classes, n_classes))
    sure = counted >= 0
    np.add.at(joint, (codes[sure], counted[sure]), 1)
    given = np.bincount(codes, minlength=n_classes).astype(np.float64)
    uncounted = joint.sum(1) == 0
    joint[uncounted, uncounted] = 1  # nothing speaks against the label
    expected: NDArray[np.float64] = joint / joint.sum(1, keepdims=True) * given[:, np.newaxis]
    return expected


class NoiseMatrixDisplay:
    """Expected counts of rows by the label they were given and the class they are of.

    Use `from_estimator` or `from_predictions` to make one.

    Parameters
    ----------
    expected : ndarray of shape (n_classes, n_classes)
        Entry (i, j): how many of the rows given class i are expected to be of class j.
    classes : ndarray of shape (n_classes,)
        The labels.

    Attributes
    ----------
    image_ : matplotlib AxesImage
        The cells, shaded by what is off the diagonal.
    text_ : ndarray of shape (n_classes, n_classes)
        The counts, as matplotlib Text; None where the count rounds to 0.
    ax_ : matplotlib Axes
        What was drawn on.
    figure_ : matplotlib Figure
        What holds it.

    Notes
    -----
    Rows are counted by the confident joint: a row counts to the likeliest of the classes whose
    probability reaches the mean that rows given this class have for it. Each line is brought to the
    number of rows given its class. It is an estimate: rows that are hard, but rightly labelled,
    count to other classes too, where a model is confident of them.

    References
    ----------
    Northcutt, Jiang, Chuang. "Confident Learning: Estimating Uncertainty in Dataset Labels". JAIR
    2021, arXiv 1911.00068, equations 1 and 2.

    Examples
    --------
    >>> from skinfluence.display import NoiseMatrixDisplay
    >>> y = ["cat", "cat", "cat", "dog", "dog", "dog"]
    >>> probabilities = [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.2, 0.8], [0.3, 0.7]]
    >>> NoiseMatrixDisplay.from_predictions(y, probabilities).expected
    array([[2., 1.],
           [0., 3.]])
    """

    def __init__(self, expected: NDArray[np.float64], classes: np.ndarray) -> None:
        self.expected = expected
        self.classes = classes

    @classmethod
    def from_estimator(cls, method: Any, y: ArrayLike, *, ax: Any = None) -> Self:
        """Draw what the models of a method expect that were not trained on the row.

        Parameters
        ----------
        method : BaseDetrimentality or Pipeline
            Fitted, with `oof_probabilities_`.
        y : array-like of shape (n_samples,)
            The labels it was fitted on.
        ax : matplotlib Axes, optional
            None makes a figure.

        Returns
        -------
        NoiseMatrixDisplay

        Raises
        ------
        ValueError
            If the method has no class probabilities out of sample.
        """
        method = method_of(method)
        probabilities = out_of_sample_probabilities(method)
        return cls.from_predictions(y, probabilities, classes=method.classes_, ax=ax)

    @classmethod
    def from_predictions(
        cls,
        y: ArrayLike,
        probabilities: ArrayLike,
        *,
        classes: ArrayLike | None = None,
        ax: Any = None,
    ) -> Self:
        """Draw what class probabilities say of labels.

        Parameters
        ----------
        y : array-like of shape (n_samples,)
            The labels given.
        probabilities : array-like of shape (n_samples, n_classes)
            By models that were not trained on the row.
        classes : array-like of shape (n_classes,), optional
            The labels, in the order of the columns; by default those of `y`, sorted.
        ax : matplotlib Axes, optional
            None makes a figure.

        Returns
        -------
        NoiseMatrixDisplay

        Raises
        ------
        ValueError
            If shapes disagree, or `y` holds labels that are none of `classes`.
        """
        found = np.asarray(probabilities, dtype=np.float64)
        labels = check_class_labels(check_targets(y, len(found)))
        names = classes_and_codes(labels)[0] if classes is None else np.asarray(classes)
        if found.ndim != 2 or found.shape[1] != len(names):
            raise ValueError(
                f"Got probabilities of shape {found.shape} and {len(names)} classes, but expected "
                "a column for each. Name the classes of all columns by classes=."
            )
        check_finite(found, "probabilities")
        codes = Labels(names, np.arange(len(names))).encode(labels)
        return cls(expected_counts(found, codes), names).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw; cells are shaded by the counts off the diagonal, which outweighs them all.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            None makes a figure.

        Returns
        -------
        self
        """
        n_classes = len(self.classes)
        side = 2.2 + 0.36 * max(n_classes, 4) if n_classes > _MOST_AT_USUAL_SIZE else 5.6
        ax = axes_for("NoiseMatrixDisplay", ax, (side + 0.6, side))
        off = np.where(np.eye(n_classes, dtype=bool), np.nan, self.expected)
        most = float(np.nanmax(off)) if n_classes > 1 else 0.0
        self.image_ = ax.imshow(off, cmap=SHADES, vmin=0, vmax=max(most, 1.0))
        self.text_ = np.full((n_classes, n_classes), None, dtype=object)
        for i, j in np.argwhere(np.round(self.expected) >= 1).tolist():
            dark = i != j and self.expected[i, j] > 0.6 * max(most, 1.0)
            self.text_[i, j] = ax.text(
                j,
                i,
                f"{self.expected[i, j]:.0f}",
                ha="center",
                va="center",
                color="white" if dark else "black",
                fontsize=9 if n_classes <= _MOST_AT_USUAL_SIZE else 7,
                fontstyle="italic" if i == j else "normal",
            )
        names = [shorten(label) for label in self.classes.tolist()]
        ax.set_xticks(np.arange(n_classes), names)
        ax.set_yticks(np.arange(n_classes), names)
        if max(map(len, names)) > 3:
            tilt = {"rotation": 90, "va": "center"} if n_classes > 6 else {"rotation": 30}
            ax.set_xticks(np.arange(n_classes), names, rotation_mode="anchor", ha="right", **tilt)
        ax.set_xlabel("class expected")
        ax.set_ylabel("label given")
        wrong = self.expected.sum() - np.trace(self.expected)
        ax.set_title(f"{wrong:,.0f} of {self.expected.sum():,.0f} labels confidently contradicted")
        self.ax_, self.figure_ = ax, ax.figure
        return self
