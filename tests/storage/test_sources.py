"""Every file of the user's that a net imports, in whatever way, belongs to a training's name."""

import compileall
import importlib
import sys
import textwrap
import types
import zipfile

import numpy as np
import pytest
from skorch import NeuralNetClassifier
from torch import nn

from skinfluence import LossScore
from skinfluence.storage import _sources
from skinfluence.storage._fingerprint import fingerprint
from tests._shared.problems import blobs, classifier

HEAD = "import torch\nfrom torch import nn\n"
# What a forward pass says, and what its module says before; files; the one that is edited, where
# 1.0 becomes 2.0.
WAYS = {
    "module": ("m.f(x)", "import m", {"m.py": "def f(x): return 1.0 * x"}),
    "alias": ("z.f(x)", "import p.m as z", {"p/__init__.py": "", "p/m.py": "def f(x): return 1.0"}),
    "star": (
        "f(x)",
        "from p import *",
        {"p.py": "from m import *", "m.py": "def f(x): return 1.0"},
    ),
    "import in forward": (
        "p.m.f(x)",
        "import p  # and, in forward, p.m",
        {"p/__init__.py": "", "p/m.py": "from .k import f", "p/k.py": "def f(x): return 1.0"},
    ),
    "import in a helper": (
        "m.f(x)",
        "import m",
        {"m.py": "def f(x):\n    from k import g\n    return g(x)", "k.py": "def g(x): return 1.0"},
    ),
    "by name": (
        "importlib.import_module('m').f(x)",
        "import importlib",
        {"m.py": "def f(x): return 1.0 * x"},
    ),
    "by keyword": (
        "importlib.import_module(name='m').f(x)",
        "import importlib",
        {"m.py": "def f(x): return 1.0 * x"},
    ),
    "by a function of another name": (
        "load('m').f(x)",
        "from importlib import import_module as load",
        {"m.py": "def f(x): return 1.0 * x"},
    ),
    "by a constant": (
        "importlib.import_module(NAMES['f'][0]).f(x)",
        "import importlib\nNAMES = {'f': ['m']}",
        {"m.py": "def f(x): return 1.0 * x"},
    ),
    "by a path to a class": (
        "m.load('k.Net')(x)",
        "import m",
        {
            "m.py": "import importlib\nTARGET = 'k.inner:Net'\ndef load(name): return TARGET",
            "k/__init__.py": "",
            "k/inner.py": "class Net: gain = 1.0",
        },
    ),
    "out of what is loaded": (
        "sys.modules['m'].f(x)",
        "import sys",
        {"m.py": "def f(x): return 1.0 * x"},
    ),
    "package that loads when it is asked": (
        "p.f(x)",
        "import p",
        {
            "p/__init__.py": """
                import importlib
                WHERE = {"f": "m"}
                def __getattr__(name):
                    if name not in WHERE:
                        raise AttributeError(name)
                    found = getattr(importlib.import_module("." + WHERE[name], __name__), name)
                    globals()[name] = found
                    return found
                """,
            "p/m.py": "import k\ndef f(x): return k.TABLE['f'](x)",
            "k.py": "from n import g\nTABLE = {'f': g}",
            "n.py": "def g(x): return 1.0 * x",
        },
    ),
    "module of a package that something else imports": (
        "p.m.f(x)",
        "import p",
        {"p/__init__.py": "", "p/m.py": "def f(x): return 1.0 * x"},
    ),
    "in a circle": (
        "m.f(x)",
        "import m",
        {"m.py": "import k\ndef f(x): return k.g(x)", "k.py": "import m\ndef g(x): return 1.0"},
    ),
    "base of a base": (
        "m.Base.gain",
        "import m",
        {"m.py": "import k\nclass Base(k.Base): pass", "k.py": "class Base: gain = 1.0"},
    ),
    "methods of a helper's class": (
        "m.Helper().half * m.Helper.whole()",
        "import m",
        {
            "m.py": """
                import k
                class Helper:
                    half = property(lambda self: k.f())
                    whole = staticmethod(lambda: 1)
                """,
            "k.py": "def f(): return 1.0",
        },
    ),
    "setting": ("x * m.CONFIG.gain", "import m", {"m.py": "class CONFIG: gain = 1.0"}),
    "object": (
        "x * CONFIG.gain",
        "from m import CONFIG",
        {"m.py": "from types import SimpleNamespace\nCONFIG = SimpleNamespace(gain=1.0)"},
    ),
    "object of a class": (
        "x * OBJECTS[0].gain",
        "import m\nOBJECTS = [m.Config(1.0)]",
        {
            "nets.py": "",
            "m.py": "class Config:\n    def __init__(self, gain): self.gain = gain",
        },
    ),
    "method of an object": (
        "act(x)",
        "from m import act",
        {"m.py": "class Act:\n    def __call__(self, x): return 1.0\nact = Act().__call__"},
    ),
    "partial function": (
        "act(x)",
        "from m import act",
        {"m.py": "from functools import partial\nact = partial(max, 1.0)"},
    ),
    "layer": ("act(x)", "from m import act", {"m.py": "from torch import nn\nact = nn.ELU(1.0)"}),
    "list, beside one that grows": (
        "[made.append(width) for made in [[]] for width in WIDTHS]",
        "WIDTHS = [1.0]",
        {"nets.py": ""},
    ),
    "class made in a function": (
        "made()",
        "GAIN = 1.0\ndef made():\n    class Inner:\n        gain = GAIN\n    return Inner",
        {"nets.py": ""},
    ),
}


class Project:
    """A user's files, and nets made of them as an import or as a script makes them."""

    def __init__(self, folder):
        self.folder, self.roots = folder, set()

    def write(self, files):
        for name, source in files.items():
            self.roots.add(name.split("/")[0].removesuffix(".py"))
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(textwrap.dedent(source))

    def forget(self):
        """Begin anew, as another process would."""
        for name in [name for name in sys.modules if name.split(".")[0] in self.roots]:
            del sys.modules[name]
        importlib.invalidate_caches()

    def nets(self, kind, first=()):
        self.forget()
        for name in first:
            importlib.import_module(name)
        if kind == "imported":
            return importlib.import_module("nets")
        module = types.ModuleType("__main__")
        exec((self.folder / "nets.py").read_text(), vars(module))
        return module


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    project = Project(tmp_path)
    yield project
    project.forget()


def written(way):
    does, says, files = WAYS[way]
    lazily = "import p.m as _" if "in forward" in says else "pass"
    net = f"{HEAD}{says}\nclass Net(nn.Module):\n    def forward(self, x):\n        {lazily}\n"
    net += f"        return {does}\n"
    return {"other.py": "gain = 1.0", **files, "nets.py": net}


@pytest.mark.parametrize("kind", ["imported", "script"])
@pytest.mark.parametrize("way", WAYS)
def test_an_edit_of_what_is_imported_counts_and_the_order_of_imports_does_not(way, kind, project):
    files = written(way)
    project.write(files)
    modules = [name[:-3].replace("/", ".").removesuffix(".__init__") for name in files]
    modules.remove("nets")
    before = fingerprint(project.nets(kind).Net)
    for first in (modules, modules[::-1]):
        assert fingerprint(project.nets(kind, first).Net) == before
    (edited,) = [n for n, source in files.items() if "1.0" in source and n != "other.py"]
    for name, counts in [("other.py", False), (edited, True)]:
        project.write({name: textwrap.dedent(files[name]).replace("1.0", "2.0")})
        assert (fingerprint(project.nets(kind).Net) != before) == counts


CHANGING = """
log, table, words = [], {}, set()
class Meter:
    def __init__(self): self.n, self.seen = 0, []
    def tick(self): self.n += 1
    def note(self, x): self.seen.append(x)
meter, noted, counter = Meter(), Meter(), Meter()
class Net(nn.Module):
    def forward(self, x):
        log.append(1); table["a"] = 1; table["a"] += 1; words.add(2); m.log.append(3)
        meter.tick(); noted.note(4); counter.n += 1; m.meter.n = 5; m.table["b"] = 6
        return x * GAIN[0]
def run():
    Net()(1.0)
"""


@pytest.mark.parametrize("kind", ["imported", "script"])
def test_what_a_net_writes_into_does_not_count(kind, project):
    said = HEAD + "import m\nGAIN = [1.0]\n" + CHANGING
    held = "class Meter: n = 0\nlog, table, meter = [], {}, Meter()"
    project.write({"nets.py": said, "m.py": held})
    nets = project.nets(kind)
    before = fingerprint(nets.Net)
    nets.run()
    assert nets.meter.n == 1
    assert fingerprint(nets.Net) == before
    project.write({"nets.py": said.replace("1.0]", "2.0]")})
    assert fingerprint(project.nets(kind).Net) != before


@pytest.mark.parametrize("kind", ["imported", "script"])
def test_what_cannot_be_read_of_a_global_counts_by_its_class(kind, project):
    said = """
        import logging, random, threading
        import numpy as np
        import torch
        class Held:
            gain = 1.0
            def __init__(self): self.lock = threading.Lock()
        lock, logger, held = threading.Lock(), logging.getLogger("a"), Held()
        endless = iter(lambda: 1, 0), (i for i in "abc")
        draws = [np.random.default_rng(), random.Random(), torch.Generator()]
        class Net:
            def forward(self, x): return lock, endless, logger, held, [d for d in draws]
        """
    project.write({"nets.py": said})
    before = fingerprint(project.nets(kind).Net)
    nets = project.nets(kind)
    nets.draws[0].normal()
    assert fingerprint(nets.Net) == before
    project.write({"nets.py": said.replace("1.0", "2.0")})
    assert fingerprint(project.nets(kind).Net) != before


def test_an_object_in_a_script_counts_as_it_is_when_it_runs(project):
    project.write({"nets.py": "import m\nclass Net:\n    def forward(self, x): return m.cfg.width"})
    project.write({"m.py": "from types import SimpleNamespace\ncfg = SimpleNamespace(width=1)"})
    nets = project.nets("script")
    before = fingerprint(nets.Net)
    nets.m.cfg.width = 2
    assert fingerprint(nets.Net) != before


def test_a_file_that_is_gone_is_named(project):
    project.write({"nets.py": "import m\nclass Net: pass", "m.py": "gain = 1.0"})
    nets = project.nets("imported")
    (project.folder / "m.py").unlink()
    with pytest.raises(TypeError, match=r"file .*m.py of the module m, .*memory=None"):
        fingerprint(nets.Net)


@pytest.mark.parametrize("way", ["archive", "compiled"])
def test_files_that_are_no_source_are_read_and_so_are_their_imports(way, project):
    files = {"z.py": "import k", "k.py": "import m", "m.py": "gain = 1.0"}
    found = set()
    for gain in ("1.0", "2.0"):
        project.write(files | {"nets.py": "import z\nclass Net: pass"})
        project.write({"m.py": f"gain = {gain}"})
        sources = [project.folder / name for name in files]
        if way == "archive":
            with zipfile.ZipFile(project.folder / "z.zip", "w") as archive:
                for source in sources:
                    archive.write(source, source.name)
            sys.path.insert(0, str(project.folder / "z.zip"))
        else:
            compileall.compile_dir(project.folder, legacy=True, quiet=2, force=True)
        for source in sources:
            source.unlink()
        nets = project.nets("imported")
        assert not nets.z.__file__.endswith("z.py") or "z.zip" in nets.z.__file__
        found |= {fingerprint(nets.Net) for _ in range(2)}
        sys.path = [place for place in sys.path if not place.endswith("z.zip")]
    assert len(found) == 2


def test_what_is_put_among_installed_packages_by_hand_counts_by_its_file(project, monkeypatch):
    monkeypatch.setattr(_sources.site, "getsitepackages", lambda: [str(project.folder)])
    _sources._is_in_site.cache_clear()
    project.write({"nets.py": "class Net:\n    gain = 1.0", "m.py": "import nets"})
    project.nets("imported")
    found = {tuple(_sources.origin_of("m"))}
    project.write({"nets.py": "class Net:\n    gain = 2.0"})
    project.nets("imported")
    found.add(tuple(_sources.origin_of("m")))
    _sources._is_in_site.cache_clear()
    assert len(found) == 2


def test_versions_of_all_that_is_imported_count(project):
    project.write({"nets.py": "import m\nclass Net: pass", "m.py": "def f():\n    import pandas"})
    project.nets("imported")
    assert "pandas" in " ".join(_sources.origin_of("nets"))


NETS = """
import importlib
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from skorch.dataset import Dataset
from torch import nn
from torch.utils.data import DataLoader
from torch.optim import SGD
def helper():
    return importlib.import_module("m")
class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 3))
class Own(NeuralNetClassifier):
    def get_loss(self, *args, **kwargs):
        helper()
        return super().get_loss(*args, **kwargs)
class Watching(Callback):
    def on_batch_end(self, net, **kwargs): helper()
class Loss(nn.CrossEntropyLoss):
    def forward(self, *args):
        helper()
        return super().forward(*args)
class Steps(SGD):
    def step(self, *args):
        helper()
        return super().step(*args)
class Loader(DataLoader):
    def __iter__(self):
        helper()
        return super().__iter__()
class Rows(Dataset):
    def __getitem__(self, i):
        helper()
        return super().__getitem__(i)
def collate(rows): return helper()
def scheme(*args): return helper()
"""
PARTS = {
    "net": lambda nets: nets.Own(nets.Net),
    "callback": lambda nets: classifier(callbacks=[nets.Watching()]),
    "class of a callback": lambda nets: classifier(callbacks=[("watching", nets.Watching)]),
    "criterion": lambda nets: classifier(criterion=nets.Loss),
    "optimizer": lambda nets: classifier(optimizer=nets.Steps),
    "iterator": lambda nets: classifier(iterator_train=nets.Loader),
    "collate": lambda nets: classifier(iterator_train__collate_fn=nets.collate),
    "data set": lambda nets: classifier(dataset=nets.Rows),
    "argument": lambda nets: classifier(module__head=nets.scheme),
    "rows": lambda nets: nets.Rows(np.zeros((2, 4)), np.zeros(2)),
}


@pytest.mark.parametrize("kind", ["imported", "script"])
@pytest.mark.parametrize("part", PARTS)
def test_whatever_part_of_a_net_imports_it(part, kind, project):
    project.write({"nets.py": NETS, "m.py": "import k", "k.py": "gain = 1.0"})
    before = fingerprint(PARTS[part](project.nets(kind)))
    assert fingerprint(PARTS[part](project.nets(kind, ["k"]))) == before
    project.write({"k.py": "gain = 2.0"})
    assert fingerprint(PARTS[part](project.nets(kind))) != before


def test_weights_of_an_edited_net_are_not_taken_out_of_the_cache(project, tmp_path):
    net = """
        from torch import nn
        from sizes import of
        class Net(nn.Sequential):
            def __init__(self):
                super().__init__(nn.Linear(4, of[0].hidden), nn.ReLU(), nn.Linear(of[0].hidden, 3))
        """
    sizes = "from types import SimpleNamespace\nof = [SimpleNamespace(hidden=3)]"
    X, y = blobs(n=40)
    for hidden in (3, 5):
        project.write({"nets.py": net, "sizes.py": sizes.replace("=3", f"={hidden}")})
        nets = project.nets("script")
        module = {"module": nets.Net, "criterion": nn.CrossEntropyLoss, "max_epochs": 1}
        net_ = NeuralNetClassifier(**module, verbose=0, train_split=None)
        fitted = LossScore(net_, memory=str(tmp_path / "memory"), random_state=0).fit(X, y)
        assert fitted.net_.module_[0].out_features == hidden


@pytest.mark.parametrize("kind", ["imported", "script"])
def test_code_of_more_names_than_fit_in_a_byte(kind, project):
    many = "; ".join(f"a{i} = self.b{i} if x else c{i}" for i in range(300))
    net = f"""
        from torch import nn
        class Net(nn.Module):
            def forward(self, x):
                {many}
                import k
                from j import rate
                return k.gain, log.append(rate)
        log = []
        """
    project.write({"nets.py": net, "k.py": "gain = 1", "j.py": "rate = 1"})
    before = fingerprint(project.nets(kind).Net)
    for module in ("k", "j"):
        project.write({f"{module}.py": "gain = rate = 2"})
        after = fingerprint(project.nets(kind).Net)
        assert after != before
        before = after
