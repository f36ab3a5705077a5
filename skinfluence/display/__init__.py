"""What people look at: tables and pictures of what methods say of training rows."""

from skinfluence.display._comparison import MethodComparisonDisplay
from skinfluence.display._curves import DetectionCurveDisplay, RemovalCurveDisplay
from skinfluence.display._data_map import DataMapDisplay
from skinfluence.display._gallery import SampleGalleryDisplay
from skinfluence.display._issues_frame import issues_frame
from skinfluence.display._noise_matrix import NoiseMatrixDisplay
from skinfluence.display._score_distribution import DetrimentalityDisplay

__all__ = [
    "DataMapDisplay",
    "DetectionCurveDisplay",
    "DetrimentalityDisplay",
    "MethodComparisonDisplay",
    "NoiseMatrixDisplay",
    "RemovalCurveDisplay",
    "SampleGalleryDisplay",
    "issues_frame",
]
