"""Protocol files, read and checked.

A file is one JSON object, ``protocols/NAME.json``; a key that is not known is refused::

    {"title": "…", "setting": "…", "note": "…",        note: where there is something
     "seeds": 5,                                        ours, declared beforehand: 0 … 4
     "published": {"source": "…", "certainty": "repo", "spread_certainty": "recalled",
                   "seeds": 10},                        for values that say nothing else
     "options": {"benchmark": "split-mnist", …},        options of ``run``
     "cells": {"er-500": {
         "label": "ER, memory 500",
         "method": "reservoir-replay",                  null: there is none here
         "options": {"lr": 0.1},                        beside those of the table
         "set": {"mem_size": 500},                      the method's own
         "published_strength": {"lambda": 90},          where set holds it converted
         "published": {"average_accuracy": {"mean": 86.12, "sd": 1.89}},
         "note": "…", "seeds": 3,
         "counted": false}}}                            no row of the published table

Figures are in %. A value has ``sd`` or ``sem``, null where none is known. ``certainty``
is that of the mean, ``spread_certainty`` that of the ±: by default the same. A backward
transfer with ``"of_tasks": 20`` is published as a mean over all 20 tasks, the last and
its 0 included: read is 20/19 of it, the mean over the others, as our own is.
"""

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from experiments.errors import UserError, unknown
from experiments.methods import METHODS
from experiments.sources import SOURCES
from experiments.table.protocol import (
    CERTAINTIES,
    METRICS,
    TO_COME,
    Cell,
    Protocol,
    Published,
)
from experiments.table.settings import check_run, check_value

FOLDER = Path(__file__).parent.parent / "protocols"
_FOR_ALL = ("source", "certainty", "spread_certainty", "seeds")
_PLAIN = re.compile("[A-Za-z0-9]+(-[A-Za-z0-9]+)*")


def names() -> list[str]:
    """The tables that there are."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read(name: str) -> Protocol:
    """The protocol of a table.

    :raises UserError: for a table that does not exist, and for a file that does not
        have the form above: in one line with the file, the key and what is allowed.
    """
    if name not in names():
        raise unknown("table", name, names())
    path = FOLDER / f"{name}.json"
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text, object_pairs_hook=_once)
        return _protocol(name, found)
    except (OSError, ValueError, UserError) as error:
        raise UserError(f"{path.name}: {error}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise UserError(f"{key!r} stands twice in one object: give it once")
    return dict(pairs)


def _protocol(name: str, found: Any) -> Protocol:
    required = ("title", "setting", "seeds", "published", "options", "cells")
    _keys("the file", found, required, ("note",))
    _keys("published", found["published"], (), _FOR_ALL)
    _keys("options", found["options"], ("benchmark",), None)
    _keys("cells", found["cells"], (), None)
    if not found["cells"]:
        raise _wrong("cells", "there is none: name at least one")
    _check_values("options", found["options"])
    for one in found["cells"]:
        if not _PLAIN.fullmatch(one):
            raise _wrong("cells", f"{one!r} names a folder: use letters, digits and -")
    _count("seeds", found["seeds"])
    return Protocol(
        name,
        _text("title", found["title"]),
        _text("setting", found["setting"]),
        _optional_text("note", found),
        {
            one: _cell(one, f"cells.{one}", cell, found)
            for one, cell in found["cells"].items()
        },
    )


def _cell(name: str, at: str, found: Any, table: Mapping[str, Any]) -> Cell:
    groups = ("options", "set", "published_strength")
    more = (*groups, "note", "seeds", "counted")
    _keys(at, found, ("label", "method", "published"), more)
    own, settings, strength = (found.get(group, {}) for group in groups)
    for group in groups:
        _keys(f"{at}.{group}", found.get(group, {}), (), None)
    _check_values(f"{at}.options", own)
    options = {**table["options"], **own}
    if options["benchmark"] not in SOURCES:
        told = unknown("benchmark", options["benchmark"], SOURCES)
        raise _wrong(f"{at}.options.benchmark", str(told))
    method = found["method"]
    if method is not None:
        _text(f"{at}.method", method)
    if method in METHODS:
        try:
            check_run(method, options, settings)
        except UserError as error:
            raise _wrong(at, str(error)) from error
    elif method is not None and method not in TO_COME:
        told = unknown("method", method, [*METHODS, *TO_COME])
        raise _wrong(f"{at}.method", str(told))
    if strength and not settings:
        raise _wrong(
            f"{at}.published_strength",
            'says what "set" was converted from, and there is no "set": add it',
        )
    _keys(f"{at}.published", found["published"], (), METRICS)
    if not found["published"]:
        raise _wrong(f"{at}.published", f"is empty: give {' or '.join(METRICS)}")
    counted = found.get("counted", True)
    if not isinstance(counted, bool):
        raise _wrong(f"{at}.counted", f"{json.dumps(counted)}: use true or false")
    return Cell(
        name,
        _text(f"{at}.label", found["label"]),
        method,
        options,
        settings,
        _count(f"{at}.seeds", found.get("seeds", table["seeds"])),
        {
            metric: _published(
                f"{at}.published.{metric}", metric, value, table["published"]
            )
            for metric, value in found["published"].items()
        },
        strength,
        _optional_text(f"{at}.note", found),
        counted,
    )


def _published(
    at: str, metric: str, found: Any, for_all: Mapping[str, Any]
) -> Published:
    more = ("of_tasks",) if metric == "backward_transfer" else ()
    _keys(at, found, ("mean",), ("sd", "sem", *more, *_FOR_ALL))
    if ("sd" in found) == ("sem" in found):
        raise _wrong(at, 'give one of "sd" and "sem", null where none is known')
    is_sem = "sem" in found
    kind = "sem" if is_sem else "sd"
    spread = found[kind]
    if spread is not None:
        spread = _number(f"{at}.{kind}", spread)
        if spread < 0:
            raise _wrong(at, f"its ± is {spread}: use 0 or more, or null")
    mean = _number(f"{at}.mean", found["mean"])
    if metric != "backward_transfer" and mean <= 1:
        raise _wrong(f"{at}.mean", f"{mean} is no accuracy in %: use one above 1")
    said = {**for_all, **found}
    for key in ("source", "certainty"):
        if key not in said:
            raise _wrong(
                at, f'no "{key}": add it here, or to "published" for all values'
            )
    # What a value says of its mean is not meant for the ± of all values.
    nearest = found if "certainty" in found else said
    certainties = said["certainty"], nearest.get("spread_certainty", said["certainty"])
    for certainty in certainties:
        _text(f"{at}.certainty", certainty)
        if certainty not in CERTAINTIES:
            raise _wrong(at, str(unknown("certainty", certainty, CERTAINTIES)))
    seeds = said.get("seeds")
    if seeds is not None:
        _count(f"{at}.seeds", seeds)
    elif spread is not None and not is_sem:
        raise _wrong(
            at,
            'an "sd" without "seeds" gives no standard error: add "seeds" here, or to '
            '"published" for all values',
        )
    source = _text(f"{at}.source", said["source"])
    factor = _without_the_last(f"{at}.of_tasks", found.get("of_tasks"))
    return Published(
        factor * mean,
        None if spread is None else factor * spread,
        is_sem,
        seeds,
        source,
        *certainties,
    )


def _without_the_last(at: str, tasks: Any) -> float:
    """What makes a mean over tasks, of which the last gives 0, one over the others."""
    if tasks is None:
        return 1
    if _count(at, tasks) < 2:
        raise _wrong(at, f"{tasks}: use 2 or more")
    return float(tasks / (tasks - 1))


def _check_values(at: str, options: Mapping[str, Any]) -> None:
    for option, value in options.items():
        try:
            check_value(option, value)
        except UserError as error:
            raise _wrong(f"{at}.{option}", str(error)) from error


def _keys(
    at: str, found: Any, required: Collection[str], optional: Collection[str] | None
) -> None:
    """Refuse what is no object, lacks a key, or has one that nobody reads.

    :param optional: None for any.
    """
    if not isinstance(found, Mapping):
        raise _wrong(at, f"{json.dumps(found)} is no object: use {{…}}")
    for key in required:
        if key not in found:
            raise _wrong(at, f'no "{key}": add it')
    for key in found:
        if optional is not None and key not in required and key not in optional:
            raise _wrong(at, str(unknown("key", key, [*required, *optional])))


def _text(at: str, found: Any) -> str:
    if not isinstance(found, str) or not found.strip():
        raise _wrong(at, f"{json.dumps(found)} is no text: write one")
    return found


def _optional_text(at: str, found: Mapping[str, Any]) -> str:
    return _text(at, found["note"]) if "note" in found else ""


def _number(at: str, found: Any) -> float:
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise _wrong(at, f"{json.dumps(found)} is no number: use one, in %")
    if not -100 <= found <= 100:  # nor is NaN
        raise _wrong(at, f"{found}: use a number in %, from -100 to 100")
    return float(found)


def _count(at: str, found: Any) -> int:
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise _wrong(at, f"{json.dumps(found)}: use a whole number, 1 or more")
    return found


def _wrong(at: str, text: str) -> UserError:
    return UserError(f"{at}: {text}")
