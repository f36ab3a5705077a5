"""Neural nets that need no torch code, their training, and trained nets with their labels."""

from skinfluence.nets._default import default_net, sgd_net
from skinfluence.nets._from_torch import from_torch

__all__ = ["default_net", "from_torch", "sgd_net"]
