"""How a method enters the comparison."""

from collections.abc import Callable
from dataclasses import dataclass, field

CLASSES, NUMBERS = "classes", "numbers"
BOTH = (CLASSES, NUMBERS)


@dataclass(frozen=True)
class Parts:
    """Several scores of one run, and what each took where they did not all take the same."""

    scores: dict
    seconds: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """A function of (problem, seed) that gives scores, higher = more suspect, or `Parts`."""

    name: str
    score: Callable
    group: str
    tasks: tuple = BOTH
    # Names of its lines in the results: its own, or those of its parts.
    lines: tuple = ()
    # How many models it trains beside skorch nets, which are counted.
    trainings: int = 0

    def takes(self, problem):
        return (NUMBERS if problem.is_regression else CLASSES) in self.tasks


METHODS: dict[str, Method] = {}


def method(name, *, group, tasks=BOTH, parts=(), trainings=0):
    """Register a function of (problem, seed)."""

    def register(function):
        lines = tuple(parts) or (name,)
        METHODS[name] = Method(name, function, group, tuple(tasks), lines, trainings)
        return function

    return register


def estimator(name, make, *, group="ours", tasks=BOTH, trainings=0):
    """Register a detrimentality method, made by a function of the seed."""

    @method(name, group=group, tasks=tasks, trainings=trainings)
    def score(problem, seed):
        return make(seed).fit(problem.X, problem.y).detrimentality_


def methods_named(names):
    """Find methods by their names, those of their lines, or their groups."""
    found = {}
    for name in names:
        chosen = {
            entry.name: entry
            for entry in METHODS.values()
            if name in {entry.name, entry.group, *entry.lines}
        }
        if not chosen:
            known = sorted({line for entry in METHODS.values() for line in entry.lines})
            raise ValueError(f"No method is named {name!r}; there are {', '.join(known)}.")
        found |= chosen
    return list(found.values())
