"""How well scores find known errors, and what happens when rows are removed by them."""

from skinfluence.metrics._agreement import (
    LeaveOneOutCorrelation,
    leave_one_out_correlation,
    linear_datamodeling_score,
)
from skinfluence.metrics._detection import (
    DetectionCurve,
    detection_curve,
    make_detection_scorer,
    recall_at_budget,
)
from skinfluence.metrics._removal import PairedDifference, RemovalCurve, removal_curve

__all__ = [
    "DetectionCurve",
    "LeaveOneOutCorrelation",
    "PairedDifference",
    "RemovalCurve",
    "detection_curve",
    "leave_one_out_correlation",
    "linear_datamodeling_score",
    "make_detection_scorer",
    "recall_at_budget",
    "removal_curve",
]
