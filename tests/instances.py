"""The smallest instance of every public estimator; a class missing from it fails the tests."""

from skinfluence import (
    GradientEmbedding,
    NormDetector,
    OutlierGradientDetector,
    SGDInfluence,
    TracIn,
)

SMALLEST = {
    GradientEmbedding: GradientEmbedding(),
    NormDetector: NormDetector(),
    OutlierGradientDetector: OutlierGradientDetector(),
    SGDInfluence: SGDInfluence(parameters="final", epochs=2),
    TracIn: TracIn(),
}
