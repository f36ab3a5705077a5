"""Neural nets that need no torch code, their training, and trained nets with their labels."""

from skinfluence.nets._default import default_net, sgd_net

__all__ = ["default_net", "sgd_net"]
