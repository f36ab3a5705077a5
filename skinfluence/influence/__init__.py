"""Which rows help or hurt a validation objective, by gradients at a trained net.

Estimators: `InfluenceFunction`. Solvers for it: `Exact`, `ConjugateGradient`, `LiSSA`, `Arnoldi`,
`EKFAC`, `DataInf`, `Identity`.
"""

from skinfluence.influence._influence_function import InfluenceFunction
from skinfluence.influence._solvers import (
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
    "Arnoldi",
    "ConjugateGradient",
    "DataInf",
    "Exact",
    "Identity",
    "InfluenceFunction",
    "LiSSA",
]
