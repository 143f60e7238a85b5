"""Case ``regulariser-iteration``: a training iteration under an importance penalty."""

import warnings
from collections.abc import Callable
from typing import Any

from avalanche.training.plugins import EWCPlugin

from avalanche_ext import AdaptiveEWCPlugin, SynapticIntelligencePlugin
from experiments.bench import iteration, strategies
from experiments.bench.timing import Observe, stopwatch
from experiments.bench.workload import Row, Workload

HIDDEN = (400, 400)
NAIVE = "naive"
Make = Callable[[], list[Any]]

OURS: dict[str, Make] = {
    "EWC": lambda: [AdaptiveEWCPlugin(1.0, num_samples=20, seed=0)],
    "SI": lambda: [SynapticIntelligencePlugin(1.0)],
}
UPSTREAM: dict[str, Make] = {"EWC": lambda: [EWCPlugin(1.0, mode="separate")]}


def rows(work: Workload) -> list[Row]:
    """Each regulariser and batch size, after few and after many experiences."""
    return [
        _row(work, name, batch, experiences)
        for name in OURS
        for batch in iteration.BATCHES
        for experiences in work.sizes.experiences
    ]


def _row(work: Workload, name: str, batch: int, experiences: int) -> Row:
    def after(plugins: Make, resident: bool = True) -> Observe:
        return _after(work, batch, experiences, plugins, resident)

    contenders: dict[str, Callable[[], Observe]] = {
        "ours": lambda: after(OURS[name]),
        NAIVE: lambda: after(list),
    }
    if name in UPSTREAM and experiences == work.sizes.experiences[0]:
        contenders["upstream"] = lambda: after(UPSTREAM[name], resident=False)
    return Row(
        f"{name}, batch {batch}, MLP 784-400-400-10, after {experiences} experiences",
        contenders,
    )


def _after(
    work: Workload, batch: int, experiences: int, plugins: Make, resident: bool
) -> Observe:
    """Training after small experiences, of which each adds its importances.

    As many iterations whatever the batch, so that taking the importances of twenty rows
    at the end is an equally small part of it.
    """
    warm, train = work.sizes.warm, batch * max(1, work.sizes.train // 20)
    form: strategies.Rows = "bytes" if resident else "floats"
    small = [
        strategies.experience(work, start, start + 20, form)
        for start in range(0, 20 * experiences, 20)
    ]
    large = strategies.experience(work, warm, warm + train, form)

    def prepare() -> Callable[[], int]:
        strategy = (
            strategies.ours(HIDDEN, batch, plugins=plugins())
            if resident
            else strategies.upstream(HIDDEN, batch, plugins=plugins())
        )
        with warnings.catch_warnings():
            # So short experiences hardly move a parameter, which is told, rightly.
            warnings.simplefilter("ignore")
            for experience in small:
                strategy.train(experience, eval_streams=[])

        def go() -> int:
            before = strategy.clock.total_iterations
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                strategy.train(large, eval_streams=[])
            return int(strategy.clock.total_iterations - before)

        return go

    return stopwatch(prepare, 1e6)
