"""What public functions are given: refused where they are called, in one form of words."""

import math
from numbers import Integral, Real
from typing import Any


def whole_number(name: str, value: Any, of: str, *, least: int) -> int:
    """The value as an ``int``; numpy's integers are whole numbers too.

    >>> whole_number("n", 3, "rows", least=1)
    3

    :param name: of the argument.
    :param value: what was given.
    :param of: what it counts.
    :param least: the smallest number allowed.
    :raises ValueError: for anything else, a ``bool`` among it.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(
            f"{name} must be a whole number of {of}, at least {least}, got {value!r}"
        )
    return int(value)


def is_number(value: Any) -> bool:
    """Whether the value is a real number, and no ``bool``."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_positive(name: str, value: Any) -> None:
    """Refuse what is no finite number above 0.

    :param name: of the argument.
    :param value: what was given.
    :raises ValueError: naming both.
    """
    if not is_number(value) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a finite number above 0, got {value!r}")


def check_flag(name: str, value: Any) -> None:
    """Refuse what is neither ``True`` nor ``False``.

    :param name: of the argument.
    :param value: what was given.
    :raises ValueError: naming both.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")


def check_choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Refuse what is none of some words.

    :param name: of the argument.
    :param value: what was given.
    :param allowed: the words.
    :raises ValueError: naming all.
    """
    if value not in allowed:
        raise ValueError(f"unknown {name} {value!r}: choose one of {allowed}")
