"""Several runs beside each other: which belong together, and what tells them apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.finished_run import FinishedRun
from experiments.values import word

Runs = Sequence[FinishedRun]


@dataclass(frozen=True)
class Group:
    """Runs that are compared.

    :param title: benchmark and scenario, where all have the same; else empty.
    :param labels: of each run, the shortest that tells it from the others.
    :param columns: by name, what else of the runs is not the same: a text for each.
    """

    title: str
    runs: list[FinishedRun]
    labels: list[str]
    columns: dict[str, list[str]]


def groups(runs: Runs) -> list[Group]:
    """Runs of the same benchmark and scenario together, in the order in which they come.

    All in one group where each would be alone.
    """
    found: dict[str, list[FinishedRun]] = {}
    for run in runs:
        found.setdefault(", ".join(run.title[1:]), []).append(run)
    if len(found) == len(runs):
        found = {next(iter(found)) if len(found) == 1 else "": list(runs)}
    made = []
    for title, some in found.items():
        names = labels(some)
        made.append(Group(title, some, names, _columns(title, some, names)))
    return made


def labels(runs: Runs) -> list[str]:
    """The method; where several runs have the same, what of them differs, too.

    First benchmark and scenario, then all options, as in ``er-ring, mem_size 500``;
    runs that differ in none of them have their place.
    """
    methods, benchmarks, scenarios = zip(*(run.title for run in runs), strict=True)
    names = _told_apart(_told_apart(methods, benchmarks), scenarios)
    own = [
        _options(run, [r for r, n in zip(runs, names, strict=True) if n == name])
        for run, name in zip(runs, names, strict=True)
    ]
    names = _told_apart(names, own)
    names = _told_apart(names, [run.directory.resolve().name for run in runs])
    return _told_apart(names, [str(run.directory) for run in runs])


def _told_apart(names: Sequence[str], values: Sequence[str]) -> list[str]:
    """Names that are the same and have several values go on with theirs."""
    found: dict[str, set[str]] = {}
    for name, value in zip(names, values, strict=True):
        found.setdefault(name, set()).add(value)
    return [
        f"{name}, {value}" if value and len(found[name]) > 1 else name
        for name, value in zip(names, values, strict=True)
    ]


def _options(run: FinishedRun, among: Runs) -> str:
    names = [name for name in _differing(among) if name in run.options]
    return ", ".join(_option(name, run.options[name]) for name in names)


def _differing(runs: Runs) -> list[str]:
    """Options that are not the same in all runs that have them."""
    names = dict.fromkeys(name for run in runs for name in run.options)
    return [
        name
        for name in names
        if len({word(r.options[name]) for r in runs if name in r.options}) > 1
    ]


def _columns(title: str, runs: Runs, names: Sequence[str]) -> dict[str, list[str]]:
    """Columns of a table, without those that title and labels make up for."""
    _, benchmarks, scenarios = zip(*(run.title for run in runs), strict=True)
    found = {}
    for kind, values in (("benchmark", benchmarks), ("scenario", scenarios)):
        said = title or all(v in n for v, n in zip(values, names, strict=True))
        if not said and (kind == "scenario" or len(set(values)) > 1):
            found[kind] = list(values)
    for option in _differing(runs):
        own = [r.options.get(option) if option in r.options else "–" for r in runs]
        said = all(
            option not in run.options or _option(option, value) in name
            for run, value, name in zip(runs, own, names, strict=True)
        )
        if not said:
            found[option] = [word(value) for value in own]
    return found


def _option(name: str, value: Any) -> str:
    return f"{name} {word(value)}"
