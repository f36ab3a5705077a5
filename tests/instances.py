"""The smallest instance of every public estimator; a class missing from it fails the tests."""

from skinfluence import ComplexityGap, GradientEmbedding, NormDetector, OutlierGradientDetector

SMALLEST = {
    ComplexityGap: ComplexityGap(),
    GradientEmbedding: GradientEmbedding(),
    NormDetector: NormDetector(),
    OutlierGradientDetector: OutlierGradientDetector(),
}
