"""Case ``draw``: ten rows of a full memory, at several capacities."""

from collections.abc import Callable, Iterator
from typing import Any

from avalanche.training.storage_policy import ReservoirSamplingBuffer
from torch.utils.data import DataLoader

from avalanche_ext import MultiStrategyBuffer
from experiments.bench import loops, strategies
from experiments.bench.timing import Observe, stopwatch
from experiments.bench.workload import Row, Workload

BATCH = 10
WAYS = ("for the plugin", "sample()")
"""How rows are drawn from ours: as the plugin gets them, and by the public method."""


def rows(work: Workload) -> list[Row]:
    """Each way at each capacity."""
    return [_row(work, way, n) for way in WAYS for n in work.sizes.capacities]


def _row(work: Workload, way: str, capacity: int) -> Row:
    def ours() -> Observe:
        memory = MultiStrategyBuffer(capacity, seed=0)
        memory.offer(*strategies.tensors(work, 0, capacity, floats=False))
        if way == "sample()":
            return drawn(work, lambda: memory.sample(BATCH))
        return drawn(work, lambda: memory.table.gather(memory.draw(BATCH).index))

    def upstream() -> Observe:
        memory = ReservoirSamplingBuffer(capacity)
        memory.post_adapt(None, strategies.experience(work, 0, capacity, "raw"))
        batches = _endless(DataLoader(memory.buffer, batch_size=BATCH, shuffle=True))
        return drawn(work, lambda: next(batches))

    def bare() -> Observe:
        memory = loops.ReservoirMemory(capacity)
        memory.add(*strategies.tensors(work, 0, capacity, floats=False))
        return drawn(work, lambda: memory.draw(BATCH))

    first = work.sizes.capacities[0]
    return Row(
        _label(way, capacity),
        {"ours": ours, "upstream": upstream, "bare": bare},
        None if capacity == first else _label(way, first),
    )


def drawn(work: Workload, draw: Callable[[], Any]) -> Observe:
    """Time a draw."""

    def go() -> int:
        for _ in range(work.sizes.drawn):
            draw()
        return work.sizes.drawn

    return stopwatch(lambda: go, 1e6)


def _endless(loader: DataLoader[Any]) -> Iterator[Any]:
    """Batches of one epoch after the other, as upstream's replay takes them."""
    while True:
        yield from loader


def _label(way: str, capacity: int) -> str:
    return f"{way}, {capacity:,} rows"
