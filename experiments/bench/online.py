"""Case ``online-replay``: a step of a stream of sub-experiences of ten rows."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from avalanche.benchmarks import split_online_stream

from experiments.bench import loops, strategies
from experiments.bench.strategies import Rows
from experiments.bench.timing import Observe, stopwatch
from experiments.bench.workload import Row, Workload
from experiments.benchmarks import online

HIDDEN = (100, 100)
SIZE = 10
STEPS = 20
DEFAULT_UNTIL = 300
"""Upstream's default memory grows too slow to be followed any further."""


def rows(work: Workload) -> list[Row]:
    """The step around each stage of the stream."""
    return [_row(work, stage) for stage in work.sizes.stages]


def _row(work: Workload, stage: int) -> Row:
    memory = work.sizes.memory
    contenders: dict[str, Callable[[], Observe]] = {
        "ours": lambda: _strategy(
            work, stage, lambda: strategies.ours(HIDDEN, SIZE, memory), "images"
        ),
        "upstream": lambda: _strategy(
            work, stage, lambda: strategies.upstream(HIDDEN, SIZE, memory), "floats"
        ),
        "bare": lambda: _bare(work, stage),
    }
    if stage <= DEFAULT_UNTIL:
        contenders["upstream default"] = lambda: _strategy(
            work,
            stage,
            lambda: strategies.upstream_default(HIDDEN, SIZE, memory),
            "floats",
        )
    first = work.sizes.stages[0]
    return Row(_label(stage), contenders, None if stage == first else _label(first))


def _around(work: Workload, stage: int, begin: Callable[[], Any]) -> Observe:
    """Time a few steps around a stage.

    Where there is room before the stage, one run goes through it in all rounds
    together; an early stage is reached anew in each.

    :param begin: starts a run; returns the function that makes its next n steps.
    """
    steps = min(STEPS, stage)
    before = steps * work.rounds // 2
    if before < stage:
        run = begin()
        run(stage - before)
        return stopwatch(lambda: lambda: run(steps), 1e3)

    def anew() -> Callable[[], int]:
        fresh = begin()
        fresh(stage - steps // 2)
        return lambda: fresh(steps)

    return stopwatch(anew, 1e3)


def _strategy(
    work: Workload, stage: int, make: Callable[[], Any], rows: Rows
) -> Observe:
    def begin() -> Callable[[int], int]:
        strategy = make()
        stream = _stream(work, stage, rows)

        def advance(n: int) -> int:
            strategy.train(itertools.islice(stream, n), eval_streams=[])
            return n

        return advance

    return _around(work, stage, begin)


def _stream(work: Workload, stage: int, rows: Rows) -> Iterator[Any]:
    """Sub-experiences, as the runner makes them of uint8 rows, else as upstream."""
    whole = strategies.experience(work, 0, _length(work, stage), rows)
    if rows == "floats":
        return iter(split_online_stream([whole], SIZE, seed=0))
    return online(whole, SIZE, seed=0)


def _label(stage: int) -> str:
    return f"sub-experience {stage:,}"


def _length(work: Workload, stage: int) -> int:
    """Rows that are enough for all rounds around a stage."""
    return SIZE * (stage + STEPS * (work.rounds + 1))


def _bare(work: Workload, stage: int) -> Observe:
    x, y = strategies.tensors(work, 0, _length(work, stage), floats=True)

    def begin() -> Callable[[int], int]:
        model = strategies.network(HIDDEN)
        optimizer = strategies.descent(model)
        memory = loops.ReservoirMemory(work.sizes.memory)
        stream = iter(torch.randperm(len(y)).split(SIZE))

        def advance(n: int) -> int:
            batches = list(itertools.islice(stream, n))
            return loops.train(model, optimizer, x, y, batches, memory, SIZE)

        return advance

    return _around(work, stage, begin)
