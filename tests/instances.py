"""The smallest instance of every public estimator; a class missing from it fails the tests."""

from skinfluence import (
    ComplexityGap,
    GradientEmbedding,
    KNNShapley,
    NormDetector,
    OutlierGradientDetector,
)

SMALLEST = {
    ComplexityGap: ComplexityGap(),
    GradientEmbedding: GradientEmbedding(),
    KNNShapley: KNNShapley(),
    NormDetector: NormDetector(),
    OutlierGradientDetector: OutlierGradientDetector(),
}
