"""Several methods side by side: what they find, or how far they agree."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skinfluence.display._answers import checked_flags, checked_scores, method_of, scores_of
from skinfluence.display._curves import DetectionCurveDisplay
from skinfluence.display._style import SHADES, axes_for, shorten
from skinfluence.methods._union import DetrimentalityUnion, rank_correlation
from skinfluence.metrics import detection_curve


class MethodComparisonDisplay:
    """Several methods on the same rows: what they find, or without known errors how they agree.

    Use `from_estimator` or `from_predictions` to make one.

    Parameters
    ----------
    scores : dict of str to ndarray of shape (n_samples,)
        By name of the method; higher = more detrimental.
    is_noisy : ndarray of shape (n_samples,) or None, default=None
        Boolean: which rows are known to be noisy. If known, detection curves are drawn, the best
        first; else the rank correlations of the methods.

    Attributes
    ----------
    curves_ : dict of str to DetectionCurveDisplay
        By name, if the errors are known.
    rank_correlation_ : ndarray of shape (n_methods, n_methods)
        Spearman's, if they are not; NaN for scores that are all equal.
    ax_ : matplotlib Axes
        What was drawn on.
    figure_ : matplotlib Figure
        What holds it.

    Examples
    --------
    >>> from skinfluence.display import MethodComparisonDisplay
    >>> scores = {"one": [0.9, 0.1, 0.5, 0.4], "other": [0.2, 0.3, 0.9, 0.4]}
    >>> display = MethodComparisonDisplay.from_predictions(scores, [True, False, True, False])
    >>> {name: curve.curve.area for name, curve in display.curves_.items()}
    {'one': 0.75, 'other': 0.5}
    >>> display = MethodComparisonDisplay.from_predictions(scores)
    >>> float(display.rank_correlation_[0, 1].round(2))
    -0.2
    """

    def __init__(
        self, scores: Mapping[str, ArrayLike], *, is_noisy: ArrayLike | None = None
    ) -> None:
        self.scores = {name: checked_scores(values) for name, values in scores.items()}
        lengths = {len(values) for values in self.scores.values()}
        if len(lengths) != 1:
            raise ValueError(
                f"Got scores of {sorted(lengths)} rows, but expected those of at least one method, "
                "all of the same rows."
            )
        self.is_noisy = None if is_noisy is None else checked_flags(is_noisy, lengths.pop())

    @classmethod
    def from_estimator(
        cls, methods: Any, *, is_noisy: ArrayLike | None = None, ax: Any = None
    ) -> Self:
        """Draw fitted methods beside each other.

        Parameters
        ----------
        methods : DetrimentalityUnion, Pipeline that ends in one, or dict of str to method
            Fitted on the same rows.
        is_noisy : array-like of shape (n_samples,), optional
            Boolean: which rows are known to be noisy.
        ax : matplotlib Axes, optional
            None makes a figure.

        Returns
        -------
        MethodComparisonDisplay

        Raises
        ------
        TypeError
            If `methods` is neither a union nor a mapping of methods.
        """
        if not isinstance(methods, Mapping):
            union = method_of(methods)
            if not isinstance(union, DetrimentalityUnion):
                raise TypeError(
                    f"Got a {type(union).__name__}, but expected a DetrimentalityUnion or methods "
                    "by name, as {'loss': LossScore().fit(X, y), ...}."
                )
            methods = union.methods_
        scores = {name: scores_of(method_of(method)) for name, method in methods.items()}
        return cls(scores, is_noisy=is_noisy).plot(ax)

    @classmethod
    def from_predictions(
        cls,
        scores: Mapping[str, ArrayLike],
        is_noisy: ArrayLike | None = None,
        *,
        ax: Any = None,
    ) -> Self:
        """Draw scores beside each other.

        Parameters
        ----------
        scores : dict of str to array-like of shape (n_samples,)
            By name of the method; higher = more detrimental.
        is_noisy : array-like of shape (n_samples,), optional
            Boolean: which rows are known to be noisy.
        ax : matplotlib Axes, optional
            None makes a figure.

        Returns
        -------
        MethodComparisonDisplay
        """
        return cls(scores, is_noisy=is_noisy).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw detection curves, or rank correlations where the errors are not known.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            None makes a figure.

        Returns
        -------
        self
        """
        if self.is_noisy is not None:
            ax = axes_for("MethodComparisonDisplay", ax)
            self._draw_curves(ax, self.is_noisy)
        else:
            side = 2.6 + 0.5 * len(self.scores)
            ax = axes_for("MethodComparisonDisplay", ax, (side, side))
            self._draw_correlations(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_curves(self, ax: Any, is_noisy: NDArray[np.bool_]) -> None:
        curves = {name: detection_curve(is_noisy, scores) for name, scores in self.scores.items()}
        self.curves_ = {
            name: DetectionCurveDisplay(curves[name], name=name).plot(ax)
            for name in sorted(curves, key=lambda name: -curves[name].area)
        }

    def _draw_correlations(self, ax: Any) -> None:
        table = np.stack(list(self.scores.values()), axis=1)
        self.rank_correlation_ = rank_correlation(table)
        ax.imshow(np.abs(self.rank_correlation_), cmap=SHADES, vmin=0, vmax=1.25)
        for (i, j), value in np.ndenumerate(self.rank_correlation_):
            text = "none" if np.isnan(value) else f"{value:.2f}"
            color = "white" if abs(value) > 0.75 else "black"
            ax.text(j, i, text, ha="center", va="center", color=color)
        names = [shorten(name, 22) for name in self.scores]
        ax.set_xticks(np.arange(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
        ax.set_yticks(np.arange(len(names)), names)
        ax.set_title("rank correlation of the scores")
