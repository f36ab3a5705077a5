"""What people look at: tables and pictures of what methods say of training rows."""

from skinfluence.display._columns import ColumnApart
from skinfluence.display._comparison import MethodComparisonDisplay
from skinfluence.display._curves import DetectionCurveDisplay, RemovalCurveDisplay
from skinfluence.display._data_map import DataMapDisplay
from skinfluence.display._explain import ExplanationDisplay, explain
from skinfluence.display._explanation import Explanation, Learning, RelatedRow
from skinfluence.display._gallery import Sample, SampleGalleryDisplay, Suspect
from skinfluence.display._groups import groups_frame
from skinfluence.display._issues_frame import issues_frame
from skinfluence.display._kinds import Fault
from skinfluence.display._noise_matrix import NoiseMatrixDisplay
from skinfluence.display._score_distribution import DetrimentalityDisplay

__all__ = [
    "ColumnApart",
    "DataMapDisplay",
    "DetectionCurveDisplay",
    "DetrimentalityDisplay",
    "Explanation",
    "ExplanationDisplay",
    "Fault",
    "Learning",
    "MethodComparisonDisplay",
    "NoiseMatrixDisplay",
    "RelatedRow",
    "RemovalCurveDisplay",
    "Sample",
    "SampleGalleryDisplay",
    "Suspect",
    "explain",
    "groups_frame",
    "issues_frame",
]
