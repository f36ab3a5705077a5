"""Curves of what inspecting or removing the most detrimental rows does."""

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skinfluence.display._answers import method_of, scores_of
from skinfluence.display._style import INK, MAIN, QUIET, axes_for, line_style
from skinfluence.metrics import DetectionCurve, RemovalCurve, detection_curve, removal_curve

_CHANCE = "random order"
_ORACLE = "oracle"


class DetectionCurveDisplay:
    """How many of the known errors are found by inspecting the most detrimental rows first.

    Use `from_estimator` or `from_predictions` to make one. Drawn on the axes of another one, it is
    added to it by a line of its own kind.

    Parameters
    ----------
    curve : DetectionCurve
        From `skinfluence.metrics.detection_curve`.
    name : str or None, default=None
        For the legend.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The curve.
    ax_ : matplotlib Axes
        What was drawn on.
    figure_ : matplotlib Figure
        What holds it.

    See Also
    --------
    MethodComparisonDisplay : The curves of several methods.

    Examples
    --------
    >>> from skinfluence.display import DetectionCurveDisplay
    >>> is_noisy = [True, False, True, False]
    >>> display = DetectionCurveDisplay.from_predictions(is_noisy, [0.9, 0.1, 0.5, 0.4])
    >>> display.line_.get_ydata().tolist()
    [0.0, 0.5, 1.0, 1.0, 1.0]
    """

    def __init__(self, curve: DetectionCurve, *, name: str | None = None) -> None:
        self.curve = curve
        self.name = name

    @classmethod
    def from_estimator(
        cls, method: Any, is_noisy: ArrayLike, *, name: str | None = None, ax: Any = None
    ) -> Self:
        """Draw how the ranking of a fitted method finds the known errors.

        Parameters
        ----------
        method : BaseDetrimentality or Pipeline
            Fitted.
        is_noisy : array-like of shape (n_samples,)
            Boolean: which of its training rows are known to be noisy.
        name : str, optional
            For the legend; the name of the class by default.
        ax : matplotlib Axes, optional
            None makes a figure.

        Returns
        -------
        DetectionCurveDisplay
        """
        method = method_of(method)
        name = type(method).__name__ if name is None else name
        return cls(detection_curve(is_noisy, scores_of(method)), name=name).plot(ax)

    @classmethod
    def from_predictions(
        cls,
        is_noisy: ArrayLike,
        detrimentality: ArrayLike,
        *,
        name: str | None = None,
        ax: Any = None,
    ) -> Self:
        """Draw how scores find the known errors.

        Parameters
        ----------
        is_noisy : array-like of shape (n_samples,)
            Boolean: which rows are known to be noisy.
        detrimentality : array-like of shape (n_samples,)
            Higher = more detrimental.
        name : str, optional
            For the legend.
        ax : matplotlib Axes, optional
            None makes a figure.

        Returns
        -------
        DetectionCurveDisplay
        """
        return cls(detection_curve(is_noisy, detrimentality), name=name).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw, against random order and an oracle that knows the errors.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            None makes a figure.

        Returns
        -------
        self
        """
        ax = axes_for("DetectionCurveDisplay", ax)
        n_rows = len(self.curve.n_inspected)
        inspected = np.arange(n_rows + 1)
        drawn = [line.get_label() for line in ax.get_lines()]
        n_curves = len([label for label in drawn if label not in {_CHANCE, _ORACLE}])
        if _ORACLE not in drawn:
            n_noisy = round(float(self.curve.precision[-1]) * n_rows)
            best = np.minimum(inspected / n_noisy, 1)
            ax.plot(inspected, best, color=INK, linestyle=":", linewidth=1.2, label=_ORACLE)
            ax.plot(inspected, inspected / n_rows, color=QUIET, linewidth=1.2, label=_CHANCE)
        label = f"{self.name or 'scores'} (area {self.curve.area:.3f})"
        found = np.concatenate([[0.0], self.curve.found])
        (self.line_,) = ax.plot(inspected, found, label=label, **line_style(n_curves))
        ax.set_xlabel("rows inspected, most detrimental first")
        ax.set_ylabel("share of the noisy rows found")
        ax.set_xlim(0, n_rows)
        ax.set_ylim(0, 1.02)
        ax.legend(loc="lower right")
        self.ax_, self.figure_ = ax, ax.figure
        return self


class RemovalCurveDisplay:
    """What training without the most detrimental rows does to a model, with its spread.

    Use `from_estimator` or `from_predictions` to make one.

    Parameters
    ----------
    curve : RemovalCurve
        From `skinfluence.metrics.removal_curve`.
    name : str or None, default=None
        Of what ranked the rows, for the legend.
    score_name : str, default="score on the test rows"
        Of the scoring, for the axis.

    Attributes
    ----------
    line_, random_line_ : matplotlib Line2D or None
        Mean scores; of random removal, None if it was not tried.
    ax_ : matplotlib Axes
        What was drawn on.
    figure_ : matplotlib Figure
        What holds it.

    Notes
    -----
    Bands reach one standard deviation over the seeds to each side: how much the score of one
    training differs from another's. What the seeds have in common cancels in
    `RemovalCurve.against_random`, whose interval is the one to judge by. There is no band of one
    seed.

    Examples
    --------
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skinfluence.datasets import make_noisy_blobs
    >>> from skinfluence.display import RemovalCurveDisplay
    >>> data = make_noisy_blobs(random_state=0)
    >>> display = RemovalCurveDisplay.from_estimator(
    ...     KNeighborsClassifier(1), data.X, data.y, data.is_noisy, X_test=data.X_test,
    ...     y_test=data.y_test, budgets=(0, 10 / 150), n_seeds=3, random_state=0,
    ... )
    >>> display.line_.get_xdata().tolist()
    [0, 10]
    """

    def __init__(
        self,
        curve: RemovalCurve,
        *,
        name: str | None = None,
        score_name: str = "score on the test rows",
    ) -> None:
        self.curve = curve
        self.name = name
        self.score_name = score_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        detrimentality: ArrayLike,
        *,
        X_test: Any,
        y_test: Any,
        budgets: Iterable[float] = (0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4),
        n_seeds: int = 5,
        scoring: Any = None,
        control: bool = True,
        n_jobs: int | None = None,
        random_state: Any = None,
        name: str | None = None,
        score_name: str = "score on the test rows",
        ax: Any = None,
    ) -> Self:
        """Train without the most detrimental rows, budget by budget, and draw the scores.

        Parameters
        ----------
        estimator : estimator
            The model that is trained.
        X, y, detrimentality, X_test, y_test, budgets, n_seeds, scoring, control, n_jobs, \
random_state
            As for `skinfluence.metrics.removal_curve`.
        name : str, optional
            Of what ranked the rows, for the legend.
        score_name : str, default="score on the test rows"
            Of the scoring, for the axis.
        ax : matplotlib Axes, optional
            None makes a figure.

        Returns
        -------
        RemovalCurveDisplay
        """
        curve = removal_curve(
            estimator,
            X,
            y,
            detrimentality,
            X_test=X_test,
            y_test=y_test,
            budgets=budgets,
            n_seeds=n_seeds,
            scoring=scoring,
            control=control,
            n_jobs=n_jobs,
            random_state=random_state,
        )
        return cls(curve, name=name, score_name=score_name).plot(ax)

    @classmethod
    def from_predictions(
        cls,
        curve: RemovalCurve,
        *,
        name: str | None = None,
        score_name: str = "score on the test rows",
        ax: Any = None,
    ) -> Self:
        """Draw a curve that was computed.

        Parameters
        ----------
        curve : RemovalCurve
            From `skinfluence.metrics.removal_curve`.
        name : str, optional
            Of what ranked the rows, for the legend.
        score_name : str, default="score on the test rows"
            Of the scoring, for the axis.
        ax : matplotlib Axes, optional
            None makes a figure.

        Returns
        -------
        RemovalCurveDisplay
        """
        return cls(curve, name=name, score_name=score_name).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw means and bands over the number of rows removed.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            None makes a figure.

        Returns
        -------
        self
        """
        ax = axes_for("RemovalCurveDisplay", ax)
        removed, random = self.curve.n_removed, self.curve.random_scores
        self.random_line_ = None
        if random is not None:
            look = {"color": QUIET, "linestyle": "--", "marker": "s", "hatch": "...."}
            self.random_line_ = _band(ax, removed, random, "random rows", look)
        look = {"color": MAIN, "linestyle": "-", "marker": "o", "hatch": ""}
        self.line_ = _band(ax, removed, self.curve.scores, self.name or "most detrimental", look)
        ax.axhline(
            float(self.curve.mean[0]), color=INK, linestyle=":", linewidth=1, label="all rows"
        )
        ax.set_xlabel("rows removed")
        ax.set_ylabel(self.score_name)
        n_seeds = len(self.curve.scores)
        title = f"mean ± standard deviation of {n_seeds} seeds" if n_seeds > 1 else "one seed"
        ax.legend(title=title)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _band(
    ax: Any,
    removed: NDArray[np.intp],
    scores: NDArray[np.float64],
    label: str,
    look: dict[str, Any],
) -> Any:
    """Draw the mean over seeds, which are the rows, and the spread around it."""
    hatch = look.pop("hatch")
    mean = scores.mean(0)
    if len(scores) > 1:
        spread = scores.std(0, ddof=1)
        edges = mean - spread, mean + spread
        fill = {"facecolor": look["color"], "edgecolor": look["color"], "hatch": hatch}
        ax.fill_between(removed, *edges, alpha=0.25, linewidth=0, **fill)
    (line,) = ax.plot(removed, mean, label=label, **look)
    return line
