"""What was measured, as a table for people and as values for JSON."""

from collections.abc import Sequence
from textwrap import indent
from typing import Any

from experiments.bench.cases import Case
from experiments.bench.timing import Key, Measured, Spread, ratio
from experiments.bench.workload import Row
from experiments.summary import aligned

OURS, BARE, UPSTREAM = "ours", "bare", "upstream"
Results = dict[Key, Measured]


def case_record(case: Case, rows: Sequence[Row], results: Results) -> dict[str, Any]:
    """A case's numbers, ready for JSON; its rows by label, contenders by name."""
    record: dict[str, Any] = {"summary": case.summary, "unit": case.unit, "rows": {}}
    for row in rows:
        grown = {name: _growth(results, row, name) for name in row.contenders}
        record["rows"][row.label] = {
            "contenders": {
                name: _contender(results[row.label, name]) for name in row.contenders
            },
            "ratios": {
                f"{above} / {below}": _spread(one)
                for above, below in _pairs(rows)
                if (one := _ratio(results, row.label, above, below))
            },
            "growth": {
                f"{name} / {row.grown_from}": _spread(one)
                for name, one in grown.items()
                if one
            },
        }
    return record


def case_table(case: Case, rows: Sequence[Row], results: Results) -> str:
    """A case's numbers for people: medians, ratios with their quartiles, errors."""
    names, pairs = _names(rows), _pairs(rows)
    lines = [[case.unit, *names, *(f"{a} / {b}" for a, b in pairs)]]
    for row in rows:
        line = [row.label]
        line += [_cell(results.get((row.label, name))) for name in names]
        line += [_times(_ratio(results, row.label, a, b)) for a, b in pairs]
        lines.append(line)
    text = [f"{case.name}: {case.summary}", indent(aligned(lines), "  ")]
    for row in rows:
        grown = [
            f"{name} {_times(one)}"
            for name in row.contenders
            if row.grown_from and (one := _growth(results, row, name))
        ]
        if grown:
            text.append(f"  {row.label} / {row.grown_from}: {', '.join(grown)}")
    for (label, name), measured in results.items():
        if measured.error is not None:
            text.append(f"  {name}, {label}: {measured.error}")
    return "\n".join(text)


def _names(rows: Sequence[Row]) -> list[str]:
    """All contenders of a case, the bare loop last."""
    names = list(dict.fromkeys(name for row in rows for name in row.contenders))
    return sorted(names, key=lambda name: name == BARE)


def _pairs(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Who is compared with whom: ours with what is neither ours nor upstream's, such as
    the bare loop, and upstream's with ours."""
    names = _names(rows)
    others = [name for name in names if not name.startswith((OURS, UPSTREAM))]
    pairs = [(OURS, name) for name in others]
    return pairs + [(name, OURS) for name in names if name.startswith(UPSTREAM)]


def _ratio(results: Results, label: str, above: str, below: str) -> Spread | None:
    return ratio(results.get((label, above)), results.get((label, below)))


def _growth(results: Results, row: Row, name: str) -> Spread | None:
    if row.grown_from is None:
        return None
    return ratio(results.get((row.label, name)), results.get((row.grown_from, name)))


def _contender(measured: Measured) -> dict[str, Any]:
    if measured.spread is None:
        return {"error": measured.error}
    values = [_rounded(value) for value in measured.values]
    return {**_spread(measured.spread), "values": values}


def _spread(one: Spread) -> dict[str, float]:
    return {name: _rounded(value) for name, value in one._asdict().items()}


def _rounded(value: float) -> float:
    """Five digits: more of them is noise."""
    return float(f"{value:.5g}")


def _cell(measured: Measured | None) -> str:
    if measured is None:
        return "–"
    if measured.spread is None:
        return f"{measured.error}"[:24]
    return _number(measured.spread.median)


def _times(one: Spread | None) -> str:
    if one is None:
        return "–"
    return "{} ({}–{})".format(*map(_number, one))


def _number(value: float) -> str:
    """Three digits, and no fewer before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{1 if value >= 10 else 2}f}"
