"""Every example runs to its end on its own, in an empty folder."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
# What each must print, about its outcome where that does not hang on rounding.
ENDS = {
    "plot_adult_pipeline.py": r"cleaned 0\.8\d\d",
    "plot_boosted_trees.py": r"The curves: output.boosted_trees\.png",
    "plot_grid_search.py": r"chosen 0\.9\d\d: better",
    "plot_imblearn.py": r"cleaned against no cleaning, average precision: \+0\.\d+.*, clear",
    "plot_quickstart.py": r"The 24 worst digits: output.worst_digits\.png",
    "plot_regression.py": r"cleaned against random removal: \+0\.\d+ \+- 0\.\d+$",
}
NEEDS = {"plot_imblearn.py": "imblearn"}
QUICK = {"plot_quickstart.py"}
NAMES = sorted(path.name for path in EXAMPLES.glob("*.py"))


def run(name, folder, environment):
    settings = {**os.environ, "MPLBACKEND": "Agg", **environment}
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        cwd=folder,
        env=settings,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in NAMES],
)
def test_example_ends_well(name, tmp_path):
    needed = NEEDS.get(name)
    if needed is not None and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    environment = {}
    if name == "plot_adult_pipeline.py":
        data = Path(os.environ.get("SKINFLUENCE_DATA", "."))
        if not (data / "adult-train.csv.gz").exists():
            pytest.skip("the Adult data are not in the folder SKINFLUENCE_DATA")
        environment["SKINFLUENCE_DATA"] = str(data.resolve())
    outcome = run(name, tmp_path, environment)
    assert outcome.returncode == 0, outcome.stderr
    assert re.search(ENDS[name], outcome.stdout, re.MULTILINE), outcome.stdout
    for path in re.findall(r"output\S+\.png", outcome.stdout):
        assert (tmp_path / path).stat().st_size > 5000
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"output"}
