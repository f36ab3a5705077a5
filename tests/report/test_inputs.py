"""Real tables: kinds of files, types of columns, labels as they stand."""

import csv
import json

import numpy as np
import pytest

from skinfluence._cli import main
from skinfluence.nets import _stacked
from skinfluence.report import Settings, audit_table, read_table
from tests._shared.problems import noisy_blobs

pytest.importorskip("skrub", reason="skrub is not installed")
pytest.importorskip("jinja2", reason="jinja2 is not installed")
pandas = pytest.importorskip("pandas", reason="pandas is not installed")
X, Y, IS_NOISY = noisy_blobs(n=120)


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    monkeypatch.setattr(_stacked, "_MAX_EPOCHS", 10)


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def frame(labels):
    """Make a table with columns of all kinds, some of their cells missing."""
    rng = np.random.default_rng(0)
    table = pandas.DataFrame({"a": X[:, 0], "b": X[:, 1]})
    table["whole"] = pandas.array(rng.integers(0, 9, 120), dtype="Int64")
    table["share"] = pandas.array(rng.random(120), dtype="Float32")
    table["yes"] = pandas.array(rng.random(120) < 0.5, dtype="boolean")
    table["kind"] = pandas.Categorical(np.array(["x", "y", "z"])[rng.integers(0, 3, 120)])
    table["words"] = pandas.array([f"the row of number {i}" for i in range(120)], dtype="string")
    table["day"] = pandas.Timestamp("2024-01-01") + pandas.to_timedelta(np.arange(120), "D")
    for number, name in enumerate(list(table)[1:]):
        table.loc[number, name] = None
    table["label"] = labels
    return table


LABELS = np.array(["01", "1", "None"])[Y]


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_columns_of_all_kinds_are_audited_and_labels_stay_as_they_stand(tmp_path, ending):
    path = tmp_path / f"data.{ending}"
    if ending == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        frame(LABELS).to_parquet(path)
    else:
        frame(LABELS).to_csv(path, index=False, sep="," if ending == "csv" else "\t")
    assert main(["audit", str(path), "--target", "label", "--quiet"]) == 0
    out = tmp_path / "data-audit"
    facts = json.loads((out / "report.json").read_text())
    assert facts["classes"] == dict(zip(*np.unique(LABELS, return_counts=True)))
    kinds = {column["name"]: column["n_missing"] for column in facts["columns"]}
    assert kinds == {"a": 0, **dict.fromkeys(list(frame(LABELS))[1:-1], 1)}
    scores = read(out / "scores.csv")
    found = np.argsort([-float(line["detrimentality"]) for line in scores])[: IS_NOISY.sum()]
    assert IS_NOISY[found].mean() > 0.6
    assert {line["given_label"] for line in scores} == {"01", "1", "None"}


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_the_lines_of_python_read_labels_as_they_stand(tmp_path, monkeypatch, ending):
    from skinfluence.report._html import code_of

    path = tmp_path / f"data.{ending}"
    table = frame(LABELS)[["a", "b", "kind", "label"]]
    if ending == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="," if ending == "csv" else "\t")
    found = audit_table(read_table(path), Settings(target="label", seed=3), lambda _: None)
    monkeypatch.chdir(tmp_path)
    assert found.method.committee_.weights["boosted"] > 0
    names = {}
    exec(code_of(found), names)
    assert names["method"].classes_.tolist() == ["01", "1", "None"]
    np.testing.assert_array_equal(names["y"], LABELS)
    np.testing.assert_allclose(
        names["method"].detrimentality_, found.method.detrimentality_, rtol=1e-5, atol=1e-7
    )


def test_an_index_without_a_name_is_a_column_as_in_pandas(tmp_path, capsys):
    path = tmp_path / "data.csv"
    frame(LABELS)[["a", "b", "label"]].to_csv(path)
    assert main(["audit", str(path), "--target", "label"]) == 0
    assert "'Unnamed: 0' has another value in every row" in capsys.readouterr().err


def test_codes_that_begin_with_zero_are_classes_and_not_numbers(tmp_path):
    path = tmp_path / "data.csv"
    labels = [f"{code:02d}" for code in np.arange(120) % 24]
    pandas.DataFrame({"a": X[:, 0], "b": np.arange(120) % 24, "label": labels}).to_csv(
        path, index=False
    )
    assert main(["audit", str(path), "--target", "label", "--quiet"]) == 0
    assert {line["given_label"] for line in read(tmp_path / "data-audit" / "scores.csv")} == {
        *labels
    }


@pytest.mark.slow
@pytest.mark.parametrize("method", ["forest", "net"])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_other_methods_judge_the_rows_and_their_lines_of_python_do_the_same(
    tmp_path, monkeypatch, method, task
):
    from skinfluence.nets import _default
    from skinfluence.report._html import code_of

    monkeypatch.setattr(_default, "_MIN_EPOCHS", 10)
    monkeypatch.setattr(_default, "_MAX_EPOCHS", 10)
    path = tmp_path / "data.csv"
    y = LABELS if task == "classification" else 3 * X[:, 0] - X[:, 1]
    frame(y)[["a", "b", "label"]].to_csv(path, index=False)
    options = ["--task", task, "--method", method, "--quiet"]
    assert main(["audit", str(path), "--target", "label", *options]) == 0
    facts = json.loads((tmp_path / "data-audit" / "report.json").read_text())
    assert facts["settings"]["method"] == method
    settings = Settings(target="label", task=task, method=method)
    found = audit_table(read_table(path), settings, lambda _: None)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code_of(found), names)
    np.testing.assert_allclose(
        names["method"].detrimentality_, found.method.detrimentality_, rtol=1e-5, atol=1e-7
    )
    if task == "classification":
        assert IS_NOISY[found.method.ranking_[: IS_NOISY.sum()]].mean() > 0.5


def test_who_gave_a_label_is_not_shown_to_the_models(tmp_path):
    path = tmp_path / "data.csv"
    table = frame(LABELS)[["a", "b", "kind", "label"]]
    table.to_csv(path, index=False)
    by = audit_table(read_table(path), Settings(target="label", by="kind"), lambda _: None)
    assert by.inputs.shape[1] == 2
    assert [column.name for column in by.columns] == ["a", "b"]
    assert by.groups.n_rows.sum() == 120


def test_nearest_rows_contradict_and_are_no_copies_of_the_row_or_of_each_other():
    from skinfluence.report._nearby import contradicting

    rows = np.array([[0, 0], [0, 0], [1, 0], [1, 0], [2, 0], [3, 0], [0.5, 0], [9, 9]], dtype=float)
    given = np.array(list("abbbbbab"))
    found = contradicting(rows, given, np.array([0]), np.array([0, 4]), is_numeric=False)
    # 1 is equal to it, one of 2 and 3 stands for both, 4 is in doubt itself, 6 has the same label
    assert found[0][0] in {2, 3}
    assert found == [[found[0][0], 5, 7]]
    found = contradicting(rows, rows[:, 0], np.array([7]), np.array([7]), is_numeric=True)
    assert found[0][0] == 5
    assert len(found[0]) == 3


def test_nearest_rows_of_many_are_those_of_all_distances(monkeypatch):
    from skinfluence.display._nearest import comparable
    from skinfluence.report import _nearby

    monkeypatch.setattr(_nearby, "_BLOCK", 500)  # 4 rows at a time
    rows = np.random.default_rng(0).normal(size=(120, 3))
    table, some, doubtful = comparable(rows), np.arange(0, 120, 7), np.arange(0, 120, 5)
    found = _nearby.contradicting(rows, LABELS, some, doubtful, is_numeric=False)
    for row, near in zip(some, found):
        distance = np.linalg.norm(table - table[row], axis=1)
        distance[(LABELS[row] == LABELS) | (np.arange(120) % 5 == 0)] = np.inf
        assert near == np.argsort(distance)[:3].tolist()
