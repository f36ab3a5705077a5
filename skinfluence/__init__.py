"""Which training samples hurt a model: detrimentality scores from loss gradients.

    net (skorch) -> per-sample gradients -> gradient embedding -> detector
        -> detrimentality_ (n_samples,), higher = more detrimental

Public names by stage:

* nets: `nets.default_net`, `nets.from_torch`
* gradients: `gradients.per_sample_gradients`, `gradients.gradient_norms`,
  `gradients.check_per_sample_gradients`
* embedding: `GradientEmbedding`, `gradients.Projection`
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
* how many labels are wrong, and which: `estimate_label_errors`, `estimate_target_errors`,
  `check_label_errors`
* new labelled rows, through a pipeline: `score_detrimentality`; which of them to mark:
  `threshold_for_new_rows`
* validation rows in a search: `ValidationRows`
* what people look at: `display.issues_frame`, `display.groups_frame`, `display.explain`,
  `display.DetrimentalityDisplay` and its like
* cleaning: `DetrimentalSampleCleaner`, `CleanedClassifier`, `CleanedRegressor`
* labels of several annotators: `AnnotatorConsensus`
* data: `datasets.make_noisy_labels`, `datasets.make_noisy_blobs`, `datasets.make_noisy_moons`,
  `datasets.conflicting_rows`
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # at run time a name brings its own room and those below, when it is first used
    from skinfluence.cleaning._annotators import AnnotatorConsensus
    from skinfluence.cleaning._cleaned_models import CleanedClassifier, CleanedRegressor
    from skinfluence.cleaning._cleaner import DetrimentalSampleCleaner
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
    from skinfluence.influence import (
        InfluenceFunction,
        InnerProductInfluence,
        MirroredInfluence,
        SGDInfluence,
        TracIn,
    )
    from skinfluence.methods._base import BaseDetrimentality
    from skinfluence.methods._calibration import CalibratedDetrimentality
    from skinfluence.methods._label_errors import (
        LabelErrors,
        estimate_label_errors,
        estimate_target_errors,
    )
    from skinfluence.methods._monitoring import threshold_for_new_rows
    from skinfluence.methods._planted import PlantedErrors, check_label_errors
    from skinfluence.methods._scoring import score_detrimentality
    from skinfluence.methods._union import DetrimentalityUnion
    from skinfluence.outlier._embedding import GradientEmbedding
    from skinfluence.outlier._norm_detector import NormDetector
    from skinfluence.outlier._outlier_gradients import OutlierGradientDetector
    from skinfluence.rows._validation_rows import ValidationRows
    from skinfluence.trace._recorder import TraceRecorder
    from skinfluence.trace._training_trace import Checkpoint, TrainingTrace
    from skinfluence.valuation import ComplexityGap, DataShapley, KNNShapley, LeaveOneOut

_HOMES = {
    "cleaning._annotators": ["AnnotatorConsensus"],
    "cleaning._cleaned_models": ["CleanedClassifier", "CleanedRegressor"],
    "cleaning._cleaner": ["DetrimentalSampleCleaner"],
    "dynamics": [
        "EL2N",
        "AreaUnderMargin",
        "ConfidenceWeightedEntropy",
        "ForgettingEvents",
        "GraNd",
        "LossScore",
        "NormalizedMargin",
        "RandomScore",
        "SelfConfidence",
    ],
    "influence": [
        "InfluenceFunction",
        "InnerProductInfluence",
        "MirroredInfluence",
        "SGDInfluence",
        "TracIn",
    ],
    "methods._base": ["BaseDetrimentality"],
    "methods._calibration": ["CalibratedDetrimentality"],
    "methods._label_errors": [
        "LabelErrors",
        "estimate_label_errors",
        "estimate_target_errors",
    ],
    "methods._monitoring": ["threshold_for_new_rows"],
    "methods._planted": ["PlantedErrors", "check_label_errors"],
    "methods._scoring": ["score_detrimentality"],
    "methods._union": ["DetrimentalityUnion"],
    "outlier._embedding": ["GradientEmbedding"],
    "outlier._norm_detector": ["NormDetector"],
    "outlier._outlier_gradients": ["OutlierGradientDetector"],
    "rows._validation_rows": ["ValidationRows"],
    "trace._recorder": ["TraceRecorder"],
    "trace._training_trace": ["Checkpoint", "TrainingTrace"],
    "valuation": ["ComplexityGap", "DataShapley", "KNNShapley", "LeaveOneOut"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_ROOMS = {
    "datasets",
    "display",
    "dynamics",
    "exceptions",
    "gradients",
    "influence",
    "metrics",
    "nets",
    "valuation",
}

__all__ = [
    "EL2N",
    "AnnotatorConsensus",
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
    "LabelErrors",
    "LeaveOneOut",
    "LossScore",
    "MirroredInfluence",
    "NormDetector",
    "NormalizedMargin",
    "OutlierGradientDetector",
    "PlantedErrors",
    "RandomScore",
    "SGDInfluence",
    "SelfConfidence",
    "TracIn",
    "TraceRecorder",
    "TrainingTrace",
    "ValidationRows",
    "check_label_errors",
    "estimate_label_errors",
    "estimate_target_errors",
    "score_detrimentality",
    "threshold_for_new_rows",
]


def __getattr__(name: str) -> object:
    if name in _HOME_OF:
        found: object = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    elif name in _ROOMS:
        found = import_module(f"{__name__}.{name}")
    elif name == "__version__":
        found = import_module("importlib.metadata").version(__name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS, "__version__"})
