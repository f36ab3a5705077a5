"""Neural nets that need no torch code, their training, and trained nets with their labels."""

from skinfluence.nets._default import default_net, sgd_net
from skinfluence.nets._from_torch import from_torch
from skinfluence.nets._text import CausalLMLoss, encode_texts, text_net

__all__ = ["CausalLMLoss", "default_net", "encode_texts", "from_torch", "sgd_net", "text_net"]
