"""Every example runs to its end on its own, in an empty folder, and draws a picture."""

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
    "plot_adult_pipeline.py": r"one tree .* cleaned 0\.[78]\d\d",
    "plot_annotators.py": r"50 rows most in doubt, [12345]\d% have a wrong consensus",
    "plot_boosted_trees.py": r"removing 20%: \+0\.0\d+ \[\+",
    "plot_displays.py": r"the label suggested is right in (9\d|100)%",
    "plot_grid_search.py": r"chosen 0\.9\d\d: better",
    "plot_imblearn.py": r"cleaned against no cleaning: \+0\.\d+ .*, clear",
    "plot_monitoring.py": r"20% wrong labels: [23]\d% marked, with (9\d|100)%",
    "plot_quickstart.py": r"committee \(default\) +(0\.9|1\.0)",
    "plot_reviews.py": r"of the 10 wrong marks, (9|10) are among the first 20",
    "plot_taught_answer.py": r"of the 20 first, [678]\d% are samples of the question's task$",
    "plot_regression.py": r"cleaned against random removal: \+0\.\d+ \+- 0\.\d+$",
}
NEEDS = {"plot_imblearn.py": "imblearn", "plot_taught_answer.py": "transformers"}
NAMES = sorted(path.name for path in EXAMPLES.glob("*.py"))
# Runs an example as a script and keeps the pictures that it left open.
RUN = """
import runpy, sys, warnings
import matplotlib.pyplot as plt

warnings.filterwarnings("ignore", "FigureCanvasAgg is non-interactive", UserWarning)
runpy.run_path(sys.argv.pop(), run_name="__main__")
for number in plt.get_fignums():
    plt.figure(number).savefig(f"{number}.png")
"""


def run(name, folder, environment):
    settings = {**os.environ, "MPLBACKEND": "Agg", **environment}
    return subprocess.run(
        [sys.executable, "-c", RUN, str(EXAMPLES / name)],
        cwd=folder,
        env=settings,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
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
    assert len(outcome.stdout.splitlines()) <= 12
    pictures = list(tmp_path.iterdir())
    assert pictures
    assert {path.suffix for path in pictures} == {".png"}
    assert all(path.stat().st_size > 5000 for path in pictures)
