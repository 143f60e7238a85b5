"""A run with everything decided but the seed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.data import Arrays
from experiments.options import Run


@dataclass(frozen=True)
class Job:
    """What :func:`~experiments.training.train_seed` needs besides a seed.

    :param options: the command line.
    :param method_options: the method's own options, all of them.
    :param arrays: the data.
    :param groups: positions of the classes of each experience.
    :param device: ``"cpu"`` or ``"cuda"``.
    :param directory: where its seeds have their directories, if they are written.
    """

    options: Run
    method_options: dict[str, Any]
    arrays: Arrays
    groups: list[list[int]]
    device: str
    directory: Path | None = None
