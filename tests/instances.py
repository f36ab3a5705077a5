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
from skinfluence.nets import sgd_net


class BriefLeaveOneOut(LeaveOneOut):
    """With a default net of a few epochs, as it is trained for every row."""

    @staticmethod
    def _default_net(X, y, *, random_state=None):
        return sgd_net(X, y, random_state=random_state).set_params(max_epochs=3)


SMALLEST = {
    ComplexityGap: ComplexityGap(),
    DataShapley: DataShapley(max_permutations=1),
    GradientEmbedding: GradientEmbedding(),
    KNNShapley: KNNShapley(),
    LeaveOneOut: BriefLeaveOneOut(),
    NormDetector: NormDetector(),
    OutlierGradientDetector: OutlierGradientDetector(),
    SGDInfluence: SGDInfluence(parameters="final", epochs=2),
    TracIn: TracIn(),
}
