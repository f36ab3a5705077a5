"""A run: what is measured, what is written, and that what is done is not done again."""

import contextlib
import json
from unittest import mock

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.__main__ import main
from benchmarks.data import load
from benchmarks.measuring import measure, measure_alone
from benchmarks.methods import METHODS, methods_named
from benchmarks.methods.method import Method
from benchmarks.results_file import COLUMNS, KEY, ResultsFile, read
from benchmarks.running import run

CELLS = [("iris", "symmetric 10 %"), ("wine", "pair 20 %")]


class Counted:
    """Measures here, and notes what it was asked."""

    def __init__(self, fails_at=None):
        self.calls, self.fails_at = [], fails_at

    def __call__(self, name, problem, seed):
        if len(self.calls) == self.fails_at:
            raise KeyboardInterrupt
        self.calls.append((name, len(problem.y), seed))
        return measure(name, problem, seed)


def do(path, methods, measure, seeds=(0, 1), cells=CELLS, **settings):
    said = []
    results = ResultsFile(path)
    with contextlib.suppress(KeyboardInterrupt):
        run(
            cells,
            seeds,
            methods_named(methods),
            results,
            measure=measure,
            show=said.append,
            **settings,
        )
    return read(path), said


def test_controls_and_columns(tmp_path):
    lines, said = do(tmp_path / "r.csv", ["control"], Counted(), seeds=range(10))
    assert list(lines.columns) == COLUMNS
    assert len(lines) == 2 * 10 * 2
    assert not lines.duplicated(KEY).any()
    by_method = lines.groupby("method")["auroc"].mean()
    assert by_method["oracle"] == 1
    assert by_method["random"] == pytest.approx(0.5, abs=0.05)
    assert (lines["n_errors"] == lines["set"].map({"iris": 15, "wine": 36})).all()
    assert (lines["failure"] == "").all()
    assert "iris, symmetric 10 %, seed 0" in said[0]


def test_a_run_goes_on_where_another_stopped(tmp_path):
    first = Counted(fails_at=3)
    lines, _ = do(tmp_path / "r.csv", ["control"], first)
    assert len(lines) == 3
    second = Counted()
    lines, _ = do(tmp_path / "r.csv", ["control"], second)
    assert len(lines) == 8
    assert len(second.calls) == 5
    assert not set(first.calls) & set(second.calls)
    third = Counted()
    do(tmp_path / "r.csv", ["control"], third)
    assert third.calls == []


def test_half_a_line_is_done_again(tmp_path):
    path = tmp_path / "r.csv"
    whole, _ = do(path, ["control"], Counted())
    path.write_text(path.read_text()[:-20])
    again = Counted()
    lines, _ = do(path, ["control"], again)
    assert len(again.calls) == 1
    assert list(lines["auroc"]) == list(whole["auroc"])


def test_a_file_of_other_columns_is_left_alone(tmp_path):
    (tmp_path / "r.csv").write_text("set,score\niris,1\n")
    with pytest.raises(ValueError, match=r"r\.csv has columns \['set', 'score'\]"):
        ResultsFile(tmp_path / "r.csv")


def test_a_method_with_parts_is_done_once(tmp_path):
    counted, kept = Counted(), tmp_path / "scores"
    name = "logistic out of fold"
    lines, _ = do(tmp_path / "r.csv", [name], counted, seeds=[0], scores_folder=kept)
    assert len(counted.calls) == 2
    assert set(lines["method"]) == set(METHODS["logistic out of fold"].lines)
    assert (lines["trainings"] == 5).all()
    scores = np.load(kept / f"iris, symmetric 10 %, 0, {name}.npz")
    is_error = load("iris", "symmetric 10 %", 0).is_error
    auroc = lines.set_index(["set", "method"])["auroc"]
    for line in METHODS[name].lines:
        expected = pytest.approx(auroc["iris", line], abs=1e-4)
        assert roc_auc_score(is_error, scores[line]) == expected


def test_failures_are_lines_with_a_reason(tmp_path, monkeypatch):
    def refuses(problem, seed):
        raise ValueError("a class is too small,\nby far")

    def diverges(problem, seed):
        return np.full(len(problem.y), np.nan)

    for name, score in {"refuses": refuses, "diverges": diverges}.items():
        monkeypatch.setitem(METHODS, name, Method(name, score, "ours", lines=(name,)))

    def measured(name, problem, seed):
        try:
            return measure(name, problem, seed)
        except ValueError as error:
            return f"{type(error).__name__}: {error}"

    lines, _ = do(tmp_path / "r.csv", ["refuses", "diverges"], measured, [0], CELLS[:1])
    assert list(lines["failure"]) == [
        "ValueError: a class is too small,\nby far",
        "150 of 150 scores are not finite",
    ]
    assert lines["auroc"].isna().all()
    again = Counted()
    do(tmp_path / "r.csv", ["refuses", "diverges"], again, [0], CELLS[:1])
    assert again.calls == []


def test_sets_that_are_not_there_are_said(tmp_path):
    cells = [("letter", "pair 20 %"), *CELLS]
    lines, said = do(tmp_path / "r.csv", ["oracle"], Counted(), [0], cells, folder=tmp_path)
    assert len(lines) == 2
    assert "letter left out: letter.npz is not in" in said[0]


def test_trainings_of_nets_are_counted(brief_nets):
    problem = load("iris", "symmetric 10 %", 0)
    assert measure("default", problem, 0)["default"]["trainings"] == 1
    folds = measure("self-confidence, 5 folds", problem, 0)["self-confidence, 5 folds"]
    assert folds["trainings"] == 5


def test_a_process_of_its_own():
    problem = load("iris", "symmetric 10 %", 0)
    alone = measure_alone("logistic out of fold", problem, 0)
    here = measure("logistic out of fold", problem, 0)
    for line, values in here.items():
        assert alone[line]["auroc"] == pytest.approx(values["auroc"])
        assert 0 < alone[line]["memory_mib"] < 200
    assert measure_alone("default", problem, 0, timeout=0.001) == "took more than 0.001 s"
    reason = measure_alone("forest out of bag", problem, seed="zero")
    assert reason.startswith("InvalidParameterError: The 'random_state' parameter")


def test_a_module_of_ones_own_adds_methods(tmp_path, monkeypatch):
    (tmp_path / "own_entries.py").write_text(
        "from benchmarks.methods import method\n"
        "@method('constant', group='mine')\n"
        "def score(problem, seed):\n"
        "    return problem.y * 0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("benchmarks.measuring.measure_alone", lambda *a, **k: measure(*a))
    out = tmp_path / "results.csv"
    arguments = ["run", "--battery", "tables", "--sets", "wine", "--methods", "mine"]
    with mock.patch.dict(METHODS):
        main([*arguments, "--plugin", "own_entries", "--out", str(out)])
    assert list(read(out)["auroc"]) == [0.5] * 5


def test_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.measuring.measure_alone", lambda *a, **k: measure(*a))
    out = tmp_path / "results.csv"
    arguments = ["run", "--battery", "tables", "--sets", "iris", "--methods", "control"]
    main([*arguments, "--seeds", "0", "1", "--out", str(out)])
    assert len(read(out)) == 5 * 2 * 2
    (note,) = json.loads(out.with_suffix(".json").read_text())
    assert note["threads"] == 1
    assert {"python", "torch"} <= set(note["versions"])
    main([*arguments, "--seeds", "0", "--out", str(out), "--redo"])
    assert len(read(out)) == 5 * 2
    capsys.readouterr()
    main(["table", str(out), "--ours", "oracle", "--rivals", "random"])
    assert "oracle against the best of its rivals" in capsys.readouterr().out
    main(["list"])
    assert "set iris: symmetric 10 %" in capsys.readouterr().out
