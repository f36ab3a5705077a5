"""How the manual is built: `make docs`."""

import os
import sys
import warnings
from pathlib import Path

import skinfluence

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))
# Examples are small: more threads only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.filterwarnings("ignore", "FigureCanvasAgg is non-interactive", UserWarning)

project = "skinfluence"
author = copyright = "The skinfluence developers"
version = release = skinfluence.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "myst_parser",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "sphinxcontrib.bibtex",
    "measured",
    "names",
]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
exclude_patterns = ["_build", "**/GALLERY_HEADER.rst"]
templates_path = ["_templates"]
default_role = "py:obj"
nitpicky = True
# Headings of the changelog and CONTRIBUTING are linked as on the code host.
myst_heading_anchors = 3
# CONTRIBUTING is included below a heading of the page.
suppress_warnings = ["myst.header"]

# Docstrings
autodoc_typehints = "none"  # numpydoc sections give the types
autosummary_generate = True
numpydoc_show_class_members = False  # the template lists them

# Papers
bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "unsrt"

# Examples
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    # The Adult table does not come with the repository; its page shows a picture that was kept.
    "filename_pattern": r"/plot_(?!adult)",
    "within_subsection_order": "gallery.Order",
    "thumbnail_size": (480, 336),
    "doc_module": ("skinfluence",),
    "backreferences_dir": "api/generated/backreferences",
    "remove_config_comments": True,
    "show_memory": False,
    "min_reported_time": 1,
    "abort_on_example_error": False,
    "plot_gallery": True,
    "matplotlib_animations": False,
    "capture_repr": (),
    "image_scrapers": ("matplotlib",),
    "show_signature": False,
    "write_computation_times": False,
}

# Pages
html_theme = "pydata_sphinx_theme"
html_title = "skinfluence"
html_static_path = ["_static"]
html_favicon = "_static/favicon.svg"
html_css_files = ["skinfluence.css"]
html_show_sourcelink = False
html_copy_source = False
# Pages without pages below them need no list of these.
html_sidebars = {page: [] for page in (*(path.stem for path in HERE.glob("*.*")), "search")}
html_context = {"default_mode": "auto"}
toc_object_entries_show_parents = "hide"
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 4,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
    "navbar_end": ["theme-switcher"],
    "back_to_top_button": False,
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
