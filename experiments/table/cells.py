"""A cell as runs: its command line, its results, and the training of a seed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import runner, store
from experiments.data import Arrays
from experiments.job import Job
from experiments.methods import method_options
from experiments.naming import resolved
from experiments.options import Run
from experiments.sources import read_arrays
from experiments.table.protocol import Cell, Protocol
from experiments.table.settings import run_of
from experiments.table.verdict import Comparison, Round, compare

Results = dict[int, dict[str, Any]]
"""Contents of ``result.json`` by seed."""


@dataclass(frozen=True)
class Where:
    """What of a run a protocol leaves open."""

    data_root: Path = Path("data")
    download: bool = False
    device: str = "cpu"
    out: Path = Path("experiments/results")

    def directory(self, table: Protocol, cell: Cell) -> Path:
        """Where the seeds of a cell are."""
        return self.out / table.name / cell.name


@dataclass(frozen=True)
class SeedRun:
    """One seed of a cell: what a worker does at a time."""

    cell: str
    options: Run
    seed: int


def cell_run(cell: Cell, where: Where, seeds: range) -> Run:
    """The command line of a cell, whose bar would garble those of the others."""
    assert cell.method is not None
    return run_of(
        cell.method,
        cell.options,
        cell.settings,
        seeds=len(seeds),
        first_seed=seeds.start,
        data_root=where.data_root,
        download=where.download,
        device=where.device,
        out=where.out,
        progress="off",
    )


class Jobs:
    """Makes jobs of command lines, which share the data that they have in common."""

    def __init__(self) -> None:
        self._arrays: dict[tuple[str, Path], Arrays] = {}

    def __call__(self, options: Run) -> Job:
        """The job; see :func:`experiments.runner.prepare`."""
        options.check()  # in case the data are there under a wrong name
        key = options.benchmark, options.data_root
        if key not in self._arrays:
            self._arrays[key] = read_arrays(*key, options.download)
        return runner.prepare(options, self._arrays[key])


class Training:
    """What a worker process does: :class:`SeedRun` → contents of ``result.json``."""

    def __init__(self) -> None:
        from experiments.training import train_seed

        self._train, self._jobs = train_seed, Jobs()

    def __call__(self, task: SeedRun) -> dict[str, Any]:
        return self._train(self._jobs(task.options), task.seed)


def stored(table: Protocol, cell: Cell, where: Where) -> Results:
    """Results of a cell that are there already, whatever device and data made them.

    :raises UserError: if they are of another configuration than the protocol's.
    """
    if not cell.implemented:
        return {}
    options = cell_run(cell, where, range(cell.seeds))
    config = {
        "options": resolved(options, where.device),
        "method_options": method_options(options.method, options.set),
        "data": {},
    }
    return store.finished(where.directory(table, cell), config, anyway=("device",))


def comparisons(cell: Cell, results: Results, seeds: range) -> list[Comparison]:
    """Each published figure of a cell beside ours.

    :param seeds: those that decide; as many after them are the second round.
    """
    again = range(seeds.stop, seeds.stop + len(seeds))
    return [
        compare(
            metric,
            published,
            _round(results, metric, seeds),
            _round(results, metric, again),
        )
        for metric, published in cell.published.items()
    ]


def _round(results: Results, metric: str, seeds: range) -> Round:
    there = [results[seed][metric] for seed in sorted(results) if seed in seeds]
    return Round(tuple(100 * value for value in there if value is not None), seeds)
