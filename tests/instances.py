"""The smallest instance of every public estimator; a class missing from it fails the tests."""

from skinfluence import (
    GradientEmbedding,
    InfluenceFunction,
    InnerProductInfluence,
    MirroredInfluence,
    NormDetector,
    OutlierGradientDetector,
)
from skinfluence.influence import Exact

SMALLEST = {
    GradientEmbedding: GradientEmbedding(),
    InfluenceFunction: InfluenceFunction(solver=Exact(), reference="self", layers="last"),
    InnerProductInfluence: InnerProductInfluence(layers="last"),
    MirroredInfluence: MirroredInfluence(),
    NormDetector: NormDetector(),
    OutlierGradientDetector: OutlierGradientDetector(),
}
