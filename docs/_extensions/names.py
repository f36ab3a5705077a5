"""What single backticks in docstrings mean: a public name links to its page, all else is code.

Docstrings write `TracIn` or `datasets.make_noisy_labels` wherever they stand, and `random_state`
or `fit` for what has no page. Names that look like ours and are not public fail the build.
"""

import re
from importlib import import_module

from sphinx.util.nodes import make_refnode

# Names of classes that are not ours, and of bases that are not exported.
OTHERS = {"ConvergenceWarning", "FrozenEstimator", "Objective", "Solver"}
ROOMS = ["datasets", "exceptions", "gradients", "influence", "metrics", "nets"]


def public_names(known):
    """Map short names to the full ones that have an entry among those known."""
    names = {name.removeprefix("skinfluence."): name for name in known}
    for room in ROOMS:
        module = import_module(f"skinfluence.{room}")
        for name in getattr(module, "__all__", []):
            full = next(
                f for f in (f"skinfluence.{name}", f"skinfluence.{room}.{name}") if f in known
            )
            names[f"{room}.{name}"] = full
    for full in known:
        names.setdefault(full.rpartition(".")[2], full)
    return names


def resolve(app, env, node, contnode):
    """Link a name in backticks that the Python domain could not place, or leave it as code."""
    if node.get("refdomain") != "py" or node.get("reftype") != "obj":
        return None
    objects = env.domains["py"].objects
    kinds = {"class", "function", "exception"}
    names = public_names({full for full, entry in objects.items() if entry.objtype in kinds})
    target = re.sub(r"\(.*", "", node["reftarget"])
    owner, _, attribute = target.rpartition(".")
    full = names.get(target) or names.get(owner)
    if full is None:
        ours = target.startswith(("skinfluence.", *(f"{room}." for room in ROOMS)))
        is_class = re.fullmatch("[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*", target)
        return None if ours or (is_class and target not in OTHERS) else contnode
    full = f"{full}.{attribute}" if f"{full}.{attribute}" in objects else full
    entry = objects[full]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, contnode, full)


def skip_foreign(app, what, name, obj, skip, options):
    """Leave out what scikit-learn's base classes bring, and the fields of named tuples."""
    if (obj.__doc__ or "").startswith("Alias for field number"):
        return True
    module = getattr(getattr(obj, "fget", obj), "__module__", None) or "skinfluence"
    return True if not module.startswith("skinfluence") else None


def setup(app):
    """Connect both."""
    app.connect("missing-reference", resolve)
    app.connect("autodoc-skip-member", skip_foreign)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
