"""Checks of parameters; an error says the value, what was expected, and the fix."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import TypeGuard, TypeVar

import numpy as np

Value = TypeVar("Value")


def check_parameter(
    name: str, value: Value, expected: str, *, holds: Callable[[Value], bool], fix: str = ""
) -> None:
    """Refuse a parameter that does not hold."""
    if not holds(value):
        raise ValueError(f"Got {name}={value!r}, but expected {expected}. {fix}".rstrip())


def check_contamination(contamination: object) -> None:
    """Refuse a contamination outside (0, 0.5]."""
    check_parameter(
        "contamination",
        contamination,
        "a float in (0, 0.5]",
        holds=lambda value: is_real(value) and 0 < value <= 0.5,
        fix="It is the share of training rows that labels_ marks as detrimental.",
    )


def check_positive_integer(name: str, value: object) -> None:
    """Refuse what is not an integer of at least one."""
    check_parameter(name, value, "an integer >= 1", holds=lambda v: is_integer(v) and v >= 1)


def check_non_negative_integer(name: str, value: object) -> None:
    """Refuse what is not an integer of at least zero."""
    check_parameter(name, value, "an integer >= 0", holds=lambda v: is_integer(v) and v >= 0)


def check_positive_number(name: str, value: object) -> None:
    """Refuse what is not a finite number above zero."""
    check_parameter(name, value, "a finite number > 0", holds=is_positive_number)


def check_number(
    name: str, value: object, *, low: float, open: bool = False, fix: str = ""
) -> None:
    """Refuse what is no finite number, or below `low`, or `low` itself where that is `open`."""
    check_parameter(
        name,
        value,
        f"a finite number {'>' if open else '>='} {low:g}",
        holds=lambda v: is_real(v) and bool(low < v < np.inf if open else low <= v < np.inf),
        fix=fix,
    )


def check_choice(name: str, value: object, choices: tuple[str | None, ...], fix: str = "") -> None:
    """Refuse what is none of the choices."""
    check_parameter(
        name,
        value,
        " or ".join(map(repr, choices)),
        holds=lambda v: (v is None or isinstance(v, str)) and v in choices,
        fix=fix,
    )


def check_verbose(verbose: object) -> None:
    """Refuse what is neither a bool nor an integer of at least zero."""
    check_parameter(
        "verbose",
        verbose,
        "0 or 1",
        holds=lambda value: isinstance(value, bool) or (is_integer(value) and value >= 0),
    )


def is_positive_number(value: object) -> bool:
    """Tell whether something is a finite number above zero."""
    return is_real(value) and 0 < value < float("inf")


def is_integer(value: object) -> TypeGuard[int]:
    """Tell whether something is an integer, which no bool is."""
    return isinstance(value, Integral) and not isinstance(value, bool | np.bool_)


def is_real(value: object) -> TypeGuard[float]:
    """Tell whether something is a real number, which no bool is."""
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)
