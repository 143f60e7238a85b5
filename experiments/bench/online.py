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

HIDDEN = (100, 100)
SIZE = 10
STEPS = 20
DEFAULT_UNTIL = 300
"""Upstream's default memory grows too slow to be followed any further."""


def rows(work: Workload) -> list[Row]:
    """The step around each stage of a stream that hides its boundaries, and around the
    last one of a stream that shows them."""
    stages = work.sizes.stages
    return [
        *(_row(work, stage, known=False) for stage in stages),
        _row(work, stages[-1], known=True),
    ]


def _row(work: Workload, stage: int, known: bool) -> Row:
    memory = work.sizes.memory

    def timed(make: Callable[..., Any], rows: Rows) -> Callable[[], Observe]:
        return lambda: _strategy(
            work, stage, lambda: make(HIDDEN, SIZE, memory), rows, known
        )

    contenders: dict[str, Callable[[], Observe]] = {
        "ours": timed(strategies.ours, "bytes"),
        "upstream": timed(strategies.upstream, "floats"),
        "upstream, images": timed(strategies.upstream, "images"),
        "bare": lambda: _bare(work, stage),
    }
    if stage <= DEFAULT_UNTIL:
        contenders["upstream default"] = timed(strategies.upstream_default, "floats")
    first = work.sizes.stages[0]
    if known:
        return Row(f"{_label(stage)}, boundaries known", contenders)
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
    work: Workload, stage: int, make: Callable[[], Any], rows: Rows, known: bool
) -> Observe:
    def begin() -> Callable[[int], int]:
        strategy = make()
        stream = _stream(work, stage, rows, known)

        def advance(n: int) -> int:
            strategy.train(itertools.islice(stream, n), eval_streams=[])
            return n

        return advance

    return _around(work, stage, begin)


def _stream(work: Workload, stage: int, rows: Rows, known: bool) -> Iterator[Any]:
    """Sub-experiences as upstream makes them, the same for every contender.

    :param known: whether strategies are told where an experience begins.
    """
    whole = strategies.experience(work, 0, _length(work, stage), rows)
    return iter(
        split_online_stream([whole], SIZE, seed=0, access_task_boundaries=known)
    )


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
