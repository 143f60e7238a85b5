"""Scores, ages and uses of the rows of a memory, over time."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from avalanche_ext.metrics.over_time import OverTime
from avalanche_ext.storage import MultiStrategyBuffer

__all__ = ["PERCENTS", "Health", "MemoryHealth", "memory_health_metrics", "quantiles"]

PERCENTS = (0, 5, 25, 50, 75, 95, 100)
"""Which quantiles are taken, from the minimum to the maximum."""

_NAMES = ("Min", "Q05", "Q25", "Median", "Q75", "Q95", "Max")


def quantiles(values: Tensor) -> tuple[float, ...]:
    """The quantiles at :data:`PERCENTS`: each the smallest of the values that at least
    that share of them does not exceed. So they are values, and infinite ones may be
    among them.

    >>> import torch
    >>> quantiles(torch.arange(200.0))
    (0.0, 9.0, 49.0, 99.0, 149.0, 189.0, 199.0)

    :param values: shape ``(n,)``.
    :return: empty where no values are.
    """
    n = len(values)
    if not n:
        return ()
    ordered = values.double().sort().values.tolist()
    # In whole numbers, since 0.95 · n may be off by a little.
    return tuple(ordered[max(0, -(-p * n // 100) - 1)] for p in PERCENTS)


@dataclass(frozen=True)
class Health:
    """What a memory is like at one moment; quantiles as those of :func:`quantiles`."""

    rows: int
    """Rows stored."""
    stale: float
    """Share of them whose scores are needed and not known; they count in no score."""
    scores: dict[str, tuple[float, ...]]
    """Quantiles of the raw scores by each criterion in use, and of ``"mixed"``."""
    ages: tuple[float, ...]
    """Quantiles of the number of rows offered since each row was."""
    uses: tuple[float, ...]
    """Quantiles of how often each row was drawn."""
    never_drawn: float
    """Share of the rows that were not drawn yet."""
    effective_sample_size: float | None
    """Rows that the memory's sampling really chooses from; ``None`` where that is not
    defined, see :attr:`~avalanche_ext.storage.memory.Memory.effective_sample_size`."""


class MemoryHealth(OverTime[Health]):
    """The :class:`Health` of a memory, read at the start of every evaluation.

    It is only read: no row is scored, no number drawn, and what is stale stays so.

    :param buffer: the memory.
    :raises TypeError: for anything but a memory.
    """

    def __init__(self, buffer: MultiStrategyBuffer) -> None:
        super().__init__()
        if not isinstance(buffer, MultiStrategyBuffer):
            raise TypeError(
                f"the health of a memory is that of a MultiStrategyBuffer, got {buffer!r}: "
                "give the plugin's, plugin.buffer"
            )
        self.buffer = buffer

    def read(self) -> Health:
        """What the memory is like now."""
        memory = self.buffer
        uses = memory.uses
        return Health(
            rows=len(memory),
            stale=_share(memory.stale),
            scores={
                name: quantiles(scores)
                for name, scores in memory.known_scores().items()
                if len(scores)
            },
            ages=quantiles(memory.ages),
            uses=quantiles(uses),
            never_drawn=_share(uses == 0),
            effective_sample_size=memory.effective_sample_size,
        )

    def values(self, reading: Health) -> Iterator[tuple[str, float]]:
        """Everything, quantile by quantile."""
        parts = {f"MemoryScore_{name}": q for name, q in reading.scores.items()}
        parts |= {"MemoryAge": reading.ages, "MemoryUses": reading.uses}
        for part, found in parts.items():
            for name, value in zip(_NAMES, found, strict=False):
                yield f"{part}_{name}", value
        yield "MemoryStale", reading.stale
        yield "MemoryNeverDrawn", reading.never_drawn
        if reading.effective_sample_size is not None:
            yield "MemoryEffectiveSampleSize", reading.effective_sample_size

    def __str__(self) -> str:
        return "MemoryHealth"


def memory_health_metrics(buffer: MultiStrategyBuffer) -> list[Any]:
    """Scores, ages and uses of the rows of a memory at every evaluation.

    Emits seven quantiles each (``…_Min``, ``…_Q05``, ``…_Q25``, ``…_Median``,
    ``…_Q75``, ``…_Q95``, ``…_Max``) of the raw scores by each criterion in use,
    ``MemoryScore_loss`` say, and of the mixed score, ``MemoryScore_mixed``; of
    ``MemoryAge`` and ``MemoryUses``; further ``MemoryStale`` and ``MemoryNeverDrawn``,
    shares of the rows, and ``MemoryEffectiveSampleSize``, a number of rows. The
    metric's ``history``, ``experiences`` and ``by_experience`` keep them all as
    :class:`Health`.

    :param buffer: the memory, a :class:`~avalanche_ext.MultiStrategyBuffer`.
    :return: one plugin metric for an ``EvaluationPlugin``, a :class:`MemoryHealth`.
    :raises TypeError: for anything but a memory.
    """
    return [MemoryHealth(buffer)]


def _share(rows: Tensor) -> float:
    return int(rows.sum()) / max(1, len(rows))
