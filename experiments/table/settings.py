"""The options of a cell: which a protocol may give, and the run that they make."""

import dataclasses
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from experiments.errors import UserError, unknown
from experiments.methods import method_options
from experiments.options import Run
from experiments.store import NO_MATTER
from experiments.values import word

NOT_OF_A_TABLE = NO_MATTER | {"method", "set", "device", "threads", "resident"}
"""Options of a run that a cell names otherwise, or that change no published figure."""


def run_of(
    method: str, options: Mapping[str, Any], settings: Mapping[str, Any], **more: Any
) -> Run:
    """The command line of a cell.

    :param options: of the run, as a protocol writes them.
    :param settings: the method's own options.
    :param more: options that are no part of a protocol.
    """
    plain: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in options.items()
    }
    words = setting_words(settings)
    return Run(**{**plain, **more, "method": method, "set": words})


def setting_words(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The method's own options as ``--set`` takes them."""
    return tuple(f"{name}={word(value)}" for name, value in settings.items())


def check_value(option: str, value: Any) -> None:
    """Refuse an option that a protocol cannot give, or a value of another type.

    :raises UserError: naming what is allowed.
    """
    kinds = get_type_hints(Run)
    allowed = [f.name for f in dataclasses.fields(Run) if f.name not in NOT_OF_A_TABLE]
    if option not in allowed:
        raise unknown("option", option, allowed)
    if not _fits(value, kinds[option]):
        raise UserError(f"{value!r} is not {_described(kinds[option])}")


def check_run(
    method: str, options: Mapping[str, Any], settings: Mapping[str, Any]
) -> None:
    """Refuse values that no run takes.

    :raises UserError: as the command ``run`` would.
    """
    run_of(method, options, settings).check()
    method_options(method, setting_words(settings))


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(kind, UnionType):
        return any(_fits(value, part) for part in get_args(kind))
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is tuple:
        part = get_args(kind)[0]
        return isinstance(value, list) and all(_fits(one, part) for one in value)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _described(kind: Any) -> str:
    if isinstance(kind, UnionType):
        return " or ".join(map(_described, get_args(kind)))
    if kind is NoneType:
        return "null"
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    if get_origin(kind) is tuple:
        return f"a list of {_described(get_args(kind)[0])}"
    return str(kind.__name__)
