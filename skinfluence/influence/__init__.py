"""Which rows help or hurt a validation objective, by gradients at a trained net.

* estimators: `TracIn`, `SGDInfluence`, `InnerProductInfluence`, `InfluenceFunction`,
  `MirroredInfluence`
* objectives of `InnerProductInfluence` and `InfluenceFunction`: `ValidationLoss`,
  `DemographicParity`, `EqualOpportunity`, `AdversarialLoss`
* solvers of `InfluenceFunction`: `Exact`, `ConjugateGradient`, `LiSSA`, `Arnoldi`, `EKFAC`,
  `DataInf`, `Identity`
"""

from skinfluence.influence._influence_function import InfluenceFunction
from skinfluence.influence._inner_product import InnerProductInfluence
from skinfluence.influence._mirrored import MirroredInfluence
from skinfluence.influence._tracin import TracIn
from skinfluence.influence.objectives._objectives import (
    AdversarialLoss,
    DemographicParity,
    EqualOpportunity,
    ValidationLoss,
)
from skinfluence.influence.retraced._sgd_influence import SGDInfluence
from skinfluence.influence.solvers._solvers import (
    EKFAC,
    Arnoldi,
    ConjugateGradient,
    DataInf,
    Exact,
    Identity,
    LiSSA,
)

__all__ = [
    "EKFAC",
    "AdversarialLoss",
    "Arnoldi",
    "ConjugateGradient",
    "DataInf",
    "DemographicParity",
    "EqualOpportunity",
    "Exact",
    "Identity",
    "InfluenceFunction",
    "InnerProductInfluence",
    "LiSSA",
    "MirroredInfluence",
    "SGDInfluence",
    "TracIn",
    "ValidationLoss",
]
