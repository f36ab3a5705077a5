"""The value of rows: by complexity without training, by neighbours, and by retraining."""

from skinfluence.valuation._complexity_gap import ComplexityGap
from skinfluence.valuation._knn_shapley import KNNShapley
from skinfluence.valuation.leave_one_out._leave_one_out import LeaveOneOut
from skinfluence.valuation.shapley._data_shapley import DataShapley

__all__ = ["ComplexityGap", "DataShapley", "KNNShapley", "LeaveOneOut"]
