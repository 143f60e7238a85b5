"""What makes a method out of plain training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from experiments.benchmarks import Benchmark
    from experiments.options import Run

Data = Literal["own", "seen", "all"]
"""What experience t trains on: its own data, those of experiences 1 … t, or the data
of all experiences in one single one."""


@dataclass
class Recipe:
    """What makes a method out of plain training.

    :param plugins: plugins of the strategy, in order.
    :param data: what each experience trains on.
    :param memory: the rehearsal memory, whose composition is reported.
    :param row_per_class: whether the memory needs a row of each class.
    :param shuffled: whether it matters to the method in which order an experience has
        its rows, so that they come in one drawn by the seed.
    :param strategy: builds the strategy from the keyword arguments that Avalanche's
        templates have in common; None for plain training.
    :param prepare: called once with the command line's options and the benchmark;
        refuses what the method cannot do by a
        :class:`~experiments.errors.UserError`, and returns the benchmark to use.
    """

    plugins: list[Any] = field(default_factory=list)
    data: Data = "own"
    memory: Any = None
    row_per_class: bool = False
    shuffled: bool = False
    strategy: Callable[..., Any] | None = None
    prepare: Callable[[Run, Benchmark], Benchmark] | None = None
