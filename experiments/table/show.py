"""A table as text: published beside measured, and what came of it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.spread import mean_and_sd
from experiments.summary import aligned, mean_with_sd
from experiments.table.protocol import METRICS, Cell, Protocol, Published
from experiments.table.verdict import ENOUGH, JUDGED, PASSED, Comparison, Round

LEFT = (0, 1, 5)
HEADER = ["cell", "quantity", "published", "measured", "difference", "verdict"]
PLAIN = "naive"
RECALLED = "in brackets: recalled, not checked against the source"


def text(
    table: Protocol,
    compared: Mapping[str, Sequence[Comparison]],
    failures: Mapping[str, str],
) -> str:
    """The table that a command prints.

    :param compared: by name of the cell.
    :param failures: what went wrong in a cell, if it did.
    """
    rows = [HEADER]
    for name, comparisons in compared.items():
        for i, one in enumerate(comparisons):
            verdict = _verdict(table.cells[name], one, name in failures)
            rows += _lines(name if i == 0 else "", one, verdict)
    shown = [table.cells[name] for name in compared]
    parts = [
        f"{table.title}: {table.setting}",
        *(f"published: {source}" for source in table.sources),
        "",
        aligned(rows, LEFT),
        "",
    ]
    if any(is_recalled(p) for cell in shown for p in cell.published.values()):
        parts.append(RECALLED)
    parts += [table.note] if table.note else []
    parts += remarks(
        (cell.name, cell.note)
        for cell in shown
        if cell.note and any(one.first.values for one in compared[cell.name])
    )
    parts += [f"{name} failed: {error}" for name, error in failures.items()]
    parts += conclusion(table, compared)
    return "\n".join(parts)


def remarks(notes: Iterable[tuple[str, str]]) -> list[str]:
    """Each note once, after the names of all that it is of.

    :param notes: pairs of a name and its note.
    """
    names: dict[str, list[str]] = {}
    for name, note in notes:
        names.setdefault(note, []).append(name)
    return [f"{'; '.join(some)}: {note}" for note, some in names.items()]


def conclusion(
    table: Protocol, compared: Mapping[str, Sequence[Comparison]]
) -> list[str]:
    """What came of the figures of a table, in sentences.

    A share is told of figures whose mean is checked alone: against a recalled one
    nothing can be missed.

    :param compared: by name of the cell; those that are no row of the table are left
        out.
    """
    counted = {n: some for n, some in compared.items() if table.cells[n].counted}
    figures = [one for some in counted.values() for one in some]
    found = Counter(one.verdict for one in figures)
    incomplete = f", {found['incomplete']} incomplete" * bool(found["incomplete"])
    told = [
        f"{_numbered(len(figures), 'figure')}: {found['reproduced']} reproduced, "
        f"{found['above']} above, {found['missed']} missed, {found['inconclusive']} "
        f"inconclusive{incomplete}, {found['not run']} not run"
    ]
    judged = [one for one in figures if one.verdict in JUDGED]
    checked = [one for one in judged if one.published.certainty != "recalled"]
    if checked:
        passed = sum(one.verdict in PASSED for one in checked)
        told.append(
            f"reproduced or above: {passed} of {len(checked)} judged against a checked "
            f"mean ({passed / len(checked):.1%}; a table is reproduced from "
            f"{ENOUGH:.0%} on)"
        )
    if hits := len(judged) - len(checked):
        told.append(
            f"{hits} reproduced or above against a recalled mean, where nothing can be "
            "missed: no share is told of them"
        )
    plain = [
        table.cells[name].label
        for name, some in counted.items()
        if table.cells[name].method == PLAIN
        and any(one.verdict == "above" for one in some)
    ]
    if plain:
        told.append(
            f"plain training is above what is published of it ({'; '.join(plain)}): "
            "the protocols may differ there, and with them what methods gain"
        )
    return told


def _numbered(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def tables_list(tables: Iterable[Protocol]) -> str:
    """The tables that there are, a line each."""
    rows = [[table.name, cells(table), table.title] for table in tables]
    return aligned(rows, left=(0, 2))


def cells(table: Protocol) -> str:
    """How many cells a table has."""
    return _numbered(len(table.cells), "cell")


def run_line(cell: Cell, result: Mapping[str, Any], seconds: float) -> str:
    """What is told of a run that has ended."""
    figures = [
        f"{METRICS[metric]} {mean_with_sd([100 * result[metric]])} %"
        for metric in cell.published
        if result[metric] is not None
    ]
    return f"{', '.join(figures)} ({seconds:.1f} s)"


def is_recalled(published: Published) -> bool:
    """Whether some of a figure is not checked against its source."""
    spread = published.spread is not None and published.spread_certainty == "recalled"
    return published.certainty == "recalled" or spread


def figure(published: Published) -> str:
    """``mean ± sd`` as published; what is recalled in brackets."""
    mean = f"{published.mean:.2f}"
    if published.spread is None:
        return f"({mean})" if published.certainty == "recalled" else mean
    spread = f"± {published.spread:.2f}{' sem' * published.is_sem}"
    if published.certainty == "recalled":
        return f"({mean} {spread})"
    recalled = published.spread_certainty == "recalled"
    return f"{mean} ({spread})" if recalled else f"{mean} {spread}"


def _verdict(cell: Cell, one: Comparison, failed: bool) -> str:
    if not cell.implemented:
        return "not yet in this pack"
    if failed and not one.first.complete:
        return "failed"
    if one.verdict == "incomplete":
        return f"incomplete: {len(one.first.values)} of {len(one.first.seeds)} seeds"
    return one.verdict


def _lines(name: str, one: Comparison, verdict: str) -> list[list[str]]:
    """A line, and one for the second round where the first missed."""
    quantity = METRICS[one.metric]
    twice = one.missed_first and bool(one.again.values)
    line = [
        name,
        quantity,
        figure(one.published),
        *_own(one, one.first),
        "missed" if twice else verdict,
    ]
    if not twice:
        return [line]
    told = verdict if one.again.complete else "incomplete"
    return [line, ["", "  again", "", *_own(one, one.again), told]]


def _own(one: Comparison, values: Round) -> list[str]:
    own = values.values
    if not own:
        return ["–", "–"]
    difference = mean_and_sd(own)[0] - one.published.mean
    return [f"{mean_with_sd(own)} ({len(own)})", f"{difference:+.2f}"]
