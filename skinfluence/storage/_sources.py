"""Where code comes from: versions of what is installed, source files of what a user writes."""

import dis
import hashlib
import site
import sys
import sysconfig
import types
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import resolve_name
from pathlib import Path
from typing import Any, NamedTuple

# Code of these counts by the name, also in a checkout of them: whoever makes a fingerprint adds
# their versions.
VERSIONED = {"skinfluence", "torch", "skorch", "sklearn", "numpy"}
# A script or a notebook: no other process can import it by that name, so it has no source here.
MAIN = {"__main__", "__mp_main__"}


class SourceError(Exception):
    """A module of the user's is there, but its file cannot be read."""


class _Source(NamedTuple):
    spec: ModuleSpec
    digest: str
    imports: frozenset[str]


_SOURCES: dict[str, _Source] = {}


def origin_of(*modules: str) -> list[str]:
    """Digest the files of the user's that modules need, their own too; name versions of others."""
    # Imports are read off the code and followed whether or not they have been carried out yet:
    # the same code has the same origin at any time and in every process.
    todo, known, found = [*modules], set(MAIN), set()
    while todo:
        name = todo.pop()
        if not name or name in known:
            continue
        known.add(name)
        if is_installed(name):
            found.update(_versions_of(name.partition(".")[0]))
            continue
        source = _source_of(name)
        if source is not None:
            todo += source.imports
            if source.digest:  # a namespace has no file
                found.add(f"{name} {source.digest}")
    return sorted(found)


def is_installed(module: str) -> bool:
    """Tell the standard library and installed packages from code that is being written."""
    root = module.partition(".")[0]
    if not module or module in MAIN:
        return False
    if root in VERSIONED or is_standard(root):
        return True
    spec = spec_of(root)
    if spec is not None and not spec.has_location:  # a namespace, which several may share
        spec = spec_of(module)
    if spec is None:
        return False
    places = [spec.origin or ""] if spec.has_location else spec.submodule_search_locations
    # a file put among the installed ones by hand has no version to count by
    return any(map(_is_in_site, places or ())) and bool(_versions_of(root))


def is_standard(root: str) -> bool:
    """Tell Python's own modules from the user's of the same name."""
    if root not in sys.stdlib_module_names:
        return False
    spec = spec_of(root)
    if spec is None or not spec.has_location:  # built in, or frozen
        return True
    return _is_in_library(spec.origin or "")


def imports_in(code: types.CodeType, package: str) -> Iterator[str]:
    """Name the modules that code may import, by statements or by strings; some names are none."""
    for inner in codes_in(code):
        base, operations = "", instructions_of(inner)
        for number, operation in enumerate(operations):
            if operation.opname == "IMPORT_NAME":
                # what it takes off the stack: how many dots there are, and the names
                dots = "." * operations[number - 2].argval
                base = _resolved(dots + operation.argval, package)
                yield base
            elif operation.opname == "IMPORT_FROM" and base:
                yield f"{base}.{operation.argval}"  # which may be a module
    if imports_by_name({name for inner in codes_in(code) for name in inner.co_names}):
        for text in (text for inner in codes_in(code) for text in strings_in(inner.co_consts)):
            yield from modules_named(text, package)


def imports_by_name(names: set[str]) -> bool:
    """Tell whether code that uses these names may import what its strings name."""
    return bool(names & {"importlib", "import_module", "__import__"}) or names >= {"sys", "modules"}


def modules_named(text: str, package: str = "") -> Iterator[str]:
    """Name what a string such as "package.module.Class" may mean, from the package or from none."""
    path = text.partition(":")[0]
    parts = path.lstrip(".").split(".")
    if not all(part.isidentifier() for part in parts):
        return
    for end in range(1, len(parts) + 1):
        name = ".".join(parts[:end])
        if path.startswith("."):
            yield _resolved(path[: -len(path.lstrip("."))] + name, package)
        else:
            yield name
            if package:
                yield f"{package}.{name}"


def strings_in(value: Any) -> Iterator[str]:
    """Find the strings in constants."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple | list | set | frozenset | dict):
        inner: Iterable[Any] = [*value, *value.values()] if isinstance(value, dict) else value
        for item in inner:
            yield from strings_in(item)


def instructions_of(code: types.CodeType) -> list[dis.Instruction]:
    """List what code does; of a name beyond the 256th, the prefix is left out."""
    return [i for i in dis.get_instructions(code) if i.opname != "EXTENDED_ARG"]


def codes_in(code: types.CodeType) -> list[types.CodeType]:
    """List code and all code that is defined in it."""
    inner = [codes_in(const) for const in code.co_consts if isinstance(const, types.CodeType)]
    return [code, *(c for codes in inner for c in codes)]


def spec_of(name: str) -> ModuleSpec | None:
    """Find a module without running any code of it or of its package."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    if isinstance(spec, ModuleSpec):
        return spec
    path = None
    package = name.rpartition(".")[0]
    if package:
        parent = spec_of(package)
        path = None if parent is None else parent.submodule_search_locations
        if path is None:
            return None
    found = (f.find_spec(name, path) for f in sys.meta_path if hasattr(f, "find_spec"))
    return next((spec for spec in found if spec is not None), None)


def _source_of(name: str) -> _Source | None:
    """Read a module's file, once for each time that it is imported or reloaded."""
    # Not when the file changes: what runs is still what it was, and must not be taken for what
    # the file is edited to meanwhile. A reload makes a new spec.
    spec = spec_of(name)
    if spec is None:
        return None
    known = _SOURCES.get(name)
    if known is not None and known.spec is spec:
        return known
    written = _file_of(name, spec)
    digest = hashlib.sha256(written).hexdigest() if spec.has_location else ""
    if known is None or known.digest != digest:
        parent = name.rpartition(".")[0]
        package = parent if spec.submodule_search_locations is None else name
        code = _code_of(name, spec, written)
        imports = set() if code is None else {*imports_in(code, package)}
        # importing a module runs the packages that it lies in
        known = _Source(spec, digest, frozenset(imports | {parent}))
    known = _SOURCES[name] = known._replace(spec=spec)
    return known


def _file_of(name: str, spec: ModuleSpec) -> bytes:
    if not spec.has_location:  # a namespace, or built in
        return b""
    try:
        # a loader reads what lies in an archive, too
        read = getattr(spec.loader, "get_data", lambda path: Path(path).read_bytes())
        data: bytes = read(spec.origin)
    except OSError as error:
        raise SourceError(
            f"the file {spec.origin} of the module {name}, which the net imports, cannot be read"
        ) from error
    return data


def _code_of(name: str, spec: ModuleSpec, written: bytes) -> types.CodeType | None:
    """Compile a module's source, or read what was compiled; None for what is in C or broken."""
    suffix = Path(spec.origin or "").suffix
    if not spec.has_location or suffix not in {".py", ".pyc"}:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how it is written, which its import says as well
            if suffix == ".py":
                return compile(written, spec.origin or "", "exec", dont_inherit=True)
            code: types.CodeType | None = getattr(spec.loader, "get_code", lambda _: None)(name)
            return code
    except (SyntaxError, ValueError):  # nothing has imported it yet, and nothing can
        return None


def _resolved(name: str, package: str) -> str:
    """Resolve a relative name; "" for one that leads out of its package."""
    with suppress(ImportError):
        return resolve_name(name, package)
    return ""


@cache
def _is_in_library(place: str) -> bool:
    folders = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    return any(Path(place).is_relative_to(folder) for folder in folders)


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
        names = sorted(set(_distributions().get(package, ())))
        return [f"{name} {version(name)}" for name in names]


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()  # reads what is known of every package
