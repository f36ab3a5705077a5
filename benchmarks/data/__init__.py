"""Data sets with label errors that are known: planted in clean labels, or made by people.

>>> from benchmarks.data import load
>>> problem = load("wine", "pair 20 %", seed=0)
>>> problem.X.shape, int(problem.is_error.sum())
((178, 13), 36)
"""

from benchmarks.data.files import add_data_argument
from benchmarks.data.problem import Problem, SetUnavailable
from benchmarks.data.sets import CLEAN, SETS, clean_table, load

__all__ = [
    "CLEAN",
    "SETS",
    "Problem",
    "SetUnavailable",
    "add_data_argument",
    "clean_table",
    "load",
]
