"""Data with known label errors, to measure how well a method finds them; labels in conflict.

`make_noisy_labels` plants label noise of a chosen kind in any labels; `make_noisy_blobs` and
`make_noisy_moons` are two small synthetic data sets with a fixed number of flipped labels.
`conflicting_rows` names rows of any data that are alike and labelled differently.
"""

from skinfluence.datasets._conflicts import conflicting_rows
from skinfluence.datasets._noisy import make_noisy_blobs, make_noisy_labels, make_noisy_moons

__all__ = ["conflicting_rows", "make_noisy_blobs", "make_noisy_labels", "make_noisy_moons"]
