"""The shape of the package: imports go one way, modules stay short."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "skinfluence"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 450

# A module uses only what stands above it.
ORDER = [
    "exceptions",
    "_random",
    "_validation",
    "_validation_rows",
    "_held_out",
    "_overlap",
    "gradients",
    "projection",
    "_net_arrays",
    "_batch_order",
    "_version",
    "_fingerprint",
    "_folder_lock",
    "_state_files",
    "_state_streams",
    "_trace_files",
    "_training_trace",
    "_sgd_rule",
    "_net_snapshot",
    "_resume_point",
    "_wanted",
    "_recording",
    "trace",
    "_own_recorders",
    "_trace_needs",
    "nets",
    "_labels",
    "_training_cache",
    "_trained_net",
    "_held_out",
    "_overlap",
    "_detectors",
    "_norm_detector",
    "_contrast",
    "_gradient_settings",
    "_gradient_features",
    "embedding",
    "base",
    "outlier",
    "dynamics",
    "influence",
    "valuation",
    "union",
    "_amounts",
    "_rows_kept",
    "_target_kind",
    "_calibration",
    "calibration",
    "_cleaning_folds",
    "_cleaning",
    "cleaning",
    "cleaned_models",
    "metrics",
    "_conflicts",
    "_label_noise",
    "datasets",
]
# Who may import what costs time, ties us to a library, or mixes maths with estimators.
ALLOWED = {
    "skorch": {
        "gradients/_skorch.py",
        "nets.py",
        "trace.py",
        "_fingerprint.py",
        "_net_snapshot.py",
    },
    "pyod": set(),
    "sklearn.base": {
        "embedding.py",
        "base.py",
        "_own_recorders.py",
        "union.py",
        "calibration.py",
        "_cleaning.py",
        "cleaning.py",
        "cleaned_models.py",
        "outlier.py",
        "_detectors.py",
        "_norm_detector.py",
        "_net_arrays.py",
        "_trained_net.py",
        "_target_kind.py",
        "metrics/_removal.py",
        "valuation/_utility.py",
        "valuation/_data_shapley.py",
        "valuation/_leave_one_out.py",
        "valuation/_retraining.py",
        "influence/_objectives.py",
        "influence/_solvers.py",
    },
}
GRADIENTS_MAY_IMPORT = {"torch", "numpy", "skinfluence"}


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def stage_of(module_name):
    return module_name.split(".")[1] if "." in module_name else None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_keeps_to_the_layout(path):
    name = str(path.relative_to(PACKAGE))
    stage = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for imported in imports_of(path):
        for library, modules in ALLOWED.items():
            if imported == library or imported.startswith(f"{library}."):
                assert name in modules, f"{name} imports {imported}"
        other = stage_of(imported) if imported.startswith("skinfluence") else None
        if stage != "__init__" and other not in {None, stage}:
            assert ORDER.index(other) < ORDER.index(stage), f"{name} imports {imported}"
        if stage == "gradients" and name != "gradients/_skorch.py":
            root = imported.split(".")[0]
            is_error_class = imported == "sklearn.exceptions"
            standard = root in {"collections", "contextlib", "copy", "dataclasses"}
            standard |= root in {"fnmatch", "functools", "itertools", "math", "typing", "warnings"}
            assert root in GRADIENTS_MAY_IMPORT or standard or is_error_class, imported


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_is_short(path):
    assert len(path.read_text().splitlines()) <= MAX_LINES


def test_every_stage_has_its_place():
    stages = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES}
    assert stages - {"__init__"} == set(ORDER)


def test_tensor_algebra_and_estimators_live_apart():
    for path in MODULES:
        roots = {name.split(".")[0] for name in imports_of(path)}
        estimator = "sklearn.base" in set(imports_of(path)) and "class" in path.read_text()
        if "torch" in roots and estimator:
            assert path.name == "_net_arrays.py", f"{path.name} mixes torch and sklearn.base"


def test_import_does_not_load_the_detectors():
    import subprocess
    import sys

    code = "import sys, skinfluence; sys.exit('pyod' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
