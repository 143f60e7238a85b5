"""Case ``regulariser-iteration``: a training iteration under an importance penalty."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from avalanche.training.plugins import EWCPlugin

from avalanche_ext import AdaptiveEWCPlugin, SynapticIntelligencePlugin
from experiments.bench import iteration, penalised_loops, strategies
from experiments.bench.timing import Observe, stopwatch
from experiments.bench.workload import Row, Workload

HIDDEN = (400, 400)
NAIVE = "naive"
Make = Callable[[], list[Any]]

OURS: dict[str, Make] = {
    "EWC": lambda: [AdaptiveEWCPlugin(1.0, num_samples=20, seed=0)],
    "SI": lambda: [SynapticIntelligencePlugin(1.0)],
}
BARE: dict[str, penalised_loops.Train] = {
    "EWC": penalised_loops.ewc,
    "SI": penalised_loops.si,
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
    if experiences == work.sizes.experiences[0]:
        contenders["bare"] = lambda: _bare(work, batch, BARE[name])
        if name in UPSTREAM:
            contenders["upstream"] = lambda: after(UPSTREAM[name], resident=False)
    return Row(
        f"{name}, batch {batch}, MLP 784-400-400-10, after {experiences} experiences",
        contenders,
    )


def _after(
    work: Workload, batch: int, experiences: int, plugins: Make, resident: bool
) -> Observe:
    """Training after small experiences, of which each adds its importances.

    Taking the importances of twenty rows at its end is part of it.
    """
    warm, train = work.sizes.warm, _timed(work, batch)
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


def _timed(work: Workload, batch: int) -> int:
    """Rows of as many iterations whatever the batch, so that what is done at the end of
    the experience is an equally small part."""
    return batch * max(1, work.sizes.train // 20)


def _bare(work: Workload, batch: int, train: penalised_loops.Train) -> Observe:
    warm, rows = work.sizes.warm, _timed(work, batch)
    x, y = strategies.tensors(work, 0, warm + rows, floats=True)

    def prepare() -> Callable[[], int]:
        model = strategies.network(HIDDEN)
        optimizer = strategies.descent(model)
        train(model, optimizer, x, y, torch.arange(warm).split(batch))

        def go() -> int:
            order = (torch.randperm(rows) + warm).split(batch)
            return train(model, optimizer, x, y, order)

        return go

    return stopwatch(prepare, 1e6)
