"""Tables for README.md, of the cells that have been measured."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence

from experiments.summary import mean_with_sd
from experiments.table.protocol import METRICS, Protocol
from experiments.table.show import (
    RECALLED,
    conclusion,
    figure,
    is_recalled,
    remarks,
)
from experiments.table.verdict import Comparison

WIDTH = 88


def block(table: Protocol, compared: Mapping[str, Sequence[Comparison]]) -> str:
    """A table's heading, setting, source and rows; empty where nothing was measured.

    :param compared: by name of the cell.
    """
    shown = {
        name: {one.metric: one for one in some if one.first.values}
        for name, some in compared.items()
    }
    shown = {name: some for name, some in shown.items() if some}
    if not shown:
        return ""
    metrics = [m for m in METRICS if any(m in some for some in shown.values())]
    every = [one for some in shown.values() for one in some.values()]
    same = len({one.first.seeds for one in every}) == 1
    header = ["cell"]
    for metric in metrics:
        header += [METRICS[metric], "published", "verdict"]
    lines = [header, ["---"] * len(header)]
    for name, some in shown.items():
        row = [table.cells[name].label]
        for metric in metrics:
            row += _cells(some[metric], same) if metric in some else ["", "", ""]
        lines.append(row)
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    sources = dict.fromkeys(one.published.source for one in every)
    seeds = every[0].first.seeds
    which = f"seeds {seeds[0]}–{seeds[-1]}" if same else f"seeds from {seeds[0]} on"
    spread = f"mean ± sd of {which}, in %"
    if same and len(seeds) == 1:
        spread = f"seed {seeds[0]} alone, in %, from which nothing can be concluded"
    told = [table.setting, spread, *_sources(sources)]
    if any(is_recalled(one.published) for one in every):
        told.append(RECALLED)
    told += conclusion(table, compared)
    told += remarks(
        (table.cells[name].label, table.cells[name].note)
        for name in shown
        if not table.cells[name].counted
    )
    intro = textwrap.fill(
        " ".join(f"{_capital(sentence).rstrip('.')}." for sentence in told),
        WIDTH,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return f"### {table.title}\n\n{intro}\n\n{rows}"


def _sources(sources: Iterable[str]) -> list[str]:
    return [f"published: {source}" for source in sources]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _cells(one: Comparison, same: bool) -> list[str]:
    own = mean_with_sd(one.first.values)
    if not same:
        own += f" (n = {len(one.first.values)})"
    verdict: str = one.verdict
    if one.missed_first and one.again.values:
        own += f", again {mean_with_sd(one.again.values)}"
        verdict = f"missed, again {verdict}" if one.again.complete else "missed"
    return [own, figure(one.published), verdict]
