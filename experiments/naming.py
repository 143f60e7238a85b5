"""What a run is called: its options as they are used, and its folder made of them."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from experiments.job import Job
from experiments.methods import parameters
from experiments.options import Run
from experiments.store import NO_MATTER
from experiments.values import word

LONGEST = 200
"""Characters of a folder's name; file systems take 255 bytes."""

_SAID = NO_MATTER | {"benchmark", "method", "scenario", "set", "device"}
"""Options that begin the name, do not belong in it, or are looked at by themselves."""


def resolved(options: Run, device: str) -> dict[str, Any]:
    """Every option as it is used, ready for JSON; ``set`` is in ``method_options``."""
    used = dataclasses.asdict(options)
    del used["set"]
    used.update(
        scenario=options.form,
        experiences=options.parts,
        epochs=None if options.iterations else options.passes,
        hidden=options.widths,
        init=options.weights,
        device=device,
        resident=options.in_memory,
    )
    return {
        name: (
            str(value)
            if isinstance(value, Path)
            else list(value) if isinstance(value, tuple) else value
        )
        for name, value in used.items()
    }


def changed(job: Job, usual_device: str) -> dict[str, Any]:
    """The options that are not what they would be if they were left out.

    :param usual_device: what ``--device auto`` is here.
    """
    used = resolved(job.options, job.device)
    found = {}
    for option in dataclasses.fields(Run):
        if option.name not in _SAID:
            usual: dict[str, Any] = {option.name: option.default}
            without = dataclasses.replace(job.options, **usual)
            if used[option.name] != resolved(without, job.device)[option.name]:
                found[option.name] = used[option.name]
    if job.device != usual_device:
        found["device"] = job.device
    own = parameters(job.options.method)
    for name, value in job.method_options.items():
        if value != own[name].default:
            found[name] = value
    return found


def run_directory(job: Job, usual_device: str) -> Path:
    """Where the seeds of a run are: ``OUT/BENCHMARK-METHOD-SCENARIO``, then
    ``-name=value`` for each of :func:`changed`.

    So the same configuration has the same folder, however it was typed, and another
    one has another. A name that would be too long is cut and ends in a digest of it.
    """
    options = job.options
    name = f"{options.benchmark}-{options.method}-{options.form}"
    for option, value in changed(job, usual_device).items():
        name += f"-{option}={word(value)}"
    if len(name) > LONGEST:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        name = f"{name[: LONGEST - 9]}-{digest}"
    return options.out / name
