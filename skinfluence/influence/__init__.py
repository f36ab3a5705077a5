"""Methods that trace how training rows move the loss of others."""

from skinfluence.influence._sgd_influence import SGDInfluence
from skinfluence.influence._tracin import TracIn

__all__ = ["SGDInfluence", "TracIn"]
