"""The smallest instance of every public estimator; a class missing from it fails the tests."""

import numpy as np
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge

from skinfluence import (
    EL2N,
    AnnotatorConsensus,
    AreaUnderMargin,
    CalibratedDetrimentality,
    CleanedClassifier,
    CleanedRegressor,
    ComplexityGap,
    ConfidenceWeightedEntropy,
    DataShapley,
    DetrimentalityUnion,
    DetrimentalSampleCleaner,
    ForgettingEvents,
    GradientEmbedding,
    GraNd,
    InfluenceFunction,
    InnerProductInfluence,
    KNNShapley,
    LeaveOneOut,
    LossScore,
    MirroredInfluence,
    NormalizedMargin,
    NormDetector,
    OutlierGradientDetector,
    RandomScore,
    SelfConfidence,
    SGDInfluence,
    TracIn,
)
from skinfluence.nets import sgd_net
from tests._shared.problems import blobs


class BriefLeaveOneOut(LeaveOneOut):
    """With a default net of a few epochs, as it is trained for every row."""

    @staticmethod
    def _default_net(X, y, **settings):
        return sgd_net(X, y, **settings).set_params(max_epochs=3)


# batch_size=1 where a score follows the net's float32 outputs smoothly: scikit-learn compares the
# scores of single rows with those of all rows to 1e-7, and a batch of one rounds otherwise.
SMALLEST = {
    AnnotatorConsensus: AnnotatorConsensus(LogisticRegression(), cv=2, random_state=0),
    AreaUnderMargin: AreaUnderMargin(),
    CalibratedDetrimentality: CalibratedDetrimentality(LossScore(batch_size=1), cv=2),
    CleanedClassifier: CleanedClassifier(
        LogisticRegression(), ComplexityGap(), contamination=0.1, random_state=0
    ),
    CleanedRegressor: CleanedRegressor(Ridge(), RandomScore(), contamination=0.1, random_state=0),
    ComplexityGap: ComplexityGap(),
    ConfidenceWeightedEntropy: ConfidenceWeightedEntropy(batch_size=1),
    DataShapley: DataShapley(max_permutations=1),
    DetrimentalityUnion: DetrimentalityUnion([("loss", LossScore())]),
    DetrimentalSampleCleaner: DetrimentalSampleCleaner(ComplexityGap(), contamination=0.1),
    EL2N: EL2N(batch_size=1),
    ForgettingEvents: ForgettingEvents(),
    GradientEmbedding: GradientEmbedding(batch_size=1),
    GraNd: GraNd(epoch=2, n_seeds=2, batch_size=1),
    InfluenceFunction: InfluenceFunction(),
    InnerProductInfluence: InnerProductInfluence(),
    KNNShapley: KNNShapley(),
    LeaveOneOut: BriefLeaveOneOut(),
    MirroredInfluence: MirroredInfluence(),
    LossScore: LossScore(batch_size=1),
    NormalizedMargin: NormalizedMargin(batch_size=1),
    NormDetector: NormDetector(),
    OutlierGradientDetector: OutlierGradientDetector(),
    RandomScore: RandomScore(),
    SelfConfidence: SelfConfidence(batch_size=1),
    SGDInfluence: SGDInfluence(parameters="final", epochs=2),
    TracIn: TracIn(),
}


def fitted_example(cls, **settings):
    """Fit a smallest instance on a few rows; it, and these rows."""
    X, y = blobs(40, n_classes=2)
    method = clone(SMALLEST[cls]).set_params(**settings)
    if "random_state" in method.get_params():
        method.set_params(random_state=0)
    if issubclass(cls, AnnotatorConsensus):
        return method.fit(X, np.stack([y, y, 1 - y], axis=1)), X, y
    if hasattr(method, "fit_resample"):
        method.fit_resample(X, y)
        return method, X, y
    try:
        return method.fit(X, y), X, y
    except ValueError as error:
        if "X_val" not in str(error):
            raise
        return method.fit(X[:30], y[:30], X_val=X[30:], y_val=y[30:]), X, y
