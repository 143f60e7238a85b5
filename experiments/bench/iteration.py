"""Cases ``naive-iteration`` and ``replay-iteration``: a training iteration."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from experiments.bench import loops, strategies
from experiments.bench.strategies import Rows
from experiments.bench.timing import Observe, stopwatch
from experiments.bench.workload import Row, Workload

BATCHES = (10, 128)
HIDDEN = ((400, 400), (100, 100))


def rows(work: Workload, replay: bool) -> list[Row]:
    """Each batch size and network; replayed batches are as large as new ones."""
    return [_row(work, batch, hidden, replay) for batch in BATCHES for hidden in HIDDEN]


def _row(work: Workload, batch: int, hidden: Sequence[int], replay: bool) -> Row:
    memory = work.sizes.memory if replay else 0
    sizes = f"784-{'-'.join(map(str, hidden))}-10"
    return Row(
        f"batch {batch}{f'+{batch}' if replay else ''}, MLP {sizes}",
        {
            "ours": lambda: trained(
                work, lambda: strategies.ours(hidden, batch, memory), "bytes"
            ),
            "ours, loader": lambda: trained(
                work,
                lambda: strategies.ours(hidden, batch, memory, resident=False),
                "floats",
            ),
            "upstream": lambda: trained(
                work, lambda: strategies.upstream(hidden, batch, memory), "floats"
            ),
            "upstream, images": lambda: trained(
                work, lambda: strategies.upstream(hidden, batch, memory), "images"
            ),
            "bare": lambda: _bare(work, batch, hidden, memory),
        },
    )


def trained(work: Workload, make: Callable[[], Any], rows: Rows) -> Observe:
    """The second experience of a run, whose first one has filled the memory."""
    warm, train = work.sizes.warm, work.sizes.train
    first = strategies.experience(work, 0, warm, rows)
    second = strategies.experience(work, warm, warm + train, rows)

    def prepare() -> Callable[[], int]:
        strategy = make()
        strategy.train(first, eval_streams=[])

        def go() -> int:
            before = strategy.clock.total_iterations
            strategy.train(second, eval_streams=[])
            return int(strategy.clock.total_iterations - before)

        return go

    return stopwatch(prepare, 1e6)


def _bare(work: Workload, batch: int, hidden: Sequence[int], memory: int) -> Observe:
    warm, train = work.sizes.warm, work.sizes.train
    x, y = strategies.tensors(work, 0, warm + train, floats=True)

    def prepare() -> Callable[[], int]:
        model = strategies.network(hidden)
        optimizer = strategies.descent(model)
        kept = loops.ReservoirMemory(memory) if memory else None
        start = torch.arange(warm).split(batch)
        loops.train(model, optimizer, x, y, start, kept, batch)

        def go() -> int:
            order = (torch.randperm(train) + warm).split(batch)
            return loops.train(model, optimizer, x, y, order, kept, batch)

        return go

    return stopwatch(prepare, 1e6)
