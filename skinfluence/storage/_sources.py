"""Where code comes from: versions of what is installed, source files of what a user writes."""

import ast
import hashlib
import site
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import resolve_name
from pathlib import Path
from typing import NamedTuple

# Code of these counts by the name, also in a checkout of them: whoever makes a fingerprint adds
# their versions.
VERSIONED = {"skinfluence", "torch", "skorch", "sklearn", "numpy"}
# A script or a notebook: no other process can import it by that name, so it has no source here.
MAIN = {"__main__", "__mp_main__"}


class _Source(NamedTuple):
    spec: ModuleSpec
    digest: str
    imports: frozenset[str]


_SOURCES: dict[str, _Source] = {}


def origin_of(module: str) -> list[str]:
    """Name the version of installed code; else digest its file and those it imports of the user."""
    if not module or module in MAIN:
        return []
    if is_installed(module):
        return _versions_of(module.partition(".")[0])
    todo, found = [module], {}
    while todo:
        name = todo.pop()
        source = None if name in found or is_installed(name) else _source_of(name)
        if source is not None:
            found[name] = source.digest
            todo += source.imports
    return [f"{name} {digest}" for name, digest in sorted(found.items())]


def is_installed(module: str) -> bool:
    """Tell the standard library and installed packages from code that is being written."""
    root = module.partition(".")[0]
    if not module or module in MAIN:
        return False
    if root in VERSIONED or is_standard(root):
        return True
    spec = _spec_of(root)
    if spec is not None and not spec.has_location:  # a namespace, which several may share
        spec = _spec_of(module)
    if spec is None:
        return False
    places = [spec.origin or ""] if spec.has_location else spec.submodule_search_locations
    return any(map(_is_in_site, places or ()))


def is_standard(root: str) -> bool:
    """Tell Python's own modules from the user's of the same name."""
    if root not in sys.stdlib_module_names:
        return False
    spec = _spec_of(root)
    if spec is None or not spec.has_location:  # built in, or frozen
        return True
    folders = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib")]
    return any(Path(spec.origin or "").is_relative_to(folder) for folder in folders)


def _source_of(name: str) -> _Source | None:
    """Read a module's file, once for each time that it is imported or reloaded."""
    # Not when the file changes: what runs is still what it was, and must not be taken for what
    # the file is edited to meanwhile. A reload makes a new spec.
    spec = _spec_of(name)
    if spec is None:
        return None
    known = _SOURCES.get(name)
    if known is None or known.spec is not spec:
        file = Path(spec.origin or "")
        source = file.read_bytes() if file.is_file() else b""  # a namespace has no file
        written = source if file.suffix == ".py" else b""
        imports = frozenset(_imports_of(written, name, spec))
        known = _SOURCES[name] = _Source(spec, hashlib.sha256(source).hexdigest(), imports)
    return known


def _imports_of(source: bytes, name: str, spec: ModuleSpec) -> Iterator[str]:
    parent = name.rpartition(".")[0]
    if parent:  # importing a module runs the packages that it lies in
        yield parent
    package = parent if spec.submodule_search_locations is None else name
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError:  # nothing has imported it yet, and nothing can
        return
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            with suppress(ImportError):  # it leads out of its package
                base = resolve_name("." * node.level + (node.module or ""), package)
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)  # which may be modules
        elif isinstance(node, ast.Call) and _is_import(node):
            with suppress(ImportError):
                yield resolve_name(ast.literal_eval(node.args[0]), package)


def _is_import(call: ast.Call) -> bool:
    """Tell a call that imports a module of a given name, such as importlib.import_module."""
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    first = call.args[0] if call.args else None
    is_written = isinstance(first, ast.Constant) and isinstance(first.value, str)
    return is_written and name in {"import_module", "__import__"}


def _spec_of(name: str) -> ModuleSpec | None:
    """Find a module without running any code of it or of its package."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    if isinstance(spec, ModuleSpec):
        return spec
    path = None
    package = name.rpartition(".")[0]
    if package:
        parent = _spec_of(package)
        path = None if parent is None else parent.submodule_search_locations
        if path is None:
            return None
    found = (f.find_spec(name, path) for f in sys.meta_path if hasattr(f, "find_spec"))
    return next((spec for spec in found if spec is not None), None)


@cache
def _is_in_site(place: str) -> bool:
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    folders |= {*site.getsitepackages(), site.getusersitepackages()}
    return any(Path(place).is_relative_to(folder) for folder in folders)


@cache
def _versions_of(package: str) -> list[str]:
    if package in VERSIONED or is_standard(package):
        return []
    try:
        return [f"{package} {version(package)}"]
    except PackageNotFoundError:  # of another name than what it installs
        names = sorted(set(packages_distributions().get(package, ())))
        return [f"{name} {version(name)}" for name in names]
