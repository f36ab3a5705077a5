"""How the scores are spread, where the threshold lies and, if known, where the errors do."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from skinfluence.display._answers import checked_flags, checked_scores, method_of, scores_of
from skinfluence.display._style import ALERT, INK, PALE, QUIET, axes_for, counted

_MOST_BINS = 60


class DetrimentalityDisplay:
    """Histogram of detrimentality scores, with the threshold and, where known, the truth.

    Use `from_estimator` or `from_predictions` to make one.

    Parameters
    ----------
    detrimentality : ndarray of shape (n_samples,)
        Higher = more detrimental.
    threshold : float or None, default=None
        Drawn as a line; rows above it are counted.
    is_noisy : ndarray of shape (n_samples,) or None, default=None
        Boolean: which rows are known to be noisy. They are drawn apart.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What was drawn on.
    figure_ : matplotlib Figure
        What holds it.

    See Also
    --------
    DetectionCurveDisplay : How many of the known errors the ranking finds.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skinfluence import OutlierGradientDetector
    >>> from skinfluence.display import DetrimentalityDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> method = OutlierGradientDetector(committee=["kernels"], random_state=0).fit(X, y)
    >>> display = DetrimentalityDisplay.from_estimator(method)
    >>> display.ax_.get_xlabel()
    'detrimentality (higher = more detrimental)'
    """

    def __init__(
        self,
        detrimentality: ArrayLike,
        *,
        threshold: float | None = None,
        is_noisy: ArrayLike | None = None,
    ) -> None:
        self.detrimentality = checked_scores(detrimentality)
        self.threshold = threshold
        self.is_noisy = is_noisy
        if is_noisy is not None:
            self.is_noisy = checked_flags(is_noisy, len(self.detrimentality))

    @classmethod
    def from_estimator(
        cls, method: Any, *, is_noisy: ArrayLike | None = None, ax: Any = None
    ) -> Self:
        """Draw the scores of the rows that a method was fitted on.

        Parameters
        ----------
        method : BaseDetrimentality or Pipeline
            Fitted. Its `threshold_` is drawn, if it has one.
        is_noisy : array-like of shape (n_samples,), optional
            Boolean: which rows are known to be noisy.
        ax : matplotlib Axes, optional
            None makes a figure.

        Returns
        -------
        DetrimentalityDisplay
        """
        method = method_of(method)
        threshold = getattr(method, "threshold_", None)
        return cls(scores_of(method), threshold=threshold, is_noisy=is_noisy).plot(ax)

    @classmethod
    def from_predictions(
        cls,
        detrimentality: ArrayLike,
        *,
        threshold: float | None = None,
        is_noisy: ArrayLike | None = None,
        ax: Any = None,
    ) -> Self:
        """Draw scores.

        Parameters
        ----------
        detrimentality : array-like of shape (n_samples,)
            Higher = more detrimental.
        threshold : float, optional
        is_noisy : array-like of shape (n_samples,), optional
            Boolean: which rows are known to be noisy.
        ax : matplotlib Axes, optional
            None makes a figure.

        Returns
        -------
        DetrimentalityDisplay
        """
        return cls(detrimentality, threshold=threshold, is_noisy=is_noisy).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw; the counts have a logarithmic scale, for a few bad rows among many.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            None makes a figure.

        Returns
        -------
        self
        """
        ax = axes_for("DetrimentalityDisplay", ax)
        edges = np.histogram_bin_edges(self.detrimentality, "auto")
        if len(edges) > _MOST_BINS + 1:
            edges = np.histogram_bin_edges(self.detrimentality, _MOST_BINS)
        if self.is_noisy is None:
            ax.hist(self.detrimentality, edges, color=PALE, edgecolor=QUIET)
        else:
            noisy = np.asarray(self.is_noisy)
            clean, wrong = self.detrimentality[~noisy], self.detrimentality[noisy]
            label = f"known to be clean ({len(clean):,})"
            ax.hist(clean, edges, color=PALE, edgecolor=QUIET, label=label)
            style = {"facecolor": "none", "edgecolor": ALERT, "hatch": "////", "linewidth": 1.2}
            label = f"known to be noisy ({len(wrong):,})"
            ax.hist(wrong, edges, histtype="stepfilled", label=label, **style)
        if self.threshold is not None:
            above = counted(int((self.detrimentality > self.threshold).sum()), "row")
            label = f"threshold {self.threshold:.3g}: {above} above"
            ax.axvline(self.threshold, color=INK, linestyle="--", label=label)
        ax.set_yscale("log")
        ax.set_ylim(bottom=0.7)
        ax.set_xlabel("detrimentality (higher = more detrimental)")
        ax.set_ylabel("rows")
        if self.is_noisy is not None or self.threshold is not None:
            ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self
