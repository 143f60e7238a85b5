"""One self-contained HTML page about one or several runs.

A run directory holds ``seed-<s>/result.json`` (the measurements) and
``seed-<s>/config.json`` (what made them). Its page shows the mean over the seeds ± the
sample standard deviation (n - 1), and nothing after ± where there is one seed.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import ArrayLike

from experiments import figures
from experiments.errors import UserError
from experiments.figures import Array, written
from experiments.store import NO_MATTER, read

_MATRICES = ("accuracy_matrix", "accuracy_matrix_task_known")
_SAME = ("benchmark", "method", "scenario")
_SCENARIOS = ("task", "domain", "class")


@dataclass(frozen=True)
class Quantity:
    """A number of a result, how it is called and how it is written."""

    key: str
    name: str
    unit: str
    scale: float = 1.0
    decimals: int = 0
    headline: bool = False
    compared: bool = True

    def write(self, mean: float, sd: float = math.nan) -> str:
        """``mean ± sd`` in the unit; no ± without an sd, "–" without a mean."""
        text = written(self.scale * mean, self.decimals)
        if math.isnan(mean) or math.isnan(sd):
            return text
        return f"{text} ± {written(self.scale * sd, self.decimals)}"


def _percent(key: str, name: str) -> Quantity:
    return Quantity(key, name, "%", scale=100, decimals=2, headline=True)


QUANTITIES = (
    _percent("average_accuracy", "average accuracy"),
    _percent("average_accuracy_task_known", "accuracy, task known"),
    _percent("average_forgetting", "forgetting"),
    _percent("backward_transfer", "backward transfer"),
    Quantity("train_seconds", "training", "s", decimals=2, headline=True),
    Quantity("eval_seconds", "evaluation", "s", decimals=2, compared=False),
    Quantity("peak_memory_mb", "peak memory", "MB", compared=False),
    Quantity("iterations", "iterations", "steps", compared=False),
)
FIGURES = tuple(quantity.key for quantity in QUANTITIES)
EXPECTED = (*_SAME, "seed", "classes", "memory_composition", "forgetting", *_MATRICES)
"""Beside the figures, what a result has to hold."""


@dataclass(frozen=True)
class Run:
    """All seeds of one run directory, in the order of the seeds."""

    directory: Path
    results: tuple[dict[str, Any], ...]
    configs: tuple[dict[str, Any], ...]
    unfinished: tuple[str, ...]  # seed directories without a result

    @property
    def seeds(self) -> list[int]:
        return [result["seed"] for result in self.results]

    @property
    def title(self) -> tuple[str, str, str]:
        """Method, benchmark and scenario in words."""
        first = self.results[0]
        scenario = str(first["scenario"])
        if scenario in _SCENARIOS:
            scenario += "-incremental"
        if self.directory.resolve().name.endswith("-online"):
            scenario += ", online"
        return str(first["method"]), str(first["benchmark"]), scenario

    def stack(self, key: str) -> Array:
        """A field of every seed, null as NaN: shape (seeds, *shape of the field)."""
        return np.stack([_array(result[key]) for result in self.results])

    def statistic(self, key: str) -> tuple[Array, Array]:
        """Mean and sample standard deviation of a field over the seeds."""
        return mean_and_sd(self.stack(key))

    def average_over_time(self) -> tuple[Array, Array]:
        """Average accuracy of the experiences seen, after each training experience."""
        matrices = self.stack("accuracy_matrix")
        if matrices.shape[1] == 1:
            return mean_and_sd(self.stack("average_accuracy")[:, None])
        seen = [
            mean_and_sd(matrices[:, t, : t + 1].T)[0] for t in range(matrices.shape[1])
        ]
        return mean_and_sd(np.stack(seen, axis=1))


def mean_and_sd(values: ArrayLike) -> tuple[Array, Array]:
    """Mean and sample standard deviation over the first axis, NaN left out.

    :return: the mean (NaN where no value is) and the standard deviation with n - 1
        (NaN where fewer than two values are), of the shape of ``values[0]``.
    """
    array = np.asarray(values, dtype=np.float64)
    count = (~np.isnan(array)).sum(axis=0)
    mean = np.nansum(array, axis=0) / np.where(count > 0, count, np.nan)
    squares = np.nansum((array - mean) ** 2, axis=0)
    return mean, np.sqrt(squares / np.where(count > 1, count - 1, np.nan))


def load_run(directory: Path) -> Run:
    """Read every seed of a run directory.

    :raises UserError: no result there, or a file that is not readable as one.
    """
    directory = Path(directory)
    folders = sorted(directory.glob("seed-*/"), key=lambda folder: folder.name)
    done = [folder for folder in folders if (folder / "result.json").is_file()]
    if not done:
        raise UserError(_nothing(directory))
    results: list[dict[str, Any]] = []
    configs: list[dict[str, Any]] = []
    for folder in done:
        result = read(folder / "result.json", EXPECTED, FIGURES)
        _check(result, folder / "result.json", results[0] if results else result)
        results.append(result)
        if (folder / "config.json").is_file():
            config = {"seed": result["seed"], **read(folder / "config.json")}
            configs.append(config)
    return Run(
        directory,
        tuple(sorted(results, key=lambda result: result["seed"])),
        tuple(sorted(configs, key=lambda config: config["seed"])),
        tuple(folder.name for folder in folders if folder not in done),
    )


def write_report(run_directories: Sequence[Path], output: Path) -> Path:
    """Write one HTML page, without references to anything outside it.

    The page depends on the files alone: the same results make the same page.

    :param run_directories: one or several ``OUT/<benchmark>-<method>-<scenario>``;
        several are compared first.
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
    curves = [run.average_over_time() for run in runs]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections = [
        _section(run, label) for run, label in zip(runs, _labels(runs), strict=True)
    ]
    page = environment.get_template("report.html").render(
        runs=sections,
        told=_told(sections),
        quantities=QUANTITIES,
        line_style=figures.line_style,
        comparison=Markup(figures.comparison(curves)) if len(runs) > 1 else None,
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page, encoding="utf-8")
    return output


def _section(run: Run, label: str) -> dict[str, Any]:
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
        (result["seed"], [q.write(float(_array(result[q.key]))) for q in QUANTITIES])
        for result in run.results
    ]
    return {
        "label": label,
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
    }


def _memory(run: Run) -> str | None:
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


def _config(run: Run) -> dict[str, Any]:
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


def _labels(runs: Sequence[Run]) -> list[str]:
    """The shortest names that tell the runs apart."""
    choices = [
        [run.title[0] for run in runs],
        [f"{run.title[0]}, {run.title[2]}" for run in runs],
        [run.directory.resolve().name for run in runs],
        [str(run.directory) for run in runs],
    ]
    return next(names for names in choices if len(set(names)) == len(runs))


def _told(sections: Sequence[dict[str, Any]]) -> list[str]:
    """Columns of a comparison beside the label: those that it does not say already."""
    columns = ["method", "scenario"]
    if len({section["benchmark"] for section in sections}) > 1:
        columns.insert(1, "benchmark")
    return [c for c in columns if any(s[c] not in s["label"] for s in sections)]


def _experience_names(classes: list[list[int]], count: int) -> list[str]:
    names = []
    for i in range(count):
        own = classes[i] if i < len(classes) else []
        listed = ", ".join(map(str, own)) if len(own) <= 4 else f"{len(own)} classes"
        names.append(f"{i} ({listed})" if own else str(i))
    return names


def _array(value: Any) -> Array:
    return np.array(value, dtype=np.float64)  # None becomes NaN


def _nothing(directory: Path) -> str:
    if (directory / "result.json").is_file():
        return f"{directory} is one seed of a run; name the run: {directory.parent}"
    there = "no results in" if directory.is_dir() else "no directory"
    return (
        f"{there} {directory}: expected seed-<s>/result.json there, which this makes: "
        f"python -m experiments run BENCHMARK METHOD --out {directory.parent}"
    )


def _check(result: dict[str, Any], path: Path, first: dict[str, Any]) -> None:
    """Raise for a result that is malformed or not of the same run as ``first``."""
    for key in _SAME:
        if result[key] != first[key]:
            raise UserError(
                f"{path} is of {key} {result[key]!r}, the seeds beside it of "
                f"{first[key]!r}; keep one run in a directory"
            )
    if len(result["memory_composition"]) != len(first["memory_composition"]):
        raise UserError(
            f"{path}: memory_composition has another length than those of the seeds "
            "beside it; keep one run in a directory"
        )
    kinds = {1: "a list of numbers", 2: "a matrix with rows of one length"}
    for key, number in ({"forgetting": 1} | dict.fromkeys(_MATRICES, 2)).items():
        try:
            shape = _array(result[key]).shape
        except (TypeError, ValueError):
            shape = None
        # Only a matrix has to hold something: joint training forgets nothing.
        if shape is None or len(shape) != number or (number == 2 and 0 in shape):
            raise UserError(
                f"{path}: {key} is not {kinds[number]} (null where undefined); "
                "remove it and run again"
            )
        if shape != _array(first[key]).shape:
            raise UserError(
                f"{path}: {key} has shape {shape}, that of the seeds beside it "
                f"{_array(first[key]).shape}; keep one run in a directory"
            )
