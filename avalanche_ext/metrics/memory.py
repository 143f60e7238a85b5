"""What a memory holds: rows of each class and how full it is, over time."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

from avalanche.evaluation import PluginMetric
from avalanche.evaluation.metric_results import MetricValue
from avalanche.evaluation.metric_utils import EVAL

from avalanche_ext.metrics.record import experience_index

__all__ = ["CountedBuffer", "MemoryClass", "MemoryComposition", "memory_metrics"]

MemoryClass: TypeAlias = int | tuple[int, int]
"""A label, or a label of a task ``(task, label)`` where task labels are stored."""


class CountedBuffer(Protocol):
    """A memory that knows its classes, such as ``MultiStrategyBuffer``."""

    @property
    def max_size(self) -> int: ...

    def __len__(self) -> int: ...

    def class_counts(self) -> Mapping[Any, int]:
        """Number of rows stored of each :data:`MemoryClass`."""
        ...


class MemoryComposition(PluginMetric):
    """Rows of each class in a memory, read at the start of every evaluation.

    Not after training experiences, since an online stream has thousands of them.

    :param buffer: the memory.
    """

    def __init__(self, buffer: CountedBuffer) -> None:
        super().__init__()
        self.buffer = buffer
        self.reset()

    def reset(self) -> None:
        """Drop the history; the memory itself is left alone."""
        self.history: list[dict[MemoryClass, int]] = []
        """Rows of each class, one dictionary for each evaluation: by label, or by
        ``(task, label)`` where the memory stores task labels."""
        self.experiences: list[int | None] = []
        """For each item of :attr:`history`, the experience trained last before it:
        None before any training, or for sub-experiences that blend several."""
        self._trained: int | None = None

    def result(self) -> dict[MemoryClass, int] | None:
        """Rows of each class at the last evaluation; None before the first."""
        return self.history[-1] if self.history else None

    @property
    def by_experience(self) -> dict[int, dict[MemoryClass, int]]:
        """:attr:`history` keyed by training experience, in the order of training;
        the last evaluation after each counts, those before training do not."""
        return {
            trained: counts
            for trained, counts in zip(self.experiences, self.history, strict=True)
            if trained is not None
        }

    def before_training_exp(self, strategy: Any) -> None:
        self._trained = experience_index(strategy.experience)

    def before_eval(self, strategy: Any) -> list[MetricValue]:
        counts = dict(sorted(self.buffer.class_counts().items()))
        self.history.append(counts)
        self.experiences.append(self._trained)
        size = self.buffer.max_size
        fill = len(self.buffer) / size if size else 0.0
        # No stream in the names: at this point the strategy has no experience yet.
        values = [(f"MemoryFill/{EVAL}_phase", fill)]
        values += [
            (f"MemoryRows_{_written(key)}/{EVAL}_phase", count)
            for key, count in counts.items()
        ]
        x = strategy.clock.train_iterations
        return [MetricValue(self, name, value, x) for name, value in values]

    def __str__(self) -> str:
        return "Memory"


def _written(key: MemoryClass) -> str:
    if isinstance(key, tuple):
        return f"Task{key[0]:03}_Class{key[1]:03}"
    return f"Class{key:03}"


def memory_metrics(buffer: CountedBuffer) -> list[Any]:
    """The composition of a memory at every evaluation.

    Emits ``MemoryFill`` (rows stored / rows that fit) and ``MemoryRows_Class003``
    and so on (rows of each class stored), or ``MemoryRows_Task001_Class003`` where
    the memory stores task labels; the metric's ``history``, ``experiences`` and
    ``by_experience`` keep them all.

    :param buffer: has ``class_counts()``, the rows by label or by ``(task, label)``,
        ``len()`` and ``max_size``.
    :return: one plugin metric for an ``EvaluationPlugin``, a
        :class:`MemoryComposition`.
    :raises TypeError: if the buffer lacks one of these.
    """
    missing = [
        name
        for name in ("class_counts", "__len__", "max_size")
        if not hasattr(buffer, name)
    ]
    if missing:
        raise TypeError(
            f"memory_metrics needs a buffer with class_counts(), len() and max_size, "
            f"such as MultiStrategyBuffer; {type(buffer).__name__} has no "
            + ", ".join(missing)
        )
    return [MemoryComposition(buffer)]
