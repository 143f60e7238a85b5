"""The figures in README.md, made from the files in experiments/results/.

``python -m experiments.readme`` writes them between their marks, and all of the studies
into ``experiments/results/studies/README.md``; a test compares.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.bench.cases import CASES
from experiments.spread import mean_and_sd
from experiments.study import plan as plans
from experiments.study.markdown import text
from experiments.table import cells, markdown, reading

HERE = Path(__file__).parent
RESULTS = HERE / "results"
README = HERE.parent / "README.md"
STUDIES = RESULTS / "studies"
_STUDIES = """# Studies

Made by `python -m experiments.readme` from the files beside this one, each of which has
its configuration, versions and command. Mean ± sd over seeds in %, the mean of the
differences to a reference on the same seeds ± its standard error, and the p-value of a
paired t-test, corrected for the number of arms (Holm); s: the median time of training,
on a machine with other work. Choices are made by the validation half, on training rows
that are held out, and confirmed on test rows with other seeds."""
SHOWN = (
    *("reservoir", "reservoir-same-time", "class-balanced"),
    *("herding-forgetting", "herding-uniform", "balanced-forgetting"),
    *("balanced-gud", "balanced-coreset", "score-gud-uniform"),
)
"""Of study replay, those that the README shows."""
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


def study_rows(name: str, arms: Sequence[str]) -> str:
    """The confirmed accuracies of a study: one row an arm, one column a stream."""
    plan, results = plans.read(name), _study(name, "confirmation")
    heads = ["memory", *(stream.get("label", s) for s, stream in plan.streams.items())]
    lines = [heads, ["---"] * len(heads)]
    for arm in arms:
        told = plan.arms[arm]
        found = [results.get(s, {}).get(arm, {}).values() for s in plan.streams]
        if all(found):
            lines.append([told.get("label", arm), *map(_mean_and_sd, found)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _mean_and_sd(seeds: Any) -> str:
    values = [100 * seed["accuracy"] for seed in seeds if "accuracy" in seed]
    mean, sd = mean_and_sd(values)
    return f"{mean:.2f} ± {sd:.2f}"


def _study(name: str, half: str) -> Any:
    path = STUDIES / f"{name}-{half}.json"
    return json.loads(path.read_text())["results"] if path.is_file() else {}


def studies_page() -> str:
    """Every study, with each half that has been measured."""
    parts = [_STUDIES]
    for name in plans.names():
        plan = plans.read(name)
        note = plan.found.get("note")
        parts.append(f"## {plan.found['title']}\n\n{plan.found['question']}.")
        parts += [f"{note[0].upper()}{note[1:]}."] if note else []
        for half in plan.found["halves"]:
            told = text(plan, _study(name, half), [*plan.arms], [*plan.streams])
            command = f"python -m experiments study {name} --half {half}"
            parts += [f"### {half.capitalize()}: `{command}`", told] if told else []
    return "\n\n".join(parts) + "\n"


def filled(text: str) -> str:
    """``text`` with every marked part made anew."""
    for mark, content in (
        ("results", results_blocks()),
        ("bench", bench_rows()),
        ("study", study_rows("replay", SHOWN)),
    ):
        before, begin, rest = text.partition(f"<!-- {mark} -->\n")
        _, end, after = rest.partition(f"<!-- end of {mark} -->")
        if not begin or not end:
            raise ValueError(f"README.md has no part between marks {mark!r}")
        text = f"{before}{begin}{content}\n{end}{after}"
    return text


if __name__ == "__main__":
    README.write_text(filled(README.read_text()))
    (STUDIES / "README.md").write_text(studies_page())
