"""The value of rows: by complexity without training, by neighbours, and by retraining."""

from skinfluence.valuation._complexity_gap import ComplexityGap
from skinfluence.valuation._data_shapley import DataShapley
from skinfluence.valuation._knn_shapley import KNNShapley
from skinfluence.valuation._leave_one_out import LeaveOneOut

__all__ = ["ComplexityGap", "DataShapley", "KNNShapley", "LeaveOneOut"]
