"""The command ``table``: its options, and a run of it."""

import sys
from collections import deque
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from experiments.errors import UserError

if TYPE_CHECKING:
    from experiments.table.cells import Jobs, SeedRun
    from experiments.table.pool import Done, Failed
    from experiments.table.protocol import Cell, Protocol
    from experiments.table.verdict import Comparison


@dataclass(frozen=True)
class Table:
    """Run a published table again and print published beside measured.

    Each cell runs under the protocol of the table. Results go to
    OUT/NAME/CELL/seed-S/; those that are there are kept. A cell that misses a figure
    is run once more, on as many seeds after its own, which then decide; both results
    are kept and shown. Without a NAME: which tables there are.
    """

    name: Annotated[Positional[str | None], arg(metavar="[NAME]")] = None
    """The table: see the command list."""
    cells: Annotated[tuple[str, ...], arg(metavar="CELL [CELL ...]")] = ()
    """Cells to run: all of them unless named."""
    seeds: Annotated[int | None, arg(metavar="INT")] = None
    """Number of seeds, from 0 on (none: as the protocol says)."""
    jobs: int = 2
    """Runs at a time, each in a process with one thread."""
    confirm: bool = True
    """Run a cell that misses a figure once more, on as many seeds after its own."""
    data_root: Path = Path("data")
    """Folder of the data sets."""
    download: bool = False
    """Fetch a public data set that is not there."""
    device: Annotated[str, arg(metavar="{auto,cpu,cuda}")] = "cpu"
    """Where to compute; auto is cuda where there is one."""
    out: Path = Path("experiments/results")
    """Folder of the results."""
    overwrite: bool = False
    """Run again what is there already, and replace it."""
    show: bool = False
    """Run nothing: print what is there."""

    def changed(self, *but: str) -> str:
        """The options that are not at their defaults, as typed.

        :param but: names that do not count.
        """
        return ", ".join(
            f"--{'no-' * (value is False)}{one.name.replace('_', '-')}"
            for one in fields(self)
            if (value := getattr(self, one.name)) != one.default and one.name not in but
        )


_SHOWN = ("name", "cells", "seeds", "out", "show")
"""Options that matter to what is shown."""

WorkThrough = Callable[..., "Generator[Done[SeedRun] | Failed[SeedRun], None, None]"]


def run_table(
    options: Table, command: str, work_through: WorkThrough | None = None
) -> None:
    """Run the cells of a table that have no results yet, and print it.

    :param command: the command line as typed, for the record.
    :param work_through: does the runs; by default
        :func:`experiments.table.pool.work_through`.
    :raises UserError: before anything runs for an unknown name, options that no run
        takes, options that would do nothing and results of another configuration;
        after the table is printed where a run failed or nothing is measured.
    """
    from experiments.table.reading import names, read
    from experiments.table.show import tables_list, text

    if options.name is None:
        if given := options.changed():
            raise UserError(f"{given} without a table: name one, as in table NAME")
        print(tables_list(map(read, names())))
        return
    for name in ("seeds", "jobs"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} {value}: use 1 or more")
    if options.show and (given := options.changed(*_SHOWN)):
        raise UserError(f"{given} with --show, which runs nothing: leave one out")
    table = read(options.name)
    run = _Run(options, table, command)
    if note := run.other_origin():
        print(f"note: {note}", file=sys.stderr)
    if not options.show:
        if work_through is None:
            from experiments.table import pool

            work_through = pool.work_through
        run.work(work_through)
    print(text(table, run.outcomes(), run.failures))
    run.check()


class _Run:
    """The cells that were asked for, their results, and what failed."""

    def __init__(self, options: Table, table: "Protocol", command: str) -> None:
        from experiments.table.cells import Where, stored

        self.options, self.table, self.command = options, table, command
        self.cells = {cell.name: cell for cell in table.chosen(options.cells)}
        self.where = Where(
            options.data_root, options.download, options.device, options.out
        )
        self.results = {
            name: {} if options.overwrite else stored(table, cell, self.where)
            for name, cell in self.cells.items()
        }
        self.failures: dict[str, str] = {}
        self._asked: set[tuple[str, int]] = set()
        self._configs: dict[str, dict[str, Any]] = {}

    def other_origin(self) -> str:
        """What made the results that are used again; see the function of ``store``."""
        from experiments import origin, store

        used = {
            name: [s for s in results if s < 2 * len(self._seeds(self.cells[name]))]
            for name, results in self.results.items()
        }
        return store.other_origin(self.where.out / self.table.name, used, origin.now())

    def outcomes(self) -> "dict[str, list[Comparison]]":
        """Each cell's figures beside ours."""
        return {name: self._compared(cell) for name, cell in self.cells.items()}

    def work(self, work_through: WorkThrough) -> None:
        """Run what is missing."""
        from experiments.table.cells import Jobs, Training

        due = deque(one for cell in self.cells.values() for one in self._due(cell))
        if not due:
            return
        self._check(Jobs())
        there = sum(map(len, self.results.values()))
        if there:
            plural = "s" * (there != 1)
            print(f"{there} result{plural} there already", file=sys.stderr)
        with closing(work_through(Training, due, self.options.jobs)) as outcomes:
            for outcome in outcomes:
                self._keep(outcome)
                due.extend(self._due(self.cells[outcome.task.cell]))

    def check(self) -> None:
        """Say what is amiss at the end.

        :raises UserError: where a run failed, or there is no result of any cell.
        """
        if self.failures:
            told = "; ".join(f"{name}, {why}" for name, why in self.failures.items())
            raise UserError(f"not everything was measured: {told}")
        if any(self.results.values()):
            return
        if self.options.show:
            raise UserError(
                f"nothing is measured of {self.table.name} in {self.options.out}: run "
                "it without --show, or name the folder of its results by --out"
            )
        raise UserError(
            f"nothing was measured: {', '.join(self.cells)} name methods that are not "
            "there yet; choose others by --cells"
        )

    def _seeds(self, cell: "Cell") -> range:
        return range(self.options.seeds or cell.seeds)

    def _compared(self, cell: "Cell") -> "list[Comparison]":
        from experiments.table.cells import comparisons

        return comparisons(cell, self.results[cell.name], self._seeds(cell))

    def _due(self, cell: "Cell") -> "list[SeedRun]":
        """Runs of a cell that are still to be asked for."""
        from experiments.table.cells import SeedRun, cell_run

        if not cell.implemented:
            return []
        seeds = self._seeds(cell)
        if self.options.confirm and any(
            one.missed_first for one in self._compared(cell)
        ):
            seeds = range(seeds.start, seeds.stop + len(seeds))
        done = self.results[cell.name]
        new = [s for s in seeds if s not in done and (cell.name, s) not in self._asked]
        self._asked.update((cell.name, seed) for seed in new)
        run = cell_run(cell, self.where, self._seeds(cell))
        return [SeedRun(cell.name, run, seed) for seed in new]

    def _check(self, jobs: "Jobs") -> None:
        """Make the configurations; refuse what cannot be run or kept."""
        from experiments import runner, store
        from experiments.table.cells import cell_run

        for name, cell in self.cells.items():
            if not cell.implemented:
                continue
            job = jobs(cell_run(cell, self.where, self._seeds(cell)))
            config = runner.configuration(job, self.command)
            directory = self.where.directory(self.table, cell)
            runner.check_writable(directory, self._seeds(cell))
            if not self.options.overwrite:
                store.finished(directory, config)
            self._configs[name] = config

    def _keep(self, outcome: "Done[SeedRun] | Failed[SeedRun]") -> None:
        from experiments import runner, store
        from experiments.table.pool import Failed
        from experiments.table.show import run_line

        cell, seed = self.cells[outcome.task.cell], outcome.task.seed
        title = f"{cell.name}, seed {seed}"
        if isinstance(outcome, Failed):
            self.failures.setdefault(cell.name, f"seed {seed}: {outcome.error}")
            print(f"{title}: failed: {outcome.error}", flush=True)
            return
        directory = self.where.directory(self.table, cell)
        if self.options.overwrite:
            store.drop_others(directory, self._configs[cell.name])
        runner.write_seed(directory, seed, self._configs[cell.name], outcome.value)
        self.results[cell.name][seed] = outcome.value
        for warning in outcome.warnings:
            print(f"{title}: warning: {warning}", file=sys.stderr, flush=True)
        print(f"{title}: {run_line(cell, outcome.value, outcome.seconds)}", flush=True)
