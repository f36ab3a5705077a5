"""The smallest instance of every public estimator; a class missing from it fails the tests."""

from skinfluence import (
    ComplexityGap,
    DataShapley,
    GradientEmbedding,
    KNNShapley,
    LeaveOneOut,
    NormDetector,
    OutlierGradientDetector,
    SGDInfluence,
    TracIn,
)

SMALLEST = {
    ComplexityGap: ComplexityGap(),
    DataShapley: DataShapley(max_permutations=1),
    GradientEmbedding: GradientEmbedding(),
    KNNShapley: KNNShapley(),
    LeaveOneOut: LeaveOneOut(),
    NormDetector: NormDetector(),
    OutlierGradientDetector: OutlierGradientDetector(),
    SGDInfluence: SGDInfluence(parameters="final", epochs=2),
    TracIn: TracIn(),
}
