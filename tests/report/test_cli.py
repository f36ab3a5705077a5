"""The command: what it writes, what it refuses, and the way back."""

import csv
import json

import numpy as np
import pytest

from skinfluence._cli import main
from skinfluence.nets import _stacked
from tests._shared.problems import noisy_blobs

pytest.importorskip("skrub", reason="skrub is not installed")
pytest.importorskip("jinja2", reason="jinja2 is not installed")
X, Y, IS_NOISY = noisy_blobs(n=120)
EVIL = ["=cmd|' /C calc'!A0", "<script>alert(1)</script>", "+1+1", "plain"]


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table(folder, name="data.csv", labels=None):
    labels = np.array(["=ant", "bee", "c<b>at"])[Y] if labels is None else labels
    path = folder / name
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "a", "b", "text", "day", "who", "label"])
        for row, (x, label) in enumerate(zip(X, labels, strict=True)):
            day = f"2024-01-{1 + row % 28:02d}"
            a = "" if row == 5 else x[0]
            evil = EVIL[row % 4]
            writer.writerow([f"n{row}", a, x[1], evil, day, "ada" if row % 2 else "bob", label])
    return path


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    monkeypatch.setattr(_stacked, "_MAX_EPOCHS", 20)


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    data = table(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_stacked, "_MAX_EPOCHS", 20)
        options = ["--target", "label", "--id-column", "name", "--by", "who", "--quiet"]
        assert main(["audit", str(data), *options]) == 0
    return data, folder / "data-audit"


def test_an_audit_writes_four_files_and_touches_no_other(audited):
    data, out = audited
    names = {"scores.csv", "review.csv", "report.html", "report.json"}
    assert {path.name for path in out.iterdir()} == names
    assert {path.name for path in data.parent.iterdir()} == {data.name, out.name}


def test_scores_have_a_line_for_every_row_and_find_the_planted_errors(audited):
    scores = read(audited[1] / "scores.csv")
    assert [line["row"] for line in scores] == [str(row) for row in range(1, 121)]
    assert scores[7]["id"] == "n7"
    found = np.argsort([-float(line["detrimentality"]) for line in scores])[: IS_NOISY.sum()]
    assert IS_NOISY[found].mean() > 0.6
    assert "did not see the row" in scores[0]["reason"]


def test_the_facts_are_those_of_the_table(audited):
    facts = json.loads((audited[1] / "report.json").read_text())
    assert facts["n_rows"] == sum(facts["classes"].values()) == 120
    assert facts["interval"][0] <= facts["expected_errors"] <= facts["interval"][1]
    assert {group["group"] for group in facts["groups"]} == {"ada", "bob"}
    assert facts["not_checked"]


def test_markup_and_formulas_stay_inert(audited):
    _, out = audited
    page = (out / "report.html").read_text()
    assert page.count("<script") == 1
    assert "&lt;script&gt;alert" in page
    assert "http://" not in page
    assert "https://" not in page
    for name in ("scores.csv", "review.csv"):
        for line in read(out / name):
            assert not any(cell[:1] in {"=", "@"} for cell in line.values())
            assert not any(cell[:1] == "+" for cell in line.values())


def test_decisions_go_into_a_copy_and_the_rest_stays_as_it_was(audited, tmp_path, capsys):
    data, out = audited
    review = read(out / "review.csv")
    assert {line["decision"] for line in review} == {""}
    for line, decision in zip(review, ["relabel", "drop", "Keep"], strict=False):
        line["decision"] = decision
    decided = tmp_path / "review.csv"
    with decided.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, review[0])
        writer.writeheader()
        writer.writerows(review)
    cleaned = tmp_path / "cleaned.csv"
    apply = ["apply", str(decided), str(data), "--out", str(cleaned)]
    assert main(apply) == 0
    before = data.read_bytes().splitlines(keepends=True)
    after = cleaned.read_bytes().splitlines(keepends=True)
    relabelled, dropped = int(review[0]["row"]), int(review[1]["row"])
    expected = list(before)
    new = review[0]["suggested_label"].removeprefix("'").encode()
    expected[relabelled] = expected[relabelled].rpartition(b",")[0] + b"," + new + b"\r\n"
    del expected[dropped]
    assert after == expected
    assert len(read(tmp_path / "cleaned.csv.decisions.csv")) == 3
    assert main(apply) == 2  # it exists
    changed = tmp_path / "data.csv"
    before[relabelled] = before[relabelled].replace(b"2024", b"2025")
    changed.write_bytes(b"".join(before))
    capsys.readouterr()
    assert main(["apply", str(decided), str(changed), "--out", str(tmp_path / "c.csv")]) == 1
    assert f"rows {relabelled}." in capsys.readouterr().err
    del before[dropped]  # the other decision was carried out
    assert (tmp_path / "c.csv").read_bytes().splitlines(keepends=True) == before


def test_an_unknown_decision_is_refused_by_number(audited, tmp_path, capsys):
    data, out = audited
    review = (out / "review.csv").read_text().splitlines()
    cells = next(csv.reader([review[1]]))
    cells[2] = "perhaps"
    path = tmp_path / "r.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([next(csv.reader([review[0]])), cells])
    assert main(["apply", str(path), str(data), "--out", str(tmp_path / "c.csv")]) == 2
    assert f"Row {cells[0]} of" in capsys.readouterr().err
    assert not (tmp_path / "c.csv").exists()


def text(*lines):
    return "\n".join(lines).encode() + b"\n"


def test_numbers_are_audited_and_a_gate_fails(tmp_path, capsys):
    path = tmp_path / "data.tsv"
    rng = np.random.default_rng(0)
    y = 3 * X[:, 0] + X[:, 1] + rng.normal(scale=0.1, size=120)
    wrong = rng.choice(120, 8, replace=False)
    y[wrong] = y[rng.permutation(wrong)] + 9
    lines = [f"{a}\t{b}\t{value}" for (a, b, *_), value in zip(X, y, strict=True)]
    path.write_bytes(text("a\tb\ty", *lines))
    options = ["--target", "y", "--task", "regression", "--fail-over", "0.001", "--json"]
    assert main(["audit", str(path), *options]) == 1
    shown = capsys.readouterr()
    facts = json.loads(shown.out)
    assert facts["task"] == "regression"
    assert "more than 0.1%" in shown.err
    scores = read(tmp_path / "data-audit" / "scores.csv")
    worst = np.argsort([-float(line["detrimentality"]) for line in scores])[:8]
    assert len(set(worst) & set(wrong)) >= 6
    assert {"predicted_value", "residual", "reason"} <= set(scores[0])


def test_what_looks_like_an_identifier_or_holds_the_target_is_named(tmp_path, capsys):
    labels = np.array(["a", "b", "c"])[Y]
    path = tmp_path / "data.csv"
    lines = [
        f"{i},{x[0]},{name}{name},{name}" for i, (x, name) in enumerate(zip(X, labels, strict=True))
    ]
    path.write_bytes(text("number,a,twice,label", *lines))
    assert main(["audit", str(path), "--target", "label", "--n-flag", "7"]) == 0
    said = capsys.readouterr().err
    assert "'number' has another value in every row" in said
    assert "'twice' nearly tells the target" in said
    assert len(read(tmp_path / "data-audit" / "review.csv")) == 7


def test_the_demo_audits_a_table_with_planted_errors(tmp_path, capsys):
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), "--quiet"]) == 0
    words = capsys.readouterr().out.split("rows ")[1].split(".")[0]
    planted = {int(word) for word in words.split(",")}
    found = {int(line["row"]) for line in read(out / "review.csv")}
    assert len(found & planted) >= 0.7 * len(planted)
    assert main(["demo", "--out", str(out)]) == 2


def test_the_lines_of_python_score_alike(audited):
    from skinfluence.report import Settings, audit_table, read_table
    from skinfluence.report._html import code_of

    settings = Settings(target="label", id_column="name")
    found = audit_table(read_table(audited[0]), settings, lambda _: None)
    code = code_of(found).replace("'data.csv'", repr(str(audited[0])))
    names = {}
    exec(code, names)
    np.testing.assert_allclose(
        names["method"].detrimentality_, found.method.detrimentality_, rtol=1e-6
    )
