"""One self-contained HTML page about one or several runs.

A run directory holds ``seed-<s>/result.json`` (the measurements) and
``seed-<s>/config.json`` (what made them). Its page shows the mean over the seeds ± the
sample standard deviation (n - 1), and nothing after ± where there is one seed.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from experiments import figures
from experiments.comparison import Group, groups
from experiments.errors import UserError
from experiments.finished_run import FinishedRun, as_array, load_run
from experiments.memory_page import memory_section
from experiments.quantities import QUANTITIES
from experiments.spread import mean_and_sd
from experiments.store import NO_MATTER, write_whole


def write_report(run_directories: Sequence[Path], output: Path) -> Path:
    """Write one HTML page, without references to anything outside it.

    The page depends on the files alone: the same results make the same page.

    :param run_directories: one or several, as a run names its own at its end; several
        are compared first, those of a benchmark and scenario with each other.
    :param output: the file to write; its folder is made where it does not exist.
    :return: ``output``.
    :raises UserError: no directory given, one without results, or a file in one that
        is no JSON or of another format; the message names it.
    """
    output = Path(output)
    if output.is_dir():
        raise UserError(
            f"{output} is a directory; name a file, such as {output / 'report.html'}"
        )
    directories = {Path(path).resolve(): Path(path) for path in run_directories}
    if not directories:
        raise UserError(
            "no run directory given; name one or several, such as "
            "runs/split-digits-naive-class"
        )
    runs = [load_run(path) for path in directories.values()]
    compared = groups(runs)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html").render(
        count=len(runs),
        groups=[_group(group, number) for number, group in enumerate(compared)],
        quantities=QUANTITIES,
        line_style=figures.line_style,
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    write_whole(output, page)
    return output


def _group(group: Group, number: int) -> dict[str, Any]:
    """What the template needs to know of runs that are compared."""
    curves = [run.average_over_time() for run in group.runs]
    sections = []
    for i, (run, label) in enumerate(zip(group.runs, group.labels, strict=True)):
        beside = {name: texts[i] for name, texts in group.columns.items()}
        place = f"run-{number + 1}-{i + 1}"
        sections.append(
            {**_section(run), "label": label, "beside": beside, "id": place}
        )
    return {
        "title": group.title,
        "columns": list(group.columns),
        "runs": sections,
        "figure": Markup(figures.comparison(curves)) if len(curves) > 1 else None,
    }


def _section(run: FinishedRun) -> dict[str, Any]:
    """What the template needs to know of a run, ready to be written."""
    method, benchmark, scenario = run.title
    matrix, spread = run.statistic("accuracy_matrix")
    known, _ = run.statistic("accuracy_matrix_task_known")
    names = _experience_names(run.results[0]["classes"], matrix.shape[1])
    forgetting, forgetting_sd = run.statistic("forgetting")
    joint = matrix.shape[0] == 1 and matrix.shape[1] > 1
    shown = {
        "matrix": figures.accuracy_matrix(matrix),
        "known": (
            None
            if np.array_equal(matrix, known, equal_nan=True)
            else figures.accuracy_matrix(known)
        ),
        "course": (
            figures.bars(matrix[0], spread[0], "accuracy")
            if joint
            else figures.accuracy_over_time(matrix, spread, names)
        ),
        "forgetting": (
            None
            if np.isnan(forgetting).all()
            else figures.bars(forgetting, forgetting_sd, "forgetting")
        ),
        "memory": _memory(run),
    }
    rows = [
        (result["seed"], [q.write(float(as_array(result[q.key]))) for q in QUANTITIES])
        for result in run.results
    ]
    return {
        "method": method,
        "benchmark": benchmark,
        "scenario": scenario,
        "directory": run.directory.resolve().name,
        "seeds": run.seeds,
        "unfinished": run.unfinished,
        "joint": joint,
        "ahead": not np.isnan(matrix[np.triu_indices_from(matrix, 1)]).all(),
        "panels": matrix.shape[1] > len(figures.PALETTE),
        "values": {
            q.key: q.write(*map(float, run.statistic(q.key))) for q in QUANTITIES
        },
        "rows": rows,
        "figures": {
            key: None if svg is None else Markup(svg) for key, svg in shown.items()
        },
        "config": _config(run),
        "memory": memory_section(run),
    }


def _memory(run: FinishedRun) -> str | None:
    """The figure of the memory, or None for a method without one."""
    compositions = [result["memory_composition"] for result in run.results]
    stored = {name for seed in compositions for step in seed for name in step}
    if not stored:
        return None
    order = [str(name) for classes in run.results[0]["classes"] for name in classes]
    order += sorted(stored, key=lambda name: (len(name), name))
    classes = [name for name in dict.fromkeys(order) if name in stored]
    counts = [
        [[step.get(name, 0) for name in classes] for step in seed]
        for seed in compositions
    ]
    return figures.memory_composition(mean_and_sd(counts)[0], classes)


def _config(run: FinishedRun) -> dict[str, Any]:
    """The first seed's configuration, flat, and what another seed did otherwise."""
    if not run.configs:
        return {}
    first, *others = run.configs
    groups = ("options", "method_options", "data", "versions", "git")
    flat = {group: _flat(first.get(group) or {}) for group in groups}
    differences = [
        f"{name} = {value} with seed {other['seed']}"
        for other in others
        for group in groups
        for name, value in _flat(other.get(group) or {}).items()
        if name not in NO_MATTER and flat[group].get(name) != value
    ]
    return {
        "command": first.get("command"),
        "created": first.get("created"),
        "seed": first["seed"],
        "groups": {group.replace("_", " "): flat[group] for group in groups},
        "differences": differences,
    }


def _flat(mapping: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in mapping.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            flat[prefix + key] = "–" if value is None else text
    return flat


def _experience_names(classes: list[list[int]], count: int) -> list[str]:
    names = []
    for i in range(count):
        own = classes[i] if i < len(classes) else []
        listed = ", ".join(map(str, own)) if len(own) <= 4 else f"{len(own)} classes"
        names.append(f"{i} ({listed})" if own else str(i))
    return names
