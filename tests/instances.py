"""The smallest instance of every public estimator; a class missing from it fails the tests."""

from skinfluence import GradientEmbedding, NormDetector, OutlierGradientDetector, TracIn

SMALLEST = {
    GradientEmbedding: GradientEmbedding(),
    NormDetector: NormDetector(),
    OutlierGradientDetector: OutlierGradientDetector(),
    TracIn: TracIn(),
}
