"""The tidy file of results, a line for a set, noise, seed and method, and what it was made with."""

import csv
import json
import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import pandas as pd

KEY = ["set", "noise", "seed", "method"]
MEASURED = ["auroc", "average_precision", "seconds", "cpu_seconds", "memory_mib", "trainings"]
COLUMNS = [*KEY, *MEASURED, "n_rows", "n_scored", "n_errors", "commit", "failure"]
# A commit may look like a number; "" and not NaN is where nothing failed.
TEXTS = dict.fromkeys(["set", "noise", "method", "commit", "failure"], str)
BLANK = {column: [""] for column in MEASURED}
PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "skorch", "pyod")


class ResultsFile:
    """Lines are appended as they are done; those that are there are not done again."""

    def __init__(self, path):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._cut_half_a_line()
            self._check_columns()
        else:
            self._write([COLUMNS])
        self.done = {tuple(line) for line in read(self.path)[KEY].itertuples(index=False)}

    def _cut_half_a_line(self):
        """Drop what a run that was killed had begun to write."""
        with self.path.open("r+b") as file:
            whole = file.read()
            file.truncate(whole.rfind(b"\n") + 1)

    def _check_columns(self):
        columns = list(pd.read_csv(self.path, nrows=0).columns)
        if columns != COLUMNS:
            raise ValueError(f"{self.path} has columns {columns}; name another file")

    def _write(self, lines):
        with self.path.open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(lines)
            file.flush()
            os.fsync(file.fileno())

    def append(self, line):
        """Add a line, a dict of some of the columns."""
        self._write([[_rounded(line.get(column)) for column in COLUMNS]])
        self.done.add(tuple(line[column] for column in KEY))

    def forget(self, methods):
        """Drop the lines of methods, to do them again."""
        lines = read(self.path)
        lines[~lines["method"].isin(methods)].to_csv(self.path, index=False)
        self.done = {key for key in self.done if key[-1] not in methods}

    def note_run(self, command, threads):
        """Add to the file beside it how this run was started, and with which versions."""
        notes = self.path.with_suffix(".json")
        runs = json.loads(notes.read_text()) if notes.exists() else []
        run = {
            "command": command,
            "started": time.strftime("%Y-%m-%d %H:%M:%S"),
            "commit": commit(),
            "threads": threads,
            "cores": os.cpu_count(),
            "machine": f"{platform.system()} {platform.machine()}",
            "versions": {"python": platform.python_version()}
            | {package: version(package) for package in PACKAGES},
        }
        notes.write_text(json.dumps([*runs, run], indent=1) + "\n")


def _rounded(value):
    return f"{value:.6g}" if isinstance(value, float) else value


def read(*paths):
    """Read files of results into one data frame; of lines with the same key the last one counts."""
    frames = [
        pd.read_csv(path, dtype=TEXTS, keep_default_na=False, na_values=BLANK) for path in paths
    ]
    return pd.concat(frames, ignore_index=True).drop_duplicates(KEY, keep="last")


def commit():
    """Name the commit, with a plus where the working tree differs from it."""
    described = ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
    try:
        return subprocess.run(
            described, capture_output=True, text=True, check=True, cwd=Path(__file__).parent
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
