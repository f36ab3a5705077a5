"""From a net to its per-sample gradients: rules per layer, a fallback for the rest, one loop."""

from skinfluence.gradients._projection import Projection
from skinfluence.gradients._public import (
    check_per_sample_gradients,
    gradient_norms,
    per_sample_gradients,
)

__all__ = ["Projection", "check_per_sample_gradients", "gradient_norms", "per_sample_gradients"]
