"""A run that has ended, in whole or in part, as it is found in its directory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.errors import UserError
from experiments.quantities import FIGURES
from experiments.spread import Array, mean_and_sd
from experiments.store import NO_MATTER, read

MATRICES = ("accuracy_matrix", "accuracy_matrix_task_known")
SAME = ("benchmark", "method", "scenario")
EXPECTED = (*SAME, "seed", "classes", "memory_composition", "forgetting", *MATRICES)
"""Beside the figures, what a result has to hold."""
SCENARIOS = ("task", "domain", "class")


@dataclass(frozen=True)
class FinishedRun:
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
        if scenario in SCENARIOS:
            scenario += "-incremental"
        if self.options.get("stream_size"):
            scenario += ", online"
        return str(first["method"]), str(first["benchmark"]), scenario

    @property
    def options(self) -> dict[str, Any]:
        """By name, what the first seed's configuration tells of the run's and the
        method's options; without those that the title says or that change no result."""
        first = self.configs[0] if self.configs else {}
        found = {**(first.get("options") or {}), **(first.get("method_options") or {})}
        return {n: v for n, v in found.items() if n not in NO_MATTER and n not in SAME}

    def stack(self, key: str) -> Array:
        """A field of every seed, null as NaN: shape (seeds, *shape of the field)."""
        return np.stack([as_array(result[key]) for result in self.results])

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


def load_run(directory: Path) -> FinishedRun:
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
    return FinishedRun(
        directory,
        tuple(sorted(results, key=lambda result: result["seed"])),
        tuple(sorted(configs, key=lambda config: config["seed"])),
        tuple(folder.name for folder in folders if folder not in done),
    )


def as_array(value: Any) -> Array:
    """A number or numbers of a result, null as NaN."""
    return np.array(value, dtype=np.float64)  # None becomes NaN


def _nothing(directory: Path) -> str:
    if (directory / "result.json").is_file():
        return f"{directory} is one seed of a run; name the run: {directory.parent}"
    if any(directory.glob("*/seed-*/result.json")):
        return f"{directory} holds several runs; name them, as in {directory / '*'}"
    there = "no results in" if directory.is_dir() else "no directory"
    return (
        f"{there} {directory}: expected seed-<s>/result.json there, which this makes: "
        f"python -m experiments run BENCHMARK METHOD --out {directory.parent}"
    )


def _check(result: dict[str, Any], path: Path, first: dict[str, Any]) -> None:
    """Raise for a result that is malformed or not of the same run as ``first``."""
    for key in SAME:
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
    for key, number in ({"forgetting": 1} | dict.fromkeys(MATRICES, 2)).items():
        try:
            shape = as_array(result[key]).shape
        except (TypeError, ValueError):
            shape = None
        # Only a matrix has to hold something: joint training forgets nothing.
        if shape is None or len(shape) != number or (number == 2 and 0 in shape):
            raise UserError(
                f"{path}: {key} is not {kinds[number]} (null where undefined); "
                "remove it and run again"
            )
        if shape != as_array(first[key]).shape:
            raise UserError(
                f"{path}: {key} has shape {shape}, that of the seeds beside it "
                f"{as_array(first[key]).shape}; keep one run in a directory"
            )
