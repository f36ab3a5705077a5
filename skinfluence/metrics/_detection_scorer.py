"""A scorer for searches over a method's own parameters, where the noisy rows are known."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.utils.metadata_routing import MetadataRequest


class _DetectionScorer:
    """Calls as scikit-learn's searches do; picklable, unlike a closure."""

    def __init__(self, metric: str) -> None:
        self.metric = metric

    def get_metadata_routing(self) -> MetadataRequest:
        """Ask for `is_noisy`; called by scikit-learn."""
        request = MetadataRequest(owner=self)
        request.score.add_request(param="is_noisy", alias=True)
        return request

    def __call__(self, estimator: Any, X: Any, y: Any, *, is_noisy: ArrayLike) -> float:
        noisy = np.asarray(is_noisy, dtype=bool)
        scores = estimator.score_detrimentality(X, y)
        if noisy.shape != scores.shape or noisy.all() or not noisy.any():
            raise ValueError(
                f"Got is_noisy of shape {noisy.shape} with {int(noisy.sum())} noisy rows for "
                f"{len(scores)} scored rows, but expected both noisy and clean rows in every test "
                "fold. Stratify the folds by is_noisy, and pass it through the search's fit."
            )
        measure = roc_auc_score if self.metric == "roc_auc" else average_precision_score
        return float(measure(noisy, scores))


def make_detection_scorer(metric: str = "average_precision") -> Any:
    """Make a scorer that says how well a method finds rows known to be noisy.

    For a search over a method's own parameters, where the noisy rows are known, as in data with
    planted errors. Test folds are scored as new labelled rows, by `score_detrimentality`.

    Parameters
    ----------
    metric : {"average_precision", "roc_auc"}, default="average_precision"
        The area under the precision-recall or the ROC curve.

    Returns
    -------
    callable
        ``scorer(method, X, y, is_noisy=...)``, higher = better, with `is_noisy` requested for
        scikit-learn's metadata routing. In a search, that must be enabled:
        ``sklearn.set_config(enable_metadata_routing=True)``.

    Raises
    ------
    ValueError
        If the metric is unknown; when called, if there are not both noisy and clean rows.

    Examples
    --------
    >>> import sklearn
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import GridSearchCV, StratifiedKFold
    >>> from skinfluence import SelfConfidence
    >>> from skinfluence.datasets import make_noisy_labels
    >>> from skinfluence.metrics import make_detection_scorer
    >>> X, y = load_iris(return_X_y=True)
    >>> y_noisy, is_noisy = make_noisy_labels(y, rate=0.2, random_state=0)
    >>> with sklearn.config_context(enable_metadata_routing=True):
    ...     search = GridSearchCV(
    ...         SelfConfidence(random_state=0), {"checkpoints": ["last", 10]},
    ...         cv=StratifiedKFold(2, shuffle=True, random_state=0),
    ...         scoring=make_detection_scorer("roc_auc"),
    ...     ).fit(X, y_noisy, is_noisy=is_noisy)
    >>> bool(search.best_score_ > 0.8)
    True
    """
    if metric not in {"average_precision", "roc_auc"}:
        raise ValueError(f"Got metric={metric!r}, but expected 'average_precision' or 'roc_auc'.")
    return _DetectionScorer(metric)
