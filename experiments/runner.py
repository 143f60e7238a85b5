"""One run: check, train the seeds that are missing, write, sum up."""

import dataclasses
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from experiments import store
from experiments.data import Arrays
from experiments.errors import UserError
from experiments.job import Job
from experiments.loggers import without_logs
from experiments.methods import method_options
from experiments.models import check_inputs
from experiments.naming import resolved, run_directory
from experiments.options import Run
from experiments.rows import check_portions, hold_out
from experiments.sources import experience_groups, read_arrays
from experiments.summary import seed_line, summary_table
from experiments.values import word


def run(options: Run, command: str) -> None:
    """Run what the command line asks for.

    :param command: the command line as typed, for the record.
    :raises UserError: before anything is written where the request cannot be met, and
        between seeds where training fails; seeds that ended are kept.
    """
    job = prepare(options)
    directory = run_directory(job, _device("auto"))
    job = dataclasses.replace(job, directory=directory)
    config = configuration(job, command)
    check_writable(directory, options.seed_list)
    results = {} if options.overwrite else store.finished(directory, config)
    again = [seed for seed in options.seed_list if seed in results]
    used = {directory.name: again}
    if note := store.other_origin(directory.parent, used, config):
        print(f"note: {note}", file=sys.stderr)
    for seed in options.seed_list:
        if seed in results:
            place = store.seed_directory(directory, seed)
            missing = ", ".join(without_logs(options.loggers, place))
            print(
                f"seed {seed}: already in {place}"
                + f", and not trained again for logs of {missing}: --overwrite does"
                * bool(missing),
                file=sys.stderr,
            )
            continue
        from experiments.training import train_seed

        result = train_seed(job, seed)
        if options.overwrite:
            store.drop_others(directory, config)
        write_seed(directory, seed, config, result)
        results[seed] = result
        if options.progress != "off":
            print(seed_line(result), file=sys.stderr, flush=True)

    print(_title(job))
    print(summary_table([results[seed] for seed in options.seed_list]))
    print(f"results: {directory}")
    print(f"page: {write_page([directory], directory / 'report.html')}")


def prepare(options: Run, arrays: Arrays | None = None) -> Job:
    """Everything that a run needs besides its seed, checked.

    :param arrays: the benchmark's data where they have been read already.
    :raises UserError: where the request cannot be met.
    """
    options.check()
    chosen = method_options(options.method, options.set)
    if arrays is None:
        arrays = read_arrays(options.benchmark, options.data_root, options.download)
    groups = experience_groups(arrays, options.parts, options.benchmark)
    _check_data(options, arrays, groups)
    # From here on imports take seconds: torch, then Avalanche.
    return Job(options, chosen, arrays, groups, _device(options.device))


def configuration(job: Job, command: str) -> dict[str, Any]:
    """What makes a run repeatable; see :func:`experiments.store.configuration`."""
    arrays = job.arrays
    return store.configuration(
        command,
        resolved(job.options, job.device),
        job.method_options,
        {"source": arrays.source, "sha256": arrays.digest()},
    )


def write_seed(
    directory: Path, seed: int, config: dict[str, Any], result: dict[str, Any]
) -> None:
    """Keep the result of a seed.

    :raises UserError: where it cannot be written.
    """
    try:
        store.write_seed(directory, seed, config, result)
    except OSError as error:
        raise UserError(
            f"cannot write {store.seed_directory(directory, seed)} ({error}): name "
            "another folder by --out DIR"
        ) from error


def write_page(runs: Sequence[Path], output: Path) -> Path:
    """The page of some runs; see :func:`experiments.report.write_report`.

    :raises UserError: where a directory holds no results, or the page cannot be
        written.
    """
    from experiments.report import write_report

    try:
        return write_report(runs, output)
    except OSError as error:
        raise UserError(
            f"cannot write {output} ({error.strerror}): name another file"
        ) from error


def _check_data(options: Run, arrays: Arrays, groups: list[list[int]]) -> None:
    """Refuse what these data cannot give, before seconds of imports."""
    if options.form != "class" and len(groups[0]) < 2:
        total = len(arrays.classes)
        ways = [str(n) for n in range(1, total) if total % n == 0]
        raise UserError(
            f"--scenario {options.form} with --experiences {len(groups)} leaves one "
            "class an experience, so one output, which is always right: use "
            f"--experiences {', '.join(ways)}, or --scenario class"
        )
    check_inputs(options.model, arrays.x_train.shape[1:])
    kept = hold_out(arrays, options.validation, options.first_seed)
    check_portions(kept.y_train, groups, options.samples, options.label_noise)


def check_writable(directory: Path, seeds: Iterable[int] = ()) -> None:
    """Refuse a place that could not take the results, before the work is done.

    :param seeds: of a run: their places in it are tried too.
    :raises UserError: where nothing can be made in it, or in the folder above that is
        there already; nothing is left behind.
    """
    for place in (directory, *(store.seed_directory(directory, s) for s in seeds)):
        there = place.absolute()
        try:
            while not there.exists():
                there = there.parent
            # Permissions do not tell: nobody can write to some file systems.
            with tempfile.TemporaryDirectory(dir=there):
                pass
        except OSError as error:
            raise UserError(
                f"cannot write to {there} ({error.strerror}): name another place by "
                "--out"
            ) from error


def _device(name: str) -> str:
    import torch

    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise UserError(
            "--device cuda: torch finds no CUDA device here; use --device cpu or auto"
        )
    return "cuda" if there and name != "cpu" else "cpu"


def _title(job: Job) -> str:
    options = job.options
    stream = f"online by {options.stream_size}, " if options.stream_size else ""
    length = f"{options.passes} epoch{'s' * (options.passes > 1)}"
    if options.iterations is not None:
        length = f"{options.iterations} iterations"
    own = "".join(f", {name} {word(v)}" for name, v in job.method_options.items())
    experiences = len(job.groups)
    return (
        f"{options.benchmark}, {options.form}-incremental, {experiences} "
        f"experience{'s' * (experiences > 1)}, {stream}{length}: "
        f"{options.method}{own}"
    )
