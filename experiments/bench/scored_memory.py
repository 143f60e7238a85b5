"""Cases ``multi-strategy-iteration`` and ``scored-draw``: a memory that scores rows."""

from functools import partial
from typing import Any

import torch

from avalanche_ext import Priority, Softmax, multi_strategy_replay
from experiments.bench import iteration, strategies
from experiments.bench.draw import BATCH, drawn
from experiments.bench.timing import Observe
from experiments.bench.workload import Row, Workload

RESERVOIR = "reservoir_replay"


def iteration_rows(work: Workload) -> list[Row]:
    """Each network, with batches of 10 and as many replayed rows."""
    return [_iteration(work, hidden) for hidden in iteration.HIDDEN]


def _iteration(work: Workload, hidden: tuple[int, ...]) -> Row:
    memory = work.sizes.memory

    def trained(**chosen: Any) -> Observe:
        def make() -> Any:
            replay = multi_strategy_replay(
                memory, batch_size_mem=BATCH, seed=0, **chosen
            )
            return strategies.ours(hidden, BATCH, plugins=[replay])

        return iteration.trained(work, make, "bytes")

    return Row(
        f"batch {BATCH}+{BATCH}, MLP 784-{'-'.join(map(str, hidden))}-10",
        {
            "ours": trained,
            "ours, all alike": lambda: trained(sampling="uniform"),
            "ours, by gradient norms": lambda: trained(
                admission="reservoir", criteria=["gradient"]
            ),
            RESERVOIR: lambda: iteration.trained(
                work, lambda: strategies.ours(hidden, BATCH, memory), "bytes"
            ),
        },
    )


def draw_rows(work: Workload) -> list[Row]:
    """Rows drawn by scores, at the largest capacity."""
    n = work.sizes.capacities[-1]
    scores = torch.rand(n, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)

    found = []
    for sampling in (Softmax("mixed"), Priority("loss")):
        weights = sampling.probabilities(scores)
        found.append(
            Row(
                f"{type(sampling).__name__}, {n:,} rows",
                {
                    "ours": partial(
                        drawn, work, partial(sampling.draw, BATCH, scores, generator)
                    ),
                    "torch.multinomial": partial(
                        drawn,
                        work,
                        partial(torch.multinomial, weights, BATCH, generator=generator),
                    ),
                },
            )
        )
    return found
