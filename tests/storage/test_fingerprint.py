"""What tells one training from another: code as it is written, wherever it stands."""

import abc
import copy
import functools
import importlib
import io
import pickle
import runpy
import subprocess
import sys
import textwrap
import types
import zipfile
from collections import OrderedDict
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import scipy
import torch
from skorch import NeuralNetClassifier
from torch import nn

from skinfluence.storage import _sources
from skinfluence.storage._fingerprint import fingerprint
from tests._shared.problems import SmallMlp, classifier
from tests._shared.processes import result_of

SOURCE = """
import math
from functools import cached_property
import torch
from torch import nn

SCALE = 1.0
TABLE = np.arange(3)
WIDTHS = (1, 2)
CONFIG = {"gain": [2.0]}
seen = []
count = 0

def act(x):
    return CONFIG["gain"][0] * torch.relu(x)

def outer(x):
    return act(x)

class Block(nn.Module):
    def forward(self, x):
        return outer(x)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Block()

    def forward(self, u, v):
        global count
        count += 1
        seen.append(len(u))
        shifted = [a + TABLE[0] for a in WIDTHS]
        return self.block(u) * SCALE - v + math.pi * shifted[0]

    def __getitems__(self, rows):
        return rows
"""


def written(source):
    """Run source as a notebook would, which no file holds, and give its net class."""
    module = types.ModuleType("users_module")
    module.np = np
    exec(compile(source, "users_module.py", "exec"), vars(module))
    return module.Net


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("torch.relu(x)", "torch.tanh(x)"),
        ("return act(x)", "return -act(x)"),
        ("return outer(x)", "return act(x)"),
        ("SCALE = 1.0", "SCALE = 2.0"),
        ("np.arange(3)", "np.arange(1, 4)"),
        ("WIDTHS = (1, 2)", "WIDTHS = (1, 3)"),
        ('"gain": [2.0]', '"gain": [3.0]'),
        ("forward(self, u, v)", "forward(self, v, u)"),
        ("return rows", "return rows[::-1]"),
    ],
)
def test_an_edit_of_anything_that_is_used_counts(old, new):
    assert old in SOURCE
    assert fingerprint(written(SOURCE)) != fingerprint(written(SOURCE.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("seen = []", "seen = [1, 2]"),
        ("count = 0", "count = 7"),
        ("import math", "import math\nx = 5"),
        ("def act(x):", "# a comment\ndef act(x):"),
    ],
)
def test_what_changes_while_training_or_is_not_used_does_not(old, new):
    assert old in SOURCE
    assert fingerprint(written(SOURCE)) == fingerprint(written(SOURCE.replace(old, new)))


class Base(nn.Module, abc.ABC):
    @functools.cached_property
    def width(self):
        return 3


class Wide(Base):
    @functools.cached_property
    def width(self):
        return 4


def test_abstract_classes_and_cached_properties_are_read():
    assert fingerprint(Base) == fingerprint(Base)
    assert fingerprint(Base) != fingerprint(Wide)
    narrow = type("Wide", (Base,), {"width": Base.width, "__module__": __name__})
    narrow.__qualname__ = "Wide"
    assert fingerprint(narrow) != fingerprint(Wide)


def test_installed_code_counts_by_what_is_written_of_it_alone():
    assert fingerprint(torch.nn.functional.relu) != fingerprint(torch.nn.functional.relu6)
    assert fingerprint(pytest.approx) == fingerprint(pytest.approx)


FILES = {
    "nets.py": """
        import functools
        from torch import nn
        import helpers
        from pack import sub, act as activation
        import spaces.inner
        log = []
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.body = nn.Linear(2, 2)
            def forward(self, X):
                import lazy
                log.append(len(X))
                return lazy.scaled(helpers.act(self.body(X))) * helpers.Table.gain
        @functools.cache
        def cached(x):
            return x
        def made(n):
            return lambda x: x * n
        """,
    "helpers.py": """
        import deep
        def act(x): return deep.act(x)
        class Table:
            gain = 1.0
        """,
    "deep.py": """
        import helpers  # in a circle
        def act(x): return x
        """,
    "lazy.py": "def scaled(x): return x",
    "pack/__init__.py": "from .sub import act",
    "pack/sub.py": """
        from . import sibling
        from .inner.leaf import value
        def act(x): return x
        """,
    "pack/sibling.py": "rate = 1",
    "pack/inner/__init__.py": "depth = 1",
    "pack/inner/leaf.py": "from .. import inner\nvalue = 1",
    "spaces/inner.py": "x = 1",  # in a namespace package
    "unrelated.py": "x = 1",
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A user's modules; a call edits one as an editor and a new session would, and gives `nets`."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    names = {name.split("/")[0].removesuffix(".py") for name in FILES}

    def forget():
        for name in [name for name in sys.modules if name.split(".")[0] in names]:
            del sys.modules[name]
        importlib.invalidate_caches()

    def edit(file=None, addition=""):
        path = tmp_path / (file or "nets.py")
        path.write_text(path.read_text() + addition)
        forget()
        return importlib.import_module("nets")

    for name, source in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(source))
    yield edit
    forget()


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("asked", ["class", "instance", "net", "function", "closure", "cached"])
def test_an_edit_of_any_file_that_is_imported_counts(file, asked, project):
    def asked_of(nets):
        return {
            "class": nets.Net,
            "instance": nets.Net.__new__(nets.Net),
            "net": classifier(nets.Net),
            "function": nets.made,
            "closure": nets.made(2),
            "cached": nets.cached,
        }[asked]

    before = fingerprint(asked_of(project()))
    assert fingerprint(asked_of(project())) == before
    after = fingerprint(asked_of(project(file, "\nadded = 1\n")))
    assert (after == before) == (file == "unrelated.py")


def test_what_runs_counts_not_what_its_file_was_edited_to(project, tmp_path):
    nets = project()
    before = fingerprint(nets.Net)
    (tmp_path / "helpers.py").write_text("def act(x): return -x\n")
    assert fingerprint(nets.Net) == before
    importlib.reload(sys.modules["helpers"])
    assert fingerprint(nets.Net) != before


def test_logs_and_where_it_is_asked_do_not_count(project):
    nets = project()
    before = fingerprint([nets.Net, nets.made(2)])
    nets.log.append(1)
    nets.Net()(torch.zeros(1, 2))
    assert fingerprint([nets.Net, nets.made(2)]) == before
    assert fingerprint([nets.Net, nets.made(3)]) != before


MAIN = """
import functools
import helpers
from pack import act
import spaces.inner
SCALE = 1.0
log = []
@functools.cache
def cached(x):
    return 3 * x
class Base:
    def forward(self, x):
        x = cached(x)
        import lazy
        log.append(x)
        return act(helpers.act(x)) * SCALE + spaces.inner.x
class Net(Base):
    pass
if __name__ == "__main__":
    import sys
    from joblib import Parallel, delayed
    from skinfluence.storage._fingerprint import fingerprint
    here = fingerprint([Net, Net()])
    if "workers" in sys.argv:
        there = Parallel(n_jobs=2)(delayed(fingerprint)([Net, Net()]) for _ in range(2))
        assert there == [here, here]
    log.append(1)
    assert fingerprint([Net, Net()]) == here
    print(here)
"""


def printed_by(script):
    """Run a script as `__main__` in this process, which has imported torch already."""
    sys.path.insert(0, str(script.parent))
    printed = io.StringIO()
    with redirect_stdout(printed):
        runpy.run_path(str(script), run_name="__main__")
    return printed.getvalue()


@pytest.mark.slow
def test_a_script_is_read_alike_in_workers_and_with_all_that_it_imports(project, tmp_path):
    script = tmp_path / "script.py"

    def elsewhere(source):
        script.write_text(source)
        return result_of(printed_by, script)

    # an interpreter of its own, whose workers cannot be sent what is cached in a script
    script.write_text(MAIN.replace("@functools.cache", ""))
    subprocess.run([sys.executable, str(script), "workers"], check=True)
    found = {elsewhere(MAIN)}
    for file in ("deep.py", "lazy.py", "spaces/inner.py"):
        with (tmp_path / file).open("a") as opened:
            opened.write("\nadded = 1\n")
        found.add(elsewhere(MAIN))
    found.add(elsewhere(MAIN.replace("SCALE = 1.0", "SCALE = 2.0")))
    found.add(elsewhere(MAIN.replace("3 * x", "4 * x")))
    assert len(found) == 6
    assert elsewhere(MAIN.replace("SCALE = 1.0", "x = 3; SCALE = 2.0")) in found


def test_installed_packages_count_by_name_and_version(monkeypatch):
    from pyod.models.knn import KNN

    before = fingerprint(KNN(n_neighbors=3))
    assert fingerprint(KNN(n_neighbors=3)) == before
    _sources._versions_of.cache_clear()
    monkeypatch.setattr(_sources, "version", lambda name: "0.0")
    assert fingerprint(KNN(n_neighbors=3)) != before
    _sources._versions_of.cache_clear()


def test_equal_values_are_equal_however_they_lie_in_memory():
    X = np.random.default_rng(0).normal(size=(6, 4))
    shared = [1, 2]
    pairs = [
        (X[::2], X[::2].copy()),
        (X, np.asfortranarray(X)),
        (X[:, :1], X[:, :1].copy()),
        ([shared, shared, 3], [[1, 2], [1, 2], 3]),
        (Path("a/b"), Path("a") / "b"),
        (frozenset("abc"), frozenset("cba")),
        (torch.arange(6.0).reshape(2, 3).T, torch.arange(6.0).reshape(2, 3).T.contiguous()),
    ]
    for one, other in pairs:
        assert fingerprint(one) == fingerprint(other)
        assert fingerprint([one, other, one]) == fingerprint([other, one, one])
        assert fingerprint(one) == fingerprint(pickle.loads(pickle.dumps(one)))
    values = [[shared, shared], [shared, [1, 3]], (1, 2), [1, 2], {1, 2}, "a", b"a", 1, 1.0, True]
    assert len({fingerprint(value) for value in values}) == len(values)
    one, other = object.__new__(SmallMlp), object.__new__(SmallMlp)
    assert fingerprint([one, [one], 1, one]) != fingerprint([one, [one], 1, other])


def test_the_order_of_a_mapping_counts_but_for_parameters_of_a_net():
    """A module may build its layers in it."""
    assert fingerprint({"a": 1, "b": 2}) != fingerprint({"b": 2, "a": 1})
    layers = [("x", torch.nn.ReLU()), ("y", torch.nn.Tanh())]
    nets = [torch.nn.Sequential(OrderedDict(each)) for each in (layers, layers[::-1])]
    assert fingerprint(nets[0]) != fingerprint(nets[1])
    settings = {"lr": 0.1, "max_epochs": 3}
    one, other = (
        NeuralNetClassifier(SmallMlp, **dict(p))
        for p in (settings.items(), [*settings.items()][::-1])
    )
    assert fingerprint(one) == fingerprint(other)


def test_frozen_parameters_count():
    free, frozen = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2), False)
    assert fingerprint(free) != fingerprint(frozen)


def test_modules_deep_within_modules_are_read():
    module = torch.nn.Sequential(torch.nn.ReLU())
    for _ in range(60):
        module = torch.nn.Sequential(module)
    limit = sys.getrecursionlimit()
    assert fingerprint(module) == fingerprint(copy.deepcopy(module))
    assert sys.getrecursionlimit() == limit


LIVE = """
import functools
import other
ACT = "relu"
class Net:
    def forward(self, x):
        return x if ACT == "relu" else other.act(x, other.SCALE)
    @functools.singledispatchmethod
    def kind(self, x):
        return 0
    @functools.lru_cache
    def cached(self, x):
        return x
"""


@pytest.fixture
def live(tmp_path, monkeypatch):
    (tmp_path / "live.py").write_text(LIVE)
    (tmp_path / "other.py").write_text("SCALE = 1.0\ndef act(x, s):\n    return s * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("live", "other"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("live")
    for name in ("live", "other"):
        sys.modules.pop(name, None)


CHANGES = {
    "a setting read at import": lambda live: setattr(live, "ACT", "sin"),
    "a setting of an imported module": lambda live: setattr(live.other, "SCALE", 2.0),
    "a method put in the place of one": lambda live: setattr(live.Net, "forward", len.__call__),
    "a function put in the place of one": lambda live: setattr(live.other, "act", lambda x, s: x),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_runs_counts_beside_what_its_file_says(live, change):
    before = fingerprint(live.Net)
    assert fingerprint(live.Net) == before
    change(live)
    assert fingerprint(live.Net) != before


def test_a_file_edited_before_the_first_fingerprint_is_not_taken_for_what_runs(live, tmp_path):
    edited = LIVE.replace("return x if", "return -x if")
    (tmp_path / "live.py").write_text(edited)
    stale = fingerprint(live.Net)
    importlib.reload(live)
    assert fingerprint(live.Net) != stale


@pytest.fixture
def forgotten():
    """Forget modules of these names, which nothing else imports, before and after."""
    names = ("colorsys", "zipped")
    for name in names:
        sys.modules.pop(name, None)
    yield
    for name in names:
        sys.modules.pop(name, None)


def test_a_file_named_like_a_module_of_python_is_read(tmp_path, monkeypatch, forgotten):
    monkeypatch.syspath_prepend(tmp_path)
    found = set()
    for k in (1, 2):
        (tmp_path / "colorsys.py").write_text(f"class Net:\n    k = {k}\n" + "#" * k)
        sys.modules.pop("colorsys", None)
        importlib.invalidate_caches()
        found.add(fingerprint(importlib.import_module("colorsys").Net))
    assert len(found) == 2


def test_a_module_in_an_archive_is_read(tmp_path, monkeypatch, forgotten):
    found = set()
    for k in (1, 2):
        archive = tmp_path / f"{k}.zip"
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("zipped.py", f"class Net:\n    k = {k}\n")
        monkeypatch.syspath_prepend(archive)
        sys.modules.pop("zipped", None)
        found.add(fingerprint(importlib.import_module("zipped").Net))
    assert len(found) == 2


def test_what_is_loaded_of_installed_packages_does_not_count():
    def forward(x):
        return scipy.signal.detrend(x)

    sys.modules.pop("scipy.signal", None)
    before = fingerprint(forward)
    importlib.import_module("scipy.signal")
    assert fingerprint(forward) == before
