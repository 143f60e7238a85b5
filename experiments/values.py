"""Values of options that are typed as ``name=value``: read by their type, and written."""

import math
from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from experiments.errors import UserError

Pair = tuple[float, float]
"""Two numbers, typed C,R."""

Count = Annotated[int, "from 1 on"]
"""What there has to be one of."""


def read(setting: str, text: str, annotation: Any) -> Any:
    """``text`` as a value of the annotated type; a pair is a list, as JSON has it.

    :param setting: what was typed, for the message.
    :raises UserError: where it is none.
    """
    kinds = _kinds(annotation)
    if NoneType in kinds and text.lower() == "none":
        return None
    for kind in map(_bare, kinds):
        if kind is bool and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if kind in (int, float, str):
            try:
                return _in_range(setting, kind(text))
            except ValueError:
                continue
        if kind == Pair and text.count(",") == 1:
            return [read(setting, part, float) for part in text.split(",")]
        if text in get_args(kind):
            return text
    raise UserError(f"--set {setting}: {text!r} is not {described(annotation)}")


def described(annotation: Any) -> str:
    """What a text has to be, in words."""
    if len(kinds := _kinds(annotation)) > 1:
        return " or ".join(map(described, kinds))
    if annotation is NoneType:
        return "none"
    if get_origin(annotation) is Annotated:
        return f"{described(_bare(annotation))} {get_args(annotation)[1]}"
    if annotation == Pair:
        return "two numbers C,R"
    choices = get_args(annotation)
    return " or ".join(map(str, choices)) if choices else annotation.__name__


def word(value: Any) -> str:
    """A value as one word, as ``--set`` takes it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(word, value)) or "none"
    return str(value)


def _bare(kind: Any) -> Any:
    """Without what is told of it."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _kinds(annotation: Any) -> tuple[Any, ...]:
    """The types of a union, of which there are two forms until Python 3.14."""
    union = isinstance(annotation, UnionType) or get_origin(annotation) is Union
    return get_args(annotation) if union else (annotation,)


def _in_range(setting: str, value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"--set {setting}: use a finite number")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise UserError(f"--set {setting}: use a whole number below 2**63")
    return value
