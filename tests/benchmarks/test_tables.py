"""Tables of a small file of results whose figures are known."""

import pandas as pd
import pytest

from benchmarks.results_file import COLUMNS
from benchmarks.tables import _with_chance, choice, duel, report, scores

AUROC = {
    "default": {"digits": 0.9, "letter": 0.8, "letter-few": 0.7},
    "loss, last": {"digits": 0.8, "letter": 0.85, "letter-few": 0.7},
    "nearest inputs": {"digits": 0.7, "letter": 0.9, "letter-few": 0.9},
}


@pytest.fixture
def lines():
    rows = [
        {
            "set": name,
            "noise": "pair 20 %",
            "seed": seed,
            "method": method,
            # seeds lie around the mean
            "auroc": value + (0.01 if seed else -0.01),
            "average_precision": value / 2,
            "seconds": 2.0,
            "cpu_seconds": 1.0,
            "memory_mib": 30.0,
            "trainings": 1,
            "n_rows": 100,
            "n_scored": 100,
            "n_errors": 20,
            "commit": "",
            "failure": "",
        }
        for method, cells in AUROC.items()
        for name, value in cells.items()
        for seed in (0, 1)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_scores_are_means_over_seeds_and_cells(lines):
    table = scores(_with_chance(lines)).splitlines()
    assert table[0] == "AUROC / average precision of the errors, mean of 2 seed(s)"
    assert table[4].startswith("| nearest inputs | 0.833 / 0.417 | 0.700 / 0.350 |")
    assert [row.split(" | ")[0] for row in table[5:]] == ["| default", "| loss, last"]


def test_a_failure_counts_as_chance_and_is_listed(lines):
    failed = (lines["method"] == "nearest inputs") & (lines["set"] == "digits")
    lines.loc[failed, ["auroc", "average_precision"]] = float("nan")
    lines.loc[failed, "failure"] = "TypeError: sparse"
    text = report(lines)
    assert "0.500 / 0.200 (failed)" in text
    assert "- nearest inputs: TypeError: sparse (digits, pair 20 %)" in text


def test_cells_that_were_not_run_do_not_count(lines):
    missing = (lines["method"] == "nearest inputs") & (lines["set"] == "digits")
    table = scores(_with_chance(lines[~missing])).splitlines()
    assert table[-1].startswith("| nearest inputs | 0.900 / 0.450 (2 of 3 cells)")


def test_a_duel_names_the_best_rival_of_each_cell(lines):
    text = duel(_with_chance(lines), "default", ["loss, last", "nearest inputs", "absent"])
    assert (
        "| digits, pair 20 % | 0.800 (loss, last) | +0.100 | 0.400 (loss, last) | +0.050 |" in text
    )
    assert "AUROC: at worst -0.200 (letter-few, pair 20 %); within 0.01 or better in 1 of 3" in text
    assert "mean 0.800, best single rival 0.833 (nearest inputs)" in text
    assert "| loss, last | 1 | 1 | +0.017 | +0.008 | -0.050 |" in text


def test_sets_of_one_origin_are_left_out_together(lines):
    text = choice(_with_chance(lines))
    # without both letter sets the default is best; without digits the neighbors are
    assert "| digits, pair 20 % | nearest inputs | 0.700 / 0.350 | 0.900 (default) |" in text
    assert "| letter, pair 20 % | default | 0.800 / 0.400 | 0.900 (nearest inputs) |" in text
    assert "Mean of the choices 0.733 / 0.367 (default: 2, nearest inputs: 1)" in text
    assert "with hindsight one method for all 0.833 / 0.417 (nearest inputs)" in text
    assert "nearest inputs" not in choice(_with_chance(lines), ["default", "loss, last"])


def test_numbers_have_tables_of_their_own(lines):
    both = pd.concat([lines, lines.assign(set="diabetes", noise="shifted 10 %")])
    text = report(both)
    assert "## Classes" in text
    assert "| digits" in text.split("## Numbers")[0] + text
    assert "diabetes, shifted 10 %" in text.split("## Numbers")[1]
    assert "diabetes" not in text.split("## Numbers")[0]
