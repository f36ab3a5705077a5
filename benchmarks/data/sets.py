"""The sets: an entry is a function of (seed, folder) that draws the rows, and the noise it gets.

A function gives (X, y) with clean targets, and noise is planted in them; or, where people made the
errors, a whole Problem.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from sklearn import datasets
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from benchmarks.data import files, noise
from benchmarks.data.problem import Problem

HUMAN = "human"
USUAL = ("symmetric 10 %", "pair 20 %", "instance 20 %", "unsure 20 %", "symmetric 40 %")
NUMBERS = ("shifted 10 %", "permuted 10 %")


@dataclass(frozen=True)
class Set:
    """How to draw the rows, which noise suits them, and which sets are of the same origin."""

    draw: Callable
    noises: tuple
    # Sets of one origin are left out together, where something is chosen on the others.
    origin: str
    is_regression: bool = False
    needs_scaling: bool = True


SETS: dict[str, Set] = {}


def add(name, draw, noises=USUAL, *, origin=None, **traits):
    SETS[name] = Set(draw, tuple(noises), origin or name, **traits)


def load(name, noise_name, seed, folder=None):
    """Draw the rows and the errors of a set by the seed; give a Problem."""
    entry = SETS[name]
    drawn = entry.draw(seed, folder)
    if noise_name == HUMAN:
        return replace(drawn, needs_scaling=entry.needs_scaling)
    X, y = drawn
    given, is_error = noise.plant(noise_name, X, y, seed)
    return Problem(
        X,
        given,
        is_error,
        is_regression=entry.is_regression,
        needs_scaling=entry.needs_scaling,
    )


def _codes(y):
    return np.unique(y, return_inverse=True)[1]


def _drawn(n, n_rows, seed):
    return np.random.default_rng(seed).permutation(n)[:n_rows]


# --- clean labels, whole -------------------------------------------------------------------------
CLEAN = ("digits", "letter", "satellite", "mnist10k")


def clean_table(name, folder=None):
    """Give all rows of a set as a table, and their labels coded from 0."""
    if name == "digits":
        X, y = datasets.load_digits(return_X_y=True)
    else:
        stored = files.arrays(folder, name)
        X, y = stored["X"], stored["y"]
    return X.reshape(len(X), -1).astype(np.float32), _codes(y)


# --- shipped by scikit-learn ---------------------------------------------------------------------
def _shipped(loader, seed, folder):
    X, y = loader(return_X_y=True)
    return X.astype(np.float32), y


add("digits", partial(_shipped, datasets.load_digits))
add("wine", partial(_shipped, datasets.load_wine))
add("breast-cancer", partial(_shipped, datasets.load_breast_cancer))
add("iris", partial(_shipped, datasets.load_iris))


# --- clean labels in files -----------------------------------------------------------------------
def _table(name, n_rows, seed, folder):
    X, y = clean_table(name, folder)
    rows = _drawn(len(y), n_rows, seed)
    return X[rows], y[rows]


for _name in ("letter", "satellite", "mnist10k"):
    add(_name, partial(_table, _name, 3000))
    # the rows of the first comparison of defaults
    add(f"{_name}-4000", partial(_table, _name, 4000), origin=_name)


def _adult(start, stop, seed, folder):
    table, y = files.adult(folder, slice(start, stop))
    return files.encoded(table), y


FIVE = ("symmetric 5 %",)
add("adult", partial(_adult, 0, 4000), FIVE)
add("adult-other", partial(_adult, 4000, 9000), (*FIVE, "unsure 10 %"), origin="adult")


# --- labels that people got wrong ----------------------------------------------------------------
def _roman(as_images, seed, folder):
    stored = files.arrays(folder, "roman_numerals")
    X = files.images_of(stored["X"])
    return Problem(X if as_images else X.reshape(len(X), -1), stored["given"], stored["is_error"])


def _one_annotator(name, seed, folder):
    stored = files.arrays(folder, name)
    rng = np.random.default_rng(seed)
    row, _, answer = stored["answers"][rng.permutation(len(stored["answers"]))].T
    rows, first = np.unique(row, return_index=True)
    given = answer[first].astype(int)
    return Problem(stored["X"][rows], given, given != stored["gold"][rows])


def _cifar10n(labels, seed, folder):
    stored = files.arrays(folder, "cifar10n_20k")
    rows = _drawn(len(stored["clean_label"]), 3000, seed)
    given = stored[labels[seed % len(labels)]][rows].astype(int)
    return Problem(files.jpegs(stored, rows), given, given != stored["clean_label"][rows])


def _mnist_reviewed(as_images, seed, folder):
    """Draw rows around the hundred that five people looked at; only these are scored."""
    stored, reviewed = files.arrays(folder, "mnist10k"), files.arrays(folder, "mnist_reviewed")
    others = np.setdiff1d(np.arange(len(stored["y"])), reviewed["row"])
    others = np.random.default_rng(seed).choice(others, 2900, replace=False)
    rows = np.concatenate([reviewed["row"], others])
    X = files.images_of(stored["X"][rows])
    is_error = np.concatenate([reviewed["is_error"], np.zeros(len(others), dtype=bool)])
    return Problem(
        X if as_images else X.reshape(len(X), -1),
        stored["y"][rows],
        is_error,
        scored=np.arange(len(reviewed["row"])),
    )


BY_PEOPLE = (HUMAN,)
add("roman", partial(_roman, False), BY_PEOPLE)
add("roman-images", partial(_roman, True), BY_PEOPLE, origin="roman")
add("music", partial(_one_annotator, "music_crowd"), BY_PEOPLE)
add("labelme", partial(_one_annotator, "labelme_crowd"), BY_PEOPLE)
for _kind in ("worse", "aggre"):
    add(f"cifar10n-{_kind}", partial(_cifar10n, [f"{_kind}_label"]), BY_PEOPLE, origin="cifar10n")
_three = [f"random_label{i}" for i in (1, 2, 3)]
add("cifar10n-random", partial(_cifar10n, _three), BY_PEOPLE, origin="cifar10n")
add("mnist-reviewed", partial(_mnist_reviewed, False), BY_PEOPLE, origin="mnist10k")
add("mnist-reviewed-images", partial(_mnist_reviewed, True), BY_PEOPLE, origin="mnist10k")


def _mnist_images(seed, folder):
    X, y = _table("mnist10k", 3000, seed, folder)
    return X.reshape(-1, 1, 28, 28) / 255, y


add("mnist10k-images", _mnist_images, ("pair 20 %", "symmetric 10 %"), origin="mnist10k")


# --- texts ---------------------------------------------------------------------------------------
def _reviews(n_rows, form, seed, folder):
    texts, y = files.reviews(folder)
    rows = _drawn(len(y), n_rows, seed)
    X = TfidfVectorizer(sublinear_tf=True, min_df=2).fit_transform(texts[rows])
    if form == "dense":
        X = X.toarray()
    elif form == "svd":
        X = TruncatedSVD(100, random_state=seed).fit_transform(X)
    return X.astype(np.float32), y[rows]


for _n_rows in (400, 1000):
    for _form in ("csr", "dense", "svd"):
        add(
            f"reviews-{_n_rows}-{_form}",
            partial(_reviews, _n_rows, _form),
            ("symmetric 20 %", "symmetric 10 %"),
            origin="reviews",
            needs_scaling=_form == "svd",
        )


# --- made, of kinds that are hard for one or another method --------------------------------------
def _made(seed, folder, **settings):
    X, y = datasets.make_classification(random_state=seed, **settings)
    return X.astype(np.float32), y


_irrelevant = {"n_samples": 2000, "n_features": 100, "n_informative": 8, "n_redundant": 0}
add(
    "irrelevant-columns",
    partial(_made, n_classes=4, n_clusters_per_class=2, class_sep=2.0, flip_y=0, **_irrelevant),
    ("pair 20 %", "unsure 20 %", "symmetric 10 %"),
)
_rare = {"n_samples": 4000, "n_features": 20, "n_informative": 8, "weights": [0.98]}
add("rare-positives", partial(_made, flip_y=0, class_sep=1.0, **_rare), ("symmetric 2 %",))
_many = {"n_samples": 900, "n_features": 30, "n_informative": 20, "n_redundant": 5}
add(
    "many-small-classes",
    partial(_made, n_classes=60, n_clusters_per_class=1, class_sep=3.0, flip_y=0, **_many),
    ("symmetric 10 %", "pair 20 %"),
)


def _one_letter(seed, folder):
    """Tell one letter from all others, 2 % against 98 %."""
    X, y = _table("letter", None, seed, folder)
    rng = np.random.default_rng(seed)
    letter = rng.integers(26)
    rows = np.r_[np.flatnonzero(y == letter)[:80], np.flatnonzero(y != letter)[:3920]]
    rows = rng.permutation(rows)
    return X[rows], (y[rows] == letter).astype(int)


def _few_letters(seed, folder):
    """Keep 15 rows of each of the 26 letters."""
    X, y = _table("letter", None, seed, folder)
    rows = np.concatenate([np.flatnonzero(y == code)[:15] for code in range(26)])
    return X[rows], y[rows]


add("letter-rare", _one_letter, ("symmetric 2 %",), origin="letter")
add("letter-few", _few_letters, ("symmetric 10 %", "pair 20 %"), origin="letter")


# --- numbers -------------------------------------------------------------------------------------
def _friedman(seed, folder):
    X, y = datasets.make_friedman1(1000, noise=1.0, random_state=seed)
    return X.astype(np.float32), y


def _many_columns(seed, folder):
    X, y = datasets.make_regression(500, 100, n_informative=10, noise=50.0, random_state=seed)
    return X.astype(np.float32), y


for _name, _draw in {
    "diabetes": partial(_shipped, datasets.load_diabetes),
    "friedman": _friedman,
    "linear-irrelevant": _many_columns,
}.items():
    add(_name, _draw, NUMBERS, is_regression=True)
