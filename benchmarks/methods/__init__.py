"""The methods that are compared: ours, those of others, and controls.

Importing a module of entries registers them; `METHODS` holds all. A module of your own joins with
`python -m benchmarks run --plugin my_entries`:

    from benchmarks.methods import estimator
    from skinfluence import OutlierGradientDetector

    estimator("wider", lambda seed: OutlierGradientDetector(n_neighbors=50, random_state=seed))
"""

from benchmarks.methods import controls, ours, peers  # noqa: F401
from benchmarks.methods.method import METHODS, Method, Parts, estimator, method, methods_named

__all__ = ["METHODS", "Method", "Parts", "estimator", "method", "methods_named"]
