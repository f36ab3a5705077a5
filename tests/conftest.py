"""Settings and fixtures of all tests."""

import os

import pytest
from hypothesis import settings

from skinfluence.nets import _default, _stacked
from skinfluence.outlier.committee import _members

pytest.register_assert_rewrite("tests._shared")
# Hypothesis draws the same examples on every machine.
settings.register_profile("repeatable", derandomize=True, print_blob=True)
settings.load_profile("repeatable")


@pytest.fixture
def quick_disk(monkeypatch):
    """Do not wait for the disk: a process that is killed, not a machine, leaves what it wrote."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture
def brief_nets(monkeypatch):
    """Train default nets for three epochs, where a test is not about what they learn."""
    monkeypatch.setattr(_default, "_MIN_EPOCHS", 3)
    monkeypatch.setattr(_default, "_MAX_EPOCHS", 3)
    monkeypatch.setattr(_stacked, "_MIN_EPOCHS", 3)
    monkeypatch.setattr(_stacked, "_MAX_EPOCHS", 3)
    # of 20, some row is drawn by all once in 250 fits of 40 rows, and scikit-learn warns
    monkeypatch.setattr(_members, "_TREES", 40)
    monkeypatch.setattr(_members, "_STEPS", 3)
