"""The figures in README.md, made from the files in experiments/results/.

``python -m experiments.readme`` writes them between their marks; a test compares.
"""

import json
import re
from pathlib import Path
from statistics import fmean, stdev

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
RATIOS = ("ours / bare", "upstream / ours")


def results_rows(table: str) -> str:
    """The rows of a published table: measured mean ± sd beside published, in %."""
    protocol = json.loads((HERE / "protocols" / f"{table}.json").read_text())
    lines = []
    for row in protocol["rows"]:
        cells = [row["name"]]
        for scenario, field in (
            ("class", "average_accuracy"),
            ("task", "average_accuracy_task_known"),
        ):
            values = _values(HERE / "results" / table / row["results"], field)
            mean, deviation = row["published"][scenario]
            cells.append(f"{fmean(values):.2f} ± {stdev(values):.2f}")
            cells.append(f"{mean:.2f} ± {deviation:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def bench_rows() -> str:
    """Each row of the bench: medians of the ratios, with quartiles."""
    bench = json.loads((HERE / "results" / "bench.json").read_text())
    lines = ["| work | ours / bare | upstream / ours |", "|---|---|---|"]
    for name, case in bench["cases"].items():
        for label, row in case["rows"].items():
            cells = [_spread(row["ratios"].get(one)) for one in RATIOS]
            lines.append(f"| {name}, {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(ratio: dict[str, float] | None) -> str:
    if ratio is None:
        return "–"
    return f"{ratio['median']:.2f} ({ratio['low']:.2f}–{ratio['high']:.2f})"


def filled(text: str) -> str:
    """``text`` with every marked part made anew."""
    for mark, content in (
        ("results: split-mnist", results_rows("split-mnist-online")),
        ("bench", bench_rows()),
    ):
        pattern = rf"(<!-- {mark} -->\n).*?(<!-- end of {mark.split(':')[0]} -->)"
        made = rf"\g<1>{content}\n\g<2>"
        text, found = re.subn(pattern, made, text, flags=re.DOTALL)
        if found != 1:
            raise ValueError(f"README.md has {found} parts marked {mark!r}, not 1")
    return text


def _values(run: Path, field: str) -> list[float]:
    files = sorted(run.glob("seed-*/result.json"))
    if len(files) < 2:
        raise ValueError(f"{run} holds {len(files)} results: run at least two seeds")
    return [100 * json.loads(file.read_text())[field] for file in files]


if __name__ == "__main__":
    README.write_text(filled(README.read_text()))
