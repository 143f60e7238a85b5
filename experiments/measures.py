"""What is measured in a run, as metrics of Avalanche and as fields of a result."""

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np

from avalanche_ext.metrics import (
    EvaluationRecord,
    accuracy_metrics,
    backward_transfer_metrics,
    forgetting_metrics,
    memory_health_metrics,
    memory_metrics,
    task_masked_accuracy_metrics,
)
from avalanche_ext.plugins import LeanEvaluationPlugin
from experiments import loggers as logging
from experiments import memory_sample
from experiments.benchmarks import Benchmark


class Measures:
    """The evaluator of a strategy, and what it has found.

    :param memory: the rehearsal memory, if the method has one.
    :param loggers: of Avalanche; they are given more than the result holds.
    """

    def __init__(
        self, benchmark: Benchmark, memory: Any = None, loggers: Sequence[Any] = ()
    ) -> None:
        self.record = record = EvaluationRecord(stream="test")
        self._memory = self._health = None
        if memory is not None:
            (self._memory,) = memory_metrics(_Named(memory, benchmark))
            (self._health,) = memory_health_metrics(memory)
        self.evaluator = LeanEvaluationPlugin(
            accuracy_metrics(record=record),
            task_masked_accuracy_metrics(record=record),
            forgetting_metrics(record=record),
            backward_transfer_metrics(record=record),
            [] if self._memory is None else [self._memory, self._health],
            logging.metrics(record) if loggers else [],
            loggers=loggers,
        )

    def result(self) -> dict[str, Any]:
        """The measured fields of ``result.json``."""
        record = self.record
        known = record.task_masked_matrix
        return {
            "average_accuracy": record.average_accuracy,
            "average_forgetting": record.average_forgetting,
            "backward_transfer": record.backward_transfer,
            "average_accuracy_task_known": fmean(
                value for value in known[-1] if value is not None
            ),
            "accuracy_matrix": record.accuracy_matrix,
            "accuracy_matrix_task_known": known,
            "forgetting": record.forgetting,
            "memory_composition": self._composition(),
            "memory_health": self._readings(),
        }

    def memory_rows(self, maximum: int | None) -> dict[str, np.ndarray] | None:
        """Some rows of the memory as it is now; ``None`` without one.

        :param maximum: see :func:`experiments.memory_sample.sample`.
        """
        if self._memory is None:
            return None
        named = self._memory.buffer
        return memory_sample.sample(named.memory, named.of_each_row(), maximum)

    def _composition(self) -> list[dict[str, int]]:
        if self._memory is None:
            return []
        name = self._memory.buffer.name
        return [
            {name(key): count for key, count in counts.items()}
            for counts in self._memory.by_experience.values()
        ]

    def _readings(self) -> list[dict[str, Any]]:
        if self._health is None:
            return []
        return [
            _finite(dataclasses.asdict(health))
            for health in self._health.by_experience.values()
        ]


def _finite(value: Any) -> Any:
    """A value ready for JSON, which has no infinite numbers: they become null."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _Named:
    """A memory that counts its rows by the data set's own classes.

    By ``(task, class)`` where classes come again in several experiences. In the domain
    scenario only by label, where rows do not tell which class it stands for.
    """

    def __init__(self, memory: Any, benchmark: Benchmark) -> None:
        self.memory, self._classes = memory, benchmark.classes
        self._by_number = benchmark.scenario == "class"  # labels go on between tasks
        self._numbered = [
            (task, name)
            for task, group in enumerate(benchmark.classes)
            for name in group
        ]
        self._again = len({name for _, name in self._numbered}) < len(self._numbered)
        self._shared = all(group == self._classes[0] for group in self._classes)

    @property
    def max_size(self) -> int:
        return int(self.memory.max_size)

    def __len__(self) -> int:
        return len(self.memory)

    def class_counts(self) -> dict[Any, int]:
        counts = Counter[Any]()
        for key, count in self.memory.class_counts().items():
            counts[self._class(key)] += count
        return dict(counts)

    def of_each_row(self) -> list[str]:
        """What the class of each row is called, in the order of slots."""
        table = self.memory.table
        if not len(table):
            return []
        keys = table.column("y").tolist()
        if "task" in table.columns:
            keys = list(zip(table.column("task").tolist(), keys, strict=True))
        return [self.name(self._class(key)) for key in keys]

    def _class(self, key: Any) -> Any:
        task, label = key if isinstance(key, tuple) else (None, key)
        if self._by_number:
            task, name = self._numbered[label]
        elif task is not None:
            name = self._classes[task][label]
        else:
            return self._classes[0][label] if self._shared else label
        return (task, name) if self._again else name

    def name(self, key: Any) -> str:
        """What a key of :meth:`class_counts` is called in a result."""
        if isinstance(key, tuple):
            return f"{key[1]} of task {key[0]}"
        told = self._by_number or self._shared or "task" in self.memory.table.columns
        return str(key) if told else f"label {key}"
