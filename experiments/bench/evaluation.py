"""Case ``evaluation``: all test images, after each of five experiences was trained."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch

from experiments.bench import loops, strategies
from experiments.bench.timing import Observe, stopwatch
from experiments.bench.workload import Row, Workload
from experiments.benchmarks import Benchmark, build
from experiments.data import Arrays, class_groups
from experiments.measures import Measures

HIDDEN = ((400, 400), (100, 100))
EXPERIENCES = 5
BATCH = 256


def rows(work: Workload) -> list[Row]:
    """Each network."""
    return [_row(work, hidden) for hidden in HIDDEN]


def _row(work: Workload, hidden: Sequence[int]) -> Row:
    def ours() -> Observe:
        benchmark = _benchmark(work, work.arrays)
        evaluator = Measures(benchmark).evaluator
        return _evaluated(strategies.ours, hidden, benchmark, evaluator)

    def upstream() -> Observe:
        benchmark = _benchmark(work, work.floats)
        evaluator = strategies.upstream_metrics()
        return _evaluated(strategies.upstream, hidden, benchmark, evaluator)

    return Row(
        f"{work.sizes.test:,} images, batch {BATCH}, "
        f"MLP 784-{'-'.join(map(str, hidden))}-10",
        {"ours": ours, "upstream": upstream, "bare": lambda: _bare(work, hidden)},
    )


def _benchmark(work: Workload, arrays: Arrays) -> Benchmark:
    """All test images, few to train on: metrics need a history, not a good model."""
    few = slice(work.sizes.warm)
    arrays = dataclasses.replace(
        arrays, x_train=arrays.x_train[few], y_train=arrays.y_train[few]
    )
    return build(arrays, class_groups(arrays, EXPERIENCES, "bench"), "class")


def _evaluated(
    make: Callable[..., Any], hidden: Sequence[int], benchmark: Benchmark, plugin: Any
) -> Observe:
    strategy = make(hidden, BATCH, evaluator=plugin, eval_mb_size=BATCH)
    for experience in benchmark.train:
        strategy.train(experience, eval_streams=[])
        strategy.eval(benchmark.test)

    def go() -> int:
        strategy.eval(benchmark.test)
        return 1

    return stopwatch(lambda: go, 1e3)


def _bare(work: Workload, hidden: Sequence[int]) -> Observe:
    model = strategies.network(hidden)
    arrays = work.floats
    x, y = torch.from_numpy(arrays.x_test), torch.from_numpy(arrays.y_test)
    parts = []
    for group in class_groups(arrays, EXPERIENCES, "bench"):
        here = torch.isin(y, torch.tensor(group))
        parts.append((x[here], y[here]))

    def go() -> int:
        loops.evaluate(model, parts, BATCH)
        return 1

    return stopwatch(lambda: go, 1e3)
