"""Pictures are drawn without a screen, and closed."""

import pytest


@pytest.fixture
def pyplot():
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed")
    pyplot.switch_backend("Agg")
    yield pyplot
    pyplot.close("all")
