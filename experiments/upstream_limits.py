"""What Avalanche's own methods need of a run, and where they cannot be used."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from experiments.errors import UserError

if TYPE_CHECKING:
    from experiments.benchmarks import Benchmark
    from experiments.options import Run


def with_task_zero(benchmark: "Benchmark") -> "Benchmark":
    """Rows that carry task label 0, as those of upstream's own benchmarks do.

    DER, GSS, MIR and MER take batches apart into three. Rows that have task labels
    keep them.
    """
    from avalanche.benchmarks import (
        benchmark_from_datasets,
        with_classes_timeline,
        with_task_labels,
    )
    from avalanche.benchmarks.utils import (
        AvalancheDataset,
        ConstantSequence,
        TaskLabels,
    )

    if hasattr(benchmark.train[0], "task_labels"):
        return benchmark

    def labelled(stream: Any) -> list[AvalancheDataset]:
        sets = [experience.dataset for experience in stream]
        return [
            AvalancheDataset(
                [rows], data_attributes=[TaskLabels(ConstantSequence(0, len(rows)))]
            )
            for rows in sets
        ]

    streams = with_task_labels(
        with_classes_timeline(
            benchmark_from_datasets(
                train=labelled(benchmark.train), test=labelled(benchmark.test)
            )
        )
    )
    return replace(benchmark, train=streams.train_stream, test=streams.test_stream)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep upstream's deprecations of its own functions from being printed.

    It turns them on again at every call, whatever the filters say.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        show = warnings.showwarning

        def others(message: Any, category: Any, *more: Any, **options: Any) -> None:
            if not issubclass(category, DeprecationWarning):
                show(message, category, *more, **options)

        warnings.showwarning = others
        yield


def memory_fits(
    mem_size: int, batch_size_mem: int | None
) -> "Callable[[Run, Benchmark], Benchmark]":
    """A ``prepare`` that refuses a memory without the rows of one replay batch.

    :param batch_size_mem: rows of a replay batch; None for as many as of the current
        experience.
    """

    def prepare(options: "Run", benchmark: "Benchmark") -> "Benchmark":
        replayed = batch_size_mem or options.batch_size
        if mem_size < replayed:
            raise UserError(
                f"{options.method}: mem_size={mem_size} is smaller than a replay batch "
                f"of {replayed}: use --set batch_size_mem={mem_size} or less"
            )
        return benchmark

    return prepare


def one_head(name: str, benchmark: "Benchmark") -> None:
    """Refuse a model that has a head for each task.

    :param name: of the method, after ``upstream-``.
    """
    if benchmark.task.heads:
        raise UserError(
            f"upstream-{name} calls the model without task labels, which --scenario "
            "task needs: use --scenario class or domain"
        )


def not_negative(**numbers: float | None) -> None:
    """Refuse numbers below zero; None is left to upstream.

    :raises ValueError: naming the option and its value.
    """
    for name, number in numbers.items():
        if number is not None and number < 0:
            raise ValueError(f"{name}={number} must be 0 or more")


def at_least_one(**numbers: int | None) -> None:
    """Refuse numbers below one; None is left to upstream.

    :raises ValueError: naming the option and its value.
    """
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ValueError(f"{name}={number} must be 1 or more")
