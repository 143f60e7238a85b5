"""A study as tables in Markdown."""

from statistics import fmean, median
from typing import Any

from experiments.spread import mean_and_sd
from experiments.study.comparison import holm, paired
from experiments.study.plan import Plan

FIGURES = {"accuracy": "accuracy", "memory_accuracy": "from the memory alone"}


def text(plan: Plan, results: Any, arms: list[str], streams: list[str]) -> str:
    """The study as tables in Markdown: one row an arm, in %, with the median time that
    training took."""
    lines = []
    for figure, told in FIGURES.items():
        for stream in streams:
            found = {
                arm: _figure(results.get(stream, {}).get(arm, {}), figure)
                for arm in arms
            }
            found = {arm: values for arm, values in found.items() if values}
            lost = _diverged(plan, results.get(stream, {}), arms)
            rows = []
            if found:
                seconds = {arm: _seconds(results[stream][arm]) for arm in found}
                rows = _rows(plan, found, seconds)
            if figure == "accuracy":
                rows += lost
            if rows:
                label = plan.streams[stream].get("label", stream)
                lines += [f"{label}, {told} (%)", "", *rows, ""]
    if plan.by_experience:
        for stream in streams:
            if rows := _by_experience(plan, results.get(stream, {}), arms):
                label = plan.streams[stream].get("label", stream)
                lines += [f"{label}, forgetting of each experience (%)", "", *rows, ""]
    return "\n".join(lines).rstrip()


def _seconds(by_seed: dict[str, Any]) -> float:
    return float(median(v["train_seconds"] for v in by_seed.values() if not _lost(v)))


def _lost(value: dict[str, Any]) -> bool:
    """Whether the training of a seed diverged, so that it has no figures."""
    return "diverged" in value


def _diverged(plan: Plan, by_arm: Any, arms: list[str]) -> list[str]:
    """A line for each arm of which seeds diverged; the mean above is of the others."""
    lines = []
    for arm in arms:
        seeds = by_arm.get(arm, {}).values()
        if lost := sum(map(_lost, seeds)):
            label = plan.arms[arm].get("label", arm)
            lines.append(f"| {label} | *{lost} of {len(seeds)} diverged* |")
    return lines


def _by_experience(plan: Plan, by_arm: Any, arms: list[str]) -> list[str]:
    """What is forgotten of each experience but the last, in the mean of the seeds."""
    rows = []
    for arm in arms:
        seeds = [
            one["forgetting_of"][:-1]
            for one in by_arm.get(arm, {}).values()
            if "forgetting_of" in one
        ]
        if seeds:
            means = [f"{100 * fmean(each):.2f}" for each in zip(*seeds, strict=True)]
            rows.append([plan.arms[arm].get("label", arm), *means])
    if not rows:
        return []
    head = ["arm", *map(str, range(1, len(rows[0])))]
    rows = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(row) + " |" for row in rows]


def _figure(by_seed: dict[str, dict[str, float]], figure: str) -> dict[str, float]:
    return {s: 100 * v[figure] for s, v in by_seed.items() if figure in v}


def _rows(
    plan: Plan, found: dict[str, dict[str, float]], seconds: dict[str, float]
) -> list[str]:
    references = [name for name in plan.references if name in found]
    heads = ["arm", "mean ± sd", *(f"less {r} (p)" for r in references), "s"]
    rows = [heads, ["---"] * len(heads)]
    corrected = {
        reference: holm(
            {
                arm: paired(values, found[reference]).p
                for arm, values in found.items()
                if arm not in references
            }
        )
        for reference in references
    }
    for arm, values in found.items():
        mean, sd = mean_and_sd(list(values.values()))
        row = [plan.arms[arm].get("label", arm), f"{mean:.2f} ± {sd:.2f}"]
        for reference in references:
            apart = paired(values, found[reference])
            p = corrected[reference].get(arm)
            told = "" if p is None else f" ({p:.2g})"
            own = arm == reference
            row.append("–" if own else f"{apart.mean:+.2f} ± {apart.error:.2f}{told}")
        rows.append([*row, f"{seconds[arm]:.1f}"])
    return ["| " + " | ".join(row) + " |" for row in rows]
