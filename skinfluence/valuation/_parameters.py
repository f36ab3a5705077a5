"""Checks of parameters that several methods share."""

from numbers import Real
from typing import Any

import numpy as np

from skinfluence._validation import check_parameter


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuse a word that is none of the choices.

    Parameters
    ----------
    name : str
    value : str
    choices : tuple of str

    Raises
    ------
    ValueError
        With the value and the choices.
    """
    check_parameter(
        name,
        value,
        " or ".join(map(repr, choices)),
        holds=lambda word: isinstance(word, str) and word in choices,
    )


def check_number(name: str, value: Any, *, low: float, open: bool = False, fix: str = "") -> None:
    """Refuse what is no finite number, or too low.

    Parameters
    ----------
    name : str
    value : float
    low : float
    open : bool, default=False
        Whether `low` itself is too low.
    fix : str, optional
        A further sentence.

    Raises
    ------
    ValueError
        With the value and the range.
    """

    def holds(number: Any) -> bool:
        is_number = isinstance(number, Real) and not isinstance(number, bool | np.bool_)
        return is_number and bool(low < number < np.inf if open else low <= number < np.inf)

    sign = ">" if open else ">="
    check_parameter(name, value, f"a finite number {sign} {low:g}", holds=holds, fix=fix)
