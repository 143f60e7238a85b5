"""The figures in README.md, made from the files in experiments/results/.

``python -m experiments.readme`` writes them between their marks; a test compares.
"""

import json
from pathlib import Path
from typing import Any

from experiments.bench.cases import CASES
from experiments.table import cells, markdown, reading

HERE = Path(__file__).parent
RESULTS = HERE / "results"
README = HERE.parent / "README.md"
NONE = "–"
RATIOS = ("ours / bare", "upstream / ours", "upstream, images / ours")


def results_blocks() -> str:
    """The published tables, as far as they have been measured."""
    blocks = [_block(name) for name in reading.names()]
    return "\n\n".join(filter(None, blocks)) or "None has been measured yet."


def _block(name: str) -> str:
    table = reading.read(name)
    where = cells.Where(out=RESULTS)
    return markdown.block(
        table,
        {
            cell.name: cells.comparisons(
                cell, cells.stored(table, cell, where), range(cell.seeds)
            )
            for cell in table.cells.values()
        },
    )


def bench_rows() -> str:
    """Each row of the bench: medians of the ratios, with quartiles.

    A case is of the file ``bench*.json`` that measured it last.
    """
    benches = [json.loads(path.read_text()) for path in RESULTS.glob("bench*.json")]
    newest: dict[str, Any] = {}
    for bench in sorted(benches, key=lambda bench: str(bench["created"])):
        newest |= bench["cases"]
    lines = [f"| work | {' | '.join(RATIOS)} |", "|---" * (1 + len(RATIOS)) + "|"]
    for name in filter(newest.__contains__, CASES):
        for label, row in newest[name]["rows"].items():
            cells = [_spread(row["ratios"].get(one)) for one in RATIOS]
            if set(cells) != {NONE}:
                lines.append(f"| {name}, {label} | {' | '.join(cells)} |")
    return "\n".join([*lines, *_other_rows(newest)])


def _other_rows(newest: dict[str, Any]) -> list[str]:
    """Ratios of ours to what is neither a bare loop nor upstream's."""
    lines = [
        f"| {name}, {label} | {against.removeprefix('ours / ')} | {_spread(ratio)} |"
        for name in filter(newest.__contains__, CASES)
        for label, row in newest[name]["rows"].items()
        for against, ratio in row["ratios"].items()
        if against not in RATIOS and against.startswith("ours / ")
    ]
    head = ["", "| work | compared with | ours / it |", "|---|---|---|"]
    return [*head, *lines] if lines else []


def _spread(ratio: dict[str, float] | None) -> str:
    if ratio is None:
        return NONE
    return f"{ratio['median']:.2f} ({ratio['low']:.2f}–{ratio['high']:.2f})"


def filled(text: str) -> str:
    """``text`` with every marked part made anew."""
    for mark, content in (("results", results_blocks()), ("bench", bench_rows())):
        before, begin, rest = text.partition(f"<!-- {mark} -->\n")
        _, end, after = rest.partition(f"<!-- end of {mark} -->")
        if not begin or not end:
            raise ValueError(f"README.md has no part between marks {mark!r}")
        text = f"{before}{begin}{content}\n{end}{after}"
    return text


if __name__ == "__main__":
    README.write_text(filled(README.read_text()))
