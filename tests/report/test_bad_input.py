"""What the command refuses: in one line, with a code, and nothing written."""

import os
from pathlib import Path

import numpy as np
import pytest

from skinfluence._cli import main
from skinfluence.nets import _stacked
from skinfluence.outlier._outlier_gradients import OutlierGradientDetector
from skinfluence.report import _files, _output
from skinfluence.rows import _progress
from tests._shared.problems import noisy_blobs

pandas = pytest.importorskip("pandas", reason="pandas is not installed")
pytest.importorskip("skrub", reason="skrub is not installed")
pytest.importorskip("jinja2", reason="jinja2 is not installed")


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    monkeypatch.setattr(_stacked, "_MAX_EPOCHS", 2)


def text(*lines):
    return "\n".join(lines).encode() + b"\n"


ROWS = [f"{row},{row % 7},{'ab'[row % 2]}" for row in range(40)]
GOOD = text("x,z,y", *ROWS)


def refused(capsys, arguments, expected, code=2):
    """Run the command: one line that says so, the code, and no Traceback."""
    try:
        found = main([*arguments, "--quiet"])
    except SystemExit as exit_:
        found = exit_.code
    said = capsys.readouterr()
    assert found == code
    assert expected in said.err
    assert said.err.startswith("skinfluence: ")
    assert len(said.err.splitlines()) == 1
    assert not said.out


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes(GOOD)
    return path


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (GOOD.replace(b"x,z,y", b"x,z,w"), "no column 'y'"),
        (text("x,y", *(f"{i},a" for i in range(40))), "in every row"),
        (text("x,y", *(f"{i},{i / 7}" for i in range(40))), "looks continuous"),
        (GOOD.replace(b"5,5,b", b"5,\xe9,b", 1), "not in UTF-8: line 7"),
        (GOOD.decode().encode("utf-16"), "binary"),
        (text("x,z,y", *ROWS[:3], "1,2"), "Line 5"),
        (text("x,z,y", *ROWS[:3], "1,2,a,4"), "Line 5"),
        (text("x,z,y", *ROWS[:20], '1,"2,a', *ROWS[20:]), "Line 22"),
        (text("x,x,y", *ROWS), "more than one column named 'x'"),
        (text("x;z;y", *(row.replace(",", ";") for row in ROWS)), "Is ';' what stands between"),
        (text("x,z,y"), "no rows"),
        (b"", "no rows"),
        (b"\n\n", "no rows"),
        (b"\x89PNG\0\0", "binary"),
        (text("x,z,y", *ROWS, "1,2,c"), "has one row, row 41"),
        (text("x,y", *(f"{i},w{i // 2}" for i in range(40))), "20 classes for 40 rows"),
        (text("x,y", *(f"{i % 7},w{i}" for i in range(40))), "40 classes for 40 rows"),
        (text("x,z,y", *ROWS, "1,2,"), "missing in 1 rows, the first of them row 41"),
        (text("x,z,y", *ROWS, "1,2,NA"), "missing in 1 rows, the first of them row 41"),
        (text("x,z,y", *ROWS[:6]), "has 6 rows"),
        (text("y", *"ab" * 20), "no column to judge"),
    ],
)
def test_bad_files(tmp_path, capsys, content, expected):
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    refused(capsys, ["audit", str(path), "--target", "y"], expected)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "--target"),
        (["--target", "label"], "no column 'label'; it has x, z, y"),
        (["--target", "y", "--by", "who"], "no column 'who'"),
        (["--target", "y", "--id-column", "id"], "no column 'id'"),
        (["--target", "y", "--ignore", "w"], "no column 'w'"),
        (["--target", "y", "--ignore", "x", "--ignore", "z"], "no column to judge"),
        (["--target", "y", "--fdr", "2"], "not in (0, 1)"),
        (["--target", "y", "--fail-over", "0"], "not in (0, 1)"),
        (["--target", "y", "--n-flag", "0"], "0 rows"),
        (["--target", "y", "--n-flag", "many"], "--n-flag"),
        (["--target", "y", "--seed", "-1"], "negative"),
        (["--target", "y", "--method", "guess"], "guess"),
        (["--target", "y", "--device", "cuda"], "--method net"),
        (["--target", "y", "--method", "net", "--device", "abacus"], "'abacus' cannot be used"),
        (["--target", "y", "--task", "regression"], "no numbers"),
    ],
)
def test_bad_options(data, capsys, options, expected):
    refused(capsys, ["audit", str(data), *options], expected)
    assert list(data.parent.iterdir()) == [data]


def test_bad_places(data, capsys):
    folder, target = data.parent, ["--target", "y"]
    refused(capsys, ["audit", str(folder / "none.csv"), *target], "There is no file")
    refused(capsys, ["audit", str(folder / "none.parquet"), *target], "There is no file")
    (folder / "folder.csv").mkdir()
    refused(capsys, ["audit", str(folder / "folder.csv"), *target], "is a folder")
    (folder / "folder.parquet").mkdir()
    refused(capsys, ["audit", str(folder / "folder.parquet"), *target], "is a folder")
    (folder / "data.xls").write_bytes(GOOD)
    refused(capsys, ["audit", str(folder / "data.xls"), *target], "none of the kinds")
    full = folder / "full"
    full.mkdir()
    (full / "mine").write_text("kept")
    refused(capsys, ["audit", str(data), *target, "--out", str(full)], "not empty")
    refused(capsys, ["audit", str(data), *target, "--out", str(data)], "is a file")
    refused(capsys, ["audit", str(data), *target, "--out", str(data / "a" / "b")], "Cannot write")
    refused(capsys, ["demo", "--out", str(data / "a")], "Cannot write")
    assert [path.name for path in full.iterdir()] == ["mine"]


def test_bad_parquet(tmp_path, capsys):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    path = tmp_path / "data.parquet"
    path.write_bytes(GOOD)
    refused(capsys, ["audit", str(path), "--target", "y"], "cannot be read as parquet")
    pandas.DataFrame({"x": [], "y": []}).to_parquet(path)
    refused(capsys, ["audit", str(path), "--target", "y"], "has no rows")
    review = tmp_path / "review.csv"
    review.write_bytes(GOOD)
    out = ["--out", str(tmp_path / "c.parquet")]
    refused(capsys, ["apply", str(review), str(path), *out], "is parquet")
    assert {file.name for file in tmp_path.iterdir()} == {"data.parquet", "review.csv"}


def test_no_permission(data, capsys, monkeypatch):
    if os.geteuid():
        data.chmod(0)
    else:  # whom no file refuses

        def refuse(path):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "read_bytes", refuse)
    refused(capsys, ["audit", str(data), "--target", "y"], "permission denied")
    assert list(data.parent.iterdir()) == [data]


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


FULL = OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (_output, "_write_scores"),
        (_output, "_write_review"),
        (_output, "write_html"),
        (_output, "put_in_place"),
        (OutlierGradientDetector, "fit"),
    ],
)
@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [(FULL, 2, "No space left"), (KeyboardInterrupt(), 130, "nothing was written")],
)
def test_a_full_disk_and_an_interrupt_leave_what_was_there(
    data, capsys, monkeypatch, place, name, error, code, expected
):
    monkeypatch.setattr(place, name, raising(error))
    refused(capsys, ["audit", str(data), "--target", "y"], expected, code)
    assert list(data.parent.iterdir()) == [data]


def test_force_replaces_all_files_or_none(data, capsys, monkeypatch):
    out, command = data.parent / "data-audit", ["audit", str(data), "--target", "y"]
    assert main([*command, "--quiet"]) == 0
    (out / "mine").write_text("kept")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    refused(capsys, command, "not empty")
    forced = [*command, "--force", "--n-flag", "7"]
    moved, replace = [], Path.replace

    def fail_at_the_third(start, end):
        if len(moved) == 2 and "before" not in start.parts:
            raise FULL
        moved.append(end)
        return replace(start, end)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail_at_the_third)
        refused(capsys, forced, "No space left")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert {path.name for path in data.parent.iterdir()} == {data.name, out.name}
    assert main([*forced, "--quiet"]) == 0
    after = {path.name: path.read_bytes() for path in out.iterdir()}
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] == before[name]} == {"mine"}


def test_files_that_were_not_there_are_taken_away_again(tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "folder"
    second.mkdir()  # a file cannot take its place

    def write():
        with _files.written_whole(first, second) as places:
            for place in places:
                place.write_text("new")

    with pytest.raises(_files.AuditError, match="Cannot write"):
        write()
    assert list(tmp_path.iterdir()) == [second]


def test_a_demo_that_is_cut_leaves_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(OutlierGradientDetector, "fit", raising(KeyboardInterrupt()))
    refused(capsys, ["demo", "--out", str(tmp_path / "demo")], "nothing was written", 130)
    assert not list(tmp_path.iterdir())


def test_an_apply_that_is_cut_leaves_nothing(data, capsys, monkeypatch):
    from skinfluence.report import _apply

    assert main(["audit", str(data), "--target", "y", "--quiet"]) == 0
    review = data.parent / "data-audit" / "review.csv"
    monkeypatch.setattr(_apply, "write_rows", raising(FULL))
    apply = ["apply", str(review), str(data), "--out", str(data.parent / "cleaned.csv")]
    refused(capsys, apply, "No space left")
    assert {path.name for path in data.parent.iterdir()} == {"data.csv", "data-audit"}


def test_an_identifier_that_is_taken_for_a_column_is_warned_of(data, capsys):
    assert main(["audit", str(data), "--target", "y"]) == 0
    assert "'x' has another value in every row" in capsys.readouterr().err


def test_sentences_are_no_identifiers(tmp_path, capsys):
    path = tmp_path / "data.csv"
    X, y, _ = noisy_blobs(n=60)
    lines = [f"the row {i} is there,{x[0]},{label}" for i, (x, label) in enumerate(zip(X, y))]
    path.write_bytes(text("words,a,y", *lines))
    assert main(["audit", str(path), "--target", "y"]) == 0
    assert "words" not in capsys.readouterr().err


def test_bars_are_for_terminals_that_want_them(data, capsys, monkeypatch):
    import sys

    monkeypatch.setattr(_progress, "_PATIENCE", 0)
    command = ["audit", str(data), "--target", "y", "--force"]
    assert main(command) == 0
    assert "epochs" not in capsys.readouterr().err  # no terminal
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert main(command) == 0
    shown = capsys.readouterr().err
    assert "members of the committee" in shown
    assert "epochs" in shown
    assert main([*command, "--quiet"]) == 0
    assert not capsys.readouterr().err


def test_numbers_that_are_infinite_are_refused(tmp_path, capsys):
    path = tmp_path / "data.csv"
    y = np.arange(40) / 7
    path.write_bytes(text("x,y", *(f"{i % 5},{value}" for i, value in enumerate(y)), "1,inf"))
    options = ["--target", "y", "--task", "regression"]
    refused(capsys, ["audit", str(path), *options], "infinite")
