"""Data sets with label errors that are known: planted in clean labels, or made by people.

>>> from benchmarks.data import load
>>> problem = load("wine", "pair 20 %", seed=0)
>>> problem.X.shape, int(problem.is_error.sum())
((178, 13), 36)
"""

from benchmarks.data.problem import Problem, SetUnavailable
from benchmarks.data.sets import SETS, load

__all__ = ["SETS", "Problem", "SetUnavailable", "load"]
