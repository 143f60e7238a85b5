"""What ``list`` prints."""

from collections.abc import Mapping

from experiments import methods, models
from experiments.bench.cases import CASES
from experiments.data import KEYS
from experiments.options import SCENARIOS
from experiments.sources import SOURCES
from experiments.table import reading
from experiments.table.show import cells
from experiments.values import word


def listing() -> str:
    """Everything that has a name, a line each."""
    benchmarks = {name: source.summary for name, source in SOURCES.items()}
    benchmarks["NAME"] = f"your own arrays ({', '.join(KEYS)}) in DATA_ROOT/NAME.npz"
    return "\n\n".join(
        [
            _section("Benchmarks", benchmarks),
            _section("Scenarios (--scenario)", SCENARIOS),
            _section("Methods (--set name=value)", _methods()),
            _section("Published tables (table NAME)", _tables()),
            _section("Bench cases", {n: case.summary for n, case in CASES.items()}),
            _section("Models (--model)", {n: models.summary(n) for n in models.MODELS}),
        ]
    )


def _methods() -> dict[str, str]:
    lines = {}
    for name in methods.METHODS:
        own = ", ".join(
            f"{option}={word(parameter.default)}"
            for option, parameter in methods.parameters(name).items()
        )
        lines[name] = methods.summary(name) + (f" [{own}]" if own else "")
    return lines


def _tables() -> dict[str, str]:
    return {
        table.name: f"{table.title} ({cells(table)})"
        for table in map(reading.read, reading.names())
    }


def _section(title: str, lines: Mapping[str, str]) -> str:
    width = max(map(len, lines))
    return "\n".join(
        [title, *(f"  {name:<{width}}  {text}" for name, text in lines.items())]
    )
