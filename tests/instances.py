"""The smallest instance of every public estimator; a class missing from it fails the tests."""

from skinfluence import (
    ComplexityGap,
    DataShapley,
    GradientEmbedding,
    InfluenceFunction,
    InnerProductInfluence,
    KNNShapley,
    MirroredInfluence,
    NormDetector,
    OutlierGradientDetector,
    SGDInfluence,
    TracIn,
)

SMALLEST = {
    ComplexityGap: ComplexityGap(),
    DataShapley: DataShapley(max_permutations=1),
    GradientEmbedding: GradientEmbedding(),
    InfluenceFunction: InfluenceFunction(),
    InnerProductInfluence: InnerProductInfluence(),
    KNNShapley: KNNShapley(),
    MirroredInfluence: MirroredInfluence(),
    NormDetector: NormDetector(),
    OutlierGradientDetector: OutlierGradientDetector(),
    SGDInfluence: SGDInfluence(parameters="final", epochs=2),
    TracIn: TracIn(),
}
