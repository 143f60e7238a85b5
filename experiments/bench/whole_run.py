"""Cases ``whole-run`` and ``rotated-run``: a published protocol from start to end.

Ours is what the command ``run`` does with a seed where there is no terminal: its plugins,
its metrics, its look at each loss and at the weights. Building the stream and the model
does not count for anybody. The other cases have no more plugins than they name.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from experiments import methods
from experiments.bench import loops, strategies
from experiments.bench.images import image_streams
from experiments.bench.timing import Observe, stopwatch
from experiments.bench.workload import CLASSES, Row, Workload
from experiments.benchmarks import Benchmark, build
from experiments.data import Arrays, class_groups
from experiments.options import Run
from experiments.training import set_up, train_stream

HIDDEN = (100, 100)
EXPERIENCES = 5
BATCH = 10
ROTATED_BATCH = 128
EVALUATION_BATCH = 256

Pair = tuple[Tensor, Tensor]


def split_rows(work: Workload) -> list[Row]:
    """Split MNIST, a full evaluation after each of its five experiences."""
    arrays = _first(work.arrays, work.sizes.run)
    floats = _first(work.floats, work.sizes.run)
    groups = class_groups(arrays, EXPERIENCES, "bench")
    contenders = {
        "ours": lambda: _ours(work, build(arrays, groups, "class"), BATCH),
        "upstream": lambda: _upstream(work, build(floats, groups, "class")),
        "upstream, images": lambda: _upstream(work, image_streams(arrays, groups)),
        "bare": lambda: _bare(work, build(floats, groups, "class"), BATCH),
    }
    label = f"{EXPERIENCES} experiences, batch {BATCH}+{BATCH}, {_network()}"
    return [Row(label, contenders)]


def rotated_rows(work: Workload) -> list[Row]:
    """Rotated MNIST, all test images of all tasks after each of its tasks."""
    tasks = work.sizes.rotations
    whole = build(
        _first(work.arrays, work.sizes.run),
        [list(range(CLASSES))] * tasks,
        "domain",
        pixels="rotated",
    )
    contenders = {
        "ours": lambda: _ours(work, whole, ROTATED_BATCH),
        "bare": lambda: _bare(work, whole, ROTATED_BATCH),
    }
    batches = f"batch {ROTATED_BATCH}+{ROTATED_BATCH}"
    return [Row(f"{tasks} tasks, {batches}, {_network()}", contenders)]


def _ours(work: Workload, benchmark: Benchmark, batch: int) -> Observe:
    options = Run(
        "bench",
        "reservoir-replay",
        epochs=1,
        batch_size=batch,
        eval_batch_size=EVALUATION_BATCH,
        hidden=HIDDEN,
        init=strategies.INIT,
        lr=strategies.LEARNING_RATE,
        progress="off",
    )
    own = {"mem_size": work.sizes.memory, "batch_size_mem": batch}

    def prepare() -> Callable[[], int]:
        torch.manual_seed(0)
        recipe = methods.build(options.method, own, seed=0)
        strategy, _, progress = set_up(options, recipe, benchmark, "cpu", "bench")

        def go() -> int:
            train_stream(strategy, benchmark, options, progress)
            return 1

        return go

    return stopwatch(prepare, 1)


def _upstream(work: Workload, benchmark: Any) -> Observe:
    def make() -> Any:
        return strategies.upstream(
            HIDDEN,
            BATCH,
            work.sizes.memory,
            evaluator=strategies.upstream_metrics(),
            eval_mb_size=EVALUATION_BATCH,
        )

    if isinstance(benchmark, Benchmark):
        return _run(make, benchmark.train, benchmark.test)
    return _run(make, benchmark.train_stream, benchmark.test_stream)


def _run(make: Callable[[], Any], train: Any, test: Any) -> Observe:
    def prepare() -> Callable[[], int]:
        strategy = make()

        def go() -> int:
            for experience in train:
                strategy.train(experience, eval_streams=[])
                strategy.eval(test)
            return 1

        return go

    return stopwatch(prepare, 1)


def _bare(work: Workload, benchmark: Benchmark, batch: int) -> Observe:
    train, test = map(_tensors, (benchmark.train, benchmark.test))

    def prepare() -> Callable[[], int]:
        model = strategies.network(HIDDEN)
        optimizer = strategies.descent(model)
        memory = loops.ReservoirMemory(work.sizes.memory)

        def go() -> int:
            for x, y in train:
                order = torch.randperm(len(y)).split(batch)
                loops.train(model, optimizer, x, y, order, memory, batch)
                loops.evaluate(model, test, EVALUATION_BATCH)
            return 1

        return go

    return stopwatch(prepare, 1)


def _tensors(stream: Sequence[Any]) -> list[Pair]:
    """The very tensors of each experience, without a copy."""
    pairs = []
    for experience in stream:
        leaf = experience.dataset._flat_data
        while not isinstance(leaf, TensorDataset):
            (leaf,) = leaf._datasets
        x, y = leaf.tensors
        pairs.append((x, y))
    return pairs


def _first(arrays: Arrays, rows: int) -> Arrays:
    few = slice(rows)
    return dataclasses.replace(
        arrays, x_train=arrays.x_train[few], y_train=arrays.y_train[few]
    )


def _network() -> str:
    return f"MLP 784-{'-'.join(map(str, HIDDEN))}-10"
