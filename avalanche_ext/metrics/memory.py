"""What a memory holds: rows of each class and how full it is, over time."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeAlias

from avalanche_ext.metrics.over_time import OverTime

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


class MemoryComposition(OverTime[dict[MemoryClass, int]]):
    """Rows of each class in a memory, read at the start of every evaluation: by label,
    or by ``(task, label)`` where the memory stores task labels.

    :param buffer: the memory.
    :raises TypeError: if it lacks ``class_counts()``, ``len()`` or ``max_size``.
    """

    def __init__(self, buffer: CountedBuffer) -> None:
        super().__init__()
        missing = [
            name
            for name in ("class_counts", "__len__", "max_size")
            if not hasattr(buffer, name)
        ]
        if missing:
            raise TypeError(
                f"a memory's composition needs a buffer with class_counts(), len() and max_size, "
                f"such as MultiStrategyBuffer; {type(buffer).__name__} has no "
                + ", ".join(missing)
            )
        self.buffer = buffer

    def read(self) -> dict[MemoryClass, int]:
        """Rows of each class now."""
        return dict(sorted(self.buffer.class_counts().items()))

    def values(self, reading: dict[MemoryClass, int]) -> Iterator[tuple[str, float]]:
        """How full the memory is, and the rows of each class."""
        size = self.buffer.max_size
        yield "MemoryFill", len(self.buffer) / size if size else 0.0
        for key, count in reading.items():
            yield f"MemoryRows_{_written(key)}", count

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
    return [MemoryComposition(buffer)]
