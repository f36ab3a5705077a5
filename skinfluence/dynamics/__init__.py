"""Scores read off training and its outputs: what every comparison must contain."""

from skinfluence.dynamics._checkpoint_mean import LossScore
from skinfluence.dynamics._confidence import (
    EL2N,
    ConfidenceWeightedEntropy,
    NormalizedMargin,
    SelfConfidence,
)
from skinfluence.dynamics._grand import GraNd
from skinfluence.dynamics._random_score import RandomScore
from skinfluence.dynamics._recorded import AreaUnderMargin, ForgettingEvents

__all__ = [
    "EL2N",
    "AreaUnderMargin",
    "ConfidenceWeightedEntropy",
    "ForgettingEvents",
    "GraNd",
    "LossScore",
    "NormalizedMargin",
    "RandomScore",
    "SelfConfidence",
]
