"""Case ``memory-row``: bytes that a stored row takes."""

import gc
import tracemalloc
from typing import get_args

import torch

from avalanche_ext import MultiStrategyBuffer
from experiments.bench.timing import Observe
from experiments.bench.workload import CLASSES, Admission, Row, Workload

SHAPE = (3, 32, 32)
BATCH = 10


def rows(work: Workload) -> list[Row]:
    """Everything that a full memory holds, by row, for each admission.

    The bare figure is the raw row. Upstream's memories refer to rows of the data sets
    that they came from, which stay in memory as a whole: there is nothing to compare.
    """
    scored = "score"  # what it holds besides depends on the criteria
    return [_row(work, a) for a in get_args(Admission) if a != scored]


def _row(work: Workload, admission: Admission) -> Row:
    raw = torch.Size(SHAPE).numel()
    return Row(
        f"{admission}, {work.sizes.stored:,} rows",
        {
            "ours": lambda: _held(admission, work.sizes.stored),
            "bare": lambda: lambda: raw,
        },
    )


def _held(admission: Admission, capacity: int) -> Observe:
    x = torch.zeros(capacity, *SHAPE, dtype=torch.uint8)
    y = torch.arange(capacity) % CLASSES

    def observe() -> float:
        gc.collect()
        tracemalloc.start()  # sees what Python allocates; the table is counted below
        try:
            memory = MultiStrategyBuffer(capacity, admission=admission, seed=0)
            for some_x, some_y in zip(x.split(BATCH), y.split(BATCH), strict=True):
                memory.offer(some_x, some_y)
            gc.collect()
            python = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        return memory.table.bytes_per_row + python / capacity

    return observe
