"""The command ``bench``: its options, and a run of it."""

import gc
import os
import platform
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from experiments import store
from experiments.bench.cases import Case, choose
from experiments.bench.results import UPSTREAM, Results, case_record, case_table
from experiments.bench.timing import interleave
from experiments.bench.workload import Row, Sizes, Workload, load
from experiments.errors import UserError

FORMAT = 1
PROGRAM = "python -m experiments bench"


@dataclass(frozen=True)
class Bench:
    """Time ours, upstream's and a bare PyTorch loop on the same work.

    Rounds are interleaved in one process with one thread. Medians, and medians and
    quartiles of the ratios of each round, are printed and written as JSON.
    """

    cases: Annotated[Positional[tuple[str, ...]], arg(metavar="[NAME ...]")] = ()
    """Cases to run: all of them unless named."""
    repeats: int = 9
    """Rounds, after one that is discarded; five at most where one takes a minute."""
    out: Path = Path("runs/bench.json")
    """The JSON to write, in place of what is there, each time a case has ended."""
    data_root: Annotated[Path | None, arg(metavar="PATH")] = None
    """Folder of the data sets (none: data, or random images without MNIST there)."""


def run_bench(options: Bench, sizes: Sizes | None = None) -> Path:
    """Run cases, print their tables, write their numbers.

    :param sizes: how much work the cases do.
    :return: the file written.
    :raises UserError: before anything runs for an unknown case, no repeats or a file
        that cannot be written; after the file is written where something that is not
        upstream's failed.
    """
    cases = choose(options.cases)
    if options.repeats < 1:
        raise UserError(f"--repeats {options.repeats}: use 1 or more")
    _check_out(options.out)
    work = load(options.data_root, sizes or Sizes(), options.repeats + 1)
    records: dict[str, Any] = {}
    failures: list[str] = []
    with _still():
        print(f"{work.data}; {_processor()}; one thread; medians of {options.repeats}")
        configuration = _configuration(options, work)
        for case in cases:
            repeats = min(options.repeats, case.most or options.repeats)
            rows, results = _measure(case, work, repeats)
            print(f"\n{case_table(case, rows, results)}", flush=True)
            records[case.name] = case_record(case, rows, results)
            failures += _failures(case, results)
            missing = [other.name for other in cases if other.name not in records]
            _write(options.out, {**configuration, "missing": missing, "cases": records})
    print(f"\nresults: {options.out}")
    if failures:
        raise UserError(f"not everything was measured: {'; '.join(failures)}")
    return options.out


def _measure(case: Case, work: Workload, repeats: int) -> tuple[list[Row], Results]:
    print(f"{case.name} …", file=sys.stderr, flush=True)
    with warnings.catch_warnings():
        # Upstream turns its own deprecations on for every call, filters or not:
        # printing them must not count as its work.
        warnings.showwarning = _show
        warnings.filterwarnings("ignore", "No loggers specified")
        rows = case.rows(work)
        makers = {
            (row.label, name): make
            for row in rows
            for name, make in row.contenders.items()
        }
        return rows, interleave(makers, repeats)


def _show(message: Any, category: Any, *place: Any, **more: Any) -> None:
    if not issubclass(category, DeprecationWarning):
        print(f"warning: {message}", file=sys.stderr)


def _failures(case: Case, results: Results) -> list[str]:
    """What is no fault of upstream's; everything, where nothing at all was measured."""
    errors = {key: one.error for key, one in results.items() if one.error}
    if len(errors) < len(results):
        errors = {k: e for k, e in errors.items() if not k[1].startswith(UPSTREAM)}
    return [f"{case.name}, {key[0]}, {key[1]}: {e}" for key, e in errors.items()]


@contextmanager
def _still() -> Iterator[None]:
    """One thread, and no collection of garbage through all that was imported."""
    import torch

    import experiments.bench.strategies  # noqa: F401

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        torch.set_num_threads(threads)


def _configuration(options: Bench, work: Workload) -> dict[str, Any]:
    """What makes the numbers understandable elsewhere; no path is part of it."""
    chosen = {"repeats": options.repeats, "threads": 1}
    record = store.configuration(_command(options), chosen, {}, {"source": work.data})
    return {
        "format": FORMAT,
        "command": record["command"],
        "options": record["options"],
        "data": record["data"],
        "versions": record["versions"],
        "git": record["git"],
        "machine": {"processor": _processor(), "cores": os.cpu_count()},
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _command(options: Bench) -> str:
    words: Sequence[str] = [PROGRAM, *options.cases, "--repeats", str(options.repeats)]
    return " ".join(words)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _check_out(out: Path) -> None:
    """Refuse a place that could not take the results, before the work is done."""
    from experiments.runner import check_writable

    if out.is_dir():
        raise UserError(f"cannot write {out}, a folder: name a file by --out FILE")
    check_writable(out.parent)


def _write(out: Path, record: dict[str, Any]) -> None:
    if not record["missing"]:
        del record["missing"]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        store.write_json(out, record)
    except OSError as error:
        raise UserError(
            f"cannot write {out} ({error}): name another file by --out FILE"
        ) from error
