"""The shape of the package: which room may import what, and what costs time or ties us down."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import skinfluence

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "skinfluence"
MODULES = sorted(PACKAGE.rglob("*.py"))
TEST_MODULES = sorted(TESTS.rglob("*.py"))

# Room: the rooms it may import, besides its own. The root shows nothing else.
ROOMS = {
    "exceptions": "",
    "storage": "",
    "rows": "exceptions",
    "gradients": "rows exceptions",
    "metrics": "rows exceptions",
    "datasets": "rows exceptions",
    "trace": "gradients storage rows exceptions",
    "nets": "trace gradients storage rows exceptions",
    "methods": "nets trace gradients storage rows exceptions",
    "outlier": "methods nets trace gradients storage rows exceptions",
    "influence": "methods nets trace gradients storage rows exceptions",
    "dynamics": "methods nets trace gradients storage rows exceptions",
    "valuation": "methods nets trace gradients storage rows exceptions",
    "cleaning": "methods nets trace gradients storage rows exceptions",
    "display": "cleaning outlier influence dynamics valuation methods nets trace gradients metrics "
    "datasets storage rows exceptions",
    "report": "display outlier methods nets datasets rows exceptions",
    "_cli": "report",
    "__main__": "_cli",
}
# Library: where it may be imported when the package is.
LIBRARIES = {
    "skorch": "gradients/_skorch.py nets/ trace/ storage/_fingerprint.py rows/_interrupts.py",
    "pyod": "",
    "matplotlib": "display/ report/",
    "pandas": "display/ report/",
    "skrub": "report/",
    "jinja2": "report/",
    "tqdm": "rows/_progress.py",
}


def imports_of(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def violations(name, source):
    """List the imports that the module of that name, relative to the package, may not have."""
    room = name.split("/")[0].removesuffix(".py")
    for imported in imports_of(source):
        library, *inner = imported.split(".")
        if library == "skinfluence" and room != "__init__":
            if inner[:1] != [room] and inner[:1] not in [[r] for r in ROOMS[room].split()]:
                yield imported
        elif library == "" or not any(
            name.startswith(place) for place in LIBRARIES.get(library, name).split()
        ):
            yield imported


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_room_imports_only_what_its_row_allows(path):
    assert not list(violations(path.relative_to(PACKAGE).as_posix(), path.read_text()))


def test_tensor_algebra_and_estimators_live_apart():
    for path in MODULES:
        source = path.read_text()
        if "torch" in {name.split(".")[0] for name in imports_of(source)}:
            assert "BaseEstimator" not in source, f"{path.name} mixes torch and estimators"


def test_the_root_shows_the_rooms():
    entries = {path.name.removesuffix(".py") for path in PACKAGE.iterdir()}
    assert entries - {"__pycache__"} == {*ROOMS, "__init__", "py.typed"}
    assert len(ROOMS) + 1 <= 19


@pytest.mark.parametrize(
    ("name", "planted"),
    [
        ("rows/_rows.py", "from skinfluence.nets._labels import Labels"),
        ("outlier/_features.py", "from skinfluence.influence import TracIn"),
        ("storage/_lock.py", "def f():\n    import skinfluence.rows._seeds"),
        ("methods/_base.py", "from skinfluence import TracIn"),
        ("methods/_base.py", "from ..influence import TracIn"),
        ("rows/_rows.py", "import skorch"),
        ("outlier/_detectors.py", "from pyod.models.knn import KNN"),
    ],
)
def test_a_planted_violation_is_found(name, planted):
    assert list(violations(name, planted))


def imported_tests(source):
    """List the imports of test modules, also those in code that a string holds."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            text = ast.unparse(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        yield from re.findall(r"^\s*(?:from|import) .*\btest_.*", text, re.MULTILINE)


@pytest.mark.parametrize("path", TEST_MODULES, ids=lambda path: path.relative_to(TESTS).as_posix())
def test_no_test_module_is_imported(path):
    assert not list(imported_tests(path.read_text()))


@pytest.mark.parametrize(
    "planted",
    [
        "from tests.rows.{} import X",
        "from tests.rows import {} as t",
        "def f():\n    import {}",
        "CODE = '\\nimport sys\\nfrom {} import X'",
    ],
)
def test_a_planted_import_of_a_test_is_found(planted):
    assert list(imported_tests(planted.format("test_folds")))


def test_the_tests_mirror_the_rooms():
    folders = {path.name for path in TESTS.iterdir() if path.is_dir()}
    assert folders - {"__pycache__"} <= {*ROOMS, "_shared", "benchmarks"}


def test_import_does_not_load_what_a_first_line_does_not_need():
    code = (
        "import sys, skorch\n"
        "before = set(sys.modules)\n"
        "import skinfluence\n"
        "print(*{'pyod', 'matplotlib', 'pandas', 'torch.func'} & (set(sys.modules) - before))"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not run.stdout.split()


def test_names_of_the_root_come_when_they_are_used():
    code = (
        "import sys, skinfluence\n"
        "assert not [name for name in sys.modules if name.startswith('skinfluence.')]\n"
        "assert {*skinfluence.__all__, 'metrics', '__version__'} <= {*dir(skinfluence)}\n"
        "from skinfluence import *\n"
        "assert skinfluence.metrics.detection_curve and skinfluence.__version__\n"
        "print(*sorted(set(skinfluence.__all__) - set(globals())))"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not run.stdout.split()
    assert set(skinfluence.__all__) == set(skinfluence._HOME_OF)
    with pytest.raises(AttributeError, match="has no attribute 'Missing'"):
        skinfluence.Missing  # noqa: B018
