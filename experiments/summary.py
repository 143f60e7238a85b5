"""The summary of a run as text: a row a seed, then mean ± standard deviation."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from experiments.spread import mean_and_sd

PERCENT = {
    "average_accuracy": "accuracy %",
    "average_accuracy_task_known": "task known %",
    "average_forgetting": "forgetting %",
    "backward_transfer": "backward %",
}
COLUMNS = {**PERCENT, "train_seconds": "train s", "eval_seconds": "eval s"}


def summary_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Final figures of some seeds, aligned.

    :param results: contents of ``result.json`` files.
    """
    rows = [["seed", *COLUMNS.values()]]
    for result in results:
        figures = [_figure([result[name]], name) for name in COLUMNS]
        rows.append([str(result["seed"]), *figures])
    if len(results) > 1:
        means = [_figure([r[name] for r in results], name) for name in COLUMNS]
        rows.append(["mean", *means])
    return aligned(rows)


def seed_line(result: Mapping[str, Any]) -> str:
    """That a seed has ended, and how."""
    seconds = result["train_seconds"] + result["eval_seconds"]
    accuracy = 100 * result["average_accuracy"]
    return f"seed {result['seed']}: accuracy {accuracy:.2f} %, {seconds:.1f} s"


def aligned(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """Rows of cells as lines, the columns below each other.

    :param left: columns that begin at the left instead of ending at the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def mean_with_sd(values: Sequence[float]) -> str:
    """``mean ± sd``; no ± of one value, "–" of none."""
    if not values:
        return "–"
    mean, spread = mean_and_sd(values)
    return f"{mean:.2f}" if math.isnan(spread) else f"{mean:.2f} ± {spread:.2f}"


def _figure(values: Sequence[float | None], name: str) -> str:
    scale = 100 if name in PERCENT else 1
    return mean_with_sd([scale * value for value in values if value is not None])
