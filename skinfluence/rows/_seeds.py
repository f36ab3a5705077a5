"""Random numbers without side effects: every generator is given back as it was found."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import check_random_state

from skinfluence.rows._turns import TURNS


class _Parametrized(Protocol):
    def get_params(self, deep: bool = True) -> dict[str, Any]: ...

    def set_params(self, **params: Any) -> object: ...


Estimator = TypeVar("Estimator", bound=_Parametrized)


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Restore Python's, numpy's and torch's global generators on leaving; threads take turns."""
    with TURNS.taken():
        python_state = random.getstate()
        numpy_state = np.random.get_state()  # noqa: NPY002 - the global generator is what is meant
        cuda = list(range(torch.cuda.device_count()))
        try:
            with torch.random.fork_rng(devices=cuda):
                try:
                    yield
                finally:
                    TURNS.end_loans()
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the three global generators inside the block, and restore them on leaving."""
    with preserved_random_state():
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        yield


def own_random_state(random_state: object) -> np.random.RandomState:
    """Make a generator of scikit-learn's `random_state`; None leaves numpy's global one alone."""
    if random_state is None:
        return np.random.RandomState(np.random.MT19937(np.random.SeedSequence()))
    generator: np.random.RandomState = check_random_state(random_state)
    return generator


def draw_seeds(random_state: object, n_seeds: int) -> list[int]:
    """Turn `random_state` into seeds; the first do not depend on how many are drawn."""
    generator = own_random_state(random_state)
    return [int(generator.randint(2**31 - 1)) for _ in range(n_seeds)]


def seed_unset(estimator: _Parametrized, seed: int, *, deep: bool = True) -> None:
    """Set every `random_state` of an estimator that is None, or its own alone if not `deep`."""
    unset = {
        name: seed
        for name, value in estimator.get_params(deep=deep).items()
        if name.split("__")[-1] == "random_state" and value is None
    }
    estimator.set_params(**unset)


def seeded_clone(estimator: Estimator, seed: int, *, deep: bool = True) -> Estimator:
    """Clone an estimator, with a seed wherever a `random_state` is None; see `seed_unset`."""
    copy: Estimator = clone(estimator)
    seed_unset(copy, seed, deep=deep)
    return copy
