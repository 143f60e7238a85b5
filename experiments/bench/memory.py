"""Cases ``memory-row``, ``insertion`` and ``draw``: the memory by itself."""

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, Literal, get_args

import torch
from avalanche.training.storage_policy import (
    ClassBalancedBuffer,
    ReservoirSamplingBuffer,
)
from torch import Tensor
from torch.utils.data import DataLoader

from avalanche_ext import MultiStrategyBuffer
from experiments.bench import loops, strategies
from experiments.bench.timing import Observe, stopwatch
from experiments.bench.workload import Row, Workload

Admission = Literal["reservoir", "ring", "class_balanced"]
ADMISSIONS: tuple[Admission, ...] = get_args(Admission)
COLOUR = (3, 32, 32)
WAYS = ("plugin", "sample()")
"""How rows are drawn: as the plugin gets them, and by the public method."""
BATCH = 10
UPSTREAM_OFFERED = 5
"""Batches a round: upstream's cost grows with the capacity."""


def label(name: str, capacity: int) -> str:
    """The row of an admission, or a way to draw, at a capacity."""
    return f"{name}, {capacity:,} rows"


# Bytes


def size_rows(work: Workload) -> list[Row]:
    """Everything that a full memory holds, a row, for each admission.

    Upstream's memories refer to rows of the data sets that they came from, which stay
    in memory as a whole: there is nothing to compare.
    """
    rows = work.sizes.row_count
    raw = torch.Size(COLOUR).numel()
    return [
        Row(
            label(admission, rows),
            {"ours": lambda a=admission: _held(a, rows), "bare": lambda: lambda: raw},
        )
        for admission in ADMISSIONS
    ]


def _held(admission: Admission, rows: int) -> Observe:
    x = torch.zeros(rows, *COLOUR, dtype=torch.uint8)
    y = torch.arange(rows) % strategies.CLASSES

    def observe() -> float:
        gc.collect()
        tracemalloc.start()  # sees what Python allocates; tensors are counted below
        try:
            memory = MultiStrategyBuffer(rows, admission=admission, seed=0)
            for some_x, some_y in zip(x.split(BATCH), y.split(BATCH), strict=True):
                memory.offer(some_x, some_y)
            gc.collect()
            python = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        return memory.table.bytes_per_row + python / rows

    return observe


# Insertion


def insertion_rows(work: Workload) -> list[Row]:
    """A batch offered to a full memory that has seen twice its capacity.

    So half of the rows are kept by the reservoir and by the class-balanced memory,
    all of them by the ring, at any capacity. Every round begins with a new memory.
    """
    return [
        _insertion(work, admission, capacity)
        for admission in ADMISSIONS
        for capacity in work.sizes.capacities
    ]


def _insertion(work: Workload, admission: Admission, capacity: int) -> Row:
    seen, batches = 2 * capacity, work.sizes.offered
    contenders: dict[str, Callable[[], Observe]] = {
        "ours": lambda: _offered(
            work,
            seen,
            batches,
            lambda: MultiStrategyBuffer(capacity, admission=admission, seed=0).offer,
        )
    }
    if admission == "reservoir":
        contenders["upstream"] = lambda: _adapted(
            work, capacity, ReservoirSamplingBuffer
        )
        contenders["bare"] = lambda: _offered(
            work, seen, batches, lambda: loops.ReservoirMemory(capacity).add
        )
    elif admission == "ring":
        contenders["bare"] = lambda: _offered(
            work,
            seen,
            batches,
            lambda: loops.RingMemory(capacity, strategies.CLASSES).add,
        )
    else:
        contenders["upstream"] = lambda: _adapted(work, capacity, ClassBalancedBuffer)
    return Row(label(admission, capacity), contenders)


def _offered(
    work: Workload,
    seen: int,
    batches: int,
    make: Callable[[], Callable[[Tensor, Tensor], Any]],
) -> Observe:
    """Offer batches to what ``make`` returns, once it has seen enough."""
    x, y = _tensors(work)
    coming = [_cycle(x, y, i * BATCH, (i + 1) * BATCH) for i in range(batches)]

    def prepare() -> Callable[[], int]:
        offer = make()
        for start in range(0, seen, len(y)):
            offer(*_cycle(x, y, start, min(start + len(y), seen)))

        def go() -> int:
            for some_x, some_y in coming:
                offer(some_x, some_y)
            return batches

        return go

    return stopwatch(prepare, 1e6)


def _adapted(work: Workload, capacity: int, make: Callable[[int], Any]) -> Observe:
    """The same of upstream's memories, which take experiences."""
    past = strategies.experience(work, 0, 2 * capacity, floats=True)
    coming = [
        SimpleNamespace(
            dataset=past.dataset.subset(list(range(i * BATCH, (i + 1) * BATCH)))
        )
        for i in range(UPSTREAM_OFFERED)
    ]

    def prepare() -> Callable[[], int]:
        memory = make(capacity)
        memory.post_adapt(None, past)

        def go() -> int:
            for experience in coming:
                memory.post_adapt(None, experience)
            return len(coming)

        return go

    return stopwatch(prepare, 1e6)


# Draws


def draw_rows(work: Workload) -> list[Row]:
    """Ten rows of a full memory: by its public method, and as the plugin gets them."""
    return [
        _draw(work, how, capacity)
        for how in WAYS
        for capacity in work.sizes.capacities
    ]


def _draw(work: Workload, how: str, capacity: int) -> Row:
    def ours() -> Observe:
        memory = MultiStrategyBuffer(capacity, admission="ring", seed=0)
        memory.offer(*_cycle(*_tensors(work), 0, capacity))
        if how == "plugin":
            return _drawn(work, lambda: memory.table.gather(memory.draw(BATCH)))
        return _drawn(work, lambda: memory.sample(BATCH))

    def bare() -> Observe:
        memory = loops.RingMemory(capacity, strategies.CLASSES)
        memory.add(*_cycle(*_tensors(work), 0, capacity))
        return _drawn(work, lambda: memory.draw(BATCH))

    def upstream() -> Observe:
        memory = ReservoirSamplingBuffer(capacity)
        memory.post_adapt(None, strategies.experience(work, 0, capacity, floats=True))
        batches = _endless(DataLoader(memory.buffer, batch_size=BATCH, shuffle=True))
        return _drawn(work, lambda: next(batches))

    return Row(
        label(how, capacity), {"ours": ours, "upstream": upstream, "bare": bare}
    )


def _drawn(work: Workload, draw: Callable[[], Any]) -> Observe:
    def go() -> int:
        for _ in range(work.sizes.drawn):
            draw()
        return work.sizes.drawn

    return stopwatch(lambda: go, 1e6)


def _endless(loader: DataLoader) -> Iterator[Any]:
    """Batches of one epoch after the other, as upstream's replay takes them."""
    while True:
        yield from loader


def _tensors(work: Workload) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(work.arrays.x_train), torch.from_numpy(work.arrays.y_train)


def _cycle(x: Tensor, y: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """Rows ``start … stop − 1``, from the first again after the last."""
    if stop <= len(y):
        return x[start:stop], y[start:stop]
    index = torch.arange(start, stop) % len(y)
    return x.index_select(0, index), y.index_select(0, index)
