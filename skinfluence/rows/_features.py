"""Scores that become another model's features: they know the labels that it is to learn."""

import sys
import warnings
from types import FrameType
from typing import Any

from sklearn.base import is_classifier, is_regressor
from sklearn.pipeline import Pipeline

from skinfluence.exceptions import LeakyFeaturesWarning


def warn_of_leaky_features(transformer: object, what: str) -> None:
    """Warn if a Pipeline is about to train a classifier or regressor on what knows its labels."""
    model = _model_behind(sys._getframe(1))
    if model is not None:
        warnings.warn(
            f"{type(model).__name__} will be trained on {what} of {type(transformer).__name__} as "
            "features. These know the labels given, which it is to predict, while transform judges "
            "new rows at the labels predicted, so that it learns what new rows do not have and "
            "predicts worse; cv lessens that at best. To use what is known of wrong labels, weigh "
            "the rows, as CleanedClassifier(action='weight') does.",
            LeakyFeaturesWarning,
            stacklevel=3,
        )


def _model_behind(frame: FrameType | None) -> Any:
    """Find the model at the end of the pipeline whose steps are being fitted, if any."""
    # A step does not know what comes after it; the pipeline that calls it does. Detectors of
    # outliers, which learn no labels, may come after.
    while frame is not None:
        if frame.f_code.co_name == "_fit":
            pipeline = frame.f_locals.get("self")
            if isinstance(pipeline, Pipeline):
                final = pipeline.steps[-1][1]
                if is_classifier(final) or is_regressor(final):
                    return final
        frame = frame.f_back
    return None
