"""What comes from the user, checked once: inputs, targets, parameters."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np


def check_parameter(
    name: str, value: Any, expected: str, *, holds: Callable[[Any], bool], fix: str = ""
) -> None:
    """Refuse a parameter that does not hold.

    Parameters
    ----------
    name : str
    value : object
    expected : str
        What the error says was expected.
    holds : callable
        The condition.
    fix : str, optional
        A further sentence.

    Raises
    ------
    ValueError
        If the condition is false.
    """
    if not holds(value):
        raise ValueError(f"Got {name}={value!r}, but expected {expected}. {fix}".rstrip())


def check_contamination(contamination: Any) -> None:
    """Refuse a contamination outside (0, 0.5].

    Parameters
    ----------
    contamination : float

    Raises
    ------
    ValueError
        With the value and the range.
    """
    check_parameter(
        "contamination",
        contamination,
        "a float in (0, 0.5]",
        holds=lambda value: is_number(value, Real) and 0 < value <= 0.5,
        fix="It is the share of training rows that labels_ marks as detrimental.",
    )


def check_positive_integer(name: str, value: Any) -> None:
    """Refuse what is not an integer of at least one.

    Parameters
    ----------
    name : str
    value : int

    Raises
    ------
    ValueError
        With the name and the value.
    """
    check_parameter(
        name, value, "an integer >= 1", holds=lambda v: is_number(v, Integral) and v >= 1
    )


def check_non_negative_integer(name: str, value: Any) -> None:
    """Refuse what is not an integer of at least zero.

    Parameters
    ----------
    name : str
    value : int

    Raises
    ------
    ValueError
        With the name and the value.
    """
    check_parameter(
        name, value, "an integer >= 0", holds=lambda v: is_number(v, Integral) and v >= 0
    )


def check_positive_number(name: str, value: Any) -> None:
    """Refuse what is not a finite number above zero.

    Parameters
    ----------
    name : str
    value : float

    Raises
    ------
    ValueError
        With the name and the value.
    """
    check_parameter(name, value, "a finite number > 0", holds=is_positive_number)


def is_positive_number(value: Any) -> bool:
    """Tell whether something is a finite number above zero."""
    return is_number(value, Real) and 0 < value < float("inf")


def is_number(value: Any, kind: type) -> bool:
    """Tell whether something is a number of a kind, which no bool is."""
    return isinstance(value, kind) and not isinstance(value, bool | np.bool_)


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
