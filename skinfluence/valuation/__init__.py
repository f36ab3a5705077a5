"""The value of rows: by complexity without training, by neighbours, and by retraining."""

from skinfluence.valuation._complexity_gap import ComplexityGap

__all__ = ["ComplexityGap"]
