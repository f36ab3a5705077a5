"""What tells one training from another: code as it is written, wherever it stands."""

import abc
import functools
import types

import numpy as np
import pytest
import torch
from torch import nn

from skinfluence.storage._fingerprint import fingerprint

SOURCE = """
import math
from functools import cached_property
import torch
from torch import nn

SCALE = 1.0
TABLE = np.arange(3)
WIDTHS = (1, 2)
CONFIG = {"gain": [2.0]}
seen = []
count = 0

def act(x):
    return CONFIG["gain"][0] * torch.relu(x)

def outer(x):
    return act(x)

class Block(nn.Module):
    def forward(self, x):
        return outer(x)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Block()

    def forward(self, u, v):
        global count
        count += 1
        seen.append(len(u))
        shifted = [a + TABLE[0] for a in WIDTHS]
        return self.block(u) * SCALE - v + math.pi * shifted[0]

    def __getitems__(self, rows):
        return rows
"""


def written(source):
    """Run source as a module of the user's own, and give its net class."""
    module = types.ModuleType("users_module")
    module.np = np
    exec(compile(source, "users_module.py", "exec"), vars(module))
    return module.Net


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("torch.relu(x)", "torch.tanh(x)"),
        ("return act(x)", "return -act(x)"),
        ("return outer(x)", "return act(x)"),
        ("SCALE = 1.0", "SCALE = 2.0"),
        ("np.arange(3)", "np.arange(1, 4)"),
        ("WIDTHS = (1, 2)", "WIDTHS = (1, 3)"),
        ('"gain": [2.0]', '"gain": [3.0]'),
        ("forward(self, u, v)", "forward(self, v, u)"),
        ("return rows", "return rows[::-1]"),
    ],
)
def test_an_edit_of_anything_that_is_used_counts(old, new):
    assert old in SOURCE
    assert fingerprint(written(SOURCE)) != fingerprint(written(SOURCE.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("seen = []", "seen = [1, 2]"),
        ("count = 0", "count = 7"),
        ("import math", "import math\nx = 5"),
        ("def act(x):", "# a comment\ndef act(x):"),
    ],
)
def test_what_changes_while_training_or_is_not_used_does_not(old, new):
    assert old in SOURCE
    assert fingerprint(written(SOURCE)) == fingerprint(written(SOURCE.replace(old, new)))


class Base(nn.Module, abc.ABC):
    @functools.cached_property
    def width(self):
        return 3


class Wide(Base):
    @functools.cached_property
    def width(self):
        return 4


def test_abstract_classes_and_cached_properties_are_read():
    assert fingerprint(Base) == fingerprint(Base)
    assert fingerprint(Base) != fingerprint(Wide)
    narrow = type("Wide", (Base,), {"width": Base.width, "__module__": __name__})
    narrow.__qualname__ = "Wide"
    assert fingerprint(narrow) != fingerprint(Wide)


def test_installed_code_counts_by_what_is_written_of_it_alone():
    assert fingerprint(torch.nn.functional.relu) != fingerprint(torch.nn.functional.relu6)
    assert fingerprint(pytest.approx) == fingerprint(pytest.approx)
