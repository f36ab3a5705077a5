"""Which training samples hurt a model: detrimentality scores from loss gradients.

    net (skorch) -> per-sample gradients -> gradient embedding -> detector
        -> detrimentality_ (n_samples,), higher = more detrimental

Public names by stage:

* nets: `nets.default_net`
* gradients: `gradients.per_sample_gradients`, `gradients.gradient_norms`,
  `gradients.check_per_sample_gradients`
* embedding: `GradientEmbedding`, `projection.Projection`
* scores: `OutlierGradientDetector`, `NormDetector`, and their base `BaseDetrimentality`
* values: `ComplexityGap`, `DataShapley`, `KNNShapley`, `LeaveOneOut`
* influence on a validation objective: `InnerProductInfluence`, `InfluenceFunction`,
  `MirroredInfluence`; their objectives and solvers in `skinfluence.influence`
* metrics: `metrics.detection_curve`, `metrics.recall_at_budget`, `metrics.removal_curve`,
  `metrics.leave_one_out_correlation`, `metrics.linear_datamodeling_score`,
  `metrics.make_detection_scorer`
* plain scores: `LossScore`, `SelfConfidence`, `NormalizedMargin`, `ConfidenceWeightedEntropy`,
  `EL2N`, `GraNd`, `AreaUnderMargin`, `ForgettingEvents`, `RandomScore`
* several methods on one training: `DetrimentalityUnion`
* one unit for all methods: `CalibratedDetrimentality`
* validation rows in a search: `ValidationRows`
* cleaning: `DetrimentalSampleCleaner`, `CleanedClassifier`, `CleanedRegressor`
* data: `datasets.make_noisy_labels`, `datasets.make_noisy_blobs`, `datasets.make_noisy_moons`,
  `datasets.conflicting_rows`
"""

from skinfluence._validation_rows import ValidationRows
from skinfluence._version import __version__ as __version__
from skinfluence.base import BaseDetrimentality
from skinfluence.calibration import CalibratedDetrimentality
from skinfluence.cleaned_models import CleanedClassifier, CleanedRegressor
from skinfluence.cleaning import DetrimentalSampleCleaner
from skinfluence.dynamics import (
    EL2N,
    AreaUnderMargin,
    ConfidenceWeightedEntropy,
    ForgettingEvents,
    GraNd,
    LossScore,
    NormalizedMargin,
    RandomScore,
    SelfConfidence,
)
from skinfluence.embedding import GradientEmbedding
from skinfluence.influence import (
    InfluenceFunction,
    InnerProductInfluence,
    MirroredInfluence,
    SGDInfluence,
    TracIn,
)
from skinfluence.outlier import NormDetector, OutlierGradientDetector
from skinfluence.trace import Checkpoint, TraceRecorder, TrainingTrace
from skinfluence.union import DetrimentalityUnion
from skinfluence.valuation import ComplexityGap, DataShapley, KNNShapley, LeaveOneOut

__all__ = [
    "EL2N",
    "AreaUnderMargin",
    "BaseDetrimentality",
    "CalibratedDetrimentality",
    "Checkpoint",
    "CleanedClassifier",
    "CleanedRegressor",
    "ComplexityGap",
    "ConfidenceWeightedEntropy",
    "DataShapley",
    "DetrimentalSampleCleaner",
    "DetrimentalityUnion",
    "ForgettingEvents",
    "GraNd",
    "GradientEmbedding",
    "InfluenceFunction",
    "InnerProductInfluence",
    "KNNShapley",
    "LeaveOneOut",
    "LossScore",
    "MirroredInfluence",
    "NormDetector",
    "NormalizedMargin",
    "OutlierGradientDetector",
    "RandomScore",
    "SGDInfluence",
    "SelfConfidence",
    "TracIn",
    "TraceRecorder",
    "TrainingTrace",
    "ValidationRows",
]
