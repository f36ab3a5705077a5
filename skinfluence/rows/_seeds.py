"""Random numbers without side effects: every generator is given back as it was found."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from sklearn.utils import check_random_state


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Restore Python's, numpy's and torch's global generators on leaving.

    Yields
    ------
    None
    """
    python_state = random.getstate()
    numpy_state = np.random.get_state()  # noqa: NPY002 - the global generator is what is meant
    cuda = list(range(torch.cuda.device_count()))
    try:
        with torch.random.fork_rng(devices=cuda):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the three global generators inside the block, and restore them on leaving.

    Parameters
    ----------
    seed : int
        In [0, 2**32), the range numpy accepts.

    Yields
    ------
    None
    """
    with preserved_random_state():
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        yield


def own_random_state(random_state: object) -> np.random.RandomState:
    """Make a generator from scikit-learn's `random_state`.

    Parameters
    ----------
    random_state : int, RandomState or None
        None draws fresh entropy and, unlike scikit-learn, leaves numpy's global generator alone.

    Returns
    -------
    RandomState
    """
    if random_state is None:
        return np.random.RandomState(np.random.MT19937(np.random.SeedSequence()))
    generator: np.random.RandomState = check_random_state(random_state)
    return generator


def draw_seeds(random_state: object, n_seeds: int) -> list[int]:
    """Turn scikit-learn's `random_state` into seeds.

    Parameters
    ----------
    random_state : int, RandomState or None
        As for `own_random_state`.
    n_seeds : int
        How many seeds; the first ones do not depend on how many are drawn.

    Returns
    -------
    list of int
        In [0, 2**31).
    """
    generator = own_random_state(random_state)
    return [int(generator.randint(2**31 - 1)) for _ in range(n_seeds)]
