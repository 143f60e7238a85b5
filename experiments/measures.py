"""What is measured in a run, as metrics of Avalanche and as fields of a result."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import torch

from avalanche_ext.metrics import (
    EvaluationRecord,
    accuracy_metrics,
    backward_transfer_metrics,
    forgetting_metrics,
    memory_metrics,
    task_masked_accuracy_metrics,
)
from avalanche_ext.plugins import LeanEvaluationPlugin
from experiments import loggers as logging
from experiments.benchmarks import Benchmark


class Measures:
    """The evaluator of a strategy, and what it has found.

    :param memory: the rehearsal memory, if the method has one.
    :param loggers: of Avalanche; they are given more than the result holds.
    """

    def __init__(
        self, benchmark: Benchmark, memory: Any = None, loggers: Sequence[Any] = ()
    ) -> None:
        self._benchmark = benchmark
        self._record = record = EvaluationRecord(stream="test")
        self._memory = None
        if memory is not None:
            (self._memory,) = memory_metrics(_Named(memory, benchmark))
        self.evaluator = LeanEvaluationPlugin(
            accuracy_metrics(record=record),
            task_masked_accuracy_metrics(record=record),
            forgetting_metrics(record=record),
            backward_transfer_metrics(record=record),
            [] if self._memory is None else [self._memory],
            logging.metrics(record) if loggers else [],
            loggers=loggers,
        )

    def result(self) -> dict[str, Any]:
        """The measured fields of ``result.json``."""
        record = self._record
        known = record.task_masked_matrix
        return {
            "average_accuracy": record.average_accuracy,
            "average_forgetting": record.average_forgetting,
            "backward_transfer": record.backward_transfer,
            "average_accuracy_task_known": fmean(known[-1]),
            "accuracy_matrix": record.accuracy_matrix,
            "accuracy_matrix_task_known": known,
            "forgetting": record.forgetting,
            "memory_composition": self._composition(),
        }

    def _composition(self) -> list[dict[str, int]]:
        if self._memory is None:
            return []
        kind = "label " if self._benchmark.scenario == "domain" else ""
        return [
            {f"{kind}{name}": count for name, count in counts.items()}
            for counts in self._memory.by_experience.values()
        ]


class _Named:
    """A memory that counts its rows by the data set's own classes.

    In the domain scenario only by label: rows do not tell which class it stands for.
    """

    def __init__(self, memory: Any, benchmark: Benchmark) -> None:
        self._memory, self._benchmark = memory, benchmark
        self.max_size = memory.max_size

    def __len__(self) -> int:
        return len(self._memory)

    def class_counts(self) -> dict[int, int]:
        classes = self._benchmark.classes
        if self._benchmark.scenario == "task" and len(self):
            table = self._memory.table
            task, label = table.column("task").cpu(), table.column("y").cpu()
            rows = torch.tensor(classes)[task, label]
            found, number = rows.unique(return_counts=True)
            return dict(zip(found.tolist(), number.tolist(), strict=True))
        counts = self._memory.class_counts()
        if self._benchmark.scenario != "class":
            return counts
        names = [name for group in classes for name in group]
        return {names[label]: count for label, count in counts.items()}
