"""Case ``insertion``: a batch offered to a full memory, at several capacities.

The memory has seen twice its capacity, so that at any capacity half of the rows are
kept by the reservoir and by the class-balanced memory, and all of them by the ring;
herding compares all rows with some of their class, and the score with some of those stored.
Every round begins with a copy of it.
"""

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, get_args

from avalanche.training.storage_policy import (
    ClassBalancedBuffer,
    ReservoirSamplingBuffer,
)
from torch import Tensor

from avalanche_ext import MultiStrategyBuffer
from avalanche_ext.storage.criteria import ScoredRows, ScoringContext
from experiments.bench import loops, strategies
from experiments.bench.timing import Observe, stopwatch
from experiments.bench.workload import CLASSES, Admission, Row, Workload

BATCH = 10
UPSTREAM_BATCHES = 5
"""Batches a round: upstream's cost grows with the capacity."""


def rows(work: Workload) -> list[Row]:
    """Each admission at each capacity."""
    return [
        _row(work, admission, capacity)
        for admission in get_args(Admission)
        for capacity in work.sizes.capacities
    ]


def _row(work: Workload, admission: Admission, capacity: int) -> Row:
    def ours() -> MultiStrategyBuffer:
        return MultiStrategyBuffer(
            capacity, admission=admission, criteria=[Brightness()], seed=0
        )

    contenders = {"ours": lambda: _offered(work, capacity, ours, "offer")}
    upstream = UPSTREAM.get(admission)
    if upstream:
        contenders["upstream"] = lambda: _adapted(work, capacity, upstream)
    bare = BARE.get(admission)
    if bare:
        contenders["bare"] = lambda: _offered(
            work, capacity, lambda: bare(capacity), "add"
        )
    first = work.sizes.capacities[0]
    return Row(
        _label(admission, capacity),
        contenders,
        None if capacity == first else _label(admission, first),
    )


class Brightness:
    """A score without a model: what is timed is the comparison of rows."""

    name = "brightness"

    def score(self, rows: ScoredRows, context: ScoringContext) -> Tensor:
        """The mean of all pixels."""
        x = rows["x"]
        assert isinstance(x, Tensor)
        return x.float().flatten(1).mean(1)


UPSTREAM: dict[str, Callable[[int], Any]] = {
    "reservoir": ReservoirSamplingBuffer,
    "class_balanced": ClassBalancedBuffer,
}
BARE: dict[str, Callable[[int], loops.ReservoirMemory]] = {
    "reservoir": loops.ReservoirMemory,
    "ring": lambda capacity: loops.RingMemory(capacity, CLASSES),
}


def _offered(
    work: Workload, capacity: int, make: Callable[[], Any], offer: str
) -> Observe:
    """Offer batches to what ``make`` returns, by its method ``offer``, once it has seen
    enough."""
    batches = work.sizes.offered
    coming = [
        strategies.tensors(work, i * BATCH, (i + 1) * BATCH, floats=False)
        for i in range(batches)
    ]
    half = strategies.tensors(work, 0, capacity, floats=False)

    full = make()
    for _ in range(2):
        getattr(full, offer)(*half)

    def prepare() -> Callable[[], int]:
        act = getattr(copy.deepcopy(full), offer)

        def go() -> int:
            for x, y in coming:
                act(x, y)
            return batches

        return go

    return stopwatch(prepare, 1e6)


def _adapted(work: Workload, capacity: int, make: Callable[[int], Any]) -> Observe:
    """The same of upstream's memories, which are offered experiences."""
    past = strategies.experience(work, 0, 2 * capacity, "raw")
    coming = [
        SimpleNamespace(
            dataset=past.dataset.subset(list(range(i * BATCH, (i + 1) * BATCH)))
        )
        for i in range(UPSTREAM_BATCHES)
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


def _label(admission: str, capacity: int) -> str:
    return f"{admission}, {capacity:,} rows"
