"""Hypothesis draws the same examples on every machine."""

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent / "gradients"))
settings.register_profile("repeatable", derandomize=True, print_blob=True)
settings.load_profile("repeatable")
