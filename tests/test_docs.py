"""The manual names everything there is; its sources are read here, `make docs` builds it."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import skinfluence
from skinfluence import datasets, display, exceptions, gradients, influence, metrics, nets

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def public_objects():
    """Every public object once, by a name that it may have an entry under."""
    for module in (skinfluence, datasets, display, gradients, influence, metrics, nets):
        for name in module.__all__:
            yield f"{module.__name__}.{name}", getattr(module, name)
    for name, value in inspect.getmembers(exceptions, inspect.isclass):
        yield f"{exceptions.__name__}.{name}", value


def entries(source):
    """List the full names that the API page of that source has entries for."""
    module = ""
    for directive, argument, body in re.findall(
        r"^\.\. ([\w:]+):: ?(.*)\n((?:[ \t]*\n|   .*\n)*)", source + "\n", re.MULTILINE
    ):
        if directive in {"currentmodule", "py:module"}:
            module = argument
        elif directive == "autosummary":
            yield from (f"{module}.{name}" for name in re.findall(r"^   ([\w.]+)$", body, re.M))
        elif directive == "autoexception":
            yield f"{module}.{argument}"


def resolved(name):
    value = skinfluence
    for part in name.split(".")[1:]:
        value = getattr(value, part)
    return value


ENTRIES = [e for page in sorted((DOCS / "api").glob("*.rst")) for e in entries(page.read_text())]


def test_every_public_name_has_one_entry():
    documented = [resolved(name) for name in ENTRIES]
    for name, value in public_objects():
        assert sum(value is other for other in documented) == 1, name


def test_entries_are_read_as_sphinx_reads_them():
    source = (
        ".. py:module:: p\n\nText.\n\n.. autosummary::\n   :toctree: generated\n\n   a.b\n   C\n\n"
        ".. currentmodule:: q\n\n.. autoexception:: D\n   :show-inheritance:\n"
    )
    assert list(entries(source)) == ["p.a.b", "p.C", "q.D"]


def test_every_api_page_is_in_the_index():
    pages = {page.stem for page in (DOCS / "api").glob("*.rst")} - {"index"}
    assert pages == set(re.findall(r"^   (\w+)$", (DOCS / "api" / "index.rst").read_text(), re.M))


def test_every_method_is_in_the_chooser():
    text = (DOCS / "choosing.rst").read_text()
    base = skinfluence.BaseDetrimentality
    for name in skinfluence.__all__:
        value = getattr(skinfluence, name)
        if inspect.isclass(value) and issubclass(value, base) and value is not base:
            assert f"`{name}`" in text, name


def test_every_page_is_in_the_contents():
    pages = {page.stem for suffix in ("rst", "md") for page in DOCS.glob(f"*.{suffix}")} - {"index"}
    listed = re.findall(r"^   ([\w/]+)$", (DOCS / "index.rst").read_text(), re.MULTILINE)
    assert pages | {"auto_examples/index", "api/index"} == set(listed)


def gallery_settings():
    for node in ast.parse((DOCS / "conf.py").read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "sphinx_gallery_conf":
            return ast.literal_eval(node.value)
    raise AssertionError("docs/conf.py has no sphinx_gallery_conf")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_in_the_gallery_with_a_picture(path):
    settings = gallery_settings()
    assert settings["examples_dirs"] == "../examples"
    assert "ignore_pattern" not in settings
    source = path.read_text()
    assert re.match(r'"""\n(.+)\n=+\n\n', source), "no title for its page"
    assert "plt.show()" in source
    kept = re.search(r"^# sphinx_gallery_thumbnail_path = '(.+)'$", source, re.MULTILINE)
    is_run = re.search(settings["filename_pattern"], str(path)) is not None
    # A page that is not run shows a picture that was kept.
    assert is_run == (kept is None)
    assert is_run or (DOCS / kept[1]).exists()


def test_readme_and_landing_page_show_the_same_code():
    first = re.search(r"```python\n(.+?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    landing = (DOCS / "index.rst").read_text()
    shown = re.search(r"code-block:: python\n\n((?: +.*\n|\n)+?)(?=\n +\.\. )", landing)[1]
    assert inspect.cleandoc(shown).split() == first.split()


@pytest.mark.slow
def test_the_code_of_the_readme_runs():
    first = re.search(r"```python\n(.+?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    names = {}
    exec(first, names)
    assert names["scores"].shape == (len(names["X"]), 1)


def test_links_of_the_readme_lead_somewhere():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 130
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert target.startswith("https://arxiv.org/") or (ROOT / target).exists(), target


def test_the_house_is_drawn_as_it_stands():
    drawn = re.findall(r'class="name".*>(\w+)<', (DOCS / "_static" / "house.svg").read_text())
    package = Path(skinfluence.__file__).parent
    rooms = {path.name.removesuffix(".py") for path in package.iterdir()}
    assert sorted(drawn) == sorted(rooms - {"__init__", "__pycache__", "py.typed"})


MEASURED = re.compile(r"<!-- measured: (\S+) -->(.*?)<!-- end -->", re.DOTALL)
FIGURE = re.compile(r"(?<![\w./])\d+\.\d+(?![\w/])")


def unfounded(readme):
    """List the figures of a text that are not marked, or not in the file named, rounded."""
    for path, block in MEASURED.findall(readme):
        found = [float(each) for each in re.findall(r"\d+\.\d+", (ROOT / path).read_text())]
        for figure in FIGURE.findall(block):
            n_digits = len(figure.partition(".")[2])
            if figure not in {f"{each:.{n_digits}f}" for each in found}:
                yield figure
    rest = re.sub(r"Python 3\.11|\[[^]]*\]\([^)]*\)|```.*?```", "", readme, flags=re.DOTALL)
    yield from FIGURE.findall(MEASURED.sub("", rest))


def test_figures_of_the_readme_were_measured():
    readme = (ROOT / "README.md").read_text()
    assert len(MEASURED.findall(readme)) >= 2
    assert not list(unfounded(readme))


@pytest.mark.parametrize("change", [("0.935", "0.932345"), ("gains 8.6", "gains 8.5")])
def test_a_figure_that_was_not_measured_is_found(change):
    readme = (ROOT / "README.md").read_text()
    assert change[0] in readme
    assert list(unfounded(readme.replace(*change)))
    assert list(unfounded(readme + "\nIt takes 3.7 seconds."))
