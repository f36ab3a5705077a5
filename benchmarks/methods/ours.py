"""Methods of this package.

Those that read one training of the default net share it, as in a `DetrimentalityUnion`: each is a
line of its own, whose seconds are the training's and its own, and whose memory is the union's.
"""

from pyod.models.iforest import IForest

from benchmarks.methods.method import CLASSES, NUMBERS, Parts, estimator, method
from skinfluence import (
    EL2N,
    AreaUnderMargin,
    ComplexityGap,
    ConfidenceWeightedEntropy,
    DetrimentalityUnion,
    ForgettingEvents,
    GraNd,
    KNNShapley,
    LossScore,
    NormalizedMargin,
    NormDetector,
    OutlierGradientDetector,
    SelfConfidence,
    TracIn,
)

ONE_NET = {"committee": None}
PAPER = {**ONE_NET, "checkpoints": "last", "normalize": None, "n_neighbors": None}

OF_ANY_TARGET = {
    "gradients and neighbors, one net": OutlierGradientDetector(**ONE_NET),
    "gradients, no neighbors": OutlierGradientDetector(**ONE_NET, n_neighbors=None),
    "gradients, isolation forest (paper)": OutlierGradientDetector(detector=IForest(), **PAPER),
    "gradients, L2 norm (paper)": OutlierGradientDetector(detector=NormDetector(2), **PAPER),
    "loss, last": LossScore(),
    "loss, mean": LossScore(checkpoints=10),
    "TracIn, self": TracIn(checkpoints=10),
}
OF_CLASSES = {
    "EL2N, mean": EL2N(checkpoints=10),
    "normalized margin, mean": NormalizedMargin(checkpoints=10),
    "confidence-weighted entropy, last": ConfidenceWeightedEntropy(),
    "area under the margin": AreaUnderMargin(),
    "forgetting events": ForgettingEvents(),
}


def _share_one_training(name, members, task):
    @method(name, group="ours", tasks=(task,), parts=members)
    def score(problem, seed):
        union = DetrimentalityUnion(list(members.items()), aggregate=None, random_state=seed)
        union.fit(problem.X, problem.y)
        scores = dict(zip(members, union.scores_.T, strict=True))
        training = union.timings_["training"]
        return Parts(scores, {name: training + union.timings_[name] for name in members})


estimator("default", lambda seed: OutlierGradientDetector(random_state=seed))
_share_one_training("one training", OF_ANY_TARGET | OF_CLASSES, CLASSES)
_share_one_training("one training, numbers", OF_ANY_TARGET, NUMBERS)
estimator(
    "self-confidence, 5 folds",
    lambda seed: SelfConfidence(cv=5, random_state=seed),
    tasks=(CLASSES,),
)
estimator("loss, 5 folds", lambda seed: LossScore(cv=5, random_state=seed), tasks=(NUMBERS,))
estimator("GraNd", lambda seed: GraNd(random_state=seed))
estimator("CG-score", lambda seed: ComplexityGap(random_state=seed))
estimator("KNN-Shapley", lambda seed: KNNShapley(random_state=seed), tasks=(CLASSES,))
