"""Which sets, with which noise, are run together: lists of (set, noise)."""

from benchmarks.data import SETS
from benchmarks.data.sets import HUMAN

_FIRST_NOISES = ("symmetric 10 %", "pair 20 %", "instance 20 %", "symmetric 40 %")


def _of(*names):
    return [(name, noise) for name in names for noise in SETS[name].noises]


BATTERIES = {
    # half of them flipped, half of them labelled by people or of mixed types
    "eight": [
        ("adult", "symmetric 5 %"),
        ("digits", "pair 20 %"),
        ("labelme", HUMAN),
        ("letter", "pair 20 %"),
        ("mnist10k", "pair 20 %"),
        ("music", HUMAN),
        ("roman", HUMAN),
        ("satellite", "pair 20 %"),
    ],
    # what the first default was chosen on
    "macro": [
        (name, noise)
        for name in ("digits", "letter-4000", "satellite-4000", "mnist10k-4000")
        for noise in _FIRST_NOISES
    ],
    "human": [(name, HUMAN) for name, entry in SETS.items() if HUMAN in entry.noises],
    "images": _of(
        "mnist10k-images", "roman-images", "cifar10n-aggre", "cifar10n-worse", "cifar10n-random"
    ),
    "text": _of(*(name for name in SETS if name.startswith("reviews-"))),
    "tables": _of(
        *("wine", "breast-cancer", "iris", "adult", "adult-other", "irrelevant-columns"),
        *("rare-positives", "letter-rare", "many-small-classes", "letter-few"),
    ),
    "regression": _of(*(name for name, entry in SETS.items() if entry.is_regression)),
    # the longer draws of "macro" are the same sets once more
    "all": _of(*(name for name in SETS if not name.endswith("-4000"))),
}
